//! The switch alone: frames from memory into memory, one thread on one processor, beside OVS-DPDK.
//!
//! Two ports replay capture files for ever ([`traffic`]), one the connections' frames, the other the replies;
//! what is sent to a port is counted and forgotten. Ours are `type=replay`, OVS-DPDK's `net_pcap` with
//! `infinite_rx=1`: both copy every frame out of memory. Both switches stand at the same time; the one
//! whose turn it is not is stopped (SIGSTOP). Each round clears the worker's statistics, waits, and
//! reads packets per second from `dpif-netdev/pmd-perf-show`.
//!
//! New connections are another matter: a million frames of as many connections come once, and what counts is
//! the worker's time on them (`pmd-stats-show`), each round with an empty connection table.

pub mod dpdk;
mod traffic;
pub mod workers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::netns::Netns;
use testkit::process::{pause, signal};
use testkit::sut::Sut;

use crate::metric::{Better, Facts, Metric, Target};
use crate::part::Part;
use crate::report::Report;
use crate::say;
use crate::stage::Stage;
use crate::system::System;
use traffic::{Protocol, Way};

/// The rules that are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Drop,
    Output,
    Normal,
    Policy,
    Thousand,
}

/// One line of the table.
#[derive(Debug)]
struct Case {
    name: &'static str,
    rules: Rules,
    protocol: Protocol,
    /// Connections.
    n: u32,
    /// The frames come once: connections are new.
    once: bool,
    /// What OVS-DPDK 22.11 of Open vSwitch 3.1 did on huge pages on a machine of the kind of the figures in
    /// `bench/README.md`, Mpps.
    reference: f64,
    /// At least so many times OVS-DPDK's.
    target: Option<f64>,
}

const fn case(
    name: &'static str,
    rules: Rules,
    protocol: Protocol,
    n: u32,
    reference: f64,
    target: Option<f64>,
) -> Case {
    Case { name, rules, protocol, n, once: false, reference, target }
}

const fn once(name: &'static str, protocol: Protocol, reference: f64) -> Case {
    let rules = Rules::Policy;
    Case { name, rules, protocol, n: 1_000_000, once: true, reference, target: Some(2.0) }
}

const CASES: [Case; 17] = [
    case("drop-1", Rules::Drop, Protocol::Udp, 1, 33.4, None),
    case("drop-100k", Rules::Drop, Protocol::Udp, 100_000, 21.8, None),
    case("output-1", Rules::Output, Protocol::Udp, 1, 26.8, None),
    case("output-100k", Rules::Output, Protocol::Udp, 100_000, 9.6, None),
    case("normal-1", Rules::Normal, Protocol::Udp, 1, 22.2, None),
    case("normal-100k", Rules::Normal, Protocol::Udp, 100_000, 9.1, Some(1.5)),
    case("policy-udp-1", Rules::Policy, Protocol::Udp, 1, 6.9, Some(2.0)),
    case("policy-udp-10k", Rules::Policy, Protocol::Udp, 10_000, 2.1, Some(3.0)),
    case("policy-udp-100k", Rules::Policy, Protocol::Udp, 100_000, 2.3, Some(3.0)),
    case("policy-tcp-1", Rules::Policy, Protocol::Tcp, 1, 6.3, Some(2.0)),
    case("policy-tcp-10k", Rules::Policy, Protocol::Tcp, 10_000, 2.7, Some(3.0)),
    case("policy-tcp-100k", Rules::Policy, Protocol::Tcp, 100_000, 2.1, Some(3.0)),
    once("new-udp", Protocol::Udp, 1.1),
    once("new-tcp", Protocol::Syn, 1.1),
    case("rules1000-1", Rules::Thousand, Protocol::Udp, 1, 22.0, None),
    case("rules1000-10k", Rules::Thousand, Protocol::Udp, 10_000, 2.4, None),
    case("rules1000-100k", Rules::Thousand, Protocol::Udp, 100_000, 0.08, Some(20.0)),
];

/// Those that are measured unless others are asked for.
const USUAL: [&str; 4] = ["output-1", "policy-udp-1", "policy-udp-10k", "policy-tcp-100k"];

/// Those that are measured unless others are asked for, as a list of beginnings of names.
pub fn usual_cases() -> Vec<String> {
    USUAL.map(str::to_owned).into()
}

