//! Conversations as rows, on a simulated clock.
//!
//! The files in `conversations/` but `ours.rows` hold what a stock OVS 3.1 userspace datapath
//! answered (`stock.py` plays them through one); the tracker must answer the same.
//!
//! Rows:
//! - `== title [v6]` starts anew with an empty table; `+S` lets S seconds pass;
//! - `> …` is a packet from A (10.0.0.1, port 1000) to B (10.0.0.2, port 80), `< …` one back:
//!   `tcp FLAGS seq= ack= len= win= ws= doff=`, `udp len= ulen=`, `icmp type= code= id= (quoted
//!   packet) quote=bytes router`, `proto N`, `sctp`; for all `sport= dport= frag= zone= badsum
//!   shortsum nosum badip`; `=> ` and the state bits but `trk`, and the mark if any;
//! - `commit=new` (default) commits what is new, `no` nothing, `mark` all with mark 5 and label
//!   0x77, `force` all with force; the verdict is that of a `ct` without commit before;
//! - `a=N` and `b=N` are other hosts than A and B; `nat` says `nat` in the first `ct`, and
//!   `snat=N[:PORT-PORT]` or `dnat=` what to translate to in the commit; then the verdict has `snat`
//!   or `dnat` and the tuple that the packet gets;
//! - `dump [-m] [-s] [zone=N] => line ;; line` (sorted), `stats => …`.

#![allow(clippy::unwrap_used, reason = "a row that cannot be read fails the test")]

use base::{Duration, HashKey, Instant, Zone};
use conntrack::text::{DumpLine, DumpOptions, StatsText};
use conntrack::{
    Ceiling, ConnFilter, ConnSnapshot, Conntrack, Counters, CtConfig, CtInfo, CtRequest, CtState,
    CtStats, Cursor, NatKind, NatRequest, PacketView, Parse, Shards,
};
use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

fn addr(v6: bool, n: u8) -> IpAddr {
    match v6 {
        false => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
        true => IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, u16::from(n))),
    }
}

/// Words and options of a packet row, and the packet it quotes.
#[derive(Default)]
struct Spec {
    words: Vec<String>,
    options: HashMap<String, String>,
    inner: Option<Vec<u8>>,
}

impl Spec {
    fn num(&self, key: &str, default: u32) -> u32 {
        self.options.get(key).map_or(default, |v| match v.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
            None => v.parse().unwrap(),
        })
    }

    fn has(&self, key: &str) -> bool {
        self.options.contains_key(key)
    }

    fn parse(text: &str, v6: bool) -> Spec {
        let mut spec = Spec::default();
        let mut text = text.to_string();
        if let (Some(a), Some(b)) = (text.find('('), text.rfind(')')) {
            let inner = text[a + 1..b].trim().to_string();
            text.replace_range(a..=b, "");
            spec.inner = Some(Spec::parse(&inner[1..], v6).ip_packet(inner.starts_with('>'), v6));
        }
        for w in text.split_whitespace() {
            if let Some((k, v)) = w.split_once('=') {
                spec.options.insert(k.into(), v.into());
            } else if ["badsum", "shortsum", "nosum", "badip", "router", "nat"].contains(&w) {
                spec.options.insert(w.into(), "1".into());
            } else {
                spec.words.push(w.into());
            }
        }
        if let Some(inner) = spec.inner.take() {
            let n = spec.num("quote", inner.len() as u32) as usize;
            spec.inner = Some(inner[..n].to_vec());
        }
        spec
    }

    fn ip_packet(&self, up: bool, v6: bool) -> Vec<u8> {
        let (a, b) = (self.num("a", 1) as u8, self.num("b", 2) as u8);
        let (mut src, dst) = if up { (a, b) } else { (b, a) };
        let (a, b) = (self.num("sport", 1000) as u16, self.num("dport", 80) as u16);
        let (sport, dport) = if up { (a, b) } else { (b, a) };
        let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        let (proto, sum_at, mut seg) = match self.words[0].as_str() {
            "tcp" => {
                let flags: u8 = self.words[1]
                    .bytes()
                    .map(|c| "FSRPAUEC".bytes().position(|f| f == c).map_or(0, |i| 1 << i))
                    .sum();
                let ws: Vec<u8> =
                    if self.has("ws") { vec![3, 3, self.num("ws", 0) as u8, 1] } else { vec![] };
                let doff = self.num("doff", 5 + ws.len() as u32 / 4) as u8;
                let mut s = ports;
                s.extend(self.num("seq", 0).to_be_bytes());
                s.extend(self.num("ack", 0).to_be_bytes());
                s.extend([doff << 4, flags]);
                s.extend((self.num("win", 1000) as u16).to_be_bytes());
                s.extend([0; 4]);
                s.extend(ws);
                s.extend(vec![b'x'; self.num("len", 0) as usize]);
                (6, Some(16), s)
            }
            "udp" => {
                let len = self.num("len", 4);
                let mut s = ports;
                s.extend((self.num("ulen", 8 + len) as u16).to_be_bytes());
                s.extend([0, 0]);
                s.extend(vec![b'x'; len as usize]);
                (17, Some(6), s)
            }
            "icmp" => {
                if self.has("router") {
                    src = 9;
                }
                let mut s = vec![self.num("type", 0) as u8, self.num("code", 0) as u8, 0, 0];
                match &self.inner {
                    Some(inner) => {
                        s.extend([0; 4]);
                        s.extend(inner);
                    }
                    None => {
                        s.extend((self.num("id", 7) as u16).to_be_bytes());
                        s.extend(b"\0\x01pingdata");
                    }
                }
                (if v6 { 58 } else { 1 }, Some(2), s)
            }
            "sctp" => (132, None, [ports, vec![0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 4]].concat()),
            "proto" => (self.words[1].parse().unwrap(), None, b"whatever".to_vec()),
            other => panic!("unknown packet {other}"),
        };
        let (src, dst) = (addr(v6, src), addr(v6, dst));
        if let Some(at) = sum_at {
            let covered =
                if self.has("shortsum") { self.num("ulen", 8) as usize } else { seg.len() };
            let n = covered as u32;
            let pseudo = match (src, dst) {
                (IpAddr::V4(_), _) if proto == 1 => 0,
                (IpAddr::V4(s), IpAddr::V4(d)) => pseudo_v4(s.into(), d.into(), proto, n),
                (IpAddr::V6(s), IpAddr::V6(d)) => pseudo_v6(&s.octets(), &d.octets(), proto, n),
                _ => unreachable!(),
            };
            let mut sum = finish(add(pseudo, &seg[..covered]));
            if self.has("badsum") {
                sum ^= 0x1234;
            }
            if self.has("nosum") {
                sum = 0;
            }
            seg[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let mut p = Vec::new();
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                p.extend([0x45, 0]);
                p.extend((20 + seg.len() as u16).to_be_bytes());
                p.extend([0, 1]);
                p.extend((self.num("frag", 0) as u16).to_be_bytes());
                p.extend([64, proto, 0, 0]);
                p.extend(s.octets());
                p.extend(d.octets());
                let sum = checksum(&p) ^ if self.has("badip") { 0x5555 } else { 0 };
                p[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                p.extend([0x60, 0, 0, 0]);
                p.extend((seg.len() as u16).to_be_bytes());
                p.extend([proto, 64]);
                p.extend(s.octets());
                p.extend(d.octets());
            }
            _ => unreachable!(),
        }
        p.extend(seg);
        p
    }
}

