//! Two workers beside one: the same ports, rules and connections, with settings changed between samples.
//!
//! Rates are packets for the processor time of the workers' threads, as if each had a processor for itself: so
//! they can be had where others are at work, and say what two workers cost each other, which is the question.
//!
//! Both ports have two receive queues. *Apart*: a worker has the first queue of both ports, the other one the
//! second, so that both directions of a connection are of one worker, as a NIC with several queues gives them.
//! *Across*: each worker has one port, so that each connection is of both, as with one tap for each guest.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::netns::Netns;
use testkit::scratch::Scratch;
use testkit::sut::{Sut, Whose};

use super::{CASES, Case, Switch, number, write_files};
use crate::Options;
use crate::report::{median, short};

/// At least so many times one worker's.
const TARGET: f64 = 1.8;

/// What is measured of each case, and the cores of the queues of either port.
const WAYS: [(&str, Option<[&str; 2]>); 3] =
    [("one", None), ("apart", Some(["0:0,1:1"; 2])), ("across", Some(["0:0,1:0", "0:1,1:1"]))];

/// Those of the cases that have connections to share out.
const NAMES: [&str; 5] =
    ["output-100k", "policy-udp-10k", "policy-udp-100k", "policy-tcp-10k", "policy-tcp-100k"];

/// Mpps of a case, by way.
#[derive(Debug)]
struct Row {
    name: &'static str,
    samples: [Vec<f64>; 3],
}

/// The table.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, apart, across] = WAYS.map(|w| format!("{}, Mpps", w.0));
        writeln!(
            f,
            "{:<17} {one:>12} {apart:>12} {:>6} {across:>12} {:>6}  target",
            "workers", "", ""
        )?;
        for row in &self.0 {
            // What matters is the ratio of samples of one round.
            let ratio = |way: usize| {
                let pairs = row.samples[0].iter().zip(&row.samples[way]);
                let mut ratios: Vec<f64> = pairs.map(|(one, two)| two / one).collect();
                ratios.sort_by(f64::total_cmp);
                median(&ratios).unwrap_or(0.0)
            };
            let mid = |way: usize| {
                let mut sorted = row.samples[way].clone();
                sorted.sort_by(f64::total_cmp);
                median(&sorted).map_or("-".to_owned(), short)
            };
            let verdict = if ratio(1) >= TARGET { "met" } else { "MISSED" };
            writeln!(
                f,
                "{:<17} {:>12} {:>12} {:>6} {:>12} {:>6}  {verdict} (apart: at least {TARGET})",
                row.name,
                mid(0),
                mid(1),
                short(ratio(1)),
                mid(2),
                short(ratio(2)),
            )?;
        }
        Ok(())
    }
}

/// Measures all cases.
///
/// # Errors
/// A switch does not start or does not do as it is told.
pub fn measure(options: &Options) -> Result<Table> {
    let wanted = |case: &&Case| {
        let asked = &options.cases;
        NAMES.contains(&case.name)
            && (asked.is_empty() || asked.iter().any(|c| case.name.starts_with(c.as_str())))
    };
    let cases: Vec<&'static Case> = CASES.iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "no case is called that: {}", NAMES.join(", "));
    let dir = Scratch::new()?;
    write_files(cases.iter().copied(), &dir)?;
    let mut table = Table::default();
    for case in cases {
        println!("{}", case.name);
        table.0.push(measure_case(case, options, &dir).context(case.name)?);
    }
    Ok(table)
}

/// Millions of packets a second that so many workers would do, each on a processor of its own.
fn rate(switch: &Switch<'_>, n_workers: u32, seconds: u64) -> Result<f64> {
    let packets = || -> Result<f64> {
        let text = switch.ok("ovs-appctl dpif-netdev/pmd-stats-show")?;
        text.split("packets received:").skip(1).map(|rest| number(rest, "")).sum()
    };
    let (before, spent) = (packets()?, workers_time(switch.pid()?)?);
    sleep(Duration::from_secs(seconds));
    let (after, then) = (packets()?, workers_time(switch.pid()?)?);
    Ok((after - before) / (then - spent).as_secs_f64() * f64::from(n_workers) / 1e6)
}

/// Processor time of all workers of a switch so far.
fn workers_time(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let dir = task?.path();
        let name = std::fs::read_to_string(dir.join("comm"))?;
        if name.starts_with("datapath") {
            // The first number: nanoseconds on a processor.
            let stat = std::fs::read_to_string(dir.join("schedstat"))?;
            let ns = stat.split(' ').next().context("an empty schedstat")?;
            sum += Duration::from_nanos(ns.parse()?);
        }
    }
    Ok(sum)
}

fn measure_case(case: &'static Case, options: &Options, dir: &Scratch) -> Result<Row> {
    let ns = Netns::new("two")?;
    let switch = Switch::Ours(Sut::start(Whose::Ours, &crate::binary()?, &ns)?);
    switch.set_up(case, dir)?;
    for port in ["vm1p", "vm2p"] {
        switch.ok(&format!("ovs-vsctl set Interface {port} options:n_rxq=2"))?;
    }
    let mut row = Row { name: case.name, samples: Default::default() };
    for _ in 0..options.rounds {
        for ((_, cores), samples) in WAYS.iter().zip(&mut row.samples) {
            let n = if cores.is_some() { 2 } else { 1 };
            let [first, second] = cores.unwrap_or(["0:0"; 2]);
            let set = format!("set Open_vSwitch . other_config:n-handler-threads={n}");
            let pin =
                |port, to| format!("set Interface {port} other_config:pmd-rxq-affinity=\"{to}\"");
            switch.ok(&format!(
                "ovs-vsctl {set} -- {} -- {}",
                pin("vm1p", first),
                pin("vm2p", second)
            ))?;
            // Until each worker's caches know what comes.
            sleep(Duration::from_secs(if case.n > 50_000 { 4 } else { 2 }));
            samples.push(rate(&switch, n, options.seconds)?);
        }
    }
    Ok(row)
}
