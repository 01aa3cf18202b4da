//! The table test: every field and action, read, written and sent as by stock `ovs-ofctl` 3.1.
//!
//! A fixed list of lines, and random ones from a seed. Each line, valid or not, goes to
//! our reader (as with `--lenient`) and to the stock one. Compared are: whether it is taken, and the
//! text of the error; the flow formats that can say it; the bytes sent for it in every version that
//! can; and the text that those bytes are printed as. `SEED=N` takes others, `LINES=N` makes it
//! longer.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod generate;
mod stock;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flow::Field;
use flow::field::FIELDS;
use flow::text::{Mode, NoNames, TextError};
use generate::Rng;
use openflow::FlowModCommand;
use openflow::message::{Body, Message, Session};
use openflow::oxm::nicira_type;
use openflow::print::{BytesText, Style};
use openflow::protocol::{PROTOCOLS, Protocol};
use openflow::text::flow::Parsed;
use openflow::text::parse_flow;
use stock::Stock;

/// Lines of the random part.
const N_RANDOM: usize = 1500;

const SESSION: Session = Session { flow_mod_table_id: true };

/// What differs from stock on purpose: what is compared (any if empty), pieces of the line, and why.
const DIFFERENT: [(&str, &str, &str); 31] = [
    ("", "gtpu_", "stock prints these fields under names that it cannot read; we read them"),
    ("", "erspan_", "stock takes the value for the mask and then prints nothing"),
    ("printed", "nsh_c", "stock prints NSH contexts only with nsh_mdtype=1"),
    ("printed", "nshc", "the same"),
    ("printed", "tun_gbp_flags=", "stock prints no mask"),
    ("", "debug_", "stock knows them only with --enable-dummy"),
    ("", "ipv6_label=0x100000", "no packet has this; stock asks for it all the same"),
    ("", "tcp_flags=0x12/0xfff", "a flag for each bit, so we know that this is all of them"),
    ("", "set_field:0x5/0x3", "stock sends bits that the mask lacks, which a switch refuses"),
    ("printed", "nat(dst,", "stock prints no flags without an address"),
    ("printed", "nat(src,", "the same"),
    ("refused", "tun_ttl", "has no name on the wire; stock sends what a switch refuses"),
    ("refused", "tun_tos", "the same"),
    ("", "skb_priority", "the same"),
    ("printed", "learn( packet_type=(", "stock prints the name twice in learn"),
    ("refused", "dl_vlan", "the same"),
    ("error", "dl_vlan", "the same"),
    ("", "dl_vlan[", "the same"),
    ("", "dl_vlan_pcp[", "the same"),
    (
        "printed",
        "recirc_id",
        "stock knows a megaflow by it, but this one has the ICMP type of a flow",
    ),
    ("formats", "dec_nsh_ttl", "stock sends it in versions that lack it"),
    ("refused", "dec_nsh_ttl", "the same"),
    ("formats", "decap", "the same"),
    ("error", "decap", "the same"),
    ("refused", "decap", "the same"),
    ("formats", "write_actions", "stock leaves it out in 1.0, whatever else the flow does"),
    ("refused", "write_actions", "the same"),
    ("formats", "clear_actions", "the same"),
    ("refused", "clear_actions", "the same"),
    ("formats", "clone(", "stock forgets what the actions before clone need"),
    ("refused", "clone(", "the same"),
];

fn ours(line: &str) -> Result<Parsed, TextError> {
    parse_flow(line, FlowModCommand::Add, &NoNames, Mode::Ovs)
}

/// Our bytes for a flow, the transaction id zero.
fn bytes(parsed: &Parsed, p: &Protocol) -> Result<Vec<u8>, String> {
    let mut flow = parsed.flow.clone();
    if p.version > openflow::Version::Of10 {
        flow.table = flow.table.or(Some(base::TableId(0)));
    }
    let mut m = Message::new(p.version, 0, Body::FlowMod(Box::new(flow)));
    m.nicira = p.nicira;
    m.encode(SESSION).map_err(|e| e.to_string())
}

/// Our text of a message, as `ofp-parse` prints it.
fn printed(bytes: &[u8]) -> String {
    let style = Style { names: &NoNames, verbosity: 2, session: SESSION };
    let text = BytesText { bytes, style }.to_string();
    match text.lines().next().unwrap_or_default().split_once("): ") {
        Some((_, body)) => body.to_owned(),
        None => text,
    }
}

