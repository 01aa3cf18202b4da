//! `ct`: through the connection tracker.
//!
//! The tracker is the datapath's. Without a table the packet is tracked and goes on here as
//! untracked. With a table, a copy is tracked and resumes in that table with the tracker's
//! verdict, by recirculation; the packet itself goes on here, untracked.

use alloc::boxed::Box;
use alloc::format;

use base::Zone;
use conntrack::{CtRequest, Helper, NatRequest};
use dpif::DpAction;
use flow::{FlowKey, PacketKey};
use openflow::action::{CtAction, CtAlg, CtZone, NatAction, NatAddr, NatKind};

use super::Ctx;
use crate::trace::{NodeKind, Recirculated};

impl Ctx<'_> {
    pub(super) fn ct(&mut self, a: &CtAction) {
        let zone = match a.zone {
            CtZone::Imm(z) => z,
            CtZone::Field(sf) => {
                self.look_at(sf);
                sf.get(&self.flow) as u16
            }
        };
        self.commit();
        self.ct_set = FlowKey::ZERO;
        // Bits of the mark and label that are set here are not looked at by that.
        let (mark, label) = (self.wc.pkt.ct_mark, self.wc.pkt.ct_label);
        self.actions(&a.exec, false);
        (self.wc.pkt.ct_mark, self.wc.pkt.ct_label) = (mark, label);
        let set = core::mem::replace(&mut self.ct_set, FlowKey::ZERO).pkt;
        let k = &self.flow.pkt;
        let request = CtRequest {
            zone: Zone(zone),
            commit: a.commit,
            force: a.force,
            mark: (set.ct_mark != 0).then_some((k.ct_mark & set.ct_mark, set.ct_mark)),
            label: (set.ct_label != [0; 16]).then(|| {
                let m = u128::from_be_bytes(set.ct_label);
                (u128::from_be_bytes(k.ct_label) & m, m)
            }),
            nat: a.nat.as_ref().map(nat_request),
            timeout_policy: self.sw.zone_policy(Zone(zone)).filter(|_| a.commit),
            helper: a.alg.map(|alg| match alg {
                CtAlg::Ftp => Helper::Ftp,
                CtAlg::Tftp => Helper::Tftp,
            }),
            ..CtRequest::default()
        };
        if let Some(t) = &mut self.trace {
            t.track(request, self.flow, a.recirc_table.is_some());
        }
        // The tracker says of what is not IP that it is invalid.
        self.out.push(DpAction::Ct(Box::new(request)));
        if let Some(table) = a.recirc_table {
            self.conntracked = true;
            let frozen = self.freeze(table);
            let (id, held) = self.sw.recircs.intern(frozen);
            self.credits.frozen.push(held);
            self.out.push(DpAction::Recirc(id));
            let key = self.flow;
            if let Some(t) = &mut self.trace {
                t.recirculated.push(Recirculated { id, request, nat: a.nat.clone(), key });
            }
            self.report(NodeKind::Detail, || {
                format!(
                    "A clone of the packet is forked to recirculate. The forked pipeline will be \
                     resumed at table {}.",
                    table.0
                )
            });
        }
        self.clear_ct_fields();
        self.report(NodeKind::Detail, || {
            "Sets the packet to an untracked state, and clears all the conntrack fields.".into()
        });
        self.conntracked = false;
    }

    /// The packet is untracked.
    pub(super) fn clear_ct_fields(&mut self) {
        clear(&mut self.flow.pkt);
    }

    /// Swaps the packet's five-tuple with that of its connection's original direction, for one
    /// lookup (`resubmit(,,ct)`).
    pub(super) fn swap_ct_tuple(&mut self) {
        let swap = |k: &mut flow::PacketKey| {
            core::mem::swap(&mut k.nw_src, &mut k.ct_nw_src);
            core::mem::swap(&mut k.nw_dst, &mut k.ct_nw_dst);
            core::mem::swap(&mut k.ipv6_src, &mut k.ct_ipv6_src);
            core::mem::swap(&mut k.ipv6_dst, &mut k.ct_ipv6_dst);
            core::mem::swap(&mut k.nw_proto, &mut k.ct_nw_proto);
            core::mem::swap(&mut k.tp_src, &mut k.ct_tp_src);
            core::mem::swap(&mut k.tp_dst, &mut k.ct_tp_dst);
        };
        swap(&mut self.flow.pkt);
        swap(&mut self.wc.pkt);
    }
}

/// What the tracker is asked for by a `nat`.
fn nat_request(n: &NatAction) -> NatRequest {
    NatRequest {
        kind: n.kind.map(|kind| match kind {
            NatKind::Src => conntrack::NatKind::Src,
            NatKind::Dst => conntrack::NatKind::Dst,
        }),
        addrs: match n.addr {
            NatAddr::Unspec => None,
            NatAddr::V4(min, max) => Some((min.into(), max.unwrap_or(min).into())),
            NatAddr::V6(min, max) => Some((min.into(), max.unwrap_or(min).into())),
        },
        ports: n.ports.map(|(min, max)| (min, max.unwrap_or(min))),
        random: n.random,
        hash: n.hash,
        persistent: n.persistent,
    }
}

/// The packet of this key is untracked.
pub(super) fn clear(k: &mut PacketKey) {
    (k.ct_state, k.ct_zone, k.ct_mark, k.ct_nw_proto) = (0, 0, 0, 0);
    (k.ct_nw_src, k.ct_nw_dst, k.ct_tp_src, k.ct_tp_dst) = (0, 0, 0, 0);
    (k.ct_label, k.ct_ipv6_src, k.ct_ipv6_dst) = ([0; 16], [0; 16], [0; 16]);
}
