//! The two bpf(2) calls that an exclusive attachment needs.

#![allow(unsafe_code)] // the calls read structures through pointers

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Errno, own};

/// Commands and types of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;

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

/// Loads a tc program of encoded instructions (`struct bpf_insn` as integers).
pub(crate) fn load_tc(insns: &[u64], name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut prog_name = [0; 16];
    prog_name[..name.len().min(15)].copy_from_slice(&name[..name.len().min(15)]);
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        prog_name,
        expected_attach_type: BPF_TCX_INGRESS,
        ..ProgLoad::default()
    };
    let size = size_of::<ProgLoad>();
    // SAFETY: `attr` is the head of bpf_attr for this command, its size is given, and the
    // instructions and the license text that it points to outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &attr, size) };
    own(fd)
}

/// Attaches a program to the ingress of a device by tcx. Closing the result detaches it.
pub(crate) fn link_tcx_ingress(prog: BorrowedFd<'_>, ifindex: u32) -> Result<OwnedFd, Errno> {
    let attr = LinkCreate {
        prog_fd: prog.as_raw_fd() as u32,
        target_ifindex: ifindex,
        attach_type: BPF_TCX_INGRESS,
        ..LinkCreate::default()
    };
    let size = size_of::<LinkCreate>();
    // SAFETY: `attr` is the head of bpf_attr for this command and its size is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &attr, size) };
    own(fd)
}
