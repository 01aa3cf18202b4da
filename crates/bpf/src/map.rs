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

const PERCPU_ARRAY: u32 = 6;
const XSKMAP: u32 = 17;

/// A map with numbers of four bytes as keys.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl Map {
    /// For each processor an array of one element of `size` bytes, which only programs see.
    pub fn scratch(size: u32) -> Result<Map, Error> {
        make("map by processor", PERCPU_ARRAY, size, 1).map(Map)
    }

    /// From queue numbers below `n` to AF_XDP sockets.
    pub fn xsk(n: u32) -> Result<Map, Error> {
        make("map of sockets", XSKMAP, 4, n).map(Map)
    }

    /// Puts a bound AF_XDP socket in.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let (map_fd, value) = (self.0.as_raw_fd() as u32, socket.as_raw_fd());
        let (key, value) = ((&raw const queue) as u64, (&raw const value) as u64);
        let attr = Element { map_fd, key, value, ..Element::default() };
        // SAFETY: key and value are integers of four bytes, as the map's are, of the caller.
        unsafe { bpf("map update", Command::MapUpdate, &attr) }.map(drop)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn make(
    what: &'static str,
    map_type: u32,
    value_size: u32,
    max_entries: u32,
) -> Result<OwnedFd, Error> {
    create(what, &Create { map_type, key_size: 4, value_size, max_entries, ..Create::default() })
}

pub(crate) fn create(what: &'static str, attr: &Create) -> Result<OwnedFd, Error> {
    // SAFETY: there are no pointers.
    unsafe { bpf_fd(what, Command::MapCreate, attr) }
}
