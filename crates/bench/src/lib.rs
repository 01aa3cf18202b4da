//! Measures the switch beside Open vSwitch's userspace datapath and the Linux bridge: `sekisho bench`.
//!
//! What there is to measure is a list of [`Part`]s, against what a list of [`System`]s, and each figure is a
//! [`Metric`] with its unit; these three are tables. [`stage`] sets a system up in network namespaces, the other
//! modules take samples, and [`report`] makes medians, ratios, text and JSON of them. Traffic parts and frames from memory
//! go by rounds in which each system has its turn, so that whatever else the machine does hits all of them alike.
//!
//! The ends of the traffic are the same program in the machines' namespaces ([`run_end`]). Everything that is started
//! and written ends with the values that hold it, also when the program is told to end: a signal only makes waits fail
//! ([`testkit::process::interrupt`]).

mod alone;
mod attack;
mod connections;
mod flood;
mod flows;
mod frames;
mod interrupt;
mod json;
mod machine;
mod memory;
mod metric;
mod part;
mod probe;
mod report;
mod rest;
mod siege;
mod stage;
mod streams;
mod system;
mod tracking;
mod traffic;
mod udp;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{need, process};

use machine::Machine;
pub use memory::parse_cases;
pub use metric::{Better, Metric};
pub use part::Part;
pub use report::Report;
use stage::Stage;
pub use system::System;

/// What is to be measured, and how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples of each figure.
    pub rounds: usize,
    /// Length of a sample where a sample has one.
    pub seconds: u64,
    /// Against what.
    pub systems: Vec<System>,
    /// What.
    pub parts: Vec<Part>,
    /// The thread that forwards goes before all others: for gaps where others are at work.
    pub first: bool,
    /// Which cases of frames from memory, by how their names begin.
    pub cases: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rounds: 3,
            seconds: 2,
            systems: System::usual(),
            parts: Part::usual(),
            first: false,
            cases: memory::usual_cases(),
        }
    }
}

