//! What the tools print in the course of the story equals what the stock ones print on the stock
//! switch, but for MACs, times, ids and order.
//!
//! The files in `tests/golden` were recorded from the stock switch with the stock tools by these very
//! tests (`UPDATE_GOLDEN=1 cargo test -p sekisho stock_tools_stock_switch`).

use std::path::Path;

use testkit::golden::{self, Scrub};
use testkit::netns::Netns;
use testkit::process::{DEADLINE, eventually};
use testkit::story::{POLICY_IP, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::story::settle;
use crate::{BINARY, can_run};

/// Where the golden transcripts are.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// Plays the story and collects what the tools print.
struct Recorder<'a> {
    sut: &'a Sut<'a>,
    tools: Whose,
    text: String,
}

impl Recorder<'_> {
    fn run_words(&mut self, words: &[&str], scrub: &Scrub) {
        let mut given = words.to_vec();
        if self.tools == Whose::Ours && words[0] == "ovs-ofctl" {
            // Without it ours adds a caret under the mistake, and a hint.
            given.insert(1, "--lenient");
        }
        let ran = self.sut.tool(self.tools, &given).unwrap();
        let status = ran.status.map_or("killed".to_owned(), |s| s.to_string());
        let command = words.join(" ").replace(POLICY_IP, "policy-ip.flow");
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

/// What the database answers to operations, good and bad.
fn database_transcript(switch: Whose, tools: Whose) -> String {
    let ns = Netns::new("db").unwrap();
    let sut = Sut::start(switch, BINARY, &ns).unwrap();
    sut.ok(tools, "ovs-vsctl --no-wait init").unwrap();
    let mut rec = Recorder { sut: &sut, tools, text: String::new() };
    let volatile = Scrub::volatile();
    for line in [
        "ovsdb-client list-dbs",
        "ovsdb-client get-schema-version Open_vSwitch",
        "ovsdb-client list-tables Open_vSwitch",
        "ovsdb-client list-columns Open_vSwitch Bridge",
    ] {
        // Tables and columns come in the order of a hash.
        rec.run(line, &Scrub::none().sorted());
    }
    for operations in [
        // A row that nothing refers to is collected at once.
        r#"{"op":"insert","table":"Bridge","row":{"name":"lost"}}"#,
        r#"{"op":"select","table":"Bridge","where":[],"columns":["name"]}"#,
        // One that the root refers to stays. Named uuids run ahead and back.
        r#"{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["bridges","insert",["set",[["named-uuid","b"]]]]]},
           {"op":"insert","table":"Bridge","uuid-name":"b","row":{"name":"dbr","datapath_type":"dummy","external_ids":["map",[["a","b"],["c","d"]]]}}"#,
        r#"{"op":"select","table":"Bridge","where":[["name","==","dbr"]],"columns":["name","external_ids","fail_mode","stp_enable","flood_vlans"]}"#,
        r#"{"op":"select","table":"Bridge","where":[["external_ids","includes",["map",[["a","b"]]]]],"columns":["name"]}"#,
        r#"{"op":"select","table":"Bridge","where":[["external_ids","excludes",["map",[["a","b"]]]]],"columns":["name"]}"#,
        r#"{"op":"update","table":"Bridge","where":[["name","==","dbr"]],"row":{"flood_vlans":["set",[3,1,2]]}}"#,
        r#"{"op":"mutate","table":"Bridge","where":[["name","==","dbr"]],"mutations":[["flood_vlans","insert",["set",[7,1]]],["external_ids","delete",["set",["a"]]],["external_ids","insert",["map",[["c","no"],["e","f"]]]]]}"#,
        r#"{"op":"select","table":"Bridge","where":[],"columns":["flood_vlans","external_ids"]}"#,
        r#"{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["next_cfg","+=",41],["next_cfg","*=",2]]}"#,
        r#"{"op":"select","table":"Open_vSwitch","where":[["next_cfg",">",0]],"columns":["next_cfg"]}"#,
        r#"{"op":"wait","table":"Bridge","timeout":0,"where":[["name","==","dbr"]],"columns":["name"],"until":"==","rows":[{"name":"dbr"}]}"#,
        r#"{"op":"wait","table":"Bridge","timeout":0,"where":[["name","==","dbr"]],"columns":["name"],"until":"!=","rows":[{"name":"dbr"}]}"#,
        r#"{"op":"comment","comment":"hello"},{"op":"assert","lock":"mine"}"#,
        r#"{"op":"update","table":"Bridge","where":[],"row":{"stp_enable":true}},{"op":"abort"}"#,
        r#"{"op":"select","table":"Bridge","where":[["stp_enable","==",true]],"columns":["name"]}"#,
        // What must not be.
        r#"{"op":"insert","table":"Open_vSwitch","row":{}}"#,
        r#"{"op":"insert","table":"Nope","row":{}}"#,
        r#"{"op":"insert","table":"Bridge","row":{"nope":1}}"#,
        r#"{"op":"insert","table":"Bridge","row":{"name":7}}"#,
        r#"{"op":"update","table":"Bridge","where":[],"row":{"fail_mode":"sideways"}}"#,
        r#"{"op":"update","table":"Bridge","where":[],"row":{"flood_vlans":["set",[5000]]}}"#,
        r#"{"op":"update","table":"Bridge","where":[],"row":{"ports":["uuid","00000000-0000-0000-0000-000000000001"]}}"#,
        r#"{"op":"update","table":"Bridge","where":[],"row":{"_uuid":["uuid","00000000-0000-0000-0000-000000000001"]}}"#,
        r#"{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["next_cfg","/=",0]]}"#,
        r#"{"op":"mutate","table":"Bridge","where":[],"mutations":[["name","+=",1]]}"#,
        r#"{"op":"select","table":"Bridge","where":[["nope","==",1]]}"#,
        r#"{"op":"select","table":"Bridge","where":[["name","<","a"]]}"#,
        r#"{"op":"select"}"#,
        r#"{"op":"frob"}"#,
        r#"7"#,
        r#"{"op":"insert","table":"Bridge","uuid-name":"1bad","row":{}}"#,
        r#"{"op":"insert","table":"Bridge","uuid-name":"b","row":{"name":"x"}},{"op":"insert","table":"Bridge","uuid-name":"b","row":{"name":"y"}}"#,
        r#"{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["bridges","insert",["named-uuid","nobody"]]]}"#,
        // Two rows of one name.
        r#"{"op":"insert","table":"Bridge","uuid-name":"b","row":{"name":"dbr"}},{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["bridges","insert",["named-uuid","b"]]]}"#,
        // Taking the reference takes the row.
        r#"{"op":"update","table":"Open_vSwitch","where":[],"row":{"bridges":["set",[]]}}"#,
        r#"{"op":"select","table":"Bridge","where":[],"columns":["name"]}"#,
    ] {
        let transaction = format!("[\"Open_vSwitch\",{operations}]").replace("\n           ", "");
        rec.run_words(&["ovsdb-client", "transact", &transaction], &volatile);
    }
    rec.run_words(&["ovsdb-client", "transact", r#"["Nope",{"op":"abort"}]"#], &volatile);
    rec.text
}

fn check(switch: Whose, tools: Whose) {
    if !can_run(switch, tools) {
        return;
    }
    let record = switch == Whose::Stock && tools == Whose::Stock;
    let golden = Path::new(GOLDEN);
    golden::check_file(&golden.join("story.txt"), &transcript(switch, tools), record).unwrap();
}

fn check_database(switch: Whose, tools: Whose) {
    if !can_run(switch, tools) {
        return;
    }
    let record = switch == Whose::Stock && tools == Whose::Stock;
    let path = Path::new(GOLDEN).join("database.txt");
    golden::check_file(&path, &database_transcript(switch, tools), record).unwrap();
}

/// The golden file is what the stock database says.
#[test]
fn database_stock_tools_stock_switch() {
    check_database(Whose::Stock, Whose::Stock);
}

#[test]
fn database_our_tools_our_switch() {
    check_database(Whose::Ours, Whose::Ours);
}

#[test]
fn database_stock_tools_our_switch() {
    check_database(Whose::Ours, Whose::Stock);
}

#[test]
fn database_our_tools_stock_switch() {
    check_database(Whose::Stock, Whose::Ours);
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
