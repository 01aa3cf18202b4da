//! Two workers beside one: the same ports, rules and connections, with settings changed between samples.
//!
//! Rates are packets for the processor time of the workers' threads, as if each had a processor for itself: so
//! they can be had where others are at work, and say what two workers cost each other, which is the question.
//!
//! Both ports have two receive queues. *Apart*: a worker has the first queue of both ports, the other one the
//! second, so that both directions of a connection are of one worker, as a NIC with several queues gives them.
//! *Across*: each worker has one port, so that each connection is of both, as with one tap for each guest.

use std::time::Duration;

use anyhow::{Context, Result};
use testkit::netns::Netns;
use testkit::process::pause;

use super::{CASES, Case, Switch, asked_for, number, write_files};
use crate::metric::{Better, Facts, Metric, Target};
use crate::part::Part;
use crate::report::Report;
use crate::say;
use crate::stage::Stage;
use crate::system::System;

/// At least so many times one worker's.
const TARGET: f64 = 1.8;

/// What is measured of each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    One,
    Apart,
    Across,
    /// *Apart* by what one worker did in the same round.
    ApartByOne,
    AcrossByOne,
}

/// The cores of the queues of either port.
const WAYS: [(Column, Option<[&str; 2]>); 3] = [
    (Column::One, None),
    (Column::Apart, Some(["0:0,1:1"; 2])),
    (Column::Across, Some(["0:0,1:0", "0:1,1:1"])),
];

/// Those of the cases that have connections to share out.
const NAMES: [&str; 5] =
    ["output-100k", "policy-udp-10k", "policy-udp-100k", "policy-tcp-10k", "policy-tcp-100k"];

/// What is to be said of the figure of a case.
pub fn facts(case: usize, column: Column) -> Facts {
    let (name, words, unit) = match column {
        Column::One => ("one", "one worker", "Mpps"),
        Column::Apart => ("apart", "two workers apart", "Mpps"),
        Column::Across => ("across", "two workers across", "Mpps"),
        Column::ApartByOne => ("apart-by-one", "two workers apart, by one", ""),
        Column::AcrossByOne => ("across-by-one", "two workers across, by one", ""),
    };
    let case = CASES[case].name;
    Facts {
        part: Part::Workers,
        name: format!("{case}-{name}"),
        title: format!("{case}, {words}"),
        unit,
        better: Better::More,
    }
}

/// What is promised of cases.
pub fn targets() -> impl Iterator<Item = Target> {
    let cases = CASES.iter().enumerate().filter(|(_, case)| NAMES.contains(&case.name));
    cases.map(|(i, _)| Target {
        metric: Metric::Workers(i, Column::ApartByOne),
        against: None,
        at_least: true,
        bound: TARGET,
        recorded: None,
    })
}

/// All of these cases that are asked for.
pub fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let cases: Vec<_> =
        asked_for(&stage.options.cases).filter(|(_, case)| NAMES.contains(&case.name)).collect();
    let names = NAMES.join(", ");
    anyhow::ensure!(!cases.is_empty(), "none of the cases that are asked for is one of {names}");
    write_files(stage, cases.iter().map(|(_, case)| *case))?;
    for (i, case) in cases {
        say(format_args!("workers: {}", case.name));
        measure_case(stage, i, case, report).context(case.name)?;
    }
    Ok(())
}

/// Millions of packets a second that so many workers would do, each on a processor of its own.
fn rate(switch: &Switch<'_>, n_workers: u32, seconds: u64) -> Result<f64> {
    let packets = || -> Result<f64> {
        let text = switch.ok("ovs-appctl dpif-netdev/pmd-stats-show")?;
        text.split("packets received:").skip(1).map(|rest| number(rest, "")).sum()
    };
    let (before, spent) = (packets()?, workers_time(switch.sut.pid()?)?);
    pause(Duration::from_secs(seconds))?;
    let (after, then) = (packets()?, workers_time(switch.sut.pid()?)?);
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

fn measure_case(stage: &Stage<'_>, i: usize, case: &Case, report: &mut Report) -> Result<()> {
    let ns = Netns::new("two")?;
    let switch = Switch::start(stage, System::Sekisho, &ns)?;
    switch.set_up(stage, case)?;
    for port in ["vm1p", "vm2p"] {
        switch.ok(&format!("ovs-vsctl set Interface {port} options:n_rxq=2"))?;
    }
    let mut add = |column, value| report.add(System::Sekisho, Metric::Workers(i, column), value);
    for _ in 0..stage.options.rounds {
        let mut of_one = 0.0;
        for (column, cores) in WAYS {
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
            pause(Duration::from_secs(if case.n > 50_000 { 4 } else { 2 }))?;
            let rate = rate(&switch, n, stage.options.seconds)?;
            add(column, rate);
            match column {
                Column::Apart => add(Column::ApartByOne, rate / of_one),
                Column::Across => add(Column::AcrossByOne, rate / of_one),
                _ => of_one = rate,
            }
        }
    }
    Ok(())
}
