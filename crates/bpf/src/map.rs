//! Maps: tables that programs and we have in common.

#![allow(unsafe_code)] // keys and values go by pointers

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::Error;
use crate::sys::{Command, bpf, bpf_fd};

/// `BPF_MAP_CREATE`'s part of `union bpf_attr`, up to `map_extra`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Create {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub inner_map_fd: u32,
    pub numa_node: u32,
    pub name: [u8; 16],
    pub ifindex: u32,
    pub btf_fd: u32,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
    pub btf_vmlinux_value_type_id: u32,
    pub extra: u64,
}

/// The part of those commands that name an element.
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

const HASH: u32 = 1;
const PERCPU_ARRAY: u32 = 6;
const XSKMAP: u32 = 17;
/// Elements get their memory as they come.
const NO_PREALLOC: u32 = 1;

/// A map with keys of `K` bytes and values of four.
#[derive(Debug)]
pub struct Map<const K: usize>(OwnedFd);

impl<const K: usize> Map<K> {
    /// A hash table for so many keys.
    pub fn hash(max: u32) -> Result<Map<K>, Error> {
        make("hash map", HASH, K as u32, 4, max, NO_PREALLOC).map(Map)
    }

    /// Puts a value in, or another in its place.
    ///
    /// # Errors
    /// The map is full (`E2BIG`).
    pub fn set(&self, key: &[u8; K], value: u32) -> Result<(), Error> {
        self.element("map update", Command::MapUpdate, key, (&raw const value) as u64)
    }

    /// Takes a value out.
    ///
    /// # Errors
    /// It is not there (`ENOENT`).
    pub fn remove(&self, key: &[u8; K]) -> Result<(), Error> {
        self.element("map deletion", Command::MapDelete, key, 0)
    }

    fn element(
        &self,
        what: &'static str,
        command: Command,
        key: &[u8; K],
        value: u64,
    ) -> Result<(), Error> {
        let (map_fd, key) = (self.0.as_raw_fd() as u32, key.as_ptr() as u64);
        let attr = Element { map_fd, key, value, ..Element::default() };
        // SAFETY: the key has `K` bytes as the map's have, and the value, if the command has one, is an integer of
        // four of the caller.
        unsafe { bpf(what, command, &attr) }.map(drop)
    }
}

impl Map<4> {
    /// For each processor an array of one element of `size` bytes, which only programs see.
    pub fn scratch(size: u32) -> Result<Map<4>, Error> {
        make("map by processor", PERCPU_ARRAY, 4, size, 1, 0).map(Map)
    }

    /// From queue numbers below `n` to AF_XDP sockets.
    pub fn xsk(n: u32) -> Result<Map<4>, Error> {
        make("map of sockets", XSKMAP, 4, 4, n, 0).map(Map)
    }

    /// Puts a bound AF_XDP socket in.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.set(&queue.to_ne_bytes(), socket.as_raw_fd() as u32)
    }
}

impl<const K: usize> AsFd for Map<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn make(
    what: &'static str,
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
) -> Result<OwnedFd, Error> {
    let attr = Create { map_type, key_size, value_size, max_entries, flags, ..Create::default() };
    create(what, &attr)
}

pub(crate) fn create(what: &'static str, attr: &Create) -> Result<OwnedFd, Error> {
    // SAFETY: there are no pointers.
    unsafe { bpf_fd(what, Command::MapCreate, attr) }
}
