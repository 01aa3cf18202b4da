//! The language between slow and fast path: megaflows, datapath actions, upcalls, and their text.

#![no_std]