/// The cases of a comma-separated list, in which `all` may stand.
///
/// # Errors
/// If a name is the beginning of none.
pub fn parse_cases(list: &str) -> Result<Vec<String>> {
    let beginning = |name: &str| {
        let known = CASES.iter().any(|case| case.name.starts_with(name));
        match name {
            "all" => Ok(String::new()),
            _ if known && !name.is_empty() => Ok(name.to_owned()),
            _ => {
                let names = CASES.each_ref().map(|case| case.name).join(", ");
                bail!("no case begins with \"{name}\"; there are {names}, and all")
            }
        }
    };
    list.split(',').map(beginning).collect()
}

/// The lines of a list that tell of cases.
pub fn cases_text() -> String {
    let mark = |case: &Case| if USUAL.contains(&case.name) { '*' } else { ' ' };
    let line = |case: &Case| format!("{} {}\n", mark(case), case.name);
    let lines: String = CASES.iter().map(line).collect();
    format!("\nCases of frames from memory (* unless others are asked for):\n{lines}")
}

/// What is to be said of the figure of a case.
pub fn facts(case: usize) -> Facts {
    let name = CASES[case].name;
    let title = format!("frames from memory, {name}");
    Facts { part: Part::Memory, name: name.to_owned(), title, unit: "Mpps", better: Better::More }
}

/// What is promised of cases.
pub fn targets() -> impl Iterator<Item = Target> {
    let frames = CASES.iter().enumerate().filter_map(|(i, case)| {
        Some(Target {
            metric: Metric::Frames(i),
            against: Some(System::OvsDpdk),
            at_least: true,
            bound: case.target?,
            recorded: Some(case.reference),
        })
    });
    frames.chain(workers::targets())
}

/// A switch whose turn it can be.
struct Switch<'a> {
    system: System,
    sut: Sut<'a>,
}

