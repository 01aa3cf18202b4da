//! Instant, ids, keyed hash, token bucket: what every room shares.

#![no_std]

