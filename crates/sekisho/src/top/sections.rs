//! The sections of the display: what each shows of a [`View`], and in which orders.

use switchd::ctl::status::{LinkState, ReasonKind};

use super::model::{Direction, DropRow, PortRow, TalkerRow, View, Work};
use super::table::{Align, Cell, Column, KEEP, Table, Tone, cell};
use super::units::{grouped, percent, short};

/// A section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Ports and their rates.
    Ports,
    /// Workers, and what answers their look-ups.
    Workers,
    /// Connections by zone and kind.
    Zones,
    /// Connections that move most.
    Talkers,
    /// Drops by reason.
    Drops,
}

impl Section {
    /// All, as they stand.
    pub const ALL: [Section; 5] =
        [Section::Ports, Section::Workers, Section::Zones, Section::Talkers, Section::Drops];

    /// The orders that its rows can have; the first is the usual one.
    pub fn orders(self) -> &'static [&'static str] {
        match self {
            Section::Ports => &["traffic", "packets", "drops", "name"],
            Section::Workers => &["core"],
            Section::Zones => &["connections", "zone"],
            Section::Talkers => &["traffic", "packets"],
            Section::Drops => &["rate", "total"],
        }
    }

    /// Its table, in the order of that number.
    pub fn table(self, view: &View, order: usize) -> Table {
        let order = self.orders().get(order).copied().unwrap_or_default();
        match self {
            Section::Ports => ports(view, order),
            Section::Workers => workers(view),
            Section::Zones => zones(view, order),
            Section::Talkers => talkers(view, order),
            Section::Drops => drops(view, order),
        }
    }

    /// What is said where it has no rows.
    pub fn nothing(self) -> &'static str {
        match self {
            Section::Ports => "no ports",
            Section::Workers => "no workers",
            Section::Zones => "no connections",
            Section::Talkers => "no connection moved anything",
            Section::Drops => "nothing was dropped",
        }
    }
}

fn number(head: &'static str, width: usize, matters: u8) -> Column {
    Column { head, align: Align::Right, width, matters }
}

fn text(head: &'static str, matters: u8) -> Column {
    Column { head, align: Align::Left, width: 0, matters }
}

/// A rate: quiet where nothing happens, `-` where nothing is known.
fn rate(x: Option<f64>) -> Cell {
    match x {
        None => cell("-", Tone::Quiet),
        Some(x) if x <= 0.0 => cell("0", Tone::Quiet),
        Some(x) => cell(short(x), Tone::Plain),
    }
}

/// A rate of something that had better not happen.
fn trouble(x: Option<f64>) -> Cell {
    let cell = rate(x);
    let tone = if x.is_some_and(|x| x > 0.0) { Tone::Warning } else { cell.tone };
    Cell { tone, ..cell }
}

fn share(x: f64) -> Cell {
    cell(percent(x), if x > 0.0 { Tone::Plain } else { Tone::Quiet })
}

/// Sums what is known of both directions.
fn both(p: &PortRow, f: fn(&Direction) -> Option<f64>) -> Option<f64> {
    match (f(&p.rx), f(&p.tx)) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    }
}

/// Most first; equal ones stay as they were.
fn by_most<T>(all: &mut [T], weight: impl Fn(&T) -> f64) {
    all.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
}

