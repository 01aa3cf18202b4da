//! Programs: loading and attaching.

#![allow(unsafe_code)] // instructions and options go by pointers

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::Error;
use crate::sys::{Command, bpf_fd, last};

/// `BPF_PROG_LOAD`'s part of `union bpf_attr`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Copy, Clone, Default)]
struct Load {
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

const SOCKET_FILTER: u32 = 1;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_INGRESS: u32 = 46;
const SO_ATTACH_BPF: i32 = 50;

/// Flags of XDP programs.
pub mod xdp {
    /// The program copes with frames in several pieces.
    pub const HAS_FRAGS: u32 = 1 << 5;
    /// The program is for one device only and may ask its driver about frames.
    pub const DEV_BOUND_ONLY: u32 = 1 << 6;
    /// It runs on packets that the kernel made of frames (`XDP_FLAGS_…` of `linux/if_link.h`).
    pub const SKB_MODE: u32 = 1 << 1;
    /// It runs in the driver.
    pub const DRV_MODE: u32 = 1 << 2;
}

/// What a program is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It says which packets a socket gets.
    SocketFilter,
    /// It has the packets that come in by a device, before the kernel's own stack.
    TcxIngress,
    /// It has the frames that come in by a device, before there is a packet.
    Xdp {
        /// Of [`xdp`].
        flags: u32,
        /// The device, if the program is bound to it.
        ifindex: u32,
    },
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads a program of [assembled](crate::asm) instructions.
    ///
    /// # Errors
    /// The kernel does not have the kind, or we not the right (`EPERM`), or [its verifier](Error::Refused) finds fault.
    pub fn load(kind: Kind, name: &'static str, insns: &[u64]) -> Result<Program, Error> {
        let (prog_type, expected_attach_type, prog_flags, prog_ifindex) = match kind {
            Kind::SocketFilter => (SOCKET_FILTER, 0, 0, 0),
            Kind::TcxIngress => (SCHED_CLS, ATTACH_TCX_INGRESS, 0, 0),
            Kind::Xdp { flags, ifindex } => (XDP, ATTACH_XDP, flags, ifindex),
        };
        let mut prog_name = [0; 16];
        let n = name.len().min(15);
        prog_name[..n].copy_from_slice(&name.as_bytes()[..n]);
        let attr = Load {
            prog_type,
            insn_cnt: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            prog_flags,
            prog_name,
            prog_ifindex,
            expected_attach_type,
            ..Load::default()
        };
        // SAFETY: instructions and license live until the call returns, and the kernel only reads them.
        let refused = match unsafe { bpf_fd("loading of a program", Command::ProgLoad, &attr) } {
            Ok(fd) => return Ok(Program(fd)),
            Err(refused) => refused,
        };
        if ![libc::EACCES, libc::EINVAL].contains(&refused.errno()) {
            return Err(refused);
        }
        // Once more, to be told why.
        let mut log = vec![0_u8; 1 << 20];
        let attr = Load {
            log_level: 1,
            log_size: log.len() as u32,
            log_buf: log.as_mut_ptr() as u64,
            ..attr
        };
        // SAFETY: as before, and the kernel writes no more into the log than the size given.
        match unsafe { bpf_fd("loading of a program", Command::ProgLoad, &attr) } {
            Ok(fd) => Ok(Program(fd)),
            Err(_) => Err(why(name, &log).unwrap_or(refused)),
        }
    }

    /// Attaches it to a device's ingress by tcx. Closing the result detaches it.
    pub fn attach_tcx_ingress(&self, ifindex: u32) -> Result<OwnedFd, Error> {
        self.link(ifindex, ATTACH_TCX_INGRESS, 0)
    }

    /// Attaches an XDP program in a mode of [`xdp`]. Closing the result detaches it.
    pub fn attach_xdp(&self, ifindex: u32, mode: u32) -> Result<OwnedFd, Error> {
        self.link(ifindex, ATTACH_XDP, mode)
    }

    fn link(&self, target_ifindex: u32, attach_type: u32, flags: u32) -> Result<OwnedFd, Error> {
        let prog_fd = self.0.as_raw_fd() as u32;
        let attr =
            LinkCreate { prog_fd, target_ifindex, attach_type, flags, ..LinkCreate::default() };
        // SAFETY: there are no pointers.
        unsafe { bpf_fd("attaching of a program", Command::LinkCreate, &attr) }
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets a socket filter say which packets a socket gets, in the place of what said it before.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &Program) -> Result<(), Error> {
    let (fd, value) = (socket.as_raw_fd(), program.0.as_raw_fd());
    let (at, len) = ((&raw const value).cast(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the kernel reads an integer.
    match unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, SO_ATTACH_BPF, at, len) } {
        0 => Ok(()),
        _ => Err(last("attaching of a filter")),
    }
}

/// What the verifier's log comes to: its last lines but for the statistics.
fn why(name: &'static str, log: &[u8]) -> Option<Error> {
    let text = log.split(|b| *b == 0).next()?;
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<_> =
        text.lines().rev().filter(|l| !l.starts_with("processed ")).take(3).collect();
    lines.reverse();
    let why = lines.join("; ");
    (!why.is_empty()).then_some(Error::Refused { name, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::{Asm, Reg};

    #[test]
    fn a_refusal_says_why() {
        let mut a = Asm::new();
        a.exit();
        let text = match Program::load(Kind::SocketFilter, "nothing", &a.finish()) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("r0 was never set"),
        };
        // Without the right to ask, that is the answer.
        assert!(text.contains("R0 !read_ok") || text.contains("not permitted"), "{text}");
    }

    #[test]
    fn a_filter_is_attached() {
        let mut a = Asm::new();
        a.mov(Reg::R0, 0);
        a.exit();
        let Ok(program) = Program::load(Kind::SocketFilter, "nothing", &a.finish()) else { return };
        let (socket, _other) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        attach_filter(socket.as_fd(), &program).expect("attached");
    }
}
