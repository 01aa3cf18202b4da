//! Writing actions.

use core::fmt::{self, Write};

use flow::PacketKey;

use super::table::{self, Group};
use super::{CHex, PortNames, key, write_port};
use crate::{ControllerCookie, DpAction, HashAlg, SetGroup, SetMasked, SlowReason, UserspaceCookie};

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
            DpAction::PushMpls { ethertype, lse } => write!(
                f,
                "push_mpls(label={},tc={},ttl={},bos={},eth_type={ethertype:#x})",
                lse >> 12,
                lse >> 9 & 7,
                lse & 0xff,
                lse >> 8 & 1
            ),
            DpAction::PopMpls { ethertype } => write!(f, "pop_mpls(eth_type={ethertype:#x})"),
            DpAction::PushEth { dst, src } => write!(f, "push_eth(src={src},dst={dst})"),
            DpAction::PopEth => f.write_str("pop_eth"),
            DpAction::Recirc(id) => write!(f, "recirc({})", CHex(id.0.into())),
            DpAction::Hash { alg, basis } => {
                let alg = match alg {
                    HashAlg::L4 => "l4",
                    HashAlg::SymL4 => "sym_l4",
                };
                write!(f, "hash({alg}({basis}))")
            }
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

fn userspace(f: &mut fmt::Formatter<'_>, cookie: &UserspaceCookie) -> fmt::Result {
    f.write_str("userspace(pid=0,")?;
    match cookie {
        UserspaceCookie::SlowPath(reason) => {
            let row = SlowReason::ALL.iter().find(|(r, ..)| r == reason);
            write!(f, "slow_path({})", row.map_or("", |(_, text, _)| text))?;
        }
        UserspaceCookie::Controller(c) => controller(f, c)?,
        UserspaceCookie::SFlow { vlan_tci, output } => write!(
            f,
            "sFlow(vid={},pcp={},output={output})",
            vlan_tci & 0xfff,
            vlan_tci >> 13
        )?,
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
