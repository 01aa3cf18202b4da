//! Conversations with FTP and TFTP servers, over shards and on a simulated clock: what is expected, what
//! the data connections get, what is refused, and how sequence numbers move.

#![allow(clippy::unwrap_used, reason = "tests")]

use base::{Duration, HashKey, Instant, Zone};
use conntrack::text::{DumpLine, DumpOptions, ExpectLine};
use conntrack::{
    Ceiling, ConnFilter, Conntrack, CtConfig, CtInfo, CtRequest, CtState, Cursor, Edit, Helper,
    InvalidReason, LIFETIME, NatKind, NatRequest, Outcome, PacketView, Shards,
};
use packet::checksum::checksum;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

struct Table(Vec<RefCell<Conntrack>>);

const SECRET: HashKey = HashKey([5, 6]);

impl Shards for Table {
    fn n(&self) -> usize {
        self.0.len()
    }

    fn secret(&self) -> HashKey {
        SECRET
    }

    fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        f(&mut self.0[shard].borrow_mut())
    }
}

/// One TCP segment or, without flags, a datagram.
#[derive(Copy, Clone)]
struct Pkt<'a> {
    from: (&'a str, u16),
    to: (&'a str, u16),
    flags: Option<u8>,
    seq: u32,
    ack: u32,
    payload: &'a str,
}

fn frame(p: &Pkt<'_>) -> (Vec<u8>, u16) {
    let mut l4 = [p.from.1.to_be_bytes(), p.to.1.to_be_bytes()].concat();
    let proto = match p.flags {
        Some(flags) => {
            l4.extend(p.seq.to_be_bytes());
            l4.extend(p.ack.to_be_bytes());
            l4.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            6
        }
        None => {
            l4.extend((8 + p.payload.len() as u16).to_be_bytes());
            l4.extend([0, 0]);
            17
        }
    };
    l4.extend(p.payload.bytes());
    let mut ip = Vec::new();
    let eth_type = match (p.from.0.parse().unwrap(), p.to.0.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ip.extend([0x45, 0]);
            ip.extend((20 + l4.len() as u16).to_be_bytes());
            ip.extend([0, 1, 0, 0, 64, proto, 0, 0]);
            ip.extend(src.octets());
            ip.extend(dst.octets());
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            0x0800
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ip.extend([0x60, 0, 0, 0]);
            ip.extend((l4.len() as u16).to_be_bytes());
            ip.extend([proto, 64]);
            ip.extend(src.octets());
            ip.extend(dst.octets());
            0x86dd
        }
        _ => panic!("one version"),
    };
    ip.extend(l4);
    (ip, eth_type)
}

struct World {
    table: Table,
    now: Cell<Instant>,
}

impl World {
    fn new() -> World {
        let config = CtConfig::default();
        let ceiling = Arc::new(Ceiling::new(config.max_conns));
        let shard = |i| RefCell::new(Conntrack::shard(SECRET, config, i, ceiling.clone()));
        World { table: Table((0..7).map(shard).collect()), now: Cell::new(Instant::from_secs(50)) }
    }

    fn pass(&self, p: &Pkt<'_>, req: &CtRequest) -> (CtInfo, Option<Edit>) {
        let (bytes, eth_type) = frame(p);
        let view = PacketView { frame: &bytes, l3: 0, eth_type, csum_trusted: true };
        let mut edit = None;
        let info = conntrack::track(&self.table, self.now.get(), &view, req, &mut edit);
        (info, edit)
    }

    fn expected(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for shard in &self.table.0 {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                shard.borrow().dump_expected(self.now.get(), &mut cursor, None, 3, |e| {
                    lines.push(ExpectLine(e).to_string());
                });
            }
        }
        lines.sort();
        lines
    }

    fn conns(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for shard in &self.table.0 {
            let all = ConnFilter::default();
            let mut cursor = Cursor::default();
            shard.borrow().dump(self.now.get(), &mut cursor, &all, usize::MAX, |c| {
                lines.push(DumpLine(c, DumpOptions::default()).to_string());
            });
        }
        lines.sort();
        lines
    }

    fn flush(&self) {
        for i in 0..self.table.n() {
            let (mut cursor, all) = (Cursor::default(), ConnFilter::default());
            conntrack::visit(&self.table, i, |t| {
                t.delete(self.now.get(), &mut cursor, &all, usize::MAX)
            });
        }
    }
}

