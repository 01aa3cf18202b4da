//! The field table, flow keys and masks, extraction from packets.

#![no_std]
