//! Comparing what two switches print, but for what may differ: MACs, ids, times, order.
//!
//! A [`Scrub`] replaces the parts that differ from run to run by fixed words. A transcript is a
//! text of `$ command`, output, `[exit N]` blocks; the golden ones in `tests/golden/` were recorded
//! from the stock Open vSwitch by the same harness (`UPDATE_GOLDEN=1`, which is only honoured where
//! the switch under test is the stock one).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What to take out of a text before it is compared.
#[derive(Debug, Clone, Default)]
pub struct Scrub {
    macs: bool,
    ids: bool,
    keys: Vec<String>,
    blocks: bool,
    last_column: bool,
    words: Vec<(String, String)>,
}

impl Scrub {
    /// Takes nothing out.
    pub fn none() -> Scrub {
        Scrub::default()
    }

    /// What differs between any two runs of one switch: uuids, time stamps, `duration=`, `idle_age=`,
    /// `hard_age=`, `xid=`, `used:`, recirculation ids; `addr:`, because the kernel draws the MAC of a
    /// device.
    pub fn volatile() -> Scrub {
        Scrub { ids: true, ..Scrub::none() }.keys(&[
            "duration=",
            "idle_age=",
            "hard_age=",
            "xid=",
            "used:",
            "addr:",
            "recirc(",
            "recirc_id=",
        ])
    }

    /// MAC addresses become `MAC`.
    pub fn macs(mut self) -> Scrub {
        self.macs = true;
        self
    }

    /// The value after each `key` (up to white space, a comma or a closing bracket) becomes `?`.
    pub fn keys(mut self, keys: &[&str]) -> Scrub {
        self.keys.extend(keys.iter().map(|&k| k.to_owned()));
        self
    }

    /// Counters of packets and bytes.
    pub fn counters(self) -> Scrub {
        self.keys(&["n_packets=", "n_bytes=", "pkts=", "bytes=", "packets:", "bytes:"])
    }

    /// Ports and ids that a client's kernel draws.
    pub fn ephemeral(self) -> Scrub {
        self.keys(&["sport=", "dport=", "id="])
    }

    /// The last word of a line becomes `?` if it is a number (an age in a table).
    pub fn last_column(mut self) -> Scrub {
        self.last_column = true;
        self
    }

    /// `word` becomes `by`.
    pub fn word(mut self, word: &str, by: &str) -> Scrub {
        self.words.push((word.to_owned(), by.to_owned()));
        self
    }

    /// Puts blocks (a line and the deeper-indented lines below it) in alphabetical order.
    pub fn sorted(mut self) -> Scrub {
        self.blocks = true;
        self
    }

    /// The text without what may differ.
    pub fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for line in text.lines() {
            let mut line = line.to_owned();
            for (word, by) in &self.words {
                line = line.replace(word, by);
            }
            if self.ids {
                line = replace_shape(&line, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "UUID");
                line = replace_shape(&line, "hhhh-hh-hhThh:hh:hhZ", "TIME");
            }
            if self.macs {
                line = replace_shape(&line, "hh:hh:hh:hh:hh:hh", "MAC");
            }
            if let Some(flood) = line.strip_prefix(FLOOD) {
                line = format!("{FLOOD}{}", numbers_in_order(flood));
            }
            for key in &self.keys {
                line = replace_values(&line, key);
            }
            let mut line = line.trim_end();
            if self.last_column && line.ends_with(|c: char| c.is_ascii_digit()) {
                line = line.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end();
                out.push_str(line);
                line = " ?";
            }
            out.push_str(line);
            out.push('\n');
        }
        if self.blocks { sort_blocks(&out) } else { out }
    }
}

/// Begins the line of a trace that lists the ports of a flood, in the order of a hash.
const FLOOD: &str = "Datapath actions: ";