/// A tracker in shards.
struct Table(Vec<RefCell<Conntrack>>);

const SECRET: HashKey = HashKey([11, 22]);

impl Table {
    fn new(n: u16) -> Table {
        let config = CtConfig::default();
        let ceiling = Arc::new(Ceiling::new(config.max_conns));
        let shard = |i| RefCell::new(Conntrack::shard(SECRET, config, i, ceiling.clone()));
        Table((0..n).map(shard).collect())
    }

    fn process(&self, now: Instant, view: &PacketView<'_>, req: &CtRequest) -> CtInfo {
        conntrack::track(self, now, view, req, &mut None)
    }

    fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.0.iter().for_each(|s| sum.add(s.borrow().counters()));
        sum
    }

    fn each(&self, now: Instant, filter: &ConnFilter, mut f: impl FnMut(&ConnSnapshot)) {
        for shard in &self.0 {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                shard.borrow().dump(now, &mut cursor, filter, 3, &mut f);
            }
        }
    }
}

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

struct Player {
    ct: Table,
    now: Instant,
    v6: bool,
}

impl Player {
    fn packet(&mut self, head: &str) -> String {
        let spec = Spec::parse(&head[1..], self.v6);
        let mut frame = vec![0; 14];
        frame.extend(spec.ip_packet(head.starts_with('>'), self.v6));
        let eth_type = if self.v6 { 0x86dd } else { 0x0800 };
        let view = PacketView { frame: &frame, l3: 14, eth_type, csum_trusted: false };
        let zone = Zone(spec.num("zone", 0) as u16);
        let says_nat = spec.has("nat") || spec.has("snat") || spec.has("dnat");
        let nat = says_nat.then(NatRequest::default);
        let first = CtRequest { zone, nat, ..CtRequest::default() };
        // Looking changes nothing, and says the same.
        let counters = self.ct.counters();
        let peeked = match conntrack::parse(&view, first.zone) {
            Parse::Packet(p) => Some(conntrack::peek(&self.ct, self.now, &p, &first).0),
            _ => None,
        };
        assert_eq!(self.ct.counters(), counters);
        let info = self.ct.process(self.now, &view, &first);
        if let Some(peeked) = peeked {
            assert_eq!(CtInfo { conn: info.conn, ..peeked }, info);
        }
        let prior = info.conn.map(|c| (c, info.state));
        let commit = CtRequest { commit: true, prior, ..first };
        let second = match spec.options.get("commit").map_or("new", |s| s) {
            "no" => None,
            "new" => info.state.contains(CtState::NEW).then_some(commit),
            "mark" => {
                let (mark, label) = (Some((5, u32::MAX)), Some((0x77, u128::MAX)));
                Some(CtRequest { mark, label, ..commit })
            }
            "force" => Some(CtRequest { force: true, ..commit }),
            other => panic!("unknown commit {other}"),
        };
        let mut said = info;
        if let Some(mut req) = second {
            for (word, kind) in [("snat", NatKind::Src), ("dnat", NatKind::Dst)] {
                let Some(to) = spec.options.get(word) else { continue };
                let (host, ports) = to.split_once(':').map_or((&**to, None), |(h, p)| (h, Some(p)));
                let host = addr(self.v6, host.parse().unwrap());
                let ports = ports.map(|p| p.split_once('-').unwrap());
                req.nat = Some(NatRequest {
                    kind: Some(kind),
                    addrs: Some((host, host)),
                    ports: ports.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())),
                    ..NatRequest::default()
                });
            }
            let second = self.ct.process(self.now, &view, &req);
            if says_nat {
                said = second;
            }
        }
        verdict(&said)
    }

    fn dump(&self, args: &str) -> String {
        let mut options = DumpOptions::default();
        let mut filter = ConnFilter::default();
        for a in args.split_whitespace() {
            match a {
                "-m" => options.more = true,
                "-s" => options.statistics = true,
                _ => {
                    let zone = a.strip_prefix("zone=").unwrap().parse().unwrap();
                    filter = ConnFilter::zone(Zone(zone));
                }
            }
        }
        let mut lines = Vec::new();
        self.ct.each(self.now, &filter, |c| lines.push(DumpLine(c, options).to_string()));
        lines.sort();
        if lines.is_empty() { "none".into() } else { lines.join(" ;; ") }
    }

    fn stats(&self) -> String {
        let mut stats = CtStats::default();
        self.ct.each(self.now, &ConnFilter::default(), |c| stats.count(c));
        let text = StatsText { stats: &stats, more: true }.to_string();
        text.lines().map(str::trim).collect::<Vec<_>>().join(" | ")
    }
}

