//! Writing actions.

use core::fmt::{self, Write};

use core::net::IpAddr;

use conntrack::{CtRequest, NatKind, NatRequest};
use flow::PacketKey;

use super::table::{self, Group};
use super::{CHex, PortNames, key, write_port};
use crate::{
    ControllerCookie, DpAction, HashAlg, NshHeader, SetGroup, SetMasked, SlowReason,
    UserspaceCookie,
};

/// Actions to be written.
#[derive(Copy, Clone)]
pub struct ActionsText<'a> {
    actions: &'a [DpAction],
    names: PortNames<'a>,
}

impl fmt::Debug for ActionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Actions as text; `drop` when there are none.
pub fn format_actions<'a>(actions: &'a [DpAction], names: PortNames<'a>) -> ActionsText<'a> {
    ActionsText { actions, names }
}

impl fmt::Display for ActionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actions.is_empty() {
            return f.write_str("drop");
        }
        for (i, action) in self.actions.iter().enumerate() {
            if i > 0 {
                f.write_char(',')?;
            }
            self.action(f, action)?;
        }
        Ok(())
    }
}

impl SetGroup {
    fn table(self) -> &'static Group {
        match self {
            SetGroup::SkbPriority => &table::SKB_PRIORITY,
            SetGroup::SkbMark => &table::SKB_MARK,
            SetGroup::Tunnel => &table::TUNNEL,
            SetGroup::Eth => &table::ETH,
            SetGroup::Mpls => &table::MPLS,
            SetGroup::Nsh => &table::NSH,
            SetGroup::Ipv4 => &table::IPV4,
            SetGroup::Ipv6 => &table::IPV6,
            SetGroup::Arp => &table::ARP,
            SetGroup::Nd => &table::ND,
            SetGroup::NdExtensions => &table::ND_EXT,
            SetGroup::Tcp => &table::TCP,
            SetGroup::Udp => &table::UDP,
            SetGroup::Sctp => &table::SCTP,
            SetGroup::Icmp => &table::ICMP,
        }
    }
}

