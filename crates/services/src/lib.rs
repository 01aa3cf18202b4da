//! One sans-I/O engine per L2 protocol: MAC learning.

#![no_std]
