//! Why the connection tracker refuses a connection, or takes a packet for invalid: told by `ofproto/trace`,
//! `sekisho why` and counters.

use testkit::netns::Netns;
use testkit::rows::Row;
use testkit::sut::{Sut, Whose};

use crate::simulated::simulated;
use crate::{coverage, tools};

fn app(sut: &Sut<'_>, line: &str) -> String {
    sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap()
}

/// The frame of a row of a conversation.
fn frame(row: &str) -> String {
    let packet = Row::parse(row, false).packet();
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    ethernet.iter().chain(&packet).map(|b| format!("{b:02x}")).collect()
}

fn receive(sut: &Sut<'_>, port: u16, row: &str) {
    app(sut, &format!("netdev-dummy/receive p{port} {}", frame(row)));
}

/// What is said of a packet, without its being sent, and of the flow that it is.
fn told(sut: &Sut<'_>, port: u16, row: &str, flow: &str) -> [String; 4] {
    let flow = format!("in_port={port},udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,{flow}");
    let why = |rest: &str| sut.ok(Whose::Ours, &format!("why br0 {rest}")).unwrap();
    let packet = format!("in_port={port} {}", frame(row));
    let before = app(sut, "dpctl/dump-conntrack");
    let said = [why(&packet), why(&flow), app(sut, &format!("ofproto/trace br0 {flow}"))];
    assert_eq!(app(sut, "dpctl/dump-conntrack"), before);
    // A packet that is traced is sent, so it comes last.
    let [a, b, c] = said;
    [a, b, c, app(sut, &format!("ofproto/trace br0 {packet}"))]
}

fn count(sut: &Sut<'_>, counter: &str) -> u64 {
    coverage(sut).get(counter).copied().unwrap_or(0)
}

fn with_flows<'a>(ns: &'a Netns, flows: &[&str]) -> Sut<'a> {
    let sut = simulated(ns, 3);
    app(&sut, "time/stop");
    for flow in flows {
        sut.ok(tools(), &format!("ovs-ofctl add-flow br0 {flow}")).unwrap();
    }
    sut
}

#[test]
fn a_full_zone_and_a_full_table_say_so() {
    let ns = Netns::new("full").unwrap();
    // One commit that the packet does not come back from, and one that it does.
    let sut = with_flows(
        &ns,
        &[
            "in_port=1,ip,actions=ct(commit,zone=1),3",
            "in_port=2,ip,actions=ct(commit,zone=1,table=1)",
            "table=1,actions=3",
        ],
    );
    let zone = "the zone has as many connections as it may (dpctl/ct-set-limits)";
    let table = "the table of connections is full (dpctl/ct-set-maxconns)";
    let fresh = ("> udp sport=2", "udp_src=2,udp_dst=80");
    let refused = |why: &str| {
        for port in [1, 2] {
            let [packet, flow, trace, sent] = told(&sut, port, fresh.0, fresh.1);
            for text in [packet, flow] {
                assert!(text.contains(&format!("it would begin one, but {why}")), "{text}");
                assert!(text.ends_with("It goes out of port 3 (p3) of br0.\n"), "{text}");
            }
            for text in [trace, sent] {
                let line = format!(" >> conntrack refuses the connection: {why}");
                assert_eq!(text.matches(&line).count(), 1, "{line}: {text}");
            }
        }
    };
    app(&sut, "dpctl/ct-set-limits zone=1,limit=1");
    let nothing = || {
        for text in told(&sut, 1, "> udp sport=1", "udp_src=1,udp_dst=80") {
            assert!(!text.contains("refuses") && !text.contains("it may"), "{text}");
        }
    };
    // The first one has room, and is known from then on.
    nothing();
    let full = count(&sut, "conntrack_zone_full");
    refused(zone);
    assert_eq!(count(&sut, "conntrack_zone_full"), full + 2);
    nothing();

    app(&sut, "dpctl/ct-del-limits zone=1");
    app(&sut, "dpctl/flush-conntrack");
    // An unanswered connection makes room, in each of the table's parts.
    app(&sut, "dpctl/ct-set-maxconns 500");
    let mut control = sut.control().unwrap();
    for n in 0..500 {
        let frame = frame(&format!("> udp sport={}", 1000 + n));
        control.call("netdev-dummy/receive", &["p1", &frame]).unwrap();
    }
    let flow = "in_port=2,udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_src=2,udp_dst=80";
    let why = sut.ok(Whose::Ours, &format!("why br0 {flow}")).unwrap();
    let line = "in the place of one that was not answered, as the table is full";
    assert!(why.contains(line), "{why}");
    receive(&sut, 1, "> udp sport=2");
    assert_eq!(count(&sut, "conntrack_early_drop"), 1);
    // An established one does not.
    app(&sut, "dpctl/flush-conntrack");
    receive(&sut, 1, "> tcp S seq=100");
    receive(&sut, 2, "< tcp SA seq=500 ack=101");
    receive(&sut, 1, "> tcp A seq=101 ack=501");
    app(&sut, "dpctl/ct-set-maxconns 1");
    let dropped = count(&sut, "conntrack_drop");
    refused(table);
    assert_eq!(count(&sut, "conntrack_drop"), dropped + 2);
    assert_eq!(count(&sut, "conntrack_early_drop"), 1);
    let stats = sut.ok(Whose::Ours, "conntrack -S").unwrap();
    assert!(stats.contains(" insert_failed=4 drop=2 early_drop=1 "), "{stats}");
}

