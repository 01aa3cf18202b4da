//! Conversations through our switch and the stock one, in their simulated worlds: each packet gets the
//! same verdict and leaves with the same bytes, and after each packet both list the same connections.
//!
//! The rows are those of `crates/conntrack/tests/conversations`, and of the files beside this one, which
//! have no verdicts: what the stock switch says is right. Those that do not say which version of IP they
//! are of, and have nothing of one only, are played in both.
//!
//! A row whose end is `! OURS | STOCK` is a difference on purpose (for a list `=> OURS ! STOCK`); the title of
//! its conversation says why. What they say: the state, the mark, and if they are not those of the packet the
//! ends where it goes (`9.1000>2.80`, of hosts and ports), behind ` / ` for the next `ct`; or `nothing`. Of `! bytes` both say
//! the same, and only the packet is not. In such a conversation only that
//! is compared, neither bytes nor what is listed after each packet.
//!
//! How a verdict shows: flows write it into the Ethernet addresses of the packet, which leaves once after
//! each `ct` by another port. The destination address that a packet comes with says what is to be
//! done with it ([`Treatment`]).
//!
//! Beside the options of the conversations' language ([`testkit::rows`], `crates/conntrack/tests`), a row
//! may have `alg=ftp` or `alg=tftp` for the commit, `snat=`, `dnat=` with hosts in place of a host (`5-9`),
//! and `then=ZONE:snat=N`, `then=ZONE:dnat=N` or `then=ZONE:nat`: a passage through the tracker after it.

mod player;

use std::fmt::Write;

use player::{Player, Seen};
use testkit::netns::Netns;
use testkit::rows::Row;
use testkit::sut::{Whose, have_stock};

/// What a row says.
enum Step {
    Packet(Row),
    /// Seconds go by.
    Wait(u32),
    /// All connections, listed with these options.
    Dump(String),
}

struct Line {
    text: String,
    step: Step,
    differs: Option<Differs>,
}

/// What is not the same on purpose.
enum Differs {
    /// What ours and the stock switch say.
    Said(String, String),
    /// The bytes alone.
    Bytes,
}

struct Conversation {
    title: String,
    v6: bool,
    lines: Vec<Line>,
}

/// Words of rows that are of one version of IP only.
const OF_ONE: [&str; 6] = ["icmp", "nosum", "badip", "frag=", "proto", "10,0,0"];

fn read(text: &str) -> Vec<Conversation> {
    let mut all: Vec<Conversation> = Vec::new();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("==") {
            let v6 = line.ends_with(" v6");
            all.push(Conversation { title: line.to_owned(), v6, lines: Vec::new() });
            continue;
        }
        let at = all.last_mut().expect("a title first");
        let (head, says) = line.split_once("=>").map_or((line, ""), |(a, b)| (a.trim(), b.trim()));
        let differs = says.split_once("! ").map(|(ours, live)| match live {
            "bytes" => Differs::Bytes,
            _ => {
                let (ours, stock) = live.split_once(" | ").unwrap_or((ours, live));
                Differs::Said(ours.trim().to_owned(), stock.trim().to_owned())
            }
        });
        let step = match head.as_bytes()[0] {
            b'>' | b'<' => Step::Packet(Row::parse(head, at.v6)),
            b'+' => Step::Wait(head[1..].parse().unwrap()),
            _ if head.starts_with("dump") => Step::Dump(head[4..].trim().to_owned()),
            // Of statistics a simulated datapath of the stock switch has the same that the dump has.
            _ => continue,
        };
        at.lines.push(Line { text: head.to_owned(), step, differs });
    }
    all
}

/// Each as it stands, and in IPv6 where that makes sense.
fn in_both_versions(text: &str) -> Vec<Conversation> {
    let mut all = read(text);
    let again = read(text).into_iter().filter(|c| {
        let of_one = |l: &Line| l.differs.is_some() || OF_ONE.iter().any(|w| l.text.contains(w));
        !c.v6 && !c.lines.iter().any(of_one)
    });
    all.extend(again.map(|c| {
        let row = |l: Line| match l.step {
            Step::Packet(_) => Line { step: Step::Packet(Row::parse(&l.text, true)), ..l },
            _ => l,
        };
        let lines = c.lines.into_iter().map(row).collect();
        Conversation { title: format!("{} v6", c.title), v6: true, lines }
    }));
    all
}

/// Plays the conversations of a file, and says all that differs.
fn compare(name: &str, text: &str, at_least: usize) {
    if !have_stock().unwrap() {
        return;
    }
    let conversations = in_both_versions(text);
    let ns = Netns::new("talk").unwrap();
    let rows = conversations.iter().flat_map(|c| &c.lines).filter_map(|l| match &l.step {
        Step::Packet(row) => Some(row),
        _ => None,
    });
    let treatments = player::treatments(rows);
    let mut players =
        [Whose::Ours, Whose::Stock].map(|w| Player::new(w, &ns, &treatments).unwrap());
    let mut report = String::new();
    let mut n = 0;
    for c in &conversations {
        let differs = c.lines.iter().any(|l| l.differs.is_some());
        let mut said = format!("{name}: {}\n", c.title);
        let before = said.len();
        players.iter_mut().for_each(|p| p.start_anew().unwrap());
        for l in &c.lines {
            n += 1;
            let [ours, stock] = players.each_mut().map(|p| play(p, c.v6, l).unwrap());
            // All that can be listed.
            let lists = match differs {
                true => Default::default(),
                false => players.each_mut().map(|p| p.list("-m -s").unwrap()),
            };
            let wrong = match &l.differs {
                Some(Differs::Said(a, b)) => (&ours.text(), &stock.text()) != (a, b),
                Some(Differs::Bytes) => ours.text() != stock.text() || ours == stock,
                None if differs => ours.text() != stock.text(),
                None => ours != stock || lists[0] != lists[1],
            };
            if wrong {
                let _ = writeln!(said, "  {}", l.text);
                for (who, seen, list) in [("ours ", &ours, &lists[0]), ("stock", &stock, &lists[1])]
                {
                    let _ = writeln!(said, "    {who} {}\n          {list}", seen.detail());
                }
            }
        }
        if said.len() > before {
            report += &said;
        }
    }
    assert!(report.is_empty(), "{report}");
    assert!(n >= at_least, "{name} has {n} rows");
}

fn play(p: &mut Player<'_>, v6: bool, l: &Line) -> anyhow::Result<Seen> {
    match &l.step {
        Step::Packet(row) => p.packet(row, v6),
        Step::Wait(seconds) => p.wait(*seconds).map(|()| Seen::default()),
        Step::Dump(options) => p.list(options).map(Seen::List),
    }
}

#[test]
fn tcp() {
    compare("tcp", include_str!("../../../../conntrack/tests/conversations/tcp.rows"), 480);
}

#[test]
fn udp_and_others() {
    compare("udp", include_str!("../../../../conntrack/tests/conversations/udp.rows"), 120);
}

#[test]
fn icmp() {
    compare("icmp", include_str!("../../../../conntrack/tests/conversations/icmp.rows"), 70);
}

#[test]
fn translation() {
    compare("nat", include_str!("../../../../conntrack/tests/conversations/nat.rows"), 55);
}

#[test]
fn differences_on_purpose() {
    compare("ours", include_str!("../../../../conntrack/tests/conversations/ours.rows"), 20);
}

#[test]
fn fragments_chains_and_sctp() {
    compare("whole", include_str!("whole.rows"), 130);
}

#[test]
fn helpers() {
    compare("alg", include_str!("alg.rows"), 115);
}
