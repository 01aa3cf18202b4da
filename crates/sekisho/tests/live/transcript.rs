//! What the tools print in the course of the story equals what the stock ones print on the stock
//! switch, but for MACs, times, ids and order.
//!
//! `golden/story.txt` was recorded from the stock switch with the stock tools by this very test
//! (`UPDATE_GOLDEN=1 cargo test -p sekisho transcript_stock`).

use std::path::Path;

use testkit::golden::{self, Scrub};
use testkit::process::{DEADLINE, eventually};
use testkit::story::{POLICY_IP, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::story::settle;
use crate::{BINARY, can_run};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/story.txt");

/// Plays the story and collects what the tools print.
struct Recorder<'a> {
    sut: &'a Sut<'a>,
    tools: Whose,
    text: String,
}

impl Recorder<'_> {
    fn run_words(&mut self, words: &[&str], scrub: &Scrub) {
        let ran = self.sut.tool(self.tools, words).unwrap();
        let status = ran.status.map_or("killed".to_owned(), |s| s.to_string());
        let command = ran.command.replace(POLICY_IP, "policy-ip.flow");
        let output = scrub.apply(&ran.text());
        self.text += &format!("$ {command}\n{output}[exit {status}]\n");
    }

    fn run(&mut self, line: &str, scrub: &Scrub) {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>(), scrub);
    }
}