/// A control connection: where its client and server are, and as what each is known to the other.
struct Control<'a> {
    w: &'a World,
    client: &'a str,
    known: &'a str,
    server: &'a str,
    service: &'a str,
    sport: u16,
    nat: Option<NatRequest>,
}

impl Control<'_> {
    const REQ: CtRequest = CtRequest {
        zone: Zone(3),
        commit: true,
        mark: Some((7, u32::MAX)),
        label: Some((9, u128::MAX)),
        helper: Some(Helper::Ftp),
        ..CtRequest::LOOK
    };

    /// Opens it: the client's numbers begin at 100, the server's at 500.
    fn open(&self) {
        let syn = self.up(SYN, 100, 0, "");
        assert_eq!(syn.0.outcome, Outcome::Inserted);
        assert!(self.down(SYN | ACK, 500, 101, "").0.state.contains(CtState::EST));
        assert!(self.up(ACK, 101, 501, "").0.state.contains(CtState::EST));
    }

    /// From the client, as it sends it.
    fn up(&self, flags: u8, seq: u32, ack: u32, payload: &str) -> (CtInfo, Option<Edit>) {
        let (from, to) = ((self.client, self.sport), (self.service, 21));
        let p = Pkt { from, to, flags: Some(flags), seq, ack, payload };
        self.w.pass(&p, &CtRequest { nat: self.nat, ..Control::REQ })
    }

    /// From the server, as it sends it.
    fn down(&self, flags: u8, seq: u32, ack: u32, payload: &str) -> (CtInfo, Option<Edit>) {
        let (from, to) = ((self.server, 21), (self.known, self.sport));
        let p = Pkt { from, to, flags: Some(flags), seq, ack, payload };
        self.w.pass(&p, &CtRequest { nat: self.nat.map(|_| NatRequest::default()), ..Control::REQ })
    }
}

fn plain<'a>(w: &'a World, client: &'a str, server: &'a str) -> Control<'a> {
    Control { w, client, known: client, server, service: server, sport: 4000, nat: None }
}

fn nat(kind: NatKind, to: &str) -> Option<NatRequest> {
    let to = to.parse().unwrap();
    Some(NatRequest { kind: Some(kind), addrs: Some((to, to)), ..NatRequest::default() })
}

fn data<'a>(from: &'a str, to: &'a str, port: u16) -> Pkt<'a> {
    Pkt { from: (from, 20_000), to: (to, port), flags: Some(SYN), seq: 1, ack: 0, payload: "" }
}

