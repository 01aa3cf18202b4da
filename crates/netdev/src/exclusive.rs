//! Taking a device away from the host: its frames are the switch's alone.
//!
//! A packet socket only listens; the host's stack still gets every frame and would answer ARP and
//! ICMP for addresses that the device has. So something must drop the frames behind the packet
//! sockets, which the kernel serves first. In order of preference ([`Method`]):
//!
//! 1. a tcx program of two instructions at the device's ingress, which needs BPF privilege,
//! 2. an nftables netdev-family chain at the ingress hook with policy drop, in a table of its own
//!    named `sekisho-DEVICE`; enough where only the network namespace is ours,
//! 3. no ARP on the device, which is only half a solution and yields a [`Warning`].
//!
//! Invariant: nothing of 1 and 2 outlives the process, however it ends. The program is held by a
//! descriptor, the table by its owner flag and the netlink socket. A crash in state 3 leaves ARP
//! off (`ip link set DEVICE arp on`).
//!
//! Two switches on one device would each get all frames. A claim prevents it: an abstract unix
//! socket, whose names are per network namespace, named by interface index. Any process of the
//! namespace can hold that name, so it guards against mistakes, not against enemies.

use std::os::fd::{AsFd, OwnedFd};

use bpf::asm::{Asm, Reg};
use bpf::{Kind, Program};

use crate::link::Links;
use crate::netlink::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, Socket, Writer};
use crate::sys::{self, Errno};
use crate::{Bypass, Error, Warning};

/// A way to keep the host's stack from a device's frames.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A tcx ingress program that drops.
    Tcx,
    /// An nftables ingress chain that drops.
    Nftables,
    /// ARP switched off.
    NoArp,
}

impl Method {
    /// All of them, best first.
    pub const ALL: &[Method] = &[Method::Tcx, Method::Nftables, Method::NoArp];
}

/// The exclusive right to a device among switches of this network namespace.
#[derive(Debug)]
pub(crate) struct Claim {
    _socket: OwnedFd,
}

impl Claim {
    /// Claims a device that is not part of a bridge, a bond or the like.
    pub(crate) fn take(device: &str, ifindex: u32, links: &mut Links) -> Result<Claim, Error> {
        let busy = |holder: String| Error::Busy { device: device.to_owned(), holder };
        let link = links.by_index(ifindex)?;
        if let Some(master) = link.and_then(|l| l.master) {
            let master = links.by_index(master)?;
            let (kind, name) = master.map_or((None, "?".to_owned()), |m| (m.kind, m.name));
            let kind = kind.unwrap_or_else(|| "device".to_owned());
            return Err(busy(format!("it is a port of the {kind} {name}")));
        }
        let socket =
            sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).map_err(|e| Error::open(device, e))?;
        let name = format!("sekisho/netdev/{ifindex}");
        match sys::bind_abstract(socket.as_fd(), name.as_bytes()) {
            Ok(()) => Ok(Claim { _socket: socket }),
            Err(Errno(libc::EADDRINUSE)) => {
                Err(busy("it is already a port of a switch on this host".to_owned()))
            }
            Err(e) => Err(Error::open(device, e)),
        }
    }
}

