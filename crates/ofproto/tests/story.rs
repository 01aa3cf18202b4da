//! The story's policy, packet by packet, and the text of its traces.
#![allow(clippy::unwrap_used)]

mod common;

use base::{MacAddr, OfPort, RecircId};
use common::World;
use dpif::DpAction;
use flow::ct_state::{EST, NEW, RPL, TRK};
use flow::text::{Mode, NoNames, parse_exact};
use flow::{FlowKey, PacketKey};
use ofproto::Verdict;
use ofproto::port::{VlanConfig, VlanMode};
use openflow::flow_mod::FlowModCommand;
use openflow::text::parse_flow;
use openflow::version::Version;
use services::mac::Sighting;

const VM1: &str = "in_port=2,dl_src=52:54:00:00:00:01,dl_dst=52:54:00:00:00:02";
const VM2: &str = "in_port=3,dl_src=52:54:00:00:00:02,dl_dst=52:54:00:00:00:01";
const TCP: &str = "tcp,nw_src=192.168.0.1,nw_dst=192.168.0.2,nw_ttl=64,tp_src=40000,tp_dst=23";

fn learned(w: &mut World) {
    let now = w.now;
    for (n, port) in [(1, 2), (2, 3)] {
        let s = Sighting {
            vlan: 0,
            mac: MacAddr([0x52, 0x54, 0, 0, 0, n]),
            port: OfPort(port),
            gratuitous_arp: false,
            bond: false,
        };
        w.bridge().learn_mac(&s, now);
    }
}

/// A packet through both passes, with the tracker's verdict for the second.
fn two_passes(w: &mut World, port: &str, verdict: u8) -> String {
    let mut key = w.dp_key(&format!("{port},{TCP}"));
    let first = w.run_key(&key);
    let [DpAction::Ct(_), DpAction::Recirc(id)] = &first.actions[..] else {
        panic!("{:?}", first.actions)
    };
    (key.recirc_id, key.ct_state) = (id.0, verdict);
    let second = w.run_key(&key);
    dpif::text::format_actions(&second.actions, dpif::text::NO_NAMES).to_string()
}

#[test]
fn vm1_may_open_connections_and_vm2_only_answer() {
    let mut w = World::story();
    learned(&mut w);
    assert_eq!(two_passes(&mut w, VM1, NEW | TRK), "ct(commit),3");
    assert_eq!(two_passes(&mut w, VM2, EST | RPL | TRK), "2");
    assert_eq!(two_passes(&mut w, VM1, EST | TRK), "3");
    assert_eq!(two_passes(&mut w, VM2, NEW | TRK), "drop");
    assert_eq!(w.actions("in_port=3,dl_type=0x86dd"), "drop");
    let counts: Vec<(u8, u64)> = w
        .bridge()
        .tables()
        .select(&ofproto::Criteria::default())
        .map(|r| (r.table.0, r.stats.n_packets()))
        .collect();
    assert_eq!(counts, [(0, 4), (0, 0), (0, 1), (1, 1), (1, 1), (1, 1), (1, 1)]);
    let t0 = w.bridge().tables().get(base::TableId(0)).unwrap().stats().clone();
    assert_eq!((t0.n_lookup(), t0.n_matched()), (5, 5));
}

#[test]
fn equal_states_recirculate_under_one_number() {
    let mut w = World::story();
    let cached = [VM1, VM2, VM1].map(|port| w.run(&format!("{port},{TCP}")));
    let ids = cached.map(|x| match x.actions.last() {
        Some(DpAction::Recirc(RecircId(id))) => *id,
        _ => panic!(),
    });
    assert_eq!(ids, [1, 2, 1]);
}

#[test]
fn wildcards_are_those_of_the_story() {
    let mut w = World::story();
    let x = w.run(&format!("{VM1},{TCP}"));
    let m = x.mask;
    assert_eq!((m.in_port, m.dl_type, m.nw_frag), (u32::MAX, 0xffff, 0xff));
    assert_eq!((m.dl_src, m.nw_src, m.nw_proto, m.tp_dst, m.ct_state), ([0; 6], 0, 0, 0, 0));
}