#[test]
fn each_form_invites_and_its_data_connection_is_related() {
    let (a4, b4, a6, b6) = ("10.0.0.1", "10.0.0.2", "fc00::1", "fc00::2");
    for (client, server, up, text) in [
        (a4, b4, true, "PORT 10,0,0,1,4,1\r\n"),
        (a4, b4, true, "EPRT |1|10.0.0.1|1025|\r\n"),
        (a4, b4, false, "227 Entering Passive Mode (10,0,0,2,4,1)\r\n"),
        (a4, b4, false, "229 Entering Extended Passive Mode (|||1025|)\r\n"),
        (a6, b6, true, "EPRT |2|fc00::1|1025|\r\n"),
        (a6, b6, false, "229 Entering Extended Passive Mode (|||1025|)\r\n"),
    ] {
        let w = World::new();
        let c = plain(&w, client, server);
        c.open();
        let (info, edit) = if up { c.up(ACK, 101, 501, text) } else { c.down(ACK, 501, 101, text) };
        assert_eq!((info.invalid, edit), (None, None), "{text}");
        let (from, to) = if up { (server, client) } else { (client, server) };
        assert_eq!(
            w.expected(),
            [format!(
                "tcp,orig=(src={from},dst={to},sport=0,dport=1025),zone=3,mark=7,labels=0x9,\
                 parent=(src={client},dst={server},sport=4000,dport=21)"
            )]
        );
        // Another port, host or zone is not related.
        let look = CtRequest { zone: Zone(3), ..CtRequest::default() };
        for (p, zone) in
            [(data(from, to, 1026), 3), (data(to, from, 1025), 3), (data(from, to, 1025), 4)]
        {
            let info = w.pass(&p, &CtRequest { zone: Zone(zone), ..look }).0;
            assert_eq!(info.state, CtState::TRK | CtState::NEW, "{text}");
        }
        // The packet is, committed or not, and shows the control connection.
        let rel = CtState::TRK | CtState::NEW | CtState::REL;
        let p = data(from, to, 1025);
        for req in [look, CtRequest { commit: true, mark: Some((1, !0)), ..look }] {
            let info = w.pass(&p, &req).0;
            assert_eq!((info.state, info.mark, info.label), (rel, 7, 9), "{text}");
            let shown = info.orig.unwrap().tuple();
            assert_eq!((shown.src.to_string(), shown.dst_id), (client.to_owned(), 21));
        }
        let answer = Pkt { from: p.to, to: p.from, flags: Some(SYN | ACK), seq: 9, ack: 2, ..p };
        let info = w.pass(&answer, &look).0;
        let est = CtState::TRK | CtState::EST | CtState::RPL | CtState::REL;
        assert_eq!((info.state, info.mark, info.label), (est, 7, 9), "{text}");
        assert!(w.conns().iter().any(|l| l.ends_with("helper=ftp")));
        // With the control connection go the expectations.
        w.flush();
        assert!(w.expected().is_empty(), "{text}");
    }
}