fn ports(view: &View, order: &str) -> Table {
    let mut all: Vec<&PortRow> = view.ports.iter().collect();
    let weight: Option<fn(&Direction) -> Option<f64>> = match order {
        "traffic" => Some(|d| d.bits_per_s),
        "packets" => Some(|d| d.packets_per_s),
        "drops" => Some(|d| d.dropped_per_s),
        _ => None,
    };
    if let Some(weight) = weight {
        by_most(&mut all, |p| both(p, weight).unwrap_or(-1.0));
    } else {
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let broken = view.ports.iter().any(|p| p.error.is_some());
    let row = |p: &PortRow| {
        let (link, tone) = match (&p.error, p.link) {
            (Some(_), _) => ("error", Tone::Bad),
            (None, LinkState::Up) => ("up", Tone::Plain),
            (None, LinkState::Absent) => (p.link.name(), Tone::Bad),
            (None, link) => (link.name(), Tone::Warning),
        };
        vec![
            cell(&p.name, Tone::Strong),
            cell(&p.bridge, Tone::Plain),
            cell(p.ofport.map_or("-".to_owned(), |n| base::OfPort(n).to_string()), Tone::Plain),
            cell(&p.kind, Tone::Plain),
            cell(link, tone),
            rate(p.rx.bits_per_s),
            rate(p.rx.packets_per_s),
            rate(p.tx.bits_per_s),
            rate(p.tx.packets_per_s),
            trouble(both(p, |d| d.dropped_per_s)),
            trouble(both(p, |d| d.errors_per_s)),
            cell(p.error.clone().unwrap_or_default(), Tone::Bad),
        ]
    };
    // Only where some port has one.
    let error = Column { head: "ERROR", align: Align::Cut, width: 16, matters: 0 };
    Table {
        columns: [
            Column { head: "PORT", align: Align::Cut, width: 12, matters: KEEP },
            text("BRIDGE", 3),
            number("OF", 2, 2),
            text("TYPE", 1),
            Column { head: "LINK", align: Align::Left, width: 6, matters: 5 },
            number("RX bit/s", 8, KEEP),
            number("RX pkt/s", 8, 8),
            number("TX bit/s", 8, KEEP),
            number("TX pkt/s", 8, 8),
            number("DROP/s", 6, 7),
            number("ERR/s", 5, 4),
        ]
        .into_iter()
        .chain(broken.then_some(error))
        .collect(),
        rows: all.into_iter().map(row).collect(),
    }
}

fn workers(view: &View) -> Table {
    let row = |name: &str, n_queues: usize, w: &Work| {
        vec![
            cell(name, Tone::Strong),
            cell(n_queues.to_string(), Tone::Plain),
            rate(Some(w.packets_per_s)),
            share(w.busy),
            rate(Some(w.ns_per_packet)),
            rate(Some(w.lookups_per_s)),
            share(w.hit_connection),
            share(w.hit_exact),
            share(w.hit_megaflow),
            share(w.missed),
            rate(Some(w.upcalls_per_s)),
        ]
    };
    let mut rows: Vec<_> = view.workers.iter().map(|w| row(&w.name, w.n_queues, &w.work)).collect();
    if rows.len() > 1 {
        let n_queues = view.workers.iter().map(|w| w.n_queues).sum();
        rows.insert(0, row("all", n_queues, &view.all_workers));
    }
    Table {
        columns: vec![
            Column { head: "WORKER", align: Align::Left, width: 12, matters: KEEP },
            number("QUEUES", 0, 1),
            number("PKT/s", 6, KEEP),
            number("BUSY", 5, KEEP),
            number("ns/PKT", 6, 3),
            number("LOOKUP/s", 0, 0),
            number("CONN", 5, KEEP),
            number("EXACT", 5, 5),
            number("MEGAFLOW", 0, KEEP),
            number("UPCALL", 0, KEEP),
            number("UPCALL/s", 0, 2),
        ],
        rows,
    }
}

fn zones(view: &View, order: &str) -> Table {
    let c = &view.connections;
    let row = |name: String, n: u64, most: Option<u64>, kinds: &[(String, u64)]| {
        let kinds: Vec<_> = kinds.iter().map(|(k, n)| format!("{k} {}", grouped(*n))).collect();
        let full = most.map(|most| if most == 0 { 1.0 } else { n as f64 / most as f64 });
        let tone = match full {
            Some(f) if f >= 1.0 => Tone::Bad,
            Some(f) if f >= 0.8 => Tone::Warning,
            Some(f) if f > 0.0 => Tone::Plain,
            _ => Tone::Quiet,
        };
        vec![
            cell(name, Tone::Strong),
            cell(grouped(n), if n > 0 { Tone::Plain } else { Tone::Quiet }),
            cell(most.map_or("-".to_owned(), grouped), Tone::Quiet),
            cell(full.map_or("-".to_owned(), percent), tone),
            cell(kinds.join("  "), Tone::Plain),
        ]
    };
    let mut zones: Vec<_> = c.zones.iter().collect();
    if order == "zone" {
        zones.sort_by_key(|z| z.zone);
    }
    let all = row("all".to_owned(), c.n as u64, Some(c.ceiling as u64), &c.kinds);
    let each =
        zones.into_iter().map(|z| row(z.zone.to_string(), z.n, z.limit.map(u64::from), &z.kinds));
    let left_out = c.n_zones.saturating_sub(c.zones.len());
    let more = (left_out > 0).then(|| {
        let text = format!("{} smaller zones", grouped(left_out as u64));
        vec![cell(text, Tone::Quiet)]
    });
    Table {
        columns: vec![
            Column { head: "ZONE", align: Align::Left, width: 12, matters: KEEP },
            number("CONNECTIONS", 0, KEEP),
            number("LIMIT", 9, 2),
            number("FULL", 5, 1),
            Column { head: "STATES", align: Align::Cut, width: 24, matters: KEEP },
        ],
        rows: [all].into_iter().chain(each).chain(more).collect(),
    }
}

fn talkers(view: &View, order: &str) -> Table {
    let mut all: Vec<&TalkerRow> = view.talkers.iter().collect();
    match order {
        "packets" => by_most(&mut all, |t| t.packets()),
        _ => by_most(&mut all, |t| t.bits()),
    }
    let row = |t: &TalkerRow| {
        vec![
            cell(format!("{} → {}", t.from, t.to), Tone::Strong),
            cell(&t.protocol, Tone::Plain),
            cell(t.state.clone().unwrap_or_default(), Tone::Quiet),
            cell(t.zone.to_string(), Tone::Plain),
            rate(Some(t.bits_per_s[0])),
            rate(Some(t.bits_per_s[1])),
            rate(Some(t.packets())),
        ]
    };
    Table {
        columns: vec![
            Column { head: "TALKER", align: Align::Cut, width: 43, matters: KEEP },
            text("PROTO", 3),
            text("STATE", 1),
            number("ZONE", 5, 2),
            number("→ bit/s", 8, KEEP),
            number("← bit/s", 8, KEEP),
            number("PKT/s", 6, 4),
        ],
        rows: all.into_iter().map(row).collect(),
    }
}

fn drops(view: &View, order: &str) -> Table {
    let mut all: Vec<&DropRow> = view.drops.iter().collect();
    if order == "total" {
        by_most(&mut all, |d| d.n as f64);
    }
    let row = |d: &DropRow| {
        let (kind, tone) = match d.kind {
            ReasonKind::Drop => ("dropped", Tone::Strong),
            ReasonKind::Received => ("lost in", Tone::Strong),
            ReasonKind::Sent => ("lost out", Tone::Strong),
            ReasonKind::Refused => ("refused", Tone::Strong),
            ReasonKind::Invalid => ("invalid", Tone::Plain),
        };
        vec![
            cell(kind, tone),
            trouble(Some(d.per_s)),
            cell(grouped(d.n), Tone::Plain),
            cell(d.port.clone().unwrap_or_default(), Tone::Plain),
            cell(&d.name, Tone::Plain),
            cell(&d.text, Tone::Plain),
        ]
    };
    Table {
        columns: vec![
            Column { head: "DROPS", align: Align::Left, width: 12, matters: KEEP },
            number("PKT/s", 6, KEEP),
            number("TOTAL", 11, KEEP),
            text("PORT", 2),
            text("COUNTER", 1),
            Column { head: "REASON", align: Align::Cut, width: 36, matters: KEEP },
        ],
        rows: all.into_iter().map(row).collect(),
    }
}

/// The lines above the sections: what goes through, and what answers.
pub fn summary(view: &View) -> [String; 2] {
    let direction = |d: Direction| {
        let (packets, bits) = (d.packets_per_s.unwrap_or(0.0), d.bits_per_s.unwrap_or(0.0));
        format!("{} bit/s {} pkt/s", short(bits), short(packets))
    };
    let [rx, tx] = view.traffic().map(direction);
    let (w, c) = (&view.all_workers, &view.connections);
    [
        format!("rx {rx}   tx {tx}   drops {}/s", short(view.dropped_per_s())),
        format!(
            "cache hits {}   megaflows {}   connections {}  +{}/s −{}/s",
            percent(w.hit_connection + w.hit_exact + w.hit_megaflow),
            grouped(view.flows.n as u64),
            grouped(c.n as u64),
            short(c.opened_per_s),
            short(c.ended_per_s),
        ),
    ]
}

/// All of it as plain text.
pub fn plain(view: &View) -> String {
    let mut s = format!("{}  {}  over {} s\n", view.time, view.datapath, view.seconds);
    for line in summary(view) {
        s += &line;
        s.push('\n');
    }
    for section in Section::ALL {
        let table = section.table(view, 0);
        s.push('\n');
        for line in table.lines() {
            s += &line;
            s.push('\n');
        }
        if table.rows.is_empty() {
            s += section.nothing();
            s.push('\n');
        }
    }
    s
}
