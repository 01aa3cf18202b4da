//! A cached translation is right for every packet that agrees with its mask.

mod common;

use base::TableId;
use common::{NORMAL, World, ct, flow_mod, output, resubmit};
use flow::text::{Mode, NoNames, parse_match};
use flow::{FieldId, PacketKey};
use openflow::Subfield;
use openflow::action::Action;
use proptest::prelude::*;

const MATCHES: &[&str] = &[
    "",
    "in_port=2",
    "ip",
    "tcp",
    "tcp,tp_dst=80",
    "tcp,tp_dst=0x1000/0xf000",
    "udp,tp_src=53",
    "ip,nw_dst=10.0.0.0/8",
    "ip,nw_dst=10.1.0.0/16",
    "ip,nw_src=10.0.0.1",
    "arp",
    "arp,arp_op=1",
    "ipv6",
    "dl_vlan=5",
    "vlan_tci=0",
    "vlan_tci=0x1000/0x1000",
    "dl_src=02:00:00:00:00:01",
    "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
    "ip,nw_ttl=64",
    "ip,nw_tos=32",
    "ip,nw_frag=no",
    "ip,nw_frag=later",
    "reg0=1",
    "ct_state=+trk",
    "icmp,icmp_type=8",
];

fn set(field: FieldId, value: u128) -> Action {
    Action::SetField { field, value, mask: field.row().all_ones() }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let pool = vec![
        output(2),
        output(3),
        NORMAL,
        resubmit(1),
        resubmit(2),
        ct(None, true),
        ct(Some(1), false),
        set(FieldId::Reg0, 1),
        set(FieldId::IpDst, 0x0a01_0001),
        set(FieldId::TcpDst, 80),
        set(FieldId::EthSrc, 0x0200_0000_0001),
        set(FieldId::NwTos, 32),
        Action::DecTtl(Vec::new()),
        Action::PushVlan(0x8100),
        Action::StripVlan,
        Action::SetVlanVid { vid: 5, push: true },
        Action::SetVlanPcp { pcp: 3, push: false },
        Action::Move {
            src: Subfield { field: FieldId::IpSrc, ofs: 0, n_bits: 16 },
            dst: Subfield { field: FieldId::Reg0, ofs: 0, n_bits: 16 },
        },
        Action::Clone(vec![set(FieldId::IpTtl, 7), output(3)]),
        Action::Exit,
        Action::Output { port: base::OfPort::FLOOD, max_len: 0 },
    ];
    prop::collection::vec(prop::sample::select(pool), 0..5)
}

/// Packets that exist: fields of a header are zero without it.
fn packet() -> impl Strategy<Value = PacketKey> {
    (
        (2u32..4, 0usize..4, 0u8..3, 0u8..3, 0u8..4),
        (prop::sample::select(vec![1u8, 6, 17]), 0u32..4, 0u32..4, 0u8..3, 0u8..3),
        (prop::sample::select(vec![0u16, 22, 53, 80, 0x1080, 8]), any::<u16>(), 0u8..3),
    )
        .prop_map(|(a, b, c)| {
            let (in_port, kind, src, dst, vlan) = a;
            let (proto, nw_src, nw_dst, ttl, tos) = b;
            let (port, noise, frag) = c;
            let mut k = PacketKey::ZERO;
            k.in_port = in_port;
            k.dl_src = [2, 0, 0, 0, 0, src];
            k.dl_dst = [if dst == 2 { 0xff } else { 2 }, 0, 0, 0, 0, dst];
            if vlan > 1 {
                k.vlans[0] = flow::VlanTag { tpid: 0x8100, tci: 0x1000 | (u16::from(vlan) + 2) };
            }
            k.dl_type = [0x800, 0x806, 0x86dd, 0x1234][kind];
            match kind {
                0 | 2 => {
                    k.nw_proto = if kind == 2 && proto == 1 { 58 } else { proto };
                    k.nw_ttl = [1, 2, 64][usize::from(ttl)];
                    k.nw_tos = [0, 32, 3][usize::from(tos)];
                    k.nw_frag = [0, 1, 3][usize::from(frag)];
                    if k.nw_frag != 3 {
                        (k.tp_src, k.tp_dst) = if proto == 1 { (8, 0) } else { (noise, port) };
                        k.tcp_flags = if k.nw_proto == 6 { noise & 0xfff } else { 0 };
                    }
                    if kind == 0 {
                        k.nw_src = 0x0a00_0000 | nw_src;
                        k.nw_dst = [0x0a00_0001, 0x0a01_0001, 0x0b00_0001, 0][nw_dst as usize];
                    }
                }
                1 => {
                    k.nw_proto = 1 + (tos & 1);
                    (k.nw_src, k.nw_dst) = (nw_src, nw_dst);
                }
                _ => {}
            }
            k
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn packets_that_agree_on_the_mask_are_translated_the_same(
        flows in prop::collection::vec(
            (0u8..3, 0u16..4, prop::sample::select(MATCHES.to_vec()), actions()), 1..12),
        known in prop::collection::vec((packet(), 2u16..4), 0..3),
        probe in packet(),
        others in prop::collection::vec(packet(), 8),
    ) {
        let mut w = World::new();
        for (table, priority, m, actions) in flows {
            prop_assume!(parse_match(m, &NoNames, Mode::Ovs).is_ok());
            let mut fm = flow_mod(m, &actions);
            (fm.table, fm.priority) = (Some(TableId(table)), priority);
            let now = w.now;
            w.bridge().flow_mod(&fm, now).map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        for (k, port) in known {
            let s = services::mac::Sighting {
                vlan: k.vlans[0].tci & 0xfff,
                mac: base::MacAddr(k.dl_src),
                port: base::OfPort(port),
                gratuitous_arp: false,
                bond: false,
            };
            let now = w.now;
            w.bridge().learn_mac(&s, now);
        }
        let x = w.sw.xlate(w.now, &probe, None);
        for other in others {
            // Either a packet that happens to agree, or the other made to agree where that is
            // still a packet.
            let mut twin = other;
            for ((t, p), m) in twin.words_mut().iter_mut().zip(probe.words()).zip(x.mask.words()) {
                *t = (*t & !m) | (p & m);
            }
            let same_kind = twin.dl_type == other.dl_type
                && twin.nw_proto == other.nw_proto
                && twin.nw_frag == other.nw_frag
                && twin.vlans == other.vlans;
            if !same_kind {
                continue;
            }
            let y = w.sw.xlate(w.now, &twin, None);
            prop_assert_eq!(&y.actions, &x.actions, "{:?} {:?} mask {:?}", probe, twin, x.mask);
            prop_assert_eq!(y.drop, x.drop);
        }
    }
}

#[test]
fn a_failed_trace_shows_what_was_looked_at_of_the_pipeline() {
    let mut w = World::new();
    w.add("reg0=0/1", &[resubmit(0)]);
    let text = w.trace("in_port=2,arp", &[]);
    assert!(text.contains("\nMegaflow: recirc_id=0,eth,arp,reg0=0/0x1,in_port=2\n"), "{text}");
}