impl<'a> Switch<'a> {
    fn start(stage: &Stage<'_>, system: System, ns: &'a Netns) -> Result<Switch<'a>> {
        let sut = match system {
            System::OvsDpdk => dpdk::start(ns)?,
            _ => stage.launch(system, ns)?.context("no daemon")?,
        };
        Ok(Switch { system, sut })
    }

    /// Stops it, or lets it go on.
    fn let_run(&self, run: bool) -> Result<()> {
        signal(self.sut.pid()?, if run { "CONT" } else { "STOP" })
    }

    /// Runs the words of a tool's line, each switch's own; its standard output.
    fn ok(&self, line: &str) -> Result<String> {
        self.sut.ok(self.sut.whose(), line)
    }

    /// Adds a port that replays a file.
    fn replay(&self, name: &str, number: u16, file: &str, endless: bool) -> Result<()> {
        let add = format!(
            "ovs-vsctl add-port br0 {name} -- set Interface {name} ofport_request={number}"
        );
        let more = match self.system {
            System::OvsDpdk => {
                let repeat = if endless { ",infinite_rx=1" } else { "" };
                let device = format!("net_pcap{number},rx_pcap={file}{repeat}");
                format!("type=dpdk options:dpdk-devargs=\"{device}\"")
            }
            _ => format!("type=replay options:pcap={file} options:loop={endless}"),
        };
        self.ok(&format!("{add} {more}"))?;
        let error = self.ok(&format!("ovs-vsctl get Interface {name} error"))?;
        ensure!(error.trim() == "[]", "{name}: {}", error.trim());
        Ok(())
    }

    /// Makes the bridge and loads the rules, and the ports with their traffic.
    fn set_up(&self, stage: &Stage<'_>, case: &Case) -> Result<()> {
        self.ok("ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=netdev fail_mode=secure \
             other-config:hwaddr=5a:00:00:00:00:b0")?;
        let add = |flow: &str| self.ok(&format!("ovs-ofctl add-flow br0 {flow}")).map(drop);
        match case.rules {
            Rules::Drop => add("actions=drop")?,
            Rules::Output => {
                add("in_port=2,actions=output:3")?;
                add("in_port=3,actions=output:2")?;
            }
            Rules::Normal => add("actions=normal")?,
            Rules::Policy => {
                self.ok(&format!("ovs-ofctl add-flows br0 {}", stage.policy))?;
            }
            Rules::Thousand => {
                self.ok(&format!("ovs-ofctl add-flows br0 {}", stage.dir.join("rules")))?;
            }
        }
        if case.once {
            self.replay("vm2p", 3, &file(stage, Way::Back, Protocol::Udp, 1), false)?;
            pause(Duration::from_millis(500))?;
            self.ok("ovs-appctl fdb/add br0 vm2p 0 52:54:00:00:00:02")?;
            return Ok(());
        }
        self.replay("vm1p", 2, &file(stage, Way::Forth, case.protocol, case.n), true)?;
        self.replay("vm2p", 3, &file(stage, Way::Back, case.protocol, case.n), true)
    }

    /// Millions of packets a second, of one round.
    fn sample(&self, stage: &Stage<'_>, case: &Case) -> Result<f64> {
        if case.once {
            return self.sample_once(stage, case);
        }
        pause(Duration::from_millis(300))?;
        self.ok("ovs-appctl dpif-netdev/pmd-stats-clear")?;
        pause(Duration::from_secs(stage.options.seconds))?;
        let text = self.ok("ovs-appctl dpif-netdev/pmd-perf-show -nh")?;
        let kpps = text.split_once("Rx packets:").and_then(|(_, rest)| rest.split_once('('));
        let kpps = kpps.and_then(|(_, rest)| rest.split_once(" Kpps"));
        let kpps = kpps.with_context(|| format!("no rate in {text}"))?.0;
        Ok(kpps.trim().parse::<f64>()? / 1000.0)
    }

    fn sample_once(&self, stage: &Stage<'_>, case: &Case) -> Result<f64> {
        self.ok("ovs-appctl dpctl/flush-conntrack")?;
        pause(Duration::from_millis(300))?;
        self.ok("ovs-appctl dpif-netdev/pmd-stats-clear")?;
        self.replay("vm1p", 2, &file(stage, Way::Forth, case.protocol, case.n), false)?;
        let began = Instant::now();
        let (text, packets) = loop {
            pause(Duration::from_millis(200))?;
            let text = self.ok("ovs-appctl dpif-netdev/pmd-stats-show")?;
            let packets = number(&text, "packets received:")?;
            if packets >= f64::from(case.n) {
                break (text, packets);
            }
            ensure!(began.elapsed() < Duration::from_secs(60), "only {packets} packets came");
        };
        let hz = self.hz()?;
        let n_connections = number(&self.ok("ovs-appctl dpctl/ct-get-nconns")?, "")?;
        // On a slow machine the first may have expired before the last came.
        ensure!(
            n_connections >= 0.99 * f64::from(case.n),
            "{n_connections} connections of {} packets",
            case.n
        );
        self.ok("ovs-vsctl del-port br0 vm1p")?;
        Ok(packets / (number(&text, "\n  processing cycles:")? / hz) / 1e6)
    }

    /// "Cycles" in a second. Ours are nanoseconds; a polling thread uses all there are.
    fn hz(&self) -> Result<f64> {
        if self.system != System::OvsDpdk {
            return Ok(1e9);
        }
        let text = self.ok("ovs-appctl dpif-netdev/pmd-perf-show -nh")?;
        let used = number(&text, "Used TSC cycles:")?;
        Ok(used / number(&text, "Measurement duration:")?)
    }
}

/// The number behind `key` in a text.
fn number(text: &str, key: &str) -> Result<f64> {
    let rest = text.split_once(key).with_context(|| format!("no {key} in {text}"))?.1;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().with_context(|| format!("no number after {key} in {text}"))
}

/// The path of a capture file.
fn file(stage: &Stage<'_>, way: Way, protocol: Protocol, n: u32) -> String {
    stage.dir.join(&format!("{way:?}-{protocol:?}-{n}.pcap"))
}

/// Writes the files that the cases need.
fn write_files<'a>(stage: &Stage<'_>, cases: impl Iterator<Item = &'a Case>) -> Result<()> {
    let mut written = BTreeSet::new();
    let mut write = |way, protocol, n| -> Result<()> {
        let path = file(stage, way, protocol, n);
        if written.insert(path.clone()) {
            std::fs::write(path, traffic::capture(way, protocol, n))?;
        }
        Ok(())
    };
    write(Way::Back, Protocol::Udp, 1)?;
    for case in cases {
        write(Way::Forth, case.protocol, case.n)?;
        if !case.once {
            write(Way::Back, case.protocol, case.n)?;
        }
    }
    std::fs::write(stage.dir.join("rules"), traffic::rules(1000)?)?;
    Ok(())
}

