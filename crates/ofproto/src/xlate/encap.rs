//! `encap` and `decap`: headers outside of what the packet is now (`ovs-actions(7)`).
//!
//! The packet type says what a packet begins with. The pipeline's view changes at once; the header
//! itself comes or goes with the next commit, when more may be known of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use base::MacAddr;
use dpif::{DpAction, DropReason, NshHeader};
use flow::{PacketKey, VLAN_PRESENT};
use openflow::action::{EncapAction, EncapProp};
use packet::header::ethertype;

use super::Ctx;
use super::mpls::{MAX_LABELS, is_mpls};
use crate::trace::NodeKind;

const ETHERNET: u32 = 0;
const NSH: u32 = packet_type(ethertype::NSH);
const MPLS: u32 = packet_type(ethertype::MPLS);
const MPLS_MCAST: u32 = packet_type(ethertype::MPLS_MCAST);

/// The packet type of what follows an EtherType.
const fn packet_type(ethertype: u16) -> u32 {
    1 << 16 | ethertype as u32
}

/// Whether a packet type says an EtherType.
fn is_ethertype(packet_type: u32) -> bool {
    packet_type >> 16 == 1
}

/// Most bytes of context headers of metadata type 2.
const MAX_TLVS: usize = 248;

/// A header that comes or goes with the next commit.
#[derive(Debug)]
pub(super) enum Pending {
    /// One comes; an NSH of metadata type 2 has these bytes of context.
    Encap(Vec<u8>),
    /// One goes.
    Decap,
}