/// A comma-separated list in ascending order, if all of it are numbers.
fn numbers_in_order(list: &str) -> String {
    let Ok(mut numbers) = list.split(',').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>()
    else {
        return list.to_owned();
    };
    numbers.sort_unstable();
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// Replaces each part of `line` that has the given shape (`h` stands for a lower-case hex digit).
fn replace_shape(line: &str, shape: &str, by: &str) -> String {
    let fits = |part: &[u8]| {
        part.len() == shape.len()
            && part.iter().zip(shape.bytes()).all(|(&c, s)| match s {
                b'h' => matches!(c, b'0'..=b'9' | b'a'..=b'f'),
                _ => c == s,
            })
    };
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if rest.as_bytes().get(..shape.len()).is_some_and(fits) {
            out.push_str(by);
            rest = &rest[shape.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Replaces the value after each whole `key` by `?`.
fn replace_values(line: &str, key: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(key) {
        let whole = !rest[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let (head, tail) = rest.split_at(at + key.len());
        out.push_str(head);
        rest = tail;
        if whole {
            let end =
                rest.find(|c: char| c.is_whitespace() || ",)]".contains(c)).unwrap_or(rest.len());
            out.push('?');
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Sorts the blocks of a text by indentation, on every level.
fn sort_blocks(text: &str) -> String {
    fn depth(line: &str) -> usize {
        line.len() - line.trim_start().len()
    }
    fn sort(lines: &[&str]) -> Vec<String> {
        let Some(level) = lines.iter().map(|l| depth(l)).min() else { return Vec::new() };
        let mut blocks: Vec<Vec<String>> = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            let end = lines[at + 1..]
                .iter()
                .position(|l| depth(l) <= level)
                .map_or(lines.len(), |n| at + 1 + n);
            let mut block = vec![lines[at].to_owned()];
            block.extend(sort(&lines[at + 1..end]));
            blocks.push(block);
            at = end;
        }
        blocks.sort();
        blocks.into_iter().flatten().collect()
    }
    let lines: Vec<&str> = text.lines().collect();
    sort(&lines).into_iter().map(|line| line + "\n").collect()
}

/// Compares `got` with `want`; the error shows each line that differs.
pub fn compare(what: &str, want: &str, got: &str) -> Result<()> {
    if want == got {
        return Ok(());
    }
    let (want, got): (Vec<_>, Vec<_>) = (want.lines().collect(), got.lines().collect());
    let head = want.iter().zip(&got).take_while(|(w, g)| w == g).count();
    let most = want.len().min(got.len()) - head;
    let tail = want.iter().rev().zip(got.iter().rev()).take(most).take_while(|(w, g)| w == g);
    let tail = tail.count();
    let mut message = format!("{what}: from line {} (- wanted, + got)\n", head + 1);
    for (sign, lines) in [('-', &want), ('+', &got)] {
        for line in &lines[head..lines.len() - tail] {
            message += &format!("{sign}{line}\n");
        }
    }
    bail!(message)
}

/// Compares two transcripts command by command; the error shows every command that differs.
pub fn compare_transcripts(want: &str, got: &str) -> Result<()> {
    fn blocks(text: &str) -> Vec<(&str, &str)> {
        text.split("\n$ ")
            .map(|block| block.strip_prefix("$ ").unwrap_or(block))
            .map(|block| block.split_once('\n').unwrap_or((block, "")))
            .collect()
    }
    let (want, got) = (blocks(want), blocks(got));
    let commands = |blocks: &[(&str, &str)]| -> String {
        blocks.iter().map(|(command, _)| format!("{command}\n")).collect()
    };
    compare("commands", &commands(&want), &commands(&got))?;
    let differ: Vec<String> = want
        .iter()
        .zip(&got)
        .filter_map(|((command, want), (_, got))| compare(command, want, got).err())
        .map(|error| error.to_string())
        .collect();
    ensure!(differ.is_empty(), "{} commands differ\n{}", differ.len(), differ.join("\n"));
    Ok(())
}

/// Compares `got` with the transcript at `path`, or records it there if `record` and `UPDATE_GOLDEN` is
/// set.
pub fn check_file(path: &Path, got: &str, record: bool) -> Result<()> {
    if record && std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(path, got).with_context(|| format!("{}", path.display()));
    }
    let want = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    compare_transcripts(&want, got).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatile_parts_go_and_the_rest_stays() {
        let flow = " cookie=0x0, duration=20.260s, table=0, n_packets=89, n_bytes=7949, \
                    idle_age=0, priority=100,ip actions=ct(table=1)\n";
        assert_eq!(
            Scrub::volatile().apply(flow),
            " cookie=0x0, duration=?, table=0, n_packets=89, n_bytes=7949, idle_age=?, \
             priority=100,ip actions=ct(table=1)\n"
        );
        assert!(Scrub::volatile().counters().apply(flow).contains("n_packets=?, n_bytes=?,"));
        assert_eq!(
            Scrub::volatile().apply("reply (xid=0x2):\n 2(vm1p): addr:76:a4:36:d4:4b:5b"),
            "reply (xid=?):\n 2(vm1p): addr:?\n"
        );
        assert_eq!(
            Scrub::none().ephemeral().apply("sport=1,dport=23),protoinfo=(id=7,state=X)"),
            "sport=?,dport=?),protoinfo=(id=?,state=X)\n"
        );
    }

    #[test]
    fn a_key_is_a_whole_word() {
        assert_eq!(
            Scrub::none().keys(&["id="]).apply("recirc_id=0x1,id=5"),
            "recirc_id=0x1,id=?\n"
        );
    }

    #[test]
    fn shapes_are_found_anywhere() {
        let text = "é 81c891de-aad5-4f7d-9786-5a0b9eff24ec mac=\"52:54:00:00:00:01\"";
        assert_eq!(Scrub { ids: true, ..Scrub::none() }.macs().apply(text), "é UUID mac=\"MAC\"\n");
        assert_eq!(Scrub::none().macs().apply("52:54:00:00:00"), "52:54:00:00:00\n");
    }

    #[test]
    fn blocks_are_sorted_with_their_children() {
        let show = "x\n  B\n    b2\n    b1\n  A\n    a\n";
        assert_eq!(Scrub::none().sorted().apply(show), "x\n  A\n    a\n  B\n    b1\n    b2\n");
    }

    #[test]
    fn the_order_of_a_flood_is_no_difference() {
        let apply = |line| Scrub::none().apply(line);
        assert_eq!(apply("Datapath actions: 3,1"), "Datapath actions: 1,3\n");
        assert_eq!(apply("Datapath actions: ct,recirc(0x1)"), "Datapath actions: ct,recirc(0x1)\n");
    }

    #[test]
    fn ages_in_a_last_column_go() {
        let fdb = " port  VLAN  MAC                Age\n    2     0  52:54:00:00:00:01   17\n";
        assert_eq!(
            Scrub::none().last_column().apply(fdb),
            " port  VLAN  MAC                Age\n    2     0  52:54:00:00:00:01 ?\n"
        );
    }

    #[test]
    fn transcripts_are_compared_by_command() {
        let want = "$ a\n1\n[exit 0]\n$ b\n2\n[exit 0]\n$ c\n3\n[exit 1]\n";
        compare_transcripts(want, want).unwrap();
        let got = want.replace('1', "x").replace('3', "y");
        let error = compare_transcripts(want, &got).unwrap_err().to_string();
        assert!(error.starts_with("2 commands differ\na: ") && error.contains("\nc: "), "{error}");
        assert!(!error.contains("\nb: "), "{error}");
        assert!(compare_transcripts(want, "$ a\n1\n[exit 0]\n").is_err());
    }

    #[test]
    fn a_difference_is_shown_alone() {
        let error = compare("t", "a\nb\nc\n", "a\nX\nY\nc\n").unwrap_err().to_string();
        assert_eq!(error, "t: from line 2 (- wanted, + got)\n-b\n+X\n+Y\n");
        compare("t", "a\n", "a\n").unwrap();
    }
}