fn transcript(switch: Whose, tools: Whose) -> String {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    if switch == Whose::Stock {
        story.offloads_off().unwrap();
    }
    let sut = Sut::start(switch, BINARY, &story.sw).unwrap();
    sut.add_bridge(tools, &["vm1p", "vm2p"]).unwrap();
    let mut rec = Recorder { sut: &sut, tools, text: String::new() };
    let plain = Scrub::none();
    let volatile = Scrub::volatile();
    let sorted = Scrub::volatile().sorted();

    // The bridge.
    rec.run("ovs-vsctl show", &sorted);
    for line in [
        "ovs-vsctl list-br",
        "ovs-vsctl br-exists br0",
        "ovs-vsctl br-exists nobr",
        "ovs-vsctl port-to-br vm1p",
        "ovs-vsctl get Interface vm1p ofport",
        "ovs-vsctl get Interface vm2p ofport_request error admin_state link_state",
        "ovs-vsctl get Bridge br0 datapath_type datapath_id other_config",
        "ovs-vsctl --columns=name,ofport find Interface ofport=3",
    ] {
        rec.run(line, &volatile);
    }
    rec.run("ovs-vsctl list-ports br0", &sorted);
    rec.run("ovs-vsctl list-ifaces br0", &sorted);
    rec.run("ovs-ofctl show br0", &sorted);
    rec.run("ovs-ofctl dump-ports-desc br0", &sorted);
    rec.run("ovs-ofctl dump-flows br0", &sorted);

    // The policy.
    rec.run("ovs-ofctl del-flows br0", &plain);
    rec.run_words(&["ovs-ofctl", "add-flows", "br0", POLICY_IP], &plain);
    rec.run("ovs-ofctl dump-flows br0", &sorted);
    rec.run("ovs-ofctl --no-stats dump-flows br0", &sorted);
    rec.run("ovs-ofctl --names dump-flows br0", &sorted);
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        rec.run(&format!("ovs-ofctl -O {version} dump-flows br0 table=1"), &sorted);
    }

    // Traffic that is the same packet for packet on every run.
    assert!(story.ping(Vm::One, 3).unwrap());
    assert!(!story.ping(Vm::Two, 2).unwrap());
    assert!(story.ask(Vm::One, "udp", &["7", "5000"]).unwrap());
    assert!(!story.ask(Vm::Two, "udp", &["7", "100"]).unwrap());
    assert!(!story.ask(Vm::Two, "tcp", &["23", "300"]).unwrap());
    settle(&sut);
    rec.run("ovs-ofctl dump-flows br0", &sorted);
    rec.run("ovs-ofctl dump-flows br0 table=1,in_port=3", &sorted);
    rec.run("ovs-ofctl dump-aggregate br0", &volatile);
    rec.run("ovs-ofctl dump-ports br0 2", &volatile);
    rec.run("ovs-ofctl dump-ports br0 vm2p", &volatile);
    rec.run("ovs-ofctl -O OpenFlow13 dump-ports br0 3", &volatile);
    rec.run("ovs-ofctl dump-ports br0", &sorted);
    rec.run("ovs-ofctl dump-tables br0", &Scrub::volatile().keys(&["lookup=", "matched="]));
    let connections = Scrub::none().ephemeral().sorted();
    rec.run("ovs-appctl dpctl/dump-conntrack", &connections);
    rec.run("ovs-appctl dpctl/dump-conntrack zone=0", &connections);
    rec.run("ovs-appctl dpctl/dump-conntrack zone=5", &connections);
    rec.run("ovs-appctl dpctl/ct-stats-show", &plain);
    rec.run("ovs-appctl fdb/show br0", &Scrub::none().last_column().sorted());
    rec.run("ovs-appctl dpif/show", &Scrub::none().keys(&["hit:", "missed:"]).sorted());

    // A TCP connection, by its state alone: how many packets it takes is the kernel's affair.
    assert!(story.ask(Vm::One, "tcp", &["23", "5000"]).unwrap());
    eventually("both sides have closed", DEADLINE, || {
        let connections = sut.ok(tools, "ovs-appctl dpctl/dump-conntrack")?;
        Ok(connections.contains("TIME_WAIT").then_some(()))
    })
    .unwrap();
    rec.run("ovs-appctl dpctl/dump-conntrack", &connections);

    // Why packets go where they go.
    let (one, two) = (
        "in_port=2,tcp,nw_src=192.168.0.1,nw_dst=192.168.0.2,nw_ttl=64,tp_src=40000,tp_dst=23,\
         dl_src=52:54:00:00:00:01,dl_dst=52:54:00:00:00:02",
        "in_port=3,tcp,nw_src=192.168.0.2,nw_dst=192.168.0.1,nw_ttl=64,tp_src=40000,tp_dst=23,\
         dl_src=52:54:00:00:00:02,dl_dst=52:54:00:00:00:01",
    );
    for line in [
        format!("ovs-appctl ofproto/trace br0 {one},tcp_flags=syn"),
        format!("ovs-appctl ofproto/trace br0 {one} --ct-next trk,est"),
        format!("ovs-appctl ofproto/trace br0 {two} --ct-next trk,new"),
        "ovs-appctl ofproto/trace br0 in_port=3,arp,dl_src=52:54:00:00:00:02,\
         dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=192.168.0.2,arp_tpa=192.168.0.1"
            .to_owned(),
        "ovs-appctl ofproto/trace br0 in_port=3,dl_type=0x86dd".to_owned(),
        "ovs-appctl ofproto/trace br0 in_port=9,bogus".to_owned(),
        "ovs-appctl ofproto/trace nobr in_port=2".to_owned(),
    ] {
        rec.run(&line, &volatile);
    }

    // Wrong names.
    for line in [
        "ovs-vsctl --timeout=5 add-br br0",
        "ovs-vsctl --timeout=5 del-br nobr",
        "ovs-vsctl --timeout=5 add-port br0 vm1p",
        "ovs-vsctl --timeout=5 get Interface nope ofport",
        "ovs-vsctl --timeout=5 set Bridge br0 bogus=1",
        "ovs-ofctl show nobr",
        "ovs-ofctl dump-ports br0 99",
        "ovs-ofctl add-flow br0 priority=1,actions=frobnicate",
        "ovs-ofctl add-flow br0 priority=70000,actions=drop",
        "ovs-appctl frob",
        "ovs-appctl fdb/show nobr",
        "ovs-appctl -t nosuchtarget version",
    ] {
        let rundir = Scrub::volatile().word(sut.rundir(), "RUNDIR");
        rec.run(line, &rundir);
    }
    rec.text
}

fn check(switch: Whose, tools: Whose) {
    if !can_run(switch, tools) {
        return;
    }
    let record = switch == Whose::Stock && tools == Whose::Stock;
    golden::check_file(Path::new(GOLDEN), &transcript(switch, tools), record).unwrap();
}

/// The golden file is what the stock switch prints.
#[test]
fn transcript_stock_tools_stock_switch() {
    check(Whose::Stock, Whose::Stock);
}

#[test]
fn transcript_our_tools_our_switch() {
    check(Whose::Ours, Whose::Ours);
}

#[test]
fn transcript_stock_tools_our_switch() {
    check(Whose::Ours, Whose::Stock);
}

#[test]
fn transcript_our_tools_stock_switch() {
    check(Whose::Stock, Whose::Ours);
}