#[test]
fn traces_read_as_stock_ovs_prints_them() {
    let mut w = World::story();
    learned(&mut w);
    let golden = include_str!("testdata/story-trace.txt");
    for case in golden.split("$ ").skip(1) {
        let (command, want) = case.split_once('\n').unwrap();
        let (packet, next) = command.split_once(' ').unwrap_or((command, ""));
        let next: &[u8] = match next {
            "" => &[],
            "--ct-next trk,est" => &[TRK | EST],
            "--ct-next trk,new" => &[TRK | NEW],
            other => panic!("{other}"),
        };
        let got = renumbered(&w.trace(packet, next));
        assert_eq!(got, renumbered(want), "\n{command}\n{got}");
    }
}

/// Bridges, flows and packets from files that hold what stock OVS said.
fn compare(golden: &str, version: Version) {
    let mut w = World::empty();
    let (setup, traces) = golden.split_once("$ ").unwrap();
    for line in setup.lines() {
        let (what, rest) = line.split_once(' ').unwrap();
        match what {
            // port OFPORT DATAPATH-PORT NAME,TAG,VLAN_MODE,TRUNKS
            "port" => {
                let [ofport, dp, spec] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                let [name, tag, mode, trunks] = spec.splitn(4, ',').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                let trunks = trunks.trim_matches(['"', '[', ']']);
                let vlan = VlanConfig {
                    mode: match (tag, mode) {
                        ("[]", _) => VlanMode::Trunk,
                        (_, "native-untagged") => VlanMode::NativeUntagged,
                        _ => VlanMode::Access,
                    },
                    tag: tag.parse().unwrap_or(0),
                    trunks: trunks.split(", ").filter_map(|t| t.parse().ok()).collect(),
                    ..VlanConfig::default()
                };
                w.port(ofport.parse().unwrap(), dp.parse().unwrap(), name, vlan);
            }
            "flow" => {
                let fm = parse_flow(rest, FlowModCommand::Add, &NoNames, Mode::Ovs).unwrap().flow;
                let now = w.now;
                let done = w.bridge().flow_mod_in(&fm, version, now);
                done.unwrap_or_else(|e| panic!("{line}: {e}"));
            }
            _ => panic!("{line}"),
        }
    }
    for case in traces.split("\n$ ") {
        let (command, want) = case.split_once('\n').unwrap();
        let (packet, next) = command.split_once(' ').unwrap_or((command, ""));
        let next: &[u8] = match next {
            "" => &[],
            "--ct-next trk,est" => &[TRK | EST],
            other => panic!("{other}"),
        };
        // Our datapath does these itself.
        let slow = "This flow is handled by the userspace slow path because it:\n  - Uses \
                    action(s) not supported by datapath.";
        let want = want.replace(slow, "");
        // The flows of a conjunction are named by later releases than the one that said this.
        let got = w.trace(packet, next);
        let got: String = got.split_inclusive('\n').filter(|l| !l.contains("-> conj.")).collect();
        let got = renumbered(&got);
        assert_eq!(got.trim_end(), renumbered(&want).trim_end(), "\n{command}\n{got}");
    }
}

/// Recirculation ids numbered in the order in which they appear.
fn renumbered(text: &str) -> String {
    let (mut out, mut rest, mut seen) = (String::new(), text, Vec::new());
    while let Some(at) = rest.find("recirc") {
        let after = &rest[at + 6..];
        let skip = after.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (label, number) = after.split_at(skip);
        if !matches!(label, "(" | "_id=") {
            out.push_str(&rest[..at + 6]);
            rest = after;
            continue;
        }
        let end = number.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(number.len());
        let id = match number[..end].strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
            None => number[..end].parse().unwrap(),
        };
        if id != 0 && !seen.contains(&id) {
            seen.push(id);
        }
        let n = seen.iter().position(|&s| s == id).map_or(0, |i| i + 1);
        out.push_str(&rest[..at + 6 + skip]);
        out.push_str(&n.to_string());
        rest = &number[end..];
    }
    out + rest
}