/// Why nothing was measured.
#[derive(Debug)]
pub enum Error {
    /// What was asked for does not fit together.
    Asked(String),
    /// The machine lacks what every measurement needs.
    Machine(String),
    /// Somebody wanted it to end.
    Interrupted,
    /// Anything else.
    Failed(anyhow::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Asked(text) | Error::Machine(text) => f.write_str(text),
            Error::Interrupted => f.write_str("interrupted; nothing is left behind"),
            Error::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Error {}

/// The figures of a run, and of what machine they are.
#[derive(Debug)]
pub struct Run {
    options: Options,
    machine: Machine,
    report: Report,
}

impl Run {
    /// Whether nothing failed that had been begun.
    pub fn complete(&self) -> bool {
        !self.report.has_failures()
    }

    /// The tables, and with `targets` the promises that this project makes of them.
    pub fn text(&self, targets: bool) -> String {
        let mut text = format!("{}\n{}", self.machine, self.report);
        if targets {
            text.push_str(&self.report.verdicts());
        }
        text
    }

    /// The document that `docs/bench.md` describes.
    pub fn json(&self) -> String {
        json::document(&self.options, &self.machine, &self.report)
    }
}

/// Tells the user how far it is, on standard error.
fn say(text: impl fmt::Display) {
    use std::io::Write;
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Measures; says on standard error how far it is.
///
/// # Errors
/// If nothing could be measured, or it was interrupted. What fails for one system in one part is in the figures' report.
pub fn run(options: &Options) -> Result<Run, Error> {
    interrupt::watch().map_err(Error::Failed)?;
    machine::check().map_err(Error::Machine)?;
    measure(options).map_err(|error| match error.downcast::<Error>() {
        Ok(error) => error,
        // What was to end because of the same signal may have been noticed first.
        Err(error) => {
            let _ = process::pause(Duration::from_millis(100));
            if process::interrupted() { Error::Interrupted } else { Error::Failed(error) }
        }
    })
}

fn measure(options: &Options) -> Result<Run> {
    let mut report = Report::default();
    let todo = what_can_be_measured(options, &mut report)?;
    let stage = Stage::new(options)?;
    let machine = Machine::look(&stage, &todo.iter().map(|t| t.1).collect::<Vec<_>>());
    let _turn = need::turn("cpu")?;

    type Measure = fn(&Stage<'_>, System, &mut Report) -> Result<()>;
    let by_system: [(Part, Measure); 6] = [
        (Part::Rest, rest::measure),
        (Part::Flows, flows::measure),
        (Part::Conntrack, tracking::measure),
        (Part::Flood, flood::measure),
        (Part::Attack, attack::measure),
        (Part::Tracker, alone::measure),
    ];
    let of = |part: Part| todo.iter().filter(move |t| t.0 == part).map(|t| t.1);

    traffic::measure(&stage, &todo, &mut report)?;
    memory::measure(&stage, &of(Part::Memory).collect::<Vec<_>>(), &mut report)?;
    for (part, measure) in by_system {
        for system in of(part) {
            say(format_args!("{part}: {system}"));
            let done = measure(&stage, system, &mut report);
            report.keep(&[part], system, done)?;
        }
    }
    for system in of(Part::Workers) {
        let done = memory::workers::measure(&stage, &mut report);
        report.keep(&[Part::Workers], system, done)?;
    }
    Ok(Run { options: options.clone(), machine, report })
}

/// The systems of the parts, in the order of the tables; the report is told what this machine lacks for the others.
fn what_can_be_measured(options: &Options, report: &mut Report) -> Result<Vec<(Part, System)>> {
    let mut todo = Vec::new();
    let mut n_lacking = 0;
    for part in Part::all().filter(|part| options.parts.contains(part)) {
        for system in System::all().filter(|s| options.systems.contains(s) && part.has(*s)) {
            match machine::lack(part, system) {
                None => todo.push((part, system)),
                Some(lack) => {
                    report.leave_out(part, system, lack);
                    n_lacking += 1;
                }
            }
        }
    }
    if todo.is_empty() && n_lacking > 0 {
        bail!(Error::Machine(format!(
            "nothing of this can be measured here.\n{}",
            report.left_out_text()
        )));
    }
    if todo.is_empty() {
        let names: Vec<String> = options.parts.iter().map(|p| p.with_systems()).collect();
        let why = "none of the systems that were asked for has one of the parts";
        bail!(Error::Asked(format!("{why}:\n{}", names.join("\n"))));
    }
    if n_lacking > 0 {
        say(report.left_out_text());
    }
    Ok(todo)
}

/// What can be asked for: parts, systems (and what they lack here), cases.
pub fn list() -> String {
    let mut text = "Parts (* unless others are asked for):\n".to_owned();
    for part in Part::all() {
        text.push_str(&format!("{}\n", part.with_systems()));
    }
    text.push_str(&part::groups_text());
    text.push_str("\nSystems (* unless others are asked for):\n");
    for system in System::all() {
        let lack = machine::lack_of(system).map(|lack| format!("\n{:16}not here: {lack}", ""));
        text.push_str(&format!("{}{}\n", system.line(), lack.unwrap_or_default()));
    }
    text.push_str(&memory::cases_text());
    text
}

/// Runs one end of the traffic, as which this program is called in the machines' namespaces.
///
/// # Errors
/// Its own; or the words are none that it knows.
pub fn run_end(args: &[String]) -> Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve-connections", ip] => connections::serve(ip),
        ["make-connections", ip, milliseconds] => {
            connections::connect(ip, Duration::from_millis(milliseconds.parse()?))
        }
        ["hold-connections", ip, n] => connections::hold(ip, n.parse()?),
        ["serve-streams", ip] => streams::serve(ip),
        ["make-streams", ip, n, seconds] => {
            streams::make(ip, n.parse()?, Duration::from_secs(seconds.parse()?))
        }
        ["answer-udp", ip] => udp::answer(ip),
        ["ask-udp", ip] => udp::ask(ip),
        ["send-udp", device, seconds] => udp::send(device, seconds.parse()?),
        ["send-probe", ip] => probe::send(ip, false),
        ["send-new-probe", ip] => probe::send(ip, true),
        ["receive-probe", ip] => probe::receive(ip),
        ["end-probe", ip] => probe::end(ip),
        ["watch"] => probe::watch(),
        ["announce", device] => frames::announce(device),
        [what, device, first, n, rate] => {
            let make = frames::generator(what).with_context(|| format!("no end {what}"))?;
            frames::send(make, device, first.parse()?, n.parse()?, rate.parse()?)
        }
        _ => bail!("not an end of the benchmarks' traffic: {args:?}"),
    }
}
