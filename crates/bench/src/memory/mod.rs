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

mod dpdk;
mod traffic;
pub mod workers;

use std::collections::BTreeSet;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::netns::Netns;
use testkit::process::signal;
use testkit::scratch::Scratch;
use testkit::story::POLICY_IP;
use testkit::sut::{Sut, Whose};

use crate::Options;
use crate::report::{System, median, short};
use dpdk::Dpdk;
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

/// A switch whose turn it can be.
enum Switch<'a> {
    Ours(Sut<'a>),
    Dpdk(Box<Dpdk<'a>>),
}

impl<'a> Switch<'a> {
    fn pid(&self) -> Result<u32> {
        match self {
            Switch::Ours(sut) => sut.pid(),
            Switch::Dpdk(dpdk) => Ok(dpdk.pid()),
        }
    }

    fn ok(&self, line: &str) -> Result<String> {
        match self {
            Switch::Ours(sut) => sut.ok(Whose::Ours, line),
            Switch::Dpdk(dpdk) => dpdk.ok(line),
        }
    }

    /// Adds a port that replays a file.
    fn replay(&self, name: &str, number: u16, file: &str, endless: bool) -> Result<()> {
        let add = format!(
            "ovs-vsctl add-port br0 {name} -- set Interface {name} ofport_request={number}"
        );
        let more = match self {
            Switch::Ours(_) => format!("type=replay options:pcap={file} options:loop={endless}"),
            Switch::Dpdk(_) => {
                let repeat = if endless { ",infinite_rx=1" } else { "" };
                let device = format!("net_pcap{number},rx_pcap={file}{repeat}");
                format!("type=dpdk options:dpdk-devargs=\"{device}\"")
            }
        };
        self.ok(&format!("{add} {more}"))?;
        match self {
            Switch::Dpdk(dpdk) => dpdk.check(name),
            Switch::Ours(_) => {
                let error = self.ok(&format!("ovs-vsctl get Interface {name} error"))?;
                ensure!(error.trim() == "[]", "{name}: {}", error.trim());
                Ok(())
            }
        }
    }

    /// Makes the bridge and loads the rules, and the ports with their traffic.
    fn set_up(&self, case: &Case, dir: &Scratch) -> Result<()> {
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
            Rules::Policy => drop(self.ok(&format!("ovs-ofctl add-flows br0 {POLICY_IP}"))?),
            Rules::Thousand => {
                drop(self.ok(&format!("ovs-ofctl add-flows br0 {}", dir.join("rules")))?);
            }
        }
        if case.once {
            self.replay("vm2p", 3, &file(dir, Way::Back, Protocol::Udp, 1), false)?;
            sleep(Duration::from_millis(500));
            self.ok("ovs-appctl fdb/add br0 vm2p 0 52:54:00:00:00:02")?;
            return Ok(());
        }
        self.replay("vm1p", 2, &file(dir, Way::Forth, case.protocol, case.n), true)?;
        self.replay("vm2p", 3, &file(dir, Way::Back, case.protocol, case.n), true)
    }

    /// Millions of packets a second, of one round.
    fn sample(&self, case: &Case, seconds: u64, dir: &Scratch) -> Result<f64> {
        if case.once {
            return self.sample_once(case, dir);
        }
        sleep(Duration::from_millis(300));
        self.ok("ovs-appctl dpif-netdev/pmd-stats-clear")?;
        sleep(Duration::from_secs(seconds));
        let text = self.ok("ovs-appctl dpif-netdev/pmd-perf-show -nh")?;
        let kpps = text.split_once("Rx packets:").and_then(|(_, rest)| rest.split_once('('));
        let kpps = kpps.and_then(|(_, rest)| rest.split_once(" Kpps"));
        let kpps = kpps.with_context(|| format!("no rate in {text}"))?.0;
        Ok(kpps.trim().parse::<f64>()? / 1000.0)
    }

    fn sample_once(&self, case: &Case, dir: &Scratch) -> Result<f64> {
        self.ok("ovs-appctl dpctl/flush-conntrack")?;
        sleep(Duration::from_millis(300));
        self.ok("ovs-appctl dpif-netdev/pmd-stats-clear")?;
        self.replay("vm1p", 2, &file(dir, Way::Forth, case.protocol, case.n), false)?;
        let began = Instant::now();
        let (text, packets) = loop {
            sleep(Duration::from_millis(200));
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
        let Switch::Dpdk(dpdk) = self else { return Ok(1e9) };
        let text = dpdk.ok("ovs-appctl dpif-netdev/pmd-perf-show -nh")?;
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
fn file(dir: &Scratch, way: Way, protocol: Protocol, n: u32) -> String {
    dir.join(&format!("{way:?}-{protocol:?}-{n}.pcap"))
}

/// Writes the files that the cases need.
fn write_files<'a>(cases: impl Iterator<Item = &'a Case>, dir: &Scratch) -> Result<()> {
    let mut written = BTreeSet::new();
    let mut write = |way, protocol, n| -> Result<()> {
        let path = file(dir, way, protocol, n);
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
    std::fs::write(dir.join("rules"), traffic::rules(1000)?)?;
    Ok(())
}

/// Samples of one case.
#[derive(Debug)]
struct Row {
    case: &'static Case,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "{:<17} {:>22} {:>6} {:>22} {:>8} {:>10} {:>8}  target",
            "frames from memory",
            "sekisho, Mpps",
            "ns",
            "OVS-DPDK, Mpps",
            "ratio",
            "recorded",
            "ratio"
        )?;
        for row in &self.0 {
            let spread = |all: &[f64]| {
                let mut sorted = all.to_vec();
                sorted.sort_by(f64::total_cmp);
                median(&sorted).map(|m| (m, sorted[0], sorted[sorted.len() - 1]))
            };
            let cell = |s: Option<(f64, f64, f64)>| match s {
                Some((m, min, max)) => format!("{} [{}..{}]", short(m), short(min), short(max)),
                None => "-".to_owned(),
            };
            let (ours, theirs) = (spread(&row.ours), spread(&row.theirs));
            let Some((mid, ..)) = ours else { continue };
            let ratio = theirs.map(|(theirs, ..)| mid / theirs);
            let recorded = mid / row.case.reference;
            let verdict = row.case.target.map_or(String::new(), |target| {
                let met = ratio.unwrap_or(recorded) >= target;
                format!("{} (at least {target})", if met { "met" } else { "MISSED" })
            });
            writeln!(
                f,
                "{:<17} {:>22} {:>6} {:>22} {:>8} {:>10} {:>8}  {verdict}",
                row.case.name,
                cell(ours),
                short(1000.0 / mid),
                cell(theirs),
                ratio.map_or("-".to_owned(), short),
                short(row.case.reference),
                short(recorded),
            )?;
        }
        Ok(())
    }
}

/// Measures all cases.
pub fn measure(options: &Options) -> Result<Table> {
    let wanted = |case: &&Case| {
        options.cases.is_empty() || options.cases.iter().any(|c| case.name.starts_with(c.as_str()))
    };
    let cases: Vec<&'static Case> = CASES.iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "no case is called that: {}", CASES.map(|c| c.name).join(", "));
    let with_dpdk = options.systems.contains(&System::Ovs) && dpdk::is_installed();
    if options.systems.contains(&System::Ovs) && !with_dpdk {
        println!(
            "OVS-DPDK is not here (openvswitch-switch-dpdk, librte-net-pcap23): ratios are to recorded figures"
        );
    }
    let dir = Scratch::new()?;
    write_files(cases.iter().copied(), &dir)?;
    let mut table = Table::default();
    for case in cases {
        println!("{}", case.name);
        let row = measure_case(case, options, with_dpdk, &dir).context(case.name)?;
        table.0.push(row);
    }
    Ok(table)
}

fn measure_case(
    case: &'static Case,
    options: &Options,
    with_dpdk: bool,
    dir: &Scratch,
) -> Result<Row> {
    let (ns, other) = (Netns::new("mem")?, Netns::new("dpdk")?);
    let mut switches = Vec::new();
    if options.systems.contains(&System::Sekisho) {
        switches.push(Switch::Ours(Sut::start(Whose::Ours, &crate::binary()?, &ns)?));
    }
    if with_dpdk {
        switches.push(Switch::Dpdk(Box::new(Dpdk::start(&other)?)));
    }
    // Until all connections and megaflows are there.
    let warm = match case.n {
        _ if case.once => 0,
        0..1000 => 1,
        1000..50_000 => 4,
        _ => 6,
    };
    for switch in &switches {
        switch.set_up(case, dir)?;
        sleep(Duration::from_secs(warm));
        signal(switch.pid()?, "STOP")?;
    }
    let mut row = Row { case, ours: Vec::new(), theirs: Vec::new() };
    for _ in 0..options.rounds {
        for switch in &switches {
            signal(switch.pid()?, "CONT")?;
            let sample = switch.sample(case, options.seconds, dir)?;
            signal(switch.pid()?, "STOP")?;
            match switch {
                Switch::Ours(_) => row.ours.push(sample),
                Switch::Dpdk(_) => row.theirs.push(sample),
            }
        }
    }
    for switch in &switches {
        signal(switch.pid()?, "CONT")?;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_of_the_same_run_where_there_was_one() {
        let case = |name: &str| CASES.iter().find(|c| c.name == name).unwrap();
        let rows = vec![
            Row { case: case("policy-udp-1"), ours: vec![14.0, 16.0, 15.0], theirs: vec![8.0] },
            Row { case: case("policy-udp-10k"), ours: vec![6.4], theirs: vec![] },
        ];
        let text = Table(rows).to_string();
        let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        assert!(line("policy-udp-1 ").contains("15.0 [14.0..16.0]"), "{text}");
        assert!(
            line("policy-udp-1 ").ends_with("1.88       6.90     2.17  MISSED (at least 2)"),
            "{text}"
        );
        assert!(line("policy-udp-10k").ends_with("3.05  met (at least 3)"), "{text}");
    }

    #[test]
    fn numbers_in_texts() {
        assert_eq!(number("a: 7 (x)\n b:  12.5 s", "b:").unwrap(), 12.5);
        assert_eq!(number("1000000\n", "").unwrap(), 1e6);
        assert!(number("a", "b").is_err() && number("a: x", "a:").is_err());
    }
}
