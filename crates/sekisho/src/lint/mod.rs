//! `sekisho lint`: what is wrong with a policy before it goes live.
//!
//! The rules of files are read ([`policy`]), where packets can go is walked ([`graph`]), and sets of
//! packets are compared exactly ([`space`]); [`mod@check`] says what it makes of that, each finding with
//! its line, the place in it, the reason and what would be right. Kinds of findings stand in one
//! table ([`kinds`]). Nothing in here but this file reads a file or asks a switch.
//!
//! A finding is true of the policy as it stands in the files, on an empty switch: what a controller
//! adds later is not known.

mod check;
mod graph;
mod kinds;
mod policy;
mod space;

use flow::text::{Mode, NameMap, NoNames, parse_port};
use openflow::flow_mod::GROUP_ALL;
use openflow::message::GroupCommand;
use openflow::text::parse_group_file;
use serde_json::json;

use crate::applet::{Failure, Outcome, Session};
use crate::getopt::{Arg, Opt, Order, parse};
use crate::ofctl::{Names, read_file};
use check::{Finding, World, check};
use graph::Groups;
use kinds::{Kind, Level};
use policy::Policy;

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "ports", short: Some('p'), arg: Arg::Required, id: 'p' },
    Opt { long: "bridge", short: Some('b'), arg: Arg::Required, id: 'b' },
    Opt { long: "groups", short: Some('g'), arg: Arg::Required, id: 'g' },
    Opt { long: "allow", short: Some('a'), arg: Arg::Required, id: 'a' },
    Opt { long: "json", short: Some('j'), arg: Arg::None, id: 'j' },
    Opt { long: "kinds", short: None, arg: Arg::None, id: 'k' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
];

