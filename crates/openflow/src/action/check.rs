//! Whether actions make sense for the packets of a flow.
//!
//! OpenFlow 1.1 and later want a flow's match to make sure that packets have what the actions change;
//! 1.0 lets such actions do nothing. So some inconsistencies only leave 1.0's formats
//! ([`Protocols`]), and others are errors everywhere, as in OVS.

use base::{OfPort, TableId};
use flow::field::Prereq;
use flow::{Field, FieldId, Match, VLAN_PRESENT};
use packet::header::{ethertype, ipproto};

use super::*;
use crate::error::OfError;
use crate::protocol::Protocols;

type Result = core::result::Result<(), OfError>;

/// Highest number of a meter (`OFPM13_MAX`).
const MAX_METER: u32 = 0xffff_0000;

/// What is checked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Rules {
    /// All that OVS checks.
    Ovs,
    /// That, but `ct` may be done to all packets: those that are not IP it leaves untracked.
    Tracked,
}

/// Checks actions for packets of a match, in a table if it is known. Gives the formats that allow them.
///
/// # Errors
/// The error that OVS sends for a flow with such actions.
pub fn check(
    list: &[Action],
    m: &Match,
    table: Option<TableId>,
    rules: Rules,
) -> core::result::Result<Protocols, OfError> {
    let mut c = Check { m: *m, table, rules, usable: Protocols::ALL };
    list.iter().try_for_each(|a| c.one(a))?;
    Ok(c.usable)
}

/// Whether packets can be sent to a port, or it is a place that `output` knows.
pub fn output_port(port: OfPort) -> Result {
    if is_out_port(port) { Ok(()) } else { Err(OfError::OFPBAC_BAD_OUT_PORT) }
}

/// What is known of the packet after the actions so far.
struct Check {
    m: Match,
    table: Option<TableId>,
    rules: Rules,
    usable: Protocols,
}

impl Check {
    /// Only 1.0 allows it unless `consistent`.
    fn need(&mut self, consistent: bool) -> Result {
        if !consistent {
            self.usable = self.usable.and(Protocols::OF10);
        }
        Ok(())
    }

    fn dl_type(&self) -> u16 {
        let k = &self.m.key.pkt;
        match k.packet_type >> 16 {
            1 => k.packet_type as u16,
            _ if k.packet_type != 0 => ethertype::NOT_ETH_TYPE,
            _ => k.dl_type,
        }
    }

    fn has(&self, p: Prereq) -> bool {
        self.m.has_prereq(p)
    }

    fn has_vlan(&self) -> bool {
        self.m.key.pkt.vlans[0].tci & VLAN_PRESENT != 0
    }

    fn set_tci(&mut self, tci: u16) {
        self.m.key.pkt.vlans[0].tci = tci;
        self.m.mask.pkt.vlans[0].tci |= VLAN_PRESENT;
    }

    fn src(&self, sf: Subfield) -> Result {
        match self.has(sf.row().prereq) {
            true => Ok(()),
            false => Err(OfError::OFPBAC_MATCH_INCONSISTENT),
        }
    }

    fn dst(&self, sf: Subfield) -> Result {
        self.src(sf)?;
        if sf.row().writable { Ok(()) } else { Err(OfError::OFPBAC_BAD_SET_ARGUMENT) }
    }

    fn set_field(&mut self, f: &Field, value: u128) -> Result {
        let no_tag = f.id == FieldId::VlanVid && !self.has_vlan();
        if !self.has(f.prereq) || no_tag {
            return Err(OfError::OFPBAC_MATCH_INCONSISTENT);
        }
        if f.id == FieldId::VlanTci {
            self.set_tci(value as u16);
        }
        Ok(())
    }

    /// Checks actions of another action on a copy.
    fn nested(&mut self, list: &[Action]) -> Result {
        let usable = check(list, &self.m, self.table, self.rules)?;
        self.usable = self.usable.and(usable);
        Ok(())
    }