impl Ctx<'_> {
    pub(super) fn encap(&mut self, a: &EncapAction) {
        self.commit();
        let mut tlvs = Vec::new();
        match a.packet_type {
            ETHERNET => self.encap_ethernet(),
            NSH => tlvs = self.encap_nsh(&a.props),
            MPLS | MPLS_MCAST => self.encap_mpls(a.packet_type),
            _ => self.refuse_packet_type("encap".into()),
        }
        if self.error.is_none() {
            self.pending = Some(Pending::Encap(tlvs));
        }
    }

    fn refuse_packet_type(&mut self, why: alloc::string::String) {
        self.report(NodeKind::Action, || why);
        self.error = Some(DropReason::UnsupportedPacketType);
    }

    fn encap_ethernet(&mut self) {
        let k = &mut self.flow.pkt;
        if is_ethertype(k.packet_type) {
            k.dl_type = k.packet_type as u16;
            k.packet_type = ETHERNET;
            (k.dl_src, k.dl_dst) = ([0; 6], [0; 6]);
        } else {
            self.refuse_packet_type(
                "Dropping packet as encap(ethernet) is not supported for packet type ethernet."
                    .into(),
            );
        }
    }

    fn encap_mpls(&mut self, packet_type: u32) {
        let n = self.count_labels();
        if n >= MAX_LABELS {
            self.error = Some(DropReason::TooManyMplsLabels);
            return;
        }
        let k = &mut self.flow.pkt;
        if k.packet_type == ETHERNET && k.dl_type == ethertype::MPLS {
            // The labels of the packet are behind its Ethernet header.
            k.mpls_lse = [0; 3];
            self.wc.pkt.mpls_lse = [0; 3];
            self.base.mpls_lse = [0; 3];
        }
        self.flow.pkt.packet_type = packet_type;
        self.add_label(n, packet_type as u16);
        (self.flow.pkt.dl_src, self.flow.pkt.dl_dst) = ([0; 6], [0; 6]);
    }

    /// Gives the context headers of metadata type 2.
    fn encap_nsh(&mut self, props: &[EncapProp]) -> Vec<u8> {
        let old = self.flow.pkt.packet_type;
        let np = match old {
            _ if old == packet_type(ethertype::IPV4) => 1,
            _ if old == packet_type(ethertype::IPV6) => 2,
            ETHERNET => 3,
            NSH => 4,
            _ => {
                self.refuse_packet_type(format!(
                    "Dropping packet as encap(nsh) is not supported for packet type ({},{:#x})",
                    old >> 16,
                    old & 0xffff
                ));
                return Vec::new();
            }
        };
        let (mut mdtype, mut tlvs) = (1, Vec::new());
        for p in props {
            match p {
                EncapProp::NshMdType(t) => mdtype = *t & 0xf,
                EncapProp::NshTlv { class, kind, data } => {
                    tlvs.extend(class.to_be_bytes());
                    tlvs.extend([*kind, data.len() as u8]);
                    tlvs.extend(data);
                    tlvs.resize(tlvs.len().next_multiple_of(4), 0);
                }
            }
        }
        if mdtype != 2 || tlvs.len() > MAX_TLVS {
            tlvs.clear();
        }
        self.flow.pkt = PacketKey {
            packet_type: NSH,
            dl_type: ethertype::NSH,
            nsh_ttl: 63,
            nsh_mdtype: mdtype,
            nsh_np: np,
            nsh_path: 255,
            ..metadata(&self.flow.pkt)
        };
        tlvs
    }

    /// Whether the rest of the list waits until the datapath has looked at what was uncovered.
    pub(super) fn decap(&mut self, new_type: Option<u32>) -> bool {
        /// "See for yourself", in a packet type.
        const USE_NEXT_PROTO: u32 = 0xfffe;
        self.commit();
        let k = &mut self.flow.pkt;
        match k.packet_type {
            ETHERNET if k.vlans[0].tci & VLAN_PRESENT != 0 => {
                self.refuse_packet_type(
                    "Dropping packet, cannot decap Ethernet if VLAN is present.".into(),
                );
                false
            }
            ETHERNET => {
                k.packet_type = packet_type(k.dl_type);
                (k.dl_src, k.dl_dst) = ([0; 6], [0; 6]);
                false
            }
            NSH => {
                k.packet_type = match k.nsh_np {
                    1 => packet_type(ethertype::IPV4),
                    2 => packet_type(ethertype::IPV6),
                    3 => ETHERNET,
                    4 => NSH,
                    np => {
                        self.refuse_packet_type(format!(
                            "Dropping packet as NSH next protocol {np} is not supported"
                        ));
                        return false;
                    }
                };
                self.wc.pkt.nsh_np = 0xff;
                self.pending = Some(Pending::Decap);
                true
            }
            MPLS | MPLS_MCAST => {
                k.packet_type = new_type.unwrap_or(USE_NEXT_PROTO);
                let ethertype = match k.packet_type as u16 {
                    0 => ethertype::TEB,
                    t => t,
                };
                let n = self.count_labels();
                if self.remove_label(n, ethertype) {
                    self.pending = Some(Pending::Decap);
                    return n == 1;
                }
                if n >= MAX_LABELS {
                    self.error = Some(DropReason::TooManyMplsLabels);
                }
                false
            }
            other => {
                self.refuse_packet_type(format!(
                    "Dropping packet as the decap() does not support packet type ({},{:#x})",
                    other >> 16,
                    other & 0xffff
                ));
                false
            }
        }
    }

    /// `false` ends the list of actions.
    pub(super) fn dec_nsh_ttl(&mut self) -> bool {
        if self.flow.pkt.dl_type == ethertype::NSH {
            self.wc.pkt.nsh_ttl = 0xff;
            if self.flow.pkt.nsh_ttl > 1 {
                self.flow.pkt.nsh_ttl -= 1;
                return true;
            }
            self.ttl_exception(0);
        }
        self.report(NodeKind::Warn, || "NSH decrement TTL exception".into());
        false
    }

    /// Adds the actions for a header that is to come or go.
    pub(super) fn commit_encap(&mut self) {
        let new = self.flow.pkt;
        match self.pending.take() {
            Some(Pending::Encap(tlvs)) => match new.packet_type {
                ETHERNET => {
                    let (dst, src) = (MacAddr(new.dl_dst), MacAddr(new.dl_src));
                    self.out.push(DpAction::PushEth { dst, src });
                    self.base.packet_type = new.packet_type;
                    (self.base.dl_src, self.base.dl_dst) = (new.dl_src, new.dl_dst);
                }
                NSH => {
                    self.out.push(DpAction::PushNsh(Box::new(NshHeader {
                        flags: new.nsh_flags,
                        ttl: new.nsh_ttl,
                        mdtype: new.nsh_mdtype,
                        np: new.nsh_np,
                        path: new.nsh_path,
                        context: new.nsh_context,
                        tlvs: tlvs.into_boxed_slice(),
                    })));
                    let base = metadata(&self.base);
                    self.base =
                        PacketKey { packet_type: new.packet_type, ..with_metadata(new, &base) };
                }
                _ => self.commit_mpls(true),
            },
            None if new.packet_type == self.base.packet_type => {}
            _ if is_ethertype(new.packet_type) && self.base.packet_type == ETHERNET => {
                self.out.push(DpAction::PopEth);
                self.base.packet_type = new.packet_type;
                (self.base.dl_src, self.base.dl_dst) = ([0; 6], [0; 6]);
            }
            // What is beneath will be seen when the packet comes back.
            _ => match self.base.packet_type {
                NSH => self.out.push(DpAction::PopNsh),
                t if is_ethertype(t) && is_mpls(t as u16) => self.commit_mpls(false),
                _ => {}
            },
        }
    }
}

/// A key's metadata, without headers.
fn metadata(k: &PacketKey) -> PacketKey {
    with_metadata(PacketKey::ZERO, k)
}

/// The headers of `headers` with the metadata of `k`.
fn with_metadata(headers: PacketKey, k: &PacketKey) -> PacketKey {
    PacketKey {
        tunnel: k.tunnel,
        skb_priority: k.skb_priority,
        pkt_mark: k.pkt_mark,
        dp_hash: k.dp_hash,
        recirc_id: k.recirc_id,
        in_port: k.in_port,
        packet_type: k.packet_type,
        ct_state: k.ct_state,
        ct_nw_proto: k.ct_nw_proto,
        ct_zone: k.ct_zone,
        ct_mark: k.ct_mark,
        ct_label: k.ct_label,
        ct_nw_src: k.ct_nw_src,
        ct_nw_dst: k.ct_nw_dst,
        ct_ipv6_src: k.ct_ipv6_src,
        ct_ipv6_dst: k.ct_ipv6_dst,
        ct_tp_src: k.ct_tp_src,
        ct_tp_dst: k.ct_tp_dst,
        ..headers
    }
}