const HELP: &str = "\
usage: sekisho lint [OPTION]... FILE...
Says what is wrong with the flows of FILEs (\"-\": standard input), which are taken as one policy,
added to an empty bridge in the order given.

Options:
  -p, --ports=PORT,...     the switch has these ports only: NUMBER, NAME=NUMBER
  -b, --bridge=BRIDGE      the switch has the ports of this bridge
  -g, --groups=FILE        the switch has the groups of FILE, and of no other
  -a, --allow=KIND,...     say nothing of these kinds
  -j, --json               print a JSON array instead of text
      --kinds              list the kinds of findings
  -h, --help               print this

Exit status: 0 if there is no error or warning (there may be notes), 1 if there is, 2 if the files
could not be read.
";

/// A failure of the tool itself.
fn unable(text: impl Into<String>) -> Failure {
    Failure::Fatal(2, text.into())
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = parse(session, OPTIONS, Order::Permute, args).map_err(|e| match e {
        Failure::Silent(_) => Failure::Silent(2),
        e => e,
    })?;
    let mut names: Option<Names> = None;
    let mut allowed = Vec::new();
    let mut group_files = Vec::new();
    let mut as_json = false;
    for option in &parsed.options {
        let value = option.value.as_deref().unwrap_or_default();
        match option.id {
            'p' => names = Some(parse_ports(value)?),
            'b' => {
                let of_bridge = crate::ofctl::names_of(session, value);
                names = Some(of_bridge.map_err(|e| match e {
                    Failure::Fatal(_, text) => unable(text),
                    e => e,
                })?);
            }
            'g' => group_files.push(value),
            'a' => {
                for name in value.split(',').filter(|n| !n.is_empty()) {
                    let kind = Kind::ALL.iter().find(|k| k.name() == name).ok_or_else(|| {
                        unable(format!("there is no kind \"{name}\" (--kinds lists them)"))
                    })?;
                    allowed.push(*kind);
                }
            }
            'j' => as_json = true,
            'k' => {
                for kind in Kind::ALL {
                    let (name, level, doc) = kind.row();
                    writeln!(session.out, "{name:<21} {:<8} {doc}", level.name())?;
                }
                return Ok(0);
            }
            _ => {
                write!(session.out, "{HELP}")?;
                return Ok(0);
            }
        }
    }
    if parsed.rest.is_empty() {
        return Err(unable("no file of flows was given (use --help for help)"));
    }
    let mut texts = Vec::new();
    for file in &parsed.rest {
        texts.push(read(file)?);
    }
    let map = names.as_ref().map_or(&NoNames as &dyn NameMap, |n| n);
    let policy = Policy::read(&texts, map);
    let groups = match group_files.is_empty() {
        true => None,
        false => Some(read_groups(&group_files, map)?),
    };
    let world = World { ports: names.as_ref().map(|n| n.ports().collect()), groups };
    let mut found = check(&policy, &world);
    found.retain(|f| !allowed.contains(&f.kind));
    match as_json {
        true => print_json(session, &parsed.rest, &policy, &found)?,
        false => print_text(session, &parsed.rest, &policy, &found)?,
    }
    Ok(u8::from(found.iter().any(|f| f.kind.level() > Level::Note)))
}

fn read(file: &str) -> Result<String, Failure> {
    read_file(file, "open failed").map_err(|e| match e {
        Failure::Fatal(_, text) => unable(text),
        e => e,
    })
}

/// The groups that stand when the lines of files have been done, as for `add-groups`.
fn read_groups(files: &[&str], names: &dyn NameMap) -> Result<Groups, Failure> {
    let mut groups = Groups::new();
    for file in files {
        let lines = parse_group_file(&read(file)?, None, names, Mode::Strict)
            .map_err(|e| unable(format!("{file}:{}: {}", e.line, e.error.message)))?;
        for (_, parsed) in lines {
            let g = parsed.group;
            let buckets = g.buckets.into_iter().map(|b| b.actions);
            match g.command {
                GroupCommand::Delete if g.group == GROUP_ALL => groups.clear(),
                GroupCommand::Delete => drop(groups.remove(&g.group)),
                GroupCommand::InsertBucket => {
                    groups.entry(g.group).or_default().extend(buckets);
                }
                // Which are left is not looked at: the more there are, the less is found.
                GroupCommand::RemoveBucket => {}
                _ => drop(groups.insert(g.group, buckets.collect())),
            }
        }
    }
    Ok(groups)
}

/// `1,2,eth0=3`.
fn parse_ports(text: &str) -> Result<Names, Failure> {
    let mut names = Names::default();
    for word in text.split(',').filter(|w| !w.is_empty()) {
        let (name, number) = word.split_once('=').unwrap_or(("", word));
        let port = parse_port(number, &NoNames).ok_or_else(|| {
            unable(format!("--ports: {word}: not a port number (or NAME=NUMBER)"))
        })?;
        names.add_port(name, port);
    }
    Ok(names)
}

fn print_text(
    session: &mut Session<'_>,
    files: &[String],
    policy: &Policy,
    found: &[Finding],
) -> Result<(), Failure> {
    for f in found {
        let line = &policy.lines[f.line];
        let column = line.text.get(..f.span.start).map_or(0, |s| s.chars().count());
        let width = line.text.get(f.span.clone()).map_or(1, |s| s.chars().count().max(1));
        let (name, level, _) = f.kind.row();
        let (file, n) = (&files[line.file], line.number);
        let (level, message) = (level.name(), &f.message);
        writeln!(session.out, "{file}:{n}:{}: {level}: {message} [{name}]", column + 1)?;
        writeln!(session.out, "  {}\n  {:column$}{}", line.text, "", "^".repeat(width))?;
        if !f.hint.is_empty() {
            writeln!(session.out, "  hint: {}", f.hint)?;
        }
    }
    let count = |level| found.iter().filter(|f| f.kind.level() == level).count();
    let counts: Vec<String> = [Level::Error, Level::Warning, Level::Note]
        .into_iter()
        .map(|level| (count(level), level.name()))
        .filter(|(n, _)| *n > 0)
        .map(|(n, name)| format!("{n} {name}{}", if n == 1 { "" } else { "s" }))
        .collect();
    let counts = if counts.is_empty() { "nothing found".into() } else { counts.join(", ") };
    let n = policy.rules.len();
    writeln!(session.out, "{n} rule{}: {counts}", if n == 1 { "" } else { "s" })?;
    Ok(())
}

fn print_json(
    session: &mut Session<'_>,
    files: &[String],
    policy: &Policy,
    found: &[Finding],
) -> Result<(), Failure> {
    let list: Vec<serde_json::Value> = found
        .iter()
        .map(|f| {
            let line = &policy.lines[f.line];
            let column = line.text.get(..f.span.start).map_or(0, |s| s.chars().count());
            let length = line.text.get(f.span.clone()).map_or(0, |s| s.chars().count());
            let mut value = json!({
                "kind": f.kind.name(),
                "level": f.kind.level().name(),
                "file": files[line.file],
                "line": line.number,
                "column": column + 1,
                "length": length,
                "text": line.text,
                "message": f.message,
                "hint": f.hint,
            });
            if let Some(other) = f.other {
                let other = &policy.lines[other];
                value["other"] = json!({ "file": files[other.file], "line": other.number });
            }
            value
        })
        .collect();
    let text = serde_json::to_string_pretty(&list).map_err(|e| unable(e.to_string()))?;
    Ok(writeln!(session.out, "{text}")?)
}