    fn one(&mut self, a: &Action) -> Result {
        match a {
            Action::Output { port, .. } | Action::OutputTrunc { port, .. } => output_port(*port),
            Action::OutputReg { src, .. } => self.src(*src),
            Action::Enqueue { port, .. } => match *port {
                OfPort::IN_PORT | OfPort::LOCAL => Ok(()),
                p if p < OfPort::MAX => Ok(()),
                _ => Err(OfError::OFPBAC_BAD_OUT_PORT),
            },
            Action::Bundle(b) => {
                b.dst.map_or(Ok(()), |d| self.dst(d))?;
                b.members.iter().try_for_each(|&p| match p {
                    OfPort::NONE => Ok(()),
                    OfPort::CONTROLLER => Err(OfError::OFPBAC_BAD_OUT_PORT),
                    p => output_port(p),
                })
            }
            Action::SetVlanVid { push, .. } | Action::SetVlanPcp { push, .. } => {
                self.need(self.has_vlan() || *push)?;
                self.set_tci(self.m.key.pkt.vlans[0].tci | VLAN_PRESENT);
                Ok(())
            }
            Action::StripVlan => {
                self.need(self.has_vlan())?;
                let tags = &mut self.m.key.pkt.vlans;
                *tags = [tags[1], Default::default()];
                Ok(())
            }
            Action::PushVlan(_) => {
                let tags = &mut self.m.key.pkt.vlans;
                if tags[1].tci & VLAN_PRESENT != 0 {
                    return Err(OfError::OFPBAC_BAD_TAG);
                }
                *tags = [Default::default(), tags[0]];
                self.set_tci(VLAN_PRESENT);
                Ok(())
            }
            Action::SetIpv4Src(_) | Action::SetIpv4Dst(_) => {
                self.need(self.dl_type() == ethertype::IPV4)
            }
            Action::SetNwTos(_) | Action::SetNwEcn(_) | Action::SetNwTtl(_) | Action::DecTtl(_) => {
                self.need(self.has(Prereq::Ip))
            }
            Action::SetL4Src(_) | Action::SetL4Dst(_) => {
                self.need(self.has(Prereq::Tcp) || self.has(Prereq::Udp) || self.has(Prereq::Sctp))
            }
            Action::SetField { field, value, .. } => self.set_field(field.row(), *value),
            Action::Load { dst, value } => {
                self.set_field(dst.row(), value.checked_shl(dst.ofs.into()).unwrap_or(0))
            }
            Action::Move { src, dst } => {
                self.src(*src)?;
                self.dst(*dst)
            }
            Action::StackPush(sf) => self.src(*sf),
            Action::StackPop(sf) => self.dst(*sf),
            Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl => self.need(self.has(Prereq::Mpls)),
            Action::PushMpls(t) => {
                self.need(self.m.key.pkt.packet_type == 0)?;
                // What is below is opaque now.
                (self.m.key.pkt.dl_type, self.m.key.pkt.nw_proto) = (*t, 0);
                Ok(())
            }
            Action::PopMpls(t) => {
                self.need(self.m.key.pkt.packet_type == 0 && self.has(Prereq::Mpls))?;
                self.m.key.pkt.dl_type = *t;
                Ok(())
            }
            Action::FinTimeout { .. } => self.need(self.m.key.pkt.nw_proto == ipproto::TCP),
            Action::Encap(x) => {
                let k = &mut self.m.key.pkt;
                k.packet_type = x.packet_type;
                if x.packet_type >> 16 == 1 {
                    k.dl_type = x.packet_type as u16;
                }
                if !self.has(Prereq::Ip) {
                    self.m.key.pkt.nw_proto = 0;
                }
                Ok(())
            }
            Action::Decap(_) => {
                let k = &mut self.m.key.pkt;
                if k.packet_type == 0 {
                    k.packet_type = 1 << 16 | u32::from(k.dl_type);
                } else {
                    // Only the packet will tell.
                    (k.packet_type, k.dl_type) = (u32::MAX, u16::MAX);
                }
                Ok(())
            }
            Action::DecNshTtl => self.need(
                self.m.key.pkt.packet_type == 1 << 16 | u32::from(ethertype::NSH)
                    || self.m.key.pkt.dl_type == ethertype::NSH,
            ),
            Action::DeleteField(id) => match id.row().tun_option() {
                Some(_) => Ok(()),
                None => Err(OfError::OFPBAC_BAD_ARGUMENT),
            },
            Action::Resubmit { with_ct: true, .. } if !self.has(Prereq::CtValid) => {
                Err(OfError::OFPBAC_MATCH_INCONSISTENT)
            }
            Action::Ct(c) => self.ct(c),
            Action::Nat(n) => self.nat(n),
            Action::Learn(l) => self.learn(l),
            Action::Multipath(x) => self.dst(x.dst),
            Action::Clone(list) => self.nested(list),
            Action::Meter(id) => match id {
                1..=MAX_METER => Ok(()),
                _ => Err(OfError::OFPMMFC_INVALID_METER),
            },
            // An action set is not consistent with a match before it is executed.
            Action::WriteActions(list) => check(list, &self.m, self.table, self.rules).map(drop),
            Action::GotoTable(t) => match self.table {
                Some(here) if *t <= here => Err(OfError::OFPBIC_BAD_TABLE_ID),
                _ => Ok(()),
            },
            Action::Resubmit { .. }
            | Action::SetTunOption { .. }
            | Action::Controller(_)
            | Action::Group(_)
            | Action::SetEthSrc(_)
            | Action::SetEthDst(_)
            | Action::SetTunnel { .. }
            | Action::SetQueue(_)
            | Action::PopQueue
            | Action::CheckPktLarger { .. }
            | Action::CtClear
            | Action::Conjunction { .. }
            | Action::Note(_)
            | Action::Exit
            | Action::Sample(_)
            | Action::DebugRecirc
            | Action::DebugSlow
            | Action::UnrollXlate { .. }
            | Action::ClearActions
            | Action::WriteMetadata { .. } => Ok(()),
        }
    }

