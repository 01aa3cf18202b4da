//! Packets that the kernel forwards without us.
//!
//! Two programs do it together, for each packet one after the other on one processor: the *filter* of the port's packet
//! sockets decides, and keeps a packet that it takes from the sockets; the *ingress* program, behind the sockets, sends
//! what was taken and drops the rest, whose copy a socket has. So each packet goes one of both ways, and none goes both.

use bpf::Program;

/// How the kernel reaches what is behind a port.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The device or its other end is down: not at all, for workers count what is lost.
    Nowhere,
    /// Out by the port's device.
    Device,
    /// As if it had come by the other end of this veth, which is in another network namespace.
    Peer,
}

/// See the module.
#[derive(Debug)]
pub struct Bypass {
    /// A socket filter; packets that leave by the device are to be none of the sockets' either.
    pub filter: Program,
    /// A tcx program.
    pub ingress: Program,
}
