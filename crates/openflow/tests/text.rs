//! Flows in text: what `ovs-ofctl` 3.1 sends for them and how it prints them.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use base::TableId;
use flow::text::{Mode, NameMap, NoNames};
use openflow::message::{Body, Message, Session};
use openflow::text::{FlowModText, parse_flow};
use openflow::{FlowModCommand, Version};

const FLOWS: &str = include_str!("data/flows.txt");
const SESSION: Session = Session { flow_mod_table_id: true };

fn hex(s: &str) -> Vec<u8> {
    (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn text_becomes_the_bytes_that_ovs_sends() {
    let lines: Vec<&str> = FLOWS.lines().collect();
    let mut n = 0;
    for l in lines.chunks_exact(3) {
        let bytes = hex(l[1]);
        let version = Version::from_wire(bytes[0]).unwrap();
        let parsed = parse_flow(l[0], FlowModCommand::Add, &NoNames, Mode::Ovs);
        let mut flow = parsed.unwrap_or_else(|e| panic!("{e}: {}", l[0])).flow;
        if version > Version::Of10 {
            flow.table = flow.table.or(Some(base::TableId(0)));
        }
        let xid = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let mut m = Message::new(version, xid, Body::FlowMod(Box::new(flow)));
        m.nicira = version == Version::Of10;
        let got = m.encode(SESSION).unwrap_or_else(|e| panic!("{e}: {}", l[0]));
        let show = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
        // OVS masks the lower bits of an address away where it was not told to.
        if !l[0].contains("10.0.0.0/8->") && !l[0].contains("01:00:00:00:00:00/01") {
            assert_eq!(show(&got), l[1], "{} in {version}: {m:?}", l[0]);
        }
        n += 1;
    }
    assert!(n > 250, "{n}");
}

#[test]
fn bytes_become_the_text_that_ovs_prints() {
    let lines: Vec<&str> = FLOWS.lines().collect();
    for l in lines.chunks_exact(3) {
        if l[0].contains("nsh_c1=5/0xff") {
            continue; // OVS leaves a partly masked context header out
        }
        let m = Message::decode(&hex(l[1]), SESSION).unwrap();
        let Body::FlowMod(f) = &m.body else { panic!("{m:?}") };
        let text =
            FlowModText { f, version: m.version, names: &NoNames, raw_match: None }.to_string();
        // The tool does not know that the table is in the command.
        let want = l[2].replace("table:255 ", "");
        assert_eq!(text, want, "{}", l[0]);
    }
}

#[test]
fn the_policy_of_the_story_is_taken_as_it_stands() {
    let policy = "priority=100,ip,actions=ct(table=1)\n# ARP\n\npriority=10,arp,actions=normal\n\
        priority=1,actions=drop\n\ntable=1,in_port=2,ct_state=+new,actions=ct(commit),normal\n\
        table=1,in_port=3,ct_state=+est,actions=normal";
    let line = |l| openflow::text::parse_line(l, None, &NoNames, Mode::Strict);
    let flows: Vec<_> = policy.lines().filter_map(line).map(|p| p.unwrap().flow).collect();
    assert_eq!(flows.len(), 5);
    let f = FlowModText { f: &flows[3], version: Version::Of10, names: &NoNames, raw_match: None };
    assert_eq!(f.to_string(), "ADD table:1 ct_state=+new,in_port=2 actions=ct(commit),NORMAL");
}

#[test]
fn errors_say_what_and_where() {
    for (line, at, message) in [
        ("priority=1,actions=frobnicate", "frobnicate", "unknown action frobnicate"),
        ("priority=1,nosuchfield=3,actions=drop", "nosuchfield", "unknown keyword nosuchfield"),
        ("table=999,actions=drop", "999", "unknown table \"999\""),
        ("priority=70000,actions=drop", "70000", "invalid priority \"70000\""),
        ("priority=-1,actions=drop", "-1", "invalid priority \"-1\""),
        ("priority=1", "", "must specify an action"),
        ("foo", "", "must specify an action"),
        ("ip,actions=output:99999", "99999", "99999: output to unknown port"),
        ("actions=resubmit(,300)", "300", "300: resubmit to unknown table"),
        ("actions=ct(foo)", "foo", "invalid argument to \"ct\" action: `foo'"),
        ("ip,actions=ct(table=999)", "999", "unknown table 999"),
        ("ip,actions=ct(commit,zone=70000)", "70000", "70000: unknown field `70000'"),
        ("ip,actions=ct(commit,alg=xyz)", "xyz", "invalid conntrack helper \"xyz\""),
        ("cookie=0x1/0x1,actions=drop", "0x1", "flow additions cannot use a cookie mask"),
        (
            "actions=drop,normal",
            "drop",
            "\"drop\" must not be accompanied by any other action or instruction",
        ),
        ("actions=set_field:5->nosuch", "nosuch", "nosuch is not a valid OXM field name"),
        (
            "tcp,actions=set_field:99999->tcp_dst",
            "99999",
            "99999: value too large for 2-byte field tcp_dst",
        ),
        (
            "actions=set_field:80->tcp_dst",
            "tcp_dst",
            "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
        ),
        (
            "actions=load:1->NXM_OF_BOGUS[]",
            "NXM_OF_BOGUS",
            "NXM_OF_BOGUS[]: unknown field `NXM_OF_BOGUS'",
        ),
        (
            "actions=move:NXM_OF_IN_PORT[]",
            "NXM_OF_IN_PORT[]",
            "NXM_OF_IN_PORT[]: missing `->' following source",
        ),
        ("actions=learn(table=999)", "999", "unknown table \"999\""),
        (
            "actions=goto_table:5,output:1",
            "output",
            "invalid instruction ordering: apply_actions must appear before goto_table, for OpenFlow 1.1+ compatibility",
        ),
        (
            "send_flow_rem,no_such_flag,actions=drop",
            "no_such_flag",
            "field no_such_flag missing value",
        ),
        ("priority=1 actions=drop extra=1", "extra", "unknown action extra"),
        ("ip,actions=ct(table=1", "ct(table=1", "ct(table=1: missing ')'"),
    ] {
        let e = parse_flow(line, FlowModCommand::Add, &NoNames, Mode::Strict).unwrap_err();
        assert_eq!((&line[e.span.clone()], e.message.as_str()), (at, message), "{line}");
    }
    let e = parse_flow("actions=drop", FlowModCommand::Delete, &NoNames, Mode::Ovs).unwrap_err();
    assert_eq!(e.message, "unknown keyword actions");
}

/// Registers that only an experimenter's header names are loaded with `NXAST_REG_LOAD2`, whose field
/// begins right after the subtype.
#[test]
fn late_registers_are_loaded_with_their_experimenters_header() {
    let text = "actions=set_field:0x5->reg31,set_field:0x10/0xf0->reg16,load:0x3->reg17[4..7]";
    for version in [Version::Of10, Version::Of13] {
        let mut f = parse_flow(text, FlowModCommand::Add, &NoNames, Mode::Ovs).unwrap().flow;
        f.table = Some(base::TableId(0));
        let mut m = Message::new(version, 1, Body::FlowMod(Box::new(f)));
        m.nicira = version == Version::Of10;
        let bytes = m.encode(SESSION).unwrap();
        let header = [0, 0, 0x23, 0x20, 0, 0x21, 0xff, 0xff];
        assert!(bytes.windows(header.len()).any(|w| w == header), "{version}: {bytes:02x?}");
        let again = Message::decode(&bytes, SESSION).unwrap();
        assert_eq!(again.encode(SESSION).unwrap(), bytes, "{version}");
        let Body::FlowMod(f) = &again.body else { panic!("{again:?}") };
        let printed = FlowModText { f, version, names: &NoNames, raw_match: None }.to_string();
        assert!(printed.contains("set_field:0x5->reg31"), "{printed}");
        assert!(printed.contains("set_field:0x10/0xf0->reg16"), "{printed}");
        assert!(printed.contains("set_field:0x30/0xf0->reg17"), "{printed}");
    }
}

/// As deep as OVS reads, and no deeper.
#[test]
fn actions_in_actions_end_somewhere() {
    let flow = |n: usize| format!("actions={}1{}", "clone(".repeat(n), ")".repeat(n));
    let read =
        |n| parse_flow(&flow(n), FlowModCommand::Add, &NoNames, Mode::Ovs).map_err(|e| e.message);
    assert!(read(99).is_ok());
    assert_eq!(read(100).err().as_deref(), Some("Action nested too deeply"));
}

/// Tables 1 `ingress` and 2 `my-acl`.
struct Tables;

impl NameMap for Tables {
    fn number(&self, _: &str) -> Option<base::OfPort> {
        None
    }
    fn name(&self, _: base::OfPort) -> Option<&str> {
        None
    }
    fn table_number(&self, name: &str) -> Option<TableId> {
        ["ingress", "my-acl"].iter().position(|n| *n == name).map(|i| TableId(i as u8 + 1))
    }
    fn table_name(&self, table: TableId) -> Option<&str> {
        [None, Some("ingress"), Some("my-acl")].get(usize::from(table.0)).copied().flatten()
    }
}

/// A table's name means its number wherever a table is said, and takes the number's place in print.
#[test]
fn tables_have_names() {
    let named = "table=ingress,actions=resubmit(,\"my-acl\"),ct(commit,table=my-acl),\
                 learn(table=ingress,eth_type=0x800),goto_table:my-acl";
    let numbers = "table=1,actions=resubmit(,2),ct(commit,table=2),learn(table=1,eth_type=0x800),\
                   goto_table:2";
    let parse = |line, names: &dyn NameMap| {
        parse_flow(line, FlowModCommand::Add, names, Mode::Strict).map(|p| p.flow)
    };
    let f = &parse(named, &Tables).unwrap();
    assert_eq!(f, &parse(numbers, &NoNames).unwrap());
    assert_eq!(
        FlowModText { f, version: Version::Of13, names: &Tables, raw_match: None }.to_string(),
        "ADD table:ingress actions=resubmit(,\"my-acl\"),ct(commit,table=\"my-acl\"),\
         learn(table=ingress,eth_type=0x800),goto_table:\"my-acl\""
    );
    let unknown = parse("table=egress,actions=drop", &Tables).unwrap_err();
    assert_eq!((unknown.span, unknown.message.as_str()), (6..12, "unknown table \"egress\""));
}
