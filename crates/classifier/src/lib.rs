//! Finding the best rule and which bits were looked at.

#![no_std]