#[test]
fn with_translation_both_ends_know_each_other_as_in_the_control_connection() {
    let (a, v, b) = ("10.0.0.1", "203.0.113.240", "10.0.0.2");
    for (kind, up, text, named, new, from, to, tuple) in [
        // The client is hidden: what it invites to is its public address.
        (NatKind::Src, true, "PORT 10,0,0,1,4,1\r\n", "10,0,0,1", "203,0,113,240", b, v, (b, a)),
        (NatKind::Src, true, "EPRT |1|10.0.0.1|1025|\r\n", "10.0.0.1", v, b, v, (b, a)),
        (NatKind::Src, false, "227 (10,0,0,2,4,1)\r\n", "", "", a, b, (v, b)),
        // The server is: what it invites to is the address that the client knows.
        (NatKind::Dst, false, "227 (10,0,0,2,4,1)\r\n", "10,0,0,2", "203,0,113,240", a, v, (a, b)),
        (NatKind::Dst, false, "229 x (|||1025|)\r\n", "", "", a, v, (a, b)),
        (NatKind::Dst, true, "PORT 10,0,0,1,4,1\r\n", "", "", b, a, (v, a)),
    ] {
        let w = World::new();
        let hidden_client = kind == NatKind::Src;
        let c = Control {
            nat: nat(kind, if hidden_client { v } else { b }),
            known: if hidden_client { v } else { a },
            service: if hidden_client { b } else { v },
            ..plain(&w, a, b)
        };
        c.open();
        let (info, edit) = if up { c.up(ACK, 101, 501, text) } else { c.down(ACK, 501, 101, text) };
        assert_eq!(info.invalid, None, "{text}");
        let change = edit.and_then(|e| e.text);
        assert_eq!(change.map_or(String::new(), |t| t.text.to_string()), new, "{text}");
        if let Some(t) = change {
            let at = usize::from(t.at);
            assert_eq!(&text[at..at + usize::from(t.len)], named);
        }
        let req = CtRequest {
            zone: Zone(3),
            commit: true,
            nat: Some(NatRequest::default()),
            ..CtRequest::default()
        };
        let info = w.pass(&data(from, to, 1025), &req).0;
        assert!(info.state.contains(CtState::REL), "{text}: {info:?}");
        let t = info.nat.unwrap().tuple;
        assert_eq!(
            (t.src.to_string(), t.dst.to_string()),
            (tuple.0.into(), tuple.1.into()),
            "{text}"
        );
        assert_eq!((t.src_id, t.dst_id), (20_000, 1025));
        let answer = Pkt {
            from: (tuple.1, 1025),
            to: (tuple.0, 20_000),
            flags: Some(SYN | ACK),
            seq: 9,
            ack: 2,
            payload: "",
        };
        let info = w.pass(&answer, &req).0;
        assert!(info.state.contains(CtState::EST | CtState::RPL | CtState::REL), "{text}");
        let t = info.nat.unwrap().tuple;
        assert_eq!(
            (t.src.to_string(), t.dst.to_string()),
            (to.to_owned(), from.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn numbers_move_from_the_edit_on_and_the_window_test_follows() {
    let w = World::new();
    let (a, v, b) = ("10.0.0.1", "203.0.113.240", "10.0.0.2");
    let c = Control { nat: nat(NatKind::Src, v), known: v, ..plain(&w, a, b) };
    c.open();
    let text = "PORT 10,0,0,1,4,1\r\n";
    let len = text.len() as u32;
    // Again and again, each five longer on the server's side.
    let (mut seq, mut seen, mut srv) = (101, 101, 501);
    for round in 0..40 {
        for _again in 0..2 {
            let (info, edit) = c.up(ACK, seq, srv, text);
            assert_eq!(info.invalid, None, "{round}");
            let edit = edit.unwrap();
            assert_eq!(seq.wrapping_add(edit.seq), seen);
            assert_eq!(edit.text.unwrap().text.as_str(), "203,0,113,240");
        }
        (seq, seen) = (seq + len, seen + len + 5);
        let ok = "200 PORT command successful.\r\n";
        let (info, edit) = c.down(ACK, srv, seen, ok);
        assert!(info.state.contains(CtState::EST | CtState::RPL), "{round}: {info:?}");
        assert_eq!(edit.unwrap().ack(seen), seq);
        srv += ok.len() as u32;
        let (info, edit) = c.up(ACK, seq, srv, "LIST\r\n");
        assert!(info.state.contains(CtState::EST), "{round}: {info:?}");
        assert_eq!((seq.wrapping_add(edit.unwrap().seq), edit.unwrap().text), (seen, None));
        (seq, seen) = (seq + 6, seen + 6);
    }
    // What the server has not been sent it can't acknowledge.
    let (info, _) = c.down(ACK, srv, seen + 70_000, "");
    assert_eq!(info.invalid, Some(InvalidReason::TcpAckHigh));
    // A part of a message that was changed is none of the receiver's.
    let (info, _) = c.up(ACK, seq - 6 - len + 7, srv, "x");
    assert_eq!(info.invalid, Some(InvalidReason::AlgSplit));
    assert!(c.down(ACK | FIN, srv, seen, "").0.state.contains(CtState::EST));
}

#[test]
fn what_an_attacker_may_say_is_refused_and_counted() {
    use InvalidReason::{AlgForeign, AlgPort, AlgSplit, AlgSyntax};
    for (up, text, reason) in [
        (true, "PORT 10,0,0,9,4,1\r\n", AlgForeign),
        (true, "EPRT |1|10.0.0.2|1025|\r\n", AlgForeign),
        (true, "EPRT |2|fc00::1|1025|\r\n", AlgForeign),
        (false, "227 (10,0,0,1,4,1)\r\n", AlgForeign),
        (true, "PORT 10,0,0,1,3,255\r\n", AlgPort),
        (true, "PORT 10,0,0,1,0,0\r\n", AlgPort),
        (false, "229 x (|||22|)\r\n", AlgPort),
        (true, "PORT 10,0,0,1,4", AlgSplit),
        (true, "PORT 10,0,0,1,4,1", AlgSplit),
        (true, "PORT 10,0,0,1,4,1000000000000\r\n", AlgSyntax),
        (true, "EPRT |1|10.0.0.1|65537|\r\n", AlgSyntax),
    ] {
        let w = World::new();
        let c = plain(&w, "10.0.0.1", "10.0.0.2");
        c.open();
        let (info, edit) = if up { c.up(ACK, 101, 501, text) } else { c.down(ACK, 501, 101, text) };
        assert_eq!((info.state, info.invalid), (CtState::INVALID, Some(reason)), "{text}");
        assert!(edit.is_none() && info.conn.is_none() && w.expected().is_empty(), "{text}");
        let counted: u64 = w.table.0.iter().map(|s| s.borrow().counters().invalid_by(reason)).sum();
        assert_eq!(counted, 1, "{text}");
    }
}

#[test]
fn a_message_in_the_middle_of_a_line_is_none() {
    let w = World::new();
    let c = plain(&w, "10.0.0.1", "10.0.0.2");
    c.open();
    // Sent in two segments, because the client has asked for small ones.
    let first = "550 no such file: ";
    c.down(ACK, 501, 101, first);
    let seq = 501 + first.len() as u32;
    let rest = "227 (10,0,0,2,4,1)\r\n";
    assert_eq!(c.down(ACK, seq, 101, rest).0.invalid, None);
    assert!(w.expected().is_empty());
    // The next line is one.
    c.down(ACK, seq + rest.len() as u32, 101, rest);
    assert_eq!(w.expected().len(), 1);
}

#[test]
fn expectations_are_few_and_do_not_live_long() {
    let w = World::new();
    let c = plain(&w, "10.0.0.1", "10.0.0.2");
    c.open();
    let mut seq = 101;
    for port in 0..20 {
        let text = format!("PORT 10,0,0,1,8,{port}\r\n");
        assert_eq!(c.up(ACK, seq, 501, &text).0.invalid, None);
        seq += text.len() as u32;
    }
    let lines = w.expected();
    assert_eq!(lines.len(), 8);
    let ports = (0..8).map(|n| format!("dport={})", 8 * 256 + 12 + n));
    assert!(ports.zip(&lines).all(|(p, l)| l.contains(&p)), "{lines:?}");
    // A packet that fits makes one last.
    let half = LIFETIME / 2 + Duration::from_nanos(1);
    w.now.set(w.now.get() + half);
    let look = CtRequest { zone: Zone(3), ..CtRequest::default() };
    assert!(w.pass(&data("10.0.0.2", "10.0.0.1", 2067), &look).0.state.contains(CtState::REL));
    w.now.set(w.now.get() + half);
    assert_eq!(w.expected().len(), 1);
    for i in 0..w.table.n() {
        conntrack::visit(&w.table, i, |t| t.expire(w.now.get(), usize::MAX));
    }
    assert!(!w.pass(&data("10.0.0.2", "10.0.0.1", 2066), &look).0.state.contains(CtState::REL));
    assert!(w.pass(&data("10.0.0.2", "10.0.0.1", 2067), &look).0.state.contains(CtState::REL));
}

#[test]
fn two_clients_behind_one_address_do_not_get_each_others_data() {
    let w = World::new();
    let v = "203.0.113.1";
    let control = |client, sport| Control {
        nat: nat(NatKind::Src, v),
        known: v,
        sport,
        ..plain(&w, client, "10.0.0.2")
    };
    let (a, b) = (control("10.0.0.1", 4000), control("10.0.0.3", 4001));
    a.open();
    b.open();
    assert_eq!(a.up(ACK, 101, 501, "PORT 10,0,0,1,4,1\r\n").0.invalid, None);
    let says = "PORT 10,0,0,3,4,1\r\n";
    assert_eq!(b.up(ACK, 101, 501, says).0.invalid, Some(InvalidReason::AlgClash));
    // Once the first has its connection, the port is free for the other.
    let req = CtRequest {
        zone: Zone(3),
        commit: true,
        nat: Some(NatRequest::default()),
        ..CtRequest::default()
    };
    let to = |info: CtInfo| info.nat.unwrap().tuple.dst.to_string();
    assert_eq!(to(w.pass(&data("10.0.0.2", v, 1025), &req).0), "10.0.0.1");
    assert_eq!(b.up(ACK, 101, 501, says).0.invalid, None);
    let second = Pkt { from: ("10.0.0.2", 20_001), ..data("10.0.0.2", v, 1025) };
    assert_eq!(to(w.pass(&second, &req).0), "10.0.0.3");
    // When one goes, what was taken over stays.
    w.now.set(w.now.get() + Duration::from_secs(100));
    assert_eq!(w.expected().len(), 1);
}

#[test]
fn a_tftp_server_answers_from_another_port() {
    for (client, known, server) in [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.1", "10.0.0.2"),
        ("fc00::1", "fc00::1", "fc00::2"),
        ("fc00::1", "fc00::9", "fc00::2"),
    ] {
        let w = World::new();
        let nat = if client == known { None } else { nat(NatKind::Src, known) };
        let zone = Zone(1);
        let req = CtRequest {
            zone,
            commit: true,
            nat,
            helper: Some(Helper::Tftp),
            ..CtRequest::default()
        };
        let ask = Pkt {
            from: (client, 3000),
            to: (server, 69),
            flags: None,
            seq: 0,
            ack: 0,
            payload: "\0\x01file\0octet\0",
        };
        assert_eq!(w.pass(&ask, &req).0.outcome, Outcome::Inserted);
        assert!(w.conns()[0].ends_with("helper=tftp"));
        let data =
            Pkt { from: (server, 35_000), to: (known, 3000), payload: "\0\x03\0\x01data", ..ask };
        let nat = nat.map(|_| NatRequest::default());
        let info = w.pass(&data, &CtRequest { zone, commit: true, nat, ..CtRequest::default() }).0;
        assert_eq!(info.state & CtState::REL, CtState::REL, "{known}");
        if client != known {
            let t = info.nat.unwrap().tuple;
            assert_eq!((t.dst.to_string(), t.dst_id), (client.to_owned(), 3000));
        }
        let ack =
            Pkt { from: (client, 3000), to: (server, 35_000), payload: "\0\x04\0\x01", ..ask };
        let info = w.pass(&ack, &CtRequest { zone, nat, ..CtRequest::default() }).0;
        assert!(info.state.contains(CtState::EST | CtState::RPL | CtState::REL), "{known}");
    }
}

proptest! {
    /// Whatever the ends say in whatever pieces, nothing panics, edits stay within the payload, and what is
    /// expected goes with the connection.
    #[test]
    fn any_conversation_is_survived(
        segments in prop::collection::vec(
            (any::<bool>(), 0_u32..80, prop_oneof![
                Just("PORT 10,0,0,1,4,1\r\n".to_owned()),
                Just("EPRT |1|10.0.0.1|1025|\r\n".to_owned()),
                Just("227 (10,0,0,2,4,1)\r\n".to_owned()),
                Just("229 x (|||1025|)\r\n".to_owned()),
                "(PORT|EPRT|227|229) [0-9,.|(]{0,40}[\r\n]{0,2}",
                "[ -~\r\n]{0,30}",
            ]), 1..30),
    ) {
        let w = World::new();
        let v = "203.0.113.240";
        let c = Control { nat: nat(NatKind::Src, v), known: v, ..plain(&w, "10.0.0.1", "10.0.0.2") };
        c.open();
        let (mut up_seq, mut down_seq) = (101_u32, 501_u32);
        for (up, back, text) in segments {
            let (_, edit) = match up {
                true => c.up(ACK, up_seq.wrapping_sub(back), down_seq, &text),
                false => c.down(ACK, down_seq.wrapping_sub(back), up_seq, &text),
            };
            if let Some(t) = edit.and_then(|e| e.text) {
                prop_assert!(usize::from(t.at + t.len) <= text.len());
            }
            let next = if up { &mut up_seq } else { &mut down_seq };
            *next = next.wrapping_add((text.len() as u32).saturating_sub(back));
        }
        prop_assert!(w.expected().len() <= 8);
        w.flush();
        prop_assert!(w.expected().is_empty() && w.conns().is_empty());
    }
}
