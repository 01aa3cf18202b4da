//! Random flow tables and packets, through our switch and the stock one in their simulated worlds.
//!
//! Each packet is traced first: both must take the same rules and come to the same final flow and
//! datapath actions. Then it is received, and when all of a table's packets have been, the
//! counters of all rules must agree. A difference is reduced to the rules that matter and shown
//! with its seed; [`KEPT`] holds those there have been. Of a table that the stock switch does not survive
//! the rest is let be: another takes its place.
//!
//! Seeds are new in each run. `SEKISHO_DIFF_SEED` repeats one, `SEKISHO_DIFF_CASES` says how many
//! packets.

mod actions;
mod fields;
mod frames;
mod generate;
mod switches;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use generate::{Rng, Table, packets, table};
use switches::{Outcome, Pair, frame};
use testkit::netns::Netns;
use testkit::sut::have_stock;

/// Packets in a run of the tests.
const CASES: usize = 3000;
/// Packets for each table.
const PACKETS: usize = 20;

/// Tables and packets that were once treated otherwise: what it was, flows, packet.
const KEPT: &[(&str, &[&str], &str)] = &[
    (
        "NORMAL takes priority tags off only where a port says so",
        &["actions=normal"],
        "in_port=2,tcp6,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:02,dl_vlan=0,dl_vlan_pcp=2",
    ),
    (
        "NORMAL floods no second tag to access ports",
        &["actions=output:4,mod_vlan_vid:10,normal"],
        "in_port=2,arp,dl_src=02:00:00:00:00:03,dl_dst=01:00:5e:00:00:05,dl_vlan=20,dl_vlan_pcp=4,\
         arp_op=2,arp_spa=10.0.1.1,arp_tpa=192.168.0.1",
    ),
    (
        "the action set sends packet-ins with the cookie of the first rule",
        &["table=0,arp,cookie=7,actions=resubmit(,5),write_actions(controller)"],
        "in_port=3,arp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,arp_op=1",
    ),
    (
        "the type of ICMPv6 is set with its code",
        &["icmp6,actions=set_field:8->icmpv6_type,output:1"],
        "in_port=3,icmp6,icmpv6_type=136,icmpv6_code=0,dl_src=02:00:00:00:00:03,nw_ttl=64",
    ),
    (
        "what had a code that neighbour discovery has not is none any more",
        &["icmp6,actions=output:3,set_field:1->icmpv6_code"],
        "in_port=2,icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=2001:db8::1,nw_ttl=1",
    ),
    (
        "a later fragment of IPv6 has the protocol of its header",
        &["ipv6,nw_proto=47,actions=1", "ipv6,nw_proto=44,actions=2"],
        "in_port=3,ipv6,dl_src=02:00:00:00:00:03,nw_proto=44,ip_frag=later,nw_ttl=64",
    ),
    (
        "a clone does what the action set says",
        &[
            "table=0,actions=write_actions(local),goto_table:2",
            "table=2,actions=clone(mod_vlan_vid:10),push_vlan:0x88a8",
        ],
        "in_port=1,udp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,udp_src=1,udp_dst=2",
    ),
    (
        "what is not IP is tracked, as invalid",
        &[
            "table=0,ip,actions=resubmit(,1),ct(table=2)",
            "table=1,actions=push_mpls:0x8847",
            "table=2,ct_state=+inv+trk,actions=1",
            "table=2,priority=1,actions=2",
        ],
        "in_port=3,icmp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,nw_ttl=64",
    ),
    (
        "a flow that is traced has the options that the map gives a place",
        &["arp,actions=output:1"],
        "in_port=3,arp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,arp_op=1",
    ),
    (
        "a packet that came without options shows none",
        &["actions=set_field:2001:db8::1->tun_ipv6_dst,set_field:0x7->tun_metadata0"],
        "in_port=2 02000000000302000000000308060001080006040001020000000003c0a80001020000000000\
         0a00000200000000000000000000000000000000",
    ),
    (
        "of a chain of extension headers that is cut short only the addresses are known",
        &["ipv6,nw_tos=252,actions=1", "priority=1,ipv6,actions=2"],
        "in_port=2 02000000000102000000000186dd6fc0000000042bff20010db8000000000000000000000001\
         20010db800000000000000000000000208000000",
    ),
    (
        "RARP stays as it is whatever is set",
        &["rarp,actions=set_field:192.168.0.1->arp_spa,output:3"],
        "in_port=4,rarp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,arp_op=2,arp_spa=10.0.0.1",
    ),
    (
        "ct_clear leaves the packet as the last output had it",
        &[
            "table=0,ip,actions=ct(commit,table=2)",
            "table=2,ip,actions=normal,ct_clear,set_field:02:00:00:00:00:02->eth_src",
        ],
        "in_port=2,icmp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,dl_vlan=0,dl_vlan_pcp=0,\
         nw_src=10.0.0.1,icmp_type=8,icmp_code=0,nw_ttl=64",
    ),
    (
        "vlan_tci keeps what it was set to though it says that there is no tag",
        &["actions=load:0x1->NXM_OF_VLAN_TCI[],output:1"],
        "in_port=1,arp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,dl_vlan=20,dl_vlan_pcp=0,\
         arp_op=2",
    ),
    (
        "a final flow without a port says nothing of it",
        &["actions=move:NXM_NX_REG0[0..15]->NXM_OF_IN_PORT[],output:3"],
        "in_port=4,arp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,arp_op=2",
    ),
    (
        "the number of a tag alone makes none",
        &["actions=move:OXM_OF_PKT_REG2[3..14]->OXM_OF_VLAN_VID[0..11],output:1"],
        "in_port=2,arp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,arp_op=2",
    ),
    (
        "rules of Ethernet headers are none of packets without",
        &[
            "table=0,in_port=1,actions=decap(),goto_table:1",
            "table=1,rarp,actions=load:1->NXM_NX_REG1[]",
            "table=1,priority=1,actions=load:2->NXM_NX_REG1[]",
        ],
        "in_port=1,rarp,dl_src=02:00:00:00:00:02,dl_dst=02:00:00:00:00:01,arp_op=3",
    ),
    (
        "setting the options of neighbour discovery says what is reserved, too",
        &["icmp6,icmpv6_type=136,icmpv6_code=0,actions=set_field:1->nd_options_type,output:1"],
        "in_port=3,icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::1,nw_ttl=64",
    ),
    (
        "labels are taken off behind two tags",
        &[
            "table=0,in_port=2,actions=push_vlan:0x8100,set_field:4106->vlan_vid,goto_table:1",
            "table=1,mpls,actions=pop_mpls:0x86dd,goto_table:2",
            "table=2,ipv6,actions=dec_ttl,output:1",
            "table=2,priority=1,actions=output:3",
        ],
        "in_port=2,mpls,dl_dst=02:00:00:00:00:01,dl_src=02:00:00:00:00:03,dl_vlan=10,dl_vlan_pcp=4,\
         mpls_label=1048575,mpls_tc=5,mpls_bos=1,mpls_ttl=1",
    ),
    (
        "labels in front of a network service header do not show",
        &[
            "table=0,sctp,actions=encap(nsh),goto_table:3",
            "table=3,actions=push_mpls:0x8847,set_field:0x80000001->tun_id",
        ],
        "in_port=2,sctp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,nw_ttl=1",
    ),
    (
        "network service headers of type 2 have no contexts",
        &["dl_type=0x894f,actions=set_field:0x2->nsh_c4,output:3"],
        "in_port=1,dl_type=0x894f,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nsh_mdtype=2,\
         nsh_np=1,nsh_ttl=2",
    ),
    (
        "nw_tos has no ECN",
        &["ip,actions=move:OXM_OF_PKT_REG2[5..12]->NXM_OF_IP_TOS[0..7],output:1"],
        "in_port=3,icmp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_tos=4,ip_ecn=1,\
         nw_ttl=64",
    ),
    (
        "what asks for no recirculation and headers of Ethernet says so",
        &["recirc_id=0,vlan_vid=0x1000/0x1000,actions=strip_vlan,output:1"],
        "in_port=3,arp,dl_vlan=10,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02",
    ),
    (
        "NORMAL takes what comes from no port though its destination is reserved",
        &["actions=load:0xffff->NXM_OF_IN_PORT[],normal"],
        "in_port=2,arp,dl_src=02:00:00:00:00:03,dl_dst=01:80:c2:00:00:00,arp_op=2",
    ),
    (
        "what is behind two tags is tracked",
        &[
            "table=0,udp6,actions=mod_vlan_pcp:5,ct(commit,zone=7,table=5)",
            "table=5,ct_state=+inv+trk,actions=output:1",
            "table=5,priority=1,ct_state=+trk,actions=output:3",
        ],
        "in_port=2,udp6,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:02,dl_vlan=30,dl_vlan_pcp=7,\
         ipv6_src=fe80::2,ipv6_dst=2001:db8::2,nw_ttl=2,udp_src=1000,udp_dst=81",
    ),
    (
        "what begins with a network service header has no label to set",
        &[
            "table=0,actions=encap(nsh),goto_table:4",
            "table=4,actions=push_mpls:0x8847,set_field:16->mpls_label,controller",
        ],
        "in_port=2,icmp,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:02,nw_ttl=2",
    ),
    (
        "an option of a tunnel is set without looking behind the last label",
        &["mplsm,actions=pop_mpls:0x0800,set_field:0x1->tun_metadata0,output:2"],
        "in_port=4,mplsm,dl_src=02:00:00:00:00:03,dl_dst=02:00:00:00:00:01,mpls_label=16,mpls_bos=1,\
         mpls_ttl=2",
    ),
    (
        "masks are written as addresses are",
        &["icmp6,icmpv6_type=136,icmpv6_code=0,actions=load:0x5->NXM_NX_ND_TARGET[0..31],output:4"],
        "in_port=2,icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::1,nw_ttl=1",
    ),
];