/// What keeps the host's stack away; dropping it gives the frames back.
#[derive(Debug)]
pub(crate) enum Attachment {
    /// The descriptor of the tcx link.
    Tcx(#[expect(dead_code, reason = "held for its effect")] OwnedFd),
    /// The socket that owns the table.
    Nftables(#[expect(dead_code, reason = "held for its effect")] Socket),
    /// ARP to be switched on again.
    NoArp(#[expect(dead_code, reason = "held for its effect")] RestoreArp),
}

/// Switches ARP on again if it was on.
#[derive(Debug)]
pub(crate) struct RestoreArp {
    ifindex: u32,
    restore: bool,
}

impl Drop for RestoreArp {
    fn drop(&mut self) {
        if !self.restore {
            return;
        }
        // The device may have been renamed or be gone; there is nobody to tell.
        if let Ok(mut links) = Links::open()
            && let Ok(Some(link)) = links.by_index(self.ifindex)
        {
            let _ = links.set_arp(&link.name, true);
        }
    }
}

impl Attachment {
    /// Tries `methods` in order. `None` and no warning if there are none. With [`Method::Tcx`] alone packets that
    /// `bypass` has taken are forwarded.
    pub(crate) fn new(
        device: &str,
        ifindex: u32,
        methods: &[Method],
        bypass: Option<&Bypass>,
        links: &mut Links,
    ) -> (Option<Attachment>, Option<Warning>) {
        let mut reasons = Vec::new();
        for method in methods {
            let tried = match method {
                Method::Tcx => tcx(ifindex, bypass).map(Attachment::Tcx),
                Method::Nftables => nftables(device).map(Attachment::Nftables),
                Method::NoArp => noarp(device, ifindex, links).map(Attachment::NoArp),
            };
            match tried {
                Ok(a @ Attachment::NoArp(_)) => {
                    return (Some(a), Some(not_exclusive(device, &reasons)));
                }
                Ok(a) => return (Some(a), None),
                Err(e) => reasons.push(format!("{method:?}: {e}")),
            }
        }
        let warning = (!methods.is_empty()).then(|| not_exclusive(device, &reasons));
        (None, warning)
    }

    /// How it is done.
    pub(crate) fn method(&self) -> Method {
        match self {
            Attachment::Tcx(_) => Method::Tcx,
            Attachment::Nftables(_) => Method::Nftables,
            Attachment::NoArp(_) => Method::NoArp,
        }
    }
}

fn not_exclusive(device: &str, reasons: &[String]) -> Warning {
    Warning::NotExclusive { device: device.to_owned(), reason: reasons.join(", ") }
}

/// Drops all packets of a device, but for those that a bypass forwards.
fn tcx(ifindex: u32, bypass: Option<&Bypass>) -> Result<OwnedFd, Errno> {
    if let Some(bypass) = bypass {
        return Ok(bypass.ingress.attach_tcx_ingress(ifindex)?);
    }
    const TC_ACT_SHOT: i32 = 2;
    let mut a = Asm::new();
    a.mov(Reg::R0, TC_ACT_SHOT);
    a.exit();
    // The link holds the program.
    let program = Program::load(Kind::TcxIngress, "sekisho_shot", &a.finish())?;
    Ok(program.attach_tcx_ingress(ifindex)?)
}

fn noarp(device: &str, ifindex: u32, links: &mut Links) -> Result<RestoreArp, Errno> {
    let link = links.by_index(ifindex).map_err(|e| e.errno())?.ok_or(Errno(libc::ENODEV))?;
    links.set_arp(device, false).map_err(|e| e.errno())?;
    Ok(RestoreArp { ifindex, restore: !link.noarp })
}

/// Numbers of `linux/netfilter/nfnetlink.h` and `nf_tables.h`; integers in attributes are in
/// network byte order.
mod nft {
    pub(super) const BATCH_BEGIN: u16 = 0x10;
    pub(super) const BATCH_END: u16 = 0x11;
    pub(super) const SUBSYS: u16 = 10;
    pub(super) const NEWTABLE: u16 = SUBSYS << 8;
    pub(super) const NEWCHAIN: u16 = (SUBSYS << 8) | 3;
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    /// The table lives as long as the socket that made it.
    pub(super) const TABLE_F_OWNER: u32 = 2;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_HOOKNUM: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const HOOK_DEV: u16 = 3;
    pub(super) const INGRESS: u32 = 0;
    pub(super) const PRIORITY: i32 = -500;
    pub(super) const DROP: u32 = 0;
    pub(super) const FAMILY_NETDEV: u8 = 5;
}

fn nftables(device: &str) -> Result<Socket, Errno> {
    let mut socket = Socket::open(libc::NETLINK_NETFILTER, 0)?;
    let table = format!("sekisho-{device}");
    // struct nfgenmsg: family, version, resource id in network byte order.
    let gen_msg = |family: u8, id: u16| [family, 0, id.to_be_bytes()[0], id.to_be_bytes()[1]];
    let netdev = gen_msg(nft::FAMILY_NETDEV, 0);
    let seq: [u32; 4] = std::array::from_fn(|_| socket.next_seq());

    let mut w = Writer::default();
    w.message(nft::BATCH_BEGIN, NLM_F_REQUEST, seq[0], &gen_msg(0, nft::SUBSYS));
    w.message(nft::NEWTABLE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK, seq[1], &netdev)
        .attr_str(nft::TABLE_NAME, &table)
        .attr(nft::TABLE_FLAGS, &nft::TABLE_F_OWNER.to_be_bytes());
    w.message(nft::NEWCHAIN, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK, seq[2], &netdev)
        .attr_str(nft::CHAIN_TABLE, &table)
        .attr_str(nft::CHAIN_NAME, "ingress");
    let hook = w.nest(nft::CHAIN_HOOK);
    w.attr(nft::HOOK_HOOKNUM, &nft::INGRESS.to_be_bytes())
        .attr(nft::HOOK_PRIORITY, &nft::PRIORITY.to_be_bytes())
        .attr_str(nft::HOOK_DEV, device);
    w.end(hook);
    w.attr(nft::CHAIN_POLICY, &nft::DROP.to_be_bytes()).attr_str(nft::CHAIN_TYPE, "filter");
    w.message(nft::BATCH_END, NLM_F_REQUEST, seq[3], &gen_msg(0, nft::SUBSYS));
    // The batch is applied as a whole or not at all; its last acknowledged message tells.
    socket.transact(&w, (seq[0], seq[2]), |_| ())?;
    Ok(socket)
}