fn hex(b: &[u8]) -> String {
    b.iter().fold(String::new(), |mut s, x| {
        let _ = write!(s, "{x:02x}");
        s
    })
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

struct Differences {
    text: String,
    n: usize,
}

impl Differences {
    fn add(&mut self, line: &str, what: &str, ours: &str, stock: &str) {
        let has = |pieces: &str| pieces.split(' ').all(|p| line.contains(p));
        if DIFFERENT.iter().any(|s| (s.0.is_empty() || s.0 == what) && has(s.1)) {
            return;
        }
        // These actions have 4 bytes for a field's id; where it needs 8, stock writes none.
        let short = ["learn(", "zone=", "bundle_load(", "multipath("].iter().any(|a| has(a));
        let long_id = |f: &&'static Field| nicira_type(f).is_none() && !f.oxms.is_empty();
        let named = |f: &Field| has(f.name) || f.oxms.iter().any(|o| has(o.name));
        if short && FIELDS.iter().filter(long_id).any(named) {
            return;
        }
        // Where 1.0 and 1.1 have an action for a field, stock forgets the mask.
        let old = ["OpenFlow10", "OpenFlow11", "NXM"].iter().any(|v| what.starts_with(v));
        if old && line.contains("->") && line.contains('/') && line.contains("set_field") {
            return;
        }
        self.n += 1;
        let _ = write!(self.text, "{what}: {line}\n  ours  {ours}\n  stock {stock}\n");
    }
}

#[test]
fn lines_are_read_written_and_sent_as_by_stock_ofctl() {
    let Some(stock) = Stock::find() else {
        eprintln!("skipped: Open vSwitch 3.1 is not installed");
        return;
    };
    let seed = env("SEED", 1);
    let mut r = Rng(seed);
    let mut lines = generate::fixed();
    lines.extend((0..env("LINES", N_RANDOM as u64)).map(|_| generate::line(&mut r)));
    let mut d = Differences { text: String::new(), n: 0 };
    let mut taken: Vec<(&str, Parsed)> = Vec::new();
    let mut n_refused = 0;
    for line in &lines {
        match ours(line) {
            Ok(parsed) => taken.push((line, parsed)),
            Err(e) => {
                n_refused += 1;
                match stock.parse_flow(line) {
                    Ok(_) => d.add(line, "refused", &e.message, "OK"),
                    Err(text) if text != e.message.trim_end() => {
                        d.add(line, "error", &e.message, &text)
                    }
                    Err(_) => {}
                }
            }
        }
    }
    let n_taken = taken.len();
    let taken = agreed(&stock, taken, &mut d);
    for p in PROTOCOLS.iter().filter(|p| p.table_id) {
        compare_bytes(&stock, &taken, p, &mut d);
    }
    println!("seed {seed}: {n_taken} lines taken, {n_refused} refused");
    assert!(d.n == 0, "seed {seed}: {} differences\n{}", d.n, d.text);
    assert!(n_taken + n_refused >= 3000 && n_refused > 300, "{n_taken} {n_refused}");
}

/// The lines that the stock reader takes too, with the same formats.
fn agreed<'a>(
    stock: &Stock,
    lines: Vec<(&'a str, Parsed)>,
    d: &mut Differences,
) -> Vec<(&'a str, Parsed)> {
    let mut groups: BTreeMap<String, Vec<(&'a str, Parsed)>> = BTreeMap::new();
    for (line, parsed) in lines {
        groups.entry(parsed.usable.to_string()).or_default().push((line, parsed));
    }
    let mut out = Vec::new();
    for (usable, group) in groups {
        let texts: Vec<&str> = group.iter().map(|g| g.0).collect();
        // Where all have every format, one look is enough: what is said is what they have in common.
        if usable == "any" && stock.parse_flows(&texts).is_ok_and(|t| t.usable == usable) {
            out.extend(group);
            continue;
        }
        for (line, parsed) in group {
            match stock.parse_flow(line) {
                Ok(t) if t.usable == usable => out.push((line, parsed)),
                Ok(t) => d.add(line, "formats", &usable, &t.usable),
                Err(e) => d.add(line, "taken", "OK", &e),
            }
        }
    }
    out
}

fn compare_bytes(stock: &Stock, taken: &[(&str, Parsed)], p: &Protocol, d: &mut Differences) {
    let name = openflow::protocol::Protocols::by_name(p.name).unwrap();
    let lines: Vec<&(&str, Parsed)> = taken.iter().filter(|t| t.1.usable.contains(name)).collect();
    let texts: Vec<&str> = lines.iter().map(|l| l.0).collect();
    let sent = match stock.sent(&texts, p.version as u8, p.name) {
        Ok(sent) => sent,
        Err(e) => return d.add("(all)", p.name, "", &e),
    };
    if sent.len() != lines.len() {
        return d.add("(all)", p.name, &lines.len().to_string(), &sent.len().to_string());
    }
    let prints = stock.printed(&sent);
    for (i, (line, parsed)) in lines.iter().enumerate() {
        let mut want = sent[i].clone();
        want[4..8].fill(0);
        match bytes(parsed, p) {
            Ok(got) if got == want => {}
            Ok(got) => d.add(line, p.name, &hex(&got), &hex(&want)),
            Err(e) => d.add(line, p.name, &e, &hex(&want)),
        }
        let text = printed(&sent[i]);
        let print = prints.get(i).map_or("nothing", String::as_str);
        if print != text {
            d.add(line, "printed", &text, print);
        }
    }
}

#[test]
fn fields_that_stock_3_1_lacks_survive_every_version_that_says_them() {
    let mut n = 0;
    for f in FIELDS.iter().filter(|f| generate::newer(f)) {
        let line = format!("{0}=5,actions=set_field:7->{0}", f.name);
        let parsed = ours(&line).unwrap();
        for p in parsed.usable.iter().filter(|p| p.table_id) {
            let sent = bytes(&parsed, p).unwrap();
            let Ok(Body::FlowMod(back)) = Message::decode(&sent, SESSION).map(|m| m.body) else {
                panic!("{line} in {}", p.name);
            };
            assert_eq!(back.match_, parsed.flow.match_, "{line} in {}", p.name);
            assert!(!back.actions.is_empty(), "{line} in {}", p.name);
            n += 1;
        }
    }
    assert!(n > 100, "{n}");
}