#[test]
fn random_tables_are_as_the_stock_switch_has_them() {
    if !have_stock().unwrap() {
        return;
    }
    compare().unwrap();
}

/// Loads random tables into both switches and traces random packets through them.
fn compare() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    let first = number("SEKISHO_DIFF_SEED").unwrap_or_else(clock);
    let cases = number("SEKISHO_DIFF_CASES").map_or(CASES, |n| n as usize);
    let most = number("SEKISHO_DIFF_MOST").unwrap_or(1);
    let ns = Netns::new("diff")?;
    let mut pair = Pair::start(&ns)?;
    let (mut done, mut refused, mut lost, mut differences) = (0, 0, 0, Vec::new());
    for seed in (first..).step_by(1000) {
        if done >= cases {
            break;
        }
        let mut rng = Rng(seed);
        let table = table(&mut rng);
        let packets = packets(&mut rng, PACKETS);
        match pair.run(&table, &packets) {
            Ok(Outcome::Same) => done += PACKETS,
            Ok(Outcome::Refused) => refused += PACKETS,
            Ok(Outcome::Lost(why)) => {
                eprintln!("SEKISHO_DIFF_SEED={seed} loses the stock switch: {why}");
                lost += 1;
                assert!(lost * 10 * PACKETS <= cases.max(100 * PACKETS), "too many of them");
            }
            Err(difference) => {
                done += PACKETS;
                differences.push(format!("SEKISHO_DIFF_SEED={seed}\n{difference}"));
                if differences.len() as u64 >= most {
                    break;
                }
            }
        }
    }
    eprintln!("seeds from {first}: {done} cases, and {refused} of tables that both refuse");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert!(refused * 4 < done, "{refused} of {done} cases had a table that both refuse");
    Ok(())
}

#[test]
fn what_once_differed_does_not() {
    if !have_stock().unwrap() {
        return;
    }
    let ns = Netns::new("diff").unwrap();
    let mut pair = Pair::start(&ns).unwrap();
    for (name, flows, packet) in KEPT {
        let flows = flows.iter().map(|f| (*f).to_owned()).collect();
        let port = frame(packet).0;
        let table = Table { groups: Vec::new(), flows };
        let outcome = pair
            .run(&table, &[(port, (*packet).to_owned())])
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(outcome, Outcome::Same, "{name}");
    }
}