#[test]
fn vlan_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/vlan-trace.txt"), Version::Of10);
}

#[test]
fn action_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/actions-trace.txt"), Version::Of10);
}

#[test]
fn ct_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/ct-trace.txt"), Version::Of13);
}

#[test]
fn instruction_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/of15-trace.txt"), Version::Of15);
}

#[test]
fn mpls_and_copy_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/mpls-trace.txt"), Version::Of13);
}

/// Which link and port a packet takes are Open vSwitch's choices.
#[test]
fn hash_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/hash-trace.txt"), Version::Of13);
}

#[test]
fn encap_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/encap-trace.txt"), Version::Of13);
}

#[test]
fn conjunction_traces_read_as_stock_ovs_prints_them() {
    compare(include_str!("testdata/conjunction-trace.txt"), Version::Of10);
}

#[test]
fn a_trace_names_the_flows_of_the_conjunction_it_met() {
    let mut w = World::empty();
    w.port(1, 1, "p1", VlanConfig::default());
    w.port(2, 2, "p2", VlanConfig::default());
    for line in [
        "conj_id=1 actions=output:2",
        "priority=9,ip,nw_dst=10.0.0.1 actions=conjunction(1,1/2)",
        "priority=9,ip,nw_src=10.0.0.2 actions=conjunction(1,2/2)",
        // Met as well, but of another conjunction.
        "priority=9,in_port=1 actions=conjunction(2,2/2)",
    ] {
        let fm = parse_flow(line, FlowModCommand::Add, &NoNames, Mode::Ovs).unwrap().flow;
        let now = w.now;
        w.bridge().flow_mod(&fm, now).unwrap();
    }
    let named = |w: &World, packet: &str| {
        let trace = w.trace(packet, &[]);
        let mut lines: Vec<String> =
            trace.lines().filter(|l| l.contains("conj.")).map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        named(&w, "in_port=1,ip,nw_src=10.0.0.2,nw_dst=10.0.0.1"),
        [
            "     -> conj. priority=9,ip,nw_dst=10.0.0.1",
            "     -> conj. priority=9,ip,nw_src=10.0.0.2",
        ]
    );
    assert!(named(&w, "in_port=1,ip,nw_src=10.0.0.3,nw_dst=10.0.0.1").is_empty());
}

/// What `sekisho why` says of the story's stopped packet and of its answer to what VM1 opened.
#[test]
fn why_tells_the_rule_and_what_came_close() {
    let w = World::story();
    let packet = "in_port=3,tcp,nw_src=192.168.0.2,nw_dst=192.168.0.1,tp_src=40000,tp_dst=23";
    let why = |text: &str, state: u8| {
        let mut tracker = |key: &FlowKey, request: &conntrack::CtRequest, resumes: bool| {
            assert_eq!(
                (request.zone.0, request.commit, resumes),
                (0, request.commit, !request.commit)
            );
            let key = PacketKey { ct_state: state, ..key.pkt };
            Verdict { key, why: "so it is".into(), is_refused: false, is_dropped: None }
        };
        let key = parse_exact(text, &NoNames).unwrap();
        w.sw.why(w.now, w.br, &key, &mut tracker)
    };
    let text = why(packet, TRK | NEW);
    assert_eq!(text, include_str!("testdata/why-stopped.txt"), "\n{text}");
    let text = why(packet, TRK | EST | flow::ct_state::RPL);
    assert!(text.contains("\"priority=32768,ct_state=+est,ip,in_port=vm2p"), "{text}");
    assert!(text.contains("It goes out of port "), "{text}");
    let text = why("in_port=3,dl_type=0x1234", 0);
    let end = "It is dropped: the rule \"priority=1\" of table 0 says so.\n";
    assert!(text.ends_with(end), "{text}");
}