#[test]
fn nothing_free_to_translate_to_says_so() {
    let ns = Netns::new("full").unwrap();
    let to = "nat(src=10.9.9.9:700-700)";
    let sut = with_flows(
        &ns,
        &[
            &format!("in_port=1,ip,actions=ct(commit,zone=1,{to}),3"),
            &format!("in_port=2,ip,actions=ct(commit,zone=1,{to},table=1)"),
            "table=1,actions=3",
        ],
    );
    receive(&sut, 1, "> udp sport=1");
    for port in [1, 2] {
        let [packet, flow, trace, sent] = told(&sut, port, "> udp sport=2", "udp_src=2,udp_dst=80");
        for text in [packet, flow] {
            assert!(text.contains("No address and port is free to translate"), "{text}");
            let end =
                "\nIt is dropped: No address and port was free to translate a new connection to.\n";
            assert!(text.ends_with(end) && !text.contains("It goes"), "{text}");
        }
        for text in [trace, sent] {
            let line = " >> conntrack refuses the connection: no address and port is free";
            assert!(text.contains(line), "{text}");
        }
    }
    // To another server there is.
    let [packet, ..] = told(&sut, 2, "> udp b=3 sport=2", "udp_src=2,udp_dst=80");
    assert!(packet.contains("it would begin one\n"), "{packet}");
    let before = count(&sut, "datapath_drop_nat_exhausted");
    receive(&sut, 2, "> udp sport=2");
    assert_eq!(count(&sut, "datapath_drop_nat_exhausted"), before + 1);
}

#[test]
fn a_trace_of_an_invalid_packet_says_why_it_is() {
    let ns = Netns::new("inv").unwrap();
    let sut = with_flows(
        &ns,
        &["ip,actions=ct(zone=1,table=1)", "table=1,ip,ct_state=+new,actions=ct(commit,zone=1),3"],
    );
    for row in [
        "> tcp S seq=1000 win=1000",
        "< tcp SA seq=5000 ack=1001 win=1000",
        "> tcp A seq=1001 ack=5001 win=1000",
    ] {
        receive(&sut, if row.starts_with('>') { 1 } else { 2 }, row);
    }
    for (row, why) in [
        ("> tcp A seq=9001 ack=5001 len=1", "TCP data beyond the window that the receiver opened."),
        ("> tcp A seq=1001 ack=900000", "A TCP acknowledgment of data that was not sent."),
        ("> tcp R seq=1500", "A TCP RST whose sequence number is not the expected one."),
        ("> tcp SF seq=1 sport=7", "A combination of TCP flags that no stack sends."),
        ("> tcp SA seq=1 sport=7", "A SYN+ACK whose SYN was not seen."),
        ("> udp badsum", "The transport checksum is wrong."),
        ("> udp badip", "The IPv4 header checksum is wrong."),
        ("> icmp type=0", "An ICMP answer to a question that was not seen."),
        ("> icmp type=3 code=3 (< udp)", "An ICMP error about a connection that is not known."),
        ("> udp ulen=40", ""),
    ] {
        let packet = format!("in_port=1 {}", frame(row));
        let trace = app(&sut, &format!("ofproto/trace br0 {packet}"));
        assert!(trace.contains(&format!(" >> conntrack: invalid. {why}")), "{row}: {trace}");
        let text = sut.ok(Whose::Ours, &format!("why br0 {packet}")).unwrap();
        assert!(
            text.contains("Conntrack, zone 1: inv|trk\n") && text.contains(why),
            "{row}: {text}"
        );
    }
    let valid =
        app(&sut, &format!("ofproto/trace br0 in_port=1 {}", frame("> tcp A seq=1001 ack=5001")));
    assert!(!valid.contains(">>"), "{valid}");
    // A flow has no bytes that could be wrong.
    let flow = "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2";
    assert!(!app(&sut, &format!("ofproto/trace br0 {flow}")).contains(">>"));
}
