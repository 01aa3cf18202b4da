//! The few bpf(2) calls that attachments and AF_XDP ports need.

#![allow(unsafe_code)] // the calls read structures through pointers

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Errno, cvt, own};

/// Commands and types of `linux/bpf.h`.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;

/// The program copes with frames in several pieces.
pub(crate) const XDP_HAS_FRAGS: u32 = 1 << 5;
/// The program is for one device only and may ask its driver about frames.
pub(crate) const XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

/// `XDP_FLAGS_*` of `linux/if_link.h`: how a program is attached.
pub(crate) const XDP_SKB_MODE: u32 = 1 << 1;
pub(crate) const XDP_DRV_MODE: u32 = 1 << 2;

/// `BPF_PROG_LOAD`'s part of `union bpf_attr`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `BPF_LINK_CREATE`'s part of `union bpf_attr`, with the tcx fields.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    pad: u32,
    expected_revision: u64,
}

/// `BPF_MAP_CREATE`'s part of `union bpf_attr`, up to `max_entries`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `BPF_MAP_UPDATE_ELEM`'s part of `union bpf_attr`.
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A bpf(2) command. `attr` is the head of its `union bpf_attr`, all of whose pointers are to what lives
/// until the call returns.
fn bpf<T>(command: libc::c_long, attr: &T) -> libc::c_long {
    // SAFETY: the kernel reads the bytes of `attr` whose size is given, takes the rest of the union as
    // zero, and for these commands writes nothing.
    unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), std::mem::size_of::<T>())
    }
}

/// Loads a program of encoded instructions (`struct bpf_insn` as integers).
fn load(attr: ProgLoad, insns: &[u64], name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut prog_name = [0; 16];
    prog_name[..name.len().min(15)].copy_from_slice(&name[..name.len().min(15)]);
    let attr = ProgLoad {
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        prog_name,
        ..attr
    };
    own(bpf(BPF_PROG_LOAD, &attr))
}

/// Loads a tc program.
pub(crate) fn load_tc(insns: &[u64], name: &[u8]) -> Result<OwnedFd, Errno> {
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        expected_attach_type: BPF_TCX_INGRESS,
        ..ProgLoad::default()
    };
    load(attr, insns, name)
}

/// Loads an XDP program; with [`XDP_DEV_BOUND_ONLY`] for the device of this index alone.
pub(crate) fn load_xdp(
    insns: &[u64],
    name: &[u8],
    flags: u32,
    ifindex: u32,
) -> Result<OwnedFd, Errno> {
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        expected_attach_type: BPF_XDP,
        prog_flags: flags,
        prog_ifindex: if flags & XDP_DEV_BOUND_ONLY != 0 { ifindex } else { 0 },
        ..ProgLoad::default()
    };
    load(attr, insns, name)
}

/// Attaches a program to the ingress of a device by tcx. Closing the result detaches it.
pub(crate) fn link_tcx_ingress(prog: BorrowedFd<'_>, ifindex: u32) -> Result<OwnedFd, Errno> {
    link(prog, ifindex, BPF_TCX_INGRESS, 0)
}

/// Attaches an XDP program to a device in one of the modes. Closing the result detaches it.
pub(crate) fn link_xdp(prog: BorrowedFd<'_>, ifindex: u32, mode: u32) -> Result<OwnedFd, Errno> {
    link(prog, ifindex, BPF_XDP, mode)
}

fn link(
    prog: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
) -> Result<OwnedFd, Errno> {
    let attr = LinkCreate {
        prog_fd: prog.as_raw_fd() as u32,
        target_ifindex: ifindex,
        attach_type,
        flags,
        ..LinkCreate::default()
    };
    own(bpf(BPF_LINK_CREATE, &attr))
}

/// Makes a map from queue numbers below `n` to AF_XDP sockets.
pub(crate) fn make_xskmap(n: u32) -> Result<OwnedFd, Errno> {
    let attr =
        MapCreate { map_type: BPF_MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: n };
    own(bpf(BPF_MAP_CREATE, &attr))
}

/// Puts a bound AF_XDP socket into such a map.
pub(crate) fn set_xskmap(
    map: BorrowedFd<'_>,
    queue: u32,
    socket: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let value = socket.as_raw_fd() as u32;
    let attr = MapUpdate {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(&queue) as u64,
        value: std::ptr::from_ref(&value) as u64,
        flags: 0,
    };
    cvt(bpf(BPF_MAP_UPDATE_ELEM, &attr)).map(drop)
}
