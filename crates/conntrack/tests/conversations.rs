//! Conversations as rows, on a simulated clock.
//!
//! The whole switch plays them beside the stock one in `crates/sekisho/tests/live/conversations`. The
//! files in `conversations/` but `ours.rows` hold what a stock OVS 3.1 userspace datapath
//! answered (`stock.py` plays them through one); the tracker must answer the same.
//!
//! Rows:
//! - `== title [v6]` starts anew with an empty table; `+S` lets S seconds pass;
//! - `> …` and `< …` are packets ([`testkit::rows`]), of a `zone=`; `=> ` and the state bits but `trk`,
//!   and the mark if any;
//! - `commit=new` (default) commits what is new, `no` nothing, `mark` all with mark 5 and label
//!   0x77, `force` all with force; the verdict is that of a `ct` without commit before;
//! - `nat` says `nat` in the first `ct`, and
//!   `snat=N[:PORT-PORT]` or `dnat=` what to translate to in the commit; then the verdict has `snat`
//!   or `dnat` and the tuple that the packet gets;
//! - what is behind `!` is what the stock switch says instead, where we differ on purpose;
//! - `dump [-m] [-s] [zone=N] => line ;; line` (sorted), `stats => …`.

#![allow(clippy::unwrap_used, reason = "a row that cannot be read fails the test")]

mod common;

use base::{Duration, Instant, Zone};
use common::{SECRET, Table};
use conntrack::text::{DumpLine, DumpOptions, StatsText};
use conntrack::{
    ConnFilter, ConnSnapshot, CtConfig, CtInfo, CtRequest, CtState, CtStats, Cursor, NatKind,
    NatRequest, PacketView, Parse, Tracked,
};
use testkit::rows::{Row, host};

impl Table {
    /// Tracks a packet alone, or as a batch.
    fn process(
        &self,
        now: Instant,
        view: &PacketView<'_>,
        req: &CtRequest,
        batches: bool,
    ) -> CtInfo {
        let mut t = Tracked { prior: req.prior, ..Tracked::NOTHING };
        if !batches || t.read(view, req.zone, SECRET).is_err() {
            return conntrack::track(self, now, view, req, &mut None);
        }
        let mut out = None;
        conntrack::process_batch(self, now, &[t], req, |_| &[], |_, info, _| out = Some(*info));
        out.unwrap()
    }

    fn each(&self, now: Instant, filter: &ConnFilter, mut f: impl FnMut(&ConnSnapshot)) {
        for shard in &self.0 {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                shard.lock().dump(now, &mut cursor, filter, 3, &mut f);
            }
        }
    }
}

struct Player {
    ct: Table,
    batches: bool,
    now: Instant,
    v6: bool,
}

impl Player {
    fn packet(&mut self, head: &str) -> String {
        let spec = Row::parse(head, self.v6);
        let mut frame = vec![0; 14];
        frame.extend(spec.packet());
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
        let info = self.ct.process(self.now, &view, &first, self.batches);
        if let Some(peeked) = peeked {
            assert_eq!(CtInfo { conn: info.conn, ..peeked }, info);
        }
        let prior = info.conn.map(|c| (c, info.state));
        let commit = CtRequest { commit: true, prior, ..first };
        let second = match spec.get("commit").unwrap_or("new") {
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
                let Some(to) = spec.get(word) else { continue };
                let (to, ports) = to.split_once(':').map_or((to, None), |(h, p)| (h, Some(p)));
                let to = host(self.v6, to.parse().unwrap());
                let ports = ports.map(|p| p.split_once('-').unwrap());
                req.nat = Some(NatRequest {
                    kind: Some(kind),
                    addrs: Some((to, to)),
                    ports: ports.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())),
                    ..NatRequest::default()
                });
            }
            let peeked = match conntrack::parse(&view, req.zone) {
                Parse::Packet(p) => Some(conntrack::peek(&self.ct, self.now, &p, &req).0),
                _ => None,
            };
            let second = self.ct.process(self.now, &view, &req, self.batches);
            if let Some(peeked) = peeked {
                assert_eq!(CtInfo { conn: second.conn, ..peeked }, second, "{head}");
            }
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

/// Plays a file, with packets alone and in batches, and says every row that came out otherwise.
fn check(name: &str, text: &str) {
    assert_eq!(play(name, text, 1, false), 0);
    assert!(play(name, text, 1, true) > 0, "{name}: no packet came without a shard");
}

/// Says how many packets came without a shard.
fn play(name: &str, text: &str, n: u16, batches: bool) -> u64 {
    let fresh = || Table::new(n, CtConfig::default().max_conns);
    let mut n_open = 0;
    let mut p = Player { ct: fresh(), batches, now: Instant::from_secs(1000), v6: false };
    let mut wrong = String::new();
    let mut title = "";
    let mut rows = 0;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        let (head, want) = line.split_once("=>").map_or((line, ""), |(a, b)| (a.trim(), b.trim()));
        let want = want.split_once(" ! ").map_or(want, |(ours, _)| ours.trim());
        let got = match head.as_bytes() {
            [] => continue,
            [b'=', ..] => {
                title = line;
                n_open += p.ct.1.get();
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
    n_open + p.ct.1.get()
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
        for batches in [false, true] {
            play("nat", include_str!("conversations/nat.rows"), n, batches);
        }
    }
}

#[test]
fn deliberate_differences() {
    check("ours", include_str!("conversations/ours.rows"));
}