    fn ct(&mut self, c: &CtAction) -> Result {
        let k = &self.m.key.pkt;
        let invalid = k.ct_state & flow::ct_state::INV != 0 && c.commit;
        let alg = match c.alg {
            None => true,
            Some(CtAlg::Ftp) => k.nw_proto == ipproto::TCP,
            Some(CtAlg::Tftp) => k.nw_proto == ipproto::UDP,
        };
        let any = self.rules == Rules::Tracked;
        if !any && !self.has(Prereq::Ip) || invalid || !alg {
            return Err(OfError::OFPBAC_MATCH_INCONSISTENT);
        }
        if let CtZone::Field(sf) = c.zone {
            return self.src(sf);
        }
        if let Some(n) = &c.nat {
            self.nat(n)?;
        }
        self.nested(&c.exec)
    }

    fn nat(&self, n: &NatAction) -> Result {
        let prereq = match n.addr {
            NatAddr::Unspec => Prereq::Ip,
            NatAddr::V4(..) => Prereq::Ipv4,
            NatAddr::V6(..) => Prereq::Ipv6,
        };
        if self.has(prereq) { Ok(()) } else { Err(OfError::OFPBAC_MATCH_INCONSISTENT) }
    }

    /// The sources must exist in these packets, the rest in those of the learned flow.
    fn learn(&self, l: &LearnAction) -> Result {
        let mut learned = Check { m: Match::ANY, table: None, ..*self };
        for s in &l.specs {
            if let LearnSrc::Field(sf) = s.src {
                self.src(sf)?;
            }
            match s.dst {
                LearnDst::Match(sf) => {
                    learned.src(sf)?;
                    if let LearnSrc::Value(v) = s.src {
                        let shifted = v.checked_shl(sf.ofs.into()).unwrap_or(0);
                        learned.m.set(sf.field, shifted, sf.mask());
                    }
                }
                LearnDst::Load(sf) => learned.dst(sf)?,
                LearnDst::Output => {}
            }
        }
        Ok(())
    }
}