fn verdict(info: &CtInfo) -> String {
    const BITS: [(CtState, &str); 7] = [
        (CtState::NEW, "new"),
        (CtState::EST, "est"),
        (CtState::REL, "rel"),
        (CtState::RPL, "rpl"),
        (CtState::INV, "inv"),
        (CtState::SNAT, "snat"),
        (CtState::DNAT, "dnat"),
    ];
    assert!(info.state.contains(CtState::TRK));
    assert_eq!(info.state.contains(CtState::INV), info.invalid.is_some());
    let bits = BITS.iter().filter(|(b, _)| info.state.contains(*b)).map(|(_, n)| (*n).to_string());
    let mark = (info.mark != 0).then(|| format!("mark={}", info.mark));
    let nat = info.nat.map(|t| format!("{}{:?}", if t.quoted { "quoted " } else { "" }, t.tuple));
    bits.chain(mark).chain(nat).collect::<Vec<_>>().join(" ")
}

/// Plays a file and says every row that came out otherwise.
fn check(name: &str, text: &str) {
    check_sharded(name, text, 1);
}

fn check_sharded(name: &str, text: &str, n: u16) {
    let fresh = || Table::new(n);
    let mut p = Player { ct: fresh(), now: Instant::from_secs(1000), v6: false };
    let mut wrong = String::new();
    let mut title = "";
    let mut rows = 0;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        let (head, want) = line.split_once("=>").map_or((line, ""), |(a, b)| (a.trim(), b.trim()));
        let got = match head.as_bytes() {
            [] => continue,
            [b'=', ..] => {
                title = line;
                p = Player { ct: fresh(), v6: line.ends_with(" v6"), ..p };
                continue;
            }
            [b'+', secs @ ..] => {
                let secs = std::str::from_utf8(secs).unwrap().parse().unwrap();
                p.now += Duration::from_secs(secs);
                continue;
            }
            [b'<' | b'>', ..] => p.packet(head),
            _ if head.starts_with("dump") => p.dump(&head[4..]),
            _ if head == "stats" => p.stats(),
            _ => panic!("{name}: unknown row {line}"),
        };
        rows += 1;
        if got != want {
            wrong += &format!("{title}\n  {head}\n    want {want}\n    got  {got}\n");
        }
    }
    assert!(wrong.is_empty() && rows > 0, "{name}:\n{wrong}");
}

#[test]
fn udp_and_others_as_stock_ovs() {
    check("udp", include_str!("conversations/udp.rows"));
}

#[test]
fn icmp_as_stock_ovs() {
    check("icmp", include_str!("conversations/icmp.rows"));
}

#[test]
fn tcp_as_stock_ovs() {
    check("tcp", include_str!("conversations/tcp.rows"));
}

#[test]
fn translation() {
    for n in [1, 2, 7, 64] {
        check_sharded("nat", include_str!("conversations/nat.rows"), n);
    }
}

#[test]
fn deliberate_differences() {
    check("ours", include_str!("conversations/ours.rows"));
}