impl<'a> ActionsText<'a> {
    fn nested(&self, actions: &'a [DpAction]) -> ActionsText<'a> {
        ActionsText { actions, names: self.names }
    }

    fn action(&self, f: &mut fmt::Formatter<'_>, action: &'a DpAction) -> fmt::Result {
        match action {
            DpAction::Output(port) => write_port(f, *port, self.names),
            DpAction::Userspace(cookie) => userspace(f, cookie),
            DpAction::Set(set) => write_set(f, set),
            DpAction::PushVlan { tpid, tci } => {
                f.write_str("push_vlan(")?;
                if *tpid != packet::header::ethertype::VLAN {
                    write!(f, "tpid={tpid:#06x},")?;
                }
                write!(f, "vid={},pcp={})", tci & 0xfff, tci >> 13)
            }
            DpAction::PopVlan => f.write_str("pop_vlan"),
            DpAction::PushMpls { ethertype, lse } => mpls(f, "push_mpls", *ethertype, *lse),
            DpAction::AddMpls { ethertype, lse } => mpls(f, "add_mpls", *ethertype, *lse),
            DpAction::PopMpls { ethertype } => write!(f, "pop_mpls(eth_type={ethertype:#x})"),
            DpAction::PushEth { dst, src } => write!(f, "push_eth(src={src},dst={dst})"),
            DpAction::PopEth => f.write_str("pop_eth"),
            DpAction::PushNsh(h) => push_nsh(f, h),
            DpAction::PopNsh => f.write_str("pop_nsh()"),
            DpAction::Recirc(id) => write!(f, "recirc({})", CHex(id.0.into())),
            DpAction::Hash { alg, basis } => {
                let alg = match alg {
                    HashAlg::L4 => "l4",
                    HashAlg::SymL4 => "sym_l4",
                };
                write!(f, "hash({alg}({basis}))")
            }
            DpAction::Ct(request) => ct(f, request),
            DpAction::CtClear => f.write_str("ct_clear"),
            DpAction::Trunc(len) => write!(f, "trunc({len})"),
            DpAction::Clone(actions) => write!(f, "clone({})", self.nested(actions)),
            DpAction::Sample { probability, actions } => {
                let percent = 100.0 * f64::from(*probability) / f64::from(u32::MAX);
                write!(f, "sample(sample={percent:.1}%,actions({}))", self.nested(actions))
            }
            DpAction::Meter(id) => write!(f, "meter({id})"),
            DpAction::CheckPktLen { len, greater, less_or_equal } => write!(
                f,
                "check_pkt_len(size={len},gt({}),le({}))",
                self.nested(greater),
                self.nested(less_or_equal)
            ),
            DpAction::Drop(_) => f.write_str("drop"),
        }
    }
}

fn mpls(f: &mut fmt::Formatter<'_>, name: &str, ethertype: u16, lse: u32) -> fmt::Result {
    let (label, tc, bos, ttl) = (lse >> 12, lse >> 9 & 7, lse >> 8 & 1, lse & 0xff);
    write!(f, "{name}(label={label},tc={tc},ttl={ttl},bos={bos},eth_type={ethertype:#x})")
}

fn push_nsh(f: &mut fmt::Formatter<'_>, h: &NshHeader) -> fmt::Result {
    let (flags, ttl, mdtype, np) = (h.flags, h.ttl, h.mdtype, h.np);
    write!(f, "push_nsh(flags={flags},ttl={ttl},mdtype={mdtype},np={np}")?;
    write!(f, ",spi={:#x},si={}", h.path >> 8, h.path & 0xff)?;
    if mdtype == 1 {
        for (i, c) in h.context.iter().enumerate() {
            write!(f, ",c{}={c:#x}", i + 1)?;
        }
    } else {
        f.write_str(",md2=")?;
        if !h.tlvs.is_empty() {
            f.write_str("0x")?;
            h.tlvs.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        }
    }
    f.write_char(')')
}

fn write_set(f: &mut fmt::Formatter<'_>, set: &SetMasked) -> fmt::Result {
    f.write_str("set(")?;
    let group = match set.group {
        // The two ICMPs are told apart by nothing but their name.
        SetGroup::Icmp if set.value.dl_type == packet::header::ethertype::IPV6 => &table::ICMPV6,
        g => g.table(),
    };
    let masked: PacketKey = &set.value & &set.mask;
    key::write_group(f, group, &masked, &set.mask, false, "")?;
    f.write_char(')')
}

fn ct(f: &mut fmt::Formatter<'_>, r: &CtRequest) -> fmt::Result {
    f.write_str("ct")?;
    let mut sep = '(';
    let mut item = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
        write!(f, "{}{text}", core::mem::replace(&mut sep, ','))
    };
    if r.commit {
        item(f, format_args!("{}", if r.force { "force_commit" } else { "commit" }))?;
    }
    if r.zone.0 != 0 {
        item(f, format_args!("zone={}", r.zone.0))?;
    }
    if let Some((value, mask)) = r.mark {
        item(f, format_args!("mark={}/{}", CHex(value.into()), CHex(mask.into())))?;
    }
    if let Some((value, mask)) = r.label {
        item(f, format_args!("label={}", CHex(value)))?;
        if mask != u128::MAX {
            write!(f, "/{}", CHex(mask))?;
        }
    }
    if let Some(policy) = r.timeout_policy {
        item(f, format_args!("timeout={}", policy.0))?;
    }
    if let Some(helper) = r.helper {
        item(f, format_args!("helper={}", helper.name()))?;
    }
    if let Some(n) = &r.nat {
        item(f, format_args!("{}", Nat(n)))?;
    }
    if sep == ',' { f.write_char(')') } else { Ok(()) }
}

/// A translation as OVS's datapath prints it.
struct Nat<'a>(&'a NatRequest);

impl fmt::Display for Nat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        f.write_str(match n.kind {
            None => return f.write_str("nat"),
            Some(NatKind::Src) => "nat(src",
            Some(NatKind::Dst) => "nat(dst",
        })?;
        if let Some((min, max)) = n.addrs {
            let addr = |f: &mut fmt::Formatter<'_>, a: IpAddr| match n.ports {
                Some(_) if a.is_ipv6() => write!(f, "[{a}]"),
                _ => write!(f, "{a}"),
            };
            f.write_char('=')?;
            addr(f, min)?;
            if max != min {
                f.write_char('-')?;
                addr(f, max)?;
            }
            if let Some((min, max)) = n.ports {
                write!(f, ":{min}")?;
                if max != min {
                    write!(f, "-{max}")?;
                }
            }
        }
        for (on, name) in [(n.persistent, "persistent"), (n.hash, "hash"), (n.random, "random")] {
            if on {
                write!(f, ",{name}")?;
            }
        }
        f.write_char(')')
    }
}

fn userspace(f: &mut fmt::Formatter<'_>, cookie: &UserspaceCookie) -> fmt::Result {
    f.write_str("userspace(pid=0,")?;
    match cookie {
        UserspaceCookie::SlowPath(reason) => {
            let row = SlowReason::ALL.iter().find(|(r, ..)| r == reason);
            write!(f, "slow_path({})", row.map_or("", |(_, text, _)| text))?;
        }
        UserspaceCookie::Controller(c) => controller(f, c)?,
        UserspaceCookie::SFlow { vlan_tci, output } => {
            write!(f, "sFlow(vid={},pcp={},output={output})", vlan_tci & 0xfff, vlan_tci >> 13)?
        }
        UserspaceCookie::Ipfix { output } => {
            let port = output.map_or(u32::MAX, |p| p.0);
            write!(f, "ipfix(output_port={port})")?;
        }
    }
    f.write_char(')')
}