/// The cases that are asked for, and their numbers.
fn asked_for(asked: &[String]) -> impl Iterator<Item = (usize, &'static Case)> {
    // A whole name is not the beginning of others.
    let is_whole = |name: &str| CASES.iter().any(|case| case.name == name);
    let wanted = move |case: &Case| {
        let is = |a: &String| case.name == a || (case.name.starts_with(&**a) && !is_whole(a));
        asked.iter().any(is)
    };
    CASES.iter().enumerate().filter(move |(_, case)| wanted(case))
}

/// All cases that are asked for.
pub fn measure(stage: &Stage<'_>, systems: &[System], report: &mut Report) -> Result<()> {
    if systems.is_empty() {
        return Ok(());
    }
    let cases: Vec<_> = asked_for(&stage.options.cases).collect();
    write_files(stage, cases.iter().map(|(_, case)| *case))?;
    for (i, case) in cases {
        say(format_args!("frames from memory: {}", case.name));
        measure_case(stage, i, case, systems, report).context(case.name)?;
    }
    Ok(())
}

fn measure_case(
    stage: &Stage<'_>,
    i: usize,
    case: &Case,
    systems: &[System],
    report: &mut Report,
) -> Result<()> {
    // Until all connections and megaflows are there.
    let warm = match case.n {
        _ if case.once => 0,
        0..1000 => 1,
        1000..50_000 => 4,
        _ => 6,
    };
    let spaces: Vec<Netns> =
        systems.iter().map(|system| Netns::new(system.name())).collect::<Result<_>>()?;
    let mut switches = Vec::new();
    for (&system, ns) in systems.iter().zip(&spaces) {
        let started = Switch::start(stage, system, ns).and_then(|switch| {
            switch.set_up(stage, case)?;
            pause(Duration::from_secs(warm))?;
            switch.let_run(false)?;
            Ok(switch)
        });
        switches.extend(report.keep(&[Part::Memory], system, started.context(case.name))?);
    }
    for _ in 0..stage.options.rounds {
        let mut good = Vec::new();
        for switch in switches {
            let sampled = switch.let_run(true).and_then(|()| {
                let sample = switch.sample(stage, case)?;
                switch.let_run(false)?;
                Ok(sample)
            });
            let system = switch.system;
            if let Some(sample) =
                report.keep(&[Part::Memory], system, sampled.context(case.name))?
            {
                report.add(system, Metric::Frames(i), sample);
                good.push(switch);
            }
        }
        switches = good;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_asked_for_by_how_they_begin() {
        assert_eq!(parse_cases("policy-udp,new-").unwrap(), ["policy-udp", "new-"]);
        assert_eq!(parse_cases("all").unwrap(), [""]);
        for wrong in ["policy,nwe", "", "output-1,"] {
            let error = parse_cases(wrong).unwrap_err().to_string();
            assert!(error.contains("there are drop-1, "), "{error}");
        }
        let names = |list: &str| -> Vec<&str> {
            asked_for(&parse_cases(list).unwrap()).map(|(_, case)| case.name).collect()
        };
        assert_eq!(names("new-,output-1"), ["output-1", "new-udp", "new-tcp"]);
        assert_eq!(names("all").len(), CASES.len());
        let usual = usual_cases();
        let usual: Vec<&str> = asked_for(&usual).map(|(_, case)| case.name).collect();
        assert_eq!(usual, USUAL);
    }

    #[test]
    fn a_recorded_figure_stands_in_for_one_that_was_not_measured() {
        let at = |name: &str| Metric::Frames(CASES.iter().position(|c| c.name == name).unwrap());
        let mut report = Report::default();
        for value in [14.0, 16.0, 15.0] {
            report.add(System::Sekisho, at("policy-udp-1"), value);
        }
        report.add(System::OvsDpdk, at("policy-udp-1"), 8.0);
        report.add(System::Sekisho, at("policy-udp-10k"), 6.4);
        let text = report.verdicts();
        assert!(text.contains("policy-udp-1: 1.88 x ovs-dpdk (at least 2)"), "{text}");
        let recorded =
            "policy-udp-10k: 3.05 x ovs-dpdk as recorded on another machine (at least 3)";
        assert!(text.contains(recorded), "{text}");
        assert!(text.starts_with("MISSED") && text.contains("met "), "{text}");
    }

    #[test]
    fn numbers_in_texts() {
        assert_eq!(number("a: 7 (x)\n b:  12.5 s", "b:").unwrap(), 12.5);
        assert_eq!(number("1000000\n", "").unwrap(), 1e6);
        assert!(number("a", "b").is_err() && number("a: x", "a:").is_err());
    }
}