fn controller(f: &mut fmt::Formatter<'_>, c: &ControllerCookie) -> fmt::Result {
    write!(
        f,
        "controller(reason={},dont_send={},continuation={},recirc_id={},rule_cookie={},\
         controller_id={},max_len={})",
        c.reason,
        u8::from(c.dont_send),
        u8::from(c.continuation),
        c.recirc_id.0,
        CHex(c.rule_cookie.into()),
        c.controller_id,
        c.max_len
    )
}

#[cfg(test)]
mod tests {
    use super::super::NO_NAMES;
    use super::*;
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use base::{DpPort, RecircId, Zone};

    fn text(actions: &[DpAction]) -> String {
        format_actions(actions, NO_NAMES).to_string()
    }

    fn set(group: SetGroup, fill: impl Fn(&mut PacketKey, &mut PacketKey)) -> DpAction {
        let (mut value, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
        fill(&mut value, &mut mask);
        DpAction::Set(Box::new(SetMasked { group, value, mask }))
    }

    /// All as OVS 3.1 prints them.
    #[test]
    fn actions_read_as_in_a_flow_dump() {
        let ct = |r: CtRequest| DpAction::Ct(Box::new(r));
        let commit = CtRequest { commit: true, ..CtRequest::default() };
        let out = DpAction::Output(DpPort(1));
        assert_eq!(text(&[]), "drop");
        assert_eq!(
            text(&[ct(CtRequest::default()), DpAction::Recirc(RecircId(1))]),
            "ct,recirc(0x1)"
        );
        assert_eq!(text(&[ct(commit), out.clone()]), "ct(commit),1");
        let marked =
            CtRequest { zone: Zone(5), mark: Some((0x12, !0)), label: Some((3, !0)), ..commit };
        assert_eq!(text(&[ct(marked)]), "ct(commit,zone=5,mark=0x12/0xffffffff,label=0x3)");
        let masked = CtRequest { mark: Some((3, 0xf)), label: Some((8, 8)), ..commit };
        assert_eq!(text(&[ct(masked)]), "ct(commit,mark=0x3/0xf,label=0x8/0x8)");
        let force = CtRequest { force: true, zone: Zone(2), ..commit };
        assert_eq!(text(&[ct(force)]), "ct(force_commit,zone=2)");
        let eth = set(SetGroup::Eth, |v, m| {
            (v.dl_src, m.dl_src) = ([0, 0x11, 0x22, 0x33, 0x44, 0x55], [0xff; 6]);
        });
        assert_eq!(text(&[eth]), "set(eth(src=00:11:22:33:44:55))");
        let tos = set(SetGroup::Ipv4, |v, m| (v.nw_tos, m.nw_tos) = (0x20, 0xfc));
        assert_eq!(text(&[tos]), "set(ipv4(tos=0x20/0xfc))");
        let dst = set(SetGroup::Tcp, |v, m| (v.tp_dst, m.tp_dst) = (8080, !0));
        assert_eq!(text(&[dst]), "set(tcp(dst=8080))");
        let prio = set(SetGroup::SkbPriority, |v, m| (v.skb_priority, m.skb_priority) = (3, !0));
        assert_eq!(text(&[prio]), "set(skb_priority(0x3))");
        assert_eq!(
            text(&[DpAction::PushVlan { tpid: 0x8100, tci: 0x700a }, out.clone()]),
            "push_vlan(vid=10,pcp=3),1"
        );
        assert_eq!(
            text(&[DpAction::PushMpls { ethertype: 0x8847, lse: 5 << 12 | 0x140 }]),
            "push_mpls(label=5,tc=0,ttl=64,bos=1,eth_type=0x8847)"
        );
        assert_eq!(text(&[DpAction::Trunc(100), out.clone()]), "trunc(100),1");
        let controller = ControllerCookie {
            reason: 1,
            dont_send: true,
            recirc_id: RecircId(1),
            max_len: 65535,
            ..ControllerCookie::default()
        };
        assert_eq!(
            text(&[DpAction::Userspace(Box::new(UserspaceCookie::Controller(controller)))]),
            "userspace(pid=0,controller(reason=1,dont_send=1,continuation=0,recirc_id=1,\
             rule_cookie=0,controller_id=0,max_len=65535))"
        );
        let split = DpAction::CheckPktLen {
            len: 100,
            greater: Box::new([out.clone()]),
            less_or_equal: Box::new([]),
        };
        assert_eq!(text(&[split]), "check_pkt_len(size=100,gt(1),le(drop))");
        let names = |p: DpPort| (p.0 == 1).then(|| String::from("vm1p"));
        assert_eq!(
            format_actions(&[out, DpAction::Output(DpPort(2))], &names).to_string(),
            "vm1p,2"
        );
    }
}
