//! Measures the switch beside Open vSwitch's userspace datapath and the Linux bridge.
//!
//! All systems are set up at once, each with two namespaces of its own as the machines, and loaded
//! with the story's stateful policy. Then rounds of samples run through the systems in turn, so
//! that whatever else the machine does hits all of them alike; what counts are the medians and
//! their ratios. `bench/README.md` explains how to read them.

mod alone;
mod attack;
mod connections;
mod flood;
mod flows;
mod frames;
mod memory;
mod probe;
mod report;
mod tracking;
mod udp;

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use testkit::netns::Netns;
use testkit::process::{DEADLINE, Proc, signal};
use testkit::story::{POLICY_IP, Story, Vm};
use testkit::sut::{STOCK_PROGRAMS, Sut, Whose, cpu_time, resident_bytes};
use testkit::{need, peer};

use report::{Metric, Report, System};

/// Command line options.
#[derive(Debug, Clone)]
struct Options {
    rounds: usize,
    seconds: u64,
    systems: Vec<System>,
    parts: Vec<Part>,
    /// The thread that forwards goes before all others: for gaps where others are at work.
    first: bool,
    /// Which cases of frames from memory, by how their names begin; none: all.
    cases: Vec<String>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Start, memory, idle processor.
    Rest,
    /// Streams, round trips, connections.
    Traffic,
    /// Large flow tables.
    Flows,
    /// Millions of tracked connections.
    Conntrack,
    /// A flood of new ones.
    Flood,
    /// Packets that no cache knows, made for that.
    Attack,
    /// The tracker without a switch.
    Tracker,
    /// Frames from memory.
    Memory,
    /// The same with two workers.
    Workers,
}

impl Part {
    const NAMES: [(&str, Part); 9] = [
        ("rest", Part::Rest),
        ("traffic", Part::Traffic),
        ("flows", Part::Flows),
        ("conntrack", Part::Conntrack),
        ("flood", Part::Flood),
        ("attack", Part::Attack),
        ("tracker", Part::Tracker),
        ("memory", Part::Memory),
        ("workers", Part::Workers),
    ];

    fn parse(name: &str) -> Result<Part> {
        let part = Self::NAMES.iter().find(|p| p.0 == name);
        part.map(|p| p.1).with_context(|| {
            let names = Self::NAMES.map(|p| p.0).join(", ");
            format!("unknown part {name}: there are {names}")
        })
    }
}

const USAGE: &str = "bench/run [--rounds N] [--seconds N] [--only sekisho,afxdp,ovs,ovs-afxdp,bridge,direct] \
                     [--parts rest,traffic,flows,conntrack,flood,attack,tracker,memory,workers] [--cases policy,new-udp,...] \
                     [--first]";

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options {
            rounds: 5,
            seconds: 2,
            systems: vec![System::Sekisho, System::Ovs, System::Bridge],
            parts: Part::NAMES.iter().map(|p| p.1).collect(),
            first: false,
            cases: Vec::new(),
        };
        while let Some(option) = args.next() {
            let mut value = || args.next().with_context(|| format!("{option} wants a value"));
            match option.as_str() {
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
                "--only" => {
                    options.systems =
                        value()?.split(',').map(System::parse).collect::<Result<_>>()?;
                }
                "--parts" => {
                    options.parts = value()?.split(',').map(Part::parse).collect::<Result<_>>()?;
                }
                "--first" => options.first = true,
                "--cases" => options.cases = value()?.split(',').map(str::to_owned).collect(),
                "-h" | "--help" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                _ => bail!("unknown option {option}; {USAGE}"),
            }
        }
        ensure!(options.rounds > 0 && options.seconds > 0, "nothing to measure; {USAGE}");
        Ok(options)
    }
}

fn main() -> Result<()> {
    // The ends of some benchmarks are this program again, in the machines' namespaces.
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve-connections", ip] => return connections::serve(ip),
        ["send-probe", ip] => return probe::send(ip, false),
        ["send-new-probe", ip] => return probe::send(ip, true),
        ["watch"] => return probe::watch(),
        ["end-probe", ip] => return probe::end(ip),
        ["receive-probe", ip] => return probe::receive(ip),
        ["make-connections", ip, milliseconds] => {
            return connections::connect(ip, Duration::from_millis(milliseconds.parse()?));
        }
        ["hold-connections", ip, n] => return connections::hold(ip, n.parse()?),
        ["answer-udp", ip] => return udp::answer(ip),
        ["ask-udp", ip] => return udp::ask(ip),
        ["send-udp", device, seconds] => return udp::send(device, seconds.parse()?),
        ["announce", device] => return frames::announce(device),
        [what @ ("send-syns" | "send-crafted" | "send-scan"), device, first, n, rate] => {
            let make = match what {
                "send-syns" => frames::syn,
                "send-crafted" => frames::crafted,
                _ => frames::scan,
            };
            return frames::send(make, device, first.parse()?, n.parse()?, rate.parse()?);
        }
        _ => {}
    }
    let options = Options::parse(std::env::args().skip(1))?;
    let _turn = need::turn("cpu")?;
    let mut report = Report::default();
    type Measure = fn(System, &Options, &mut Report) -> Result<()>;
    let by_system: [(Part, &str, Measure); 6] = [
        (Part::Rest, "start to first packet, memory, idle processor", measure_rest),
        (Part::Flows, "flows", flows::measure),
        (Part::Conntrack, "millions of connections", tracking::measure),
        (Part::Flood, "a flood of new connections", flood::measure),
        (Part::Attack, "attacks on the caches", attack::measure),
        (Part::Tracker, "the tracker alone", alone::measure),
    ];
    for (part, what, measure) in by_system {
        for &system in options.systems.iter().filter(|_| options.parts.contains(&part)) {
            println!("{system}: {what}");
            measure(system, &options, &mut report).with_context(|| format!("{system}"))?;
        }
    }
    if options.parts.contains(&Part::Traffic) {
        measure_traffic(&options, &mut report)?;
    }
    if options.parts.iter().any(|p| !matches!(p, Part::Memory | Part::Workers)) {
        println!("\n{report}");
    }
    if options.parts.contains(&Part::Memory) {
        let table = memory::measure(&options)?;
        println!("\n{table}");
    }
    if options.parts.contains(&Part::Workers) {
        let table = memory::workers::measure(&options)?;
        println!("\n{table}");
    }
    Ok(())
}

/// What depends on traffic, in rounds.
fn measure_traffic(options: &Options, report: &mut Report) -> Result<()> {
    let stories: Vec<_> =
        options.systems.iter().map(|&s| Ok((s, story(s)?))).collect::<Result<Vec<_>>>()?;
    let rigs: Vec<Rig<'_>> = stories
        .iter()
        .map(|(system, story)| Rig::new(*system, story).with_context(|| format!("{system}")))
        .collect::<Result<_>>()?;
    for round in 1..=options.rounds {
        for rig in &rigs {
            println!("round {round} of {}: {}", options.rounds, rig.system);
            rig.sample(options, report).with_context(|| format!("{}", rig.system))?;
        }
    }
    Ok(())
}

/// This program.
fn own_path() -> Result<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}

/// The switch's binary: `$SEKISHO`, or the one built beside this program.
fn binary() -> Result<String> {
    let beside = std::env::current_exe()?.with_file_name("sekisho");
    Ok(std::env::var("SEKISHO").unwrap_or_else(|_| beside.to_string_lossy().into_owned()))
}

fn whose(system: System) -> Option<Whose> {
    match system {
        System::Sekisho | System::Afxdp => Some(Whose::Ours),
        System::Ovs | System::OvsAfxdp => Some(Whose::Stock),
        System::Bridge | System::Direct => None,
    }
}

/// The tools that set up all systems alike: the stock ones where they are installed.
fn tools() -> Whose {
    if need::find("ovs-ofctl").is_some() { Whose::Stock } else { Whose::Ours }
}

/// The machines of a system, with its bridge if it is a kernel one.
fn story(system: System) -> Result<Story> {
    let story = if system == System::Direct { Story::direct()? } else { Story::new()? };
    match system {
        System::Bridge => {
            ensure!(need::find("iptables").is_some(), "iptables is missing: make deps");
            story.linux_bridge(true)?;
        }
        System::Ovs | System::OvsAfxdp => {
            for program in STOCK_PROGRAMS.iter().chain(&["ethtool"]) {
                ensure!(need::find(program).is_some(), "{program} is missing: make deps");
            }
            // Without this no TCP passes it at all.
            story.offloads_off()?;
        }
        System::Sekisho | System::Afxdp | System::Direct => {}
    }
    Ok(story)
}

fn start<'a>(system: System, story: &'a Story) -> Result<Option<Sut<'a>>> {
    let Some(whose) = whose(system) else { return Ok(None) };
    let sut = Sut::start(whose, &binary()?, &story.sw)?;
    sut.add_bridge(tools(), &["vm1p", "vm2p"])?;
    if matches!(system, System::Afxdp | System::OvsAfxdp) {
        if system == System::OvsAfxdp {
            sut.ok(tools(), "ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask=0x2")?;
        }
        for port in ["vm1p", "vm2p"] {
            sut.ok(tools(), &format!("ovs-vsctl set Interface {port} type=afxdp"))?;
            let error = sut.ok(tools(), &format!("ovs-vsctl get Interface {port} error"))?;
            ensure!(error.trim() == "[]", "{port} as a port of type=afxdp: {error}");
        }
    }
    Ok(Some(sut))
}

/// What does not depend on traffic: start, memory, idle processor time.
fn measure_rest(system: System, options: &Options, report: &mut Report) -> Result<()> {
    let mut story = story(system)?;
    story.serve()?;
    // No address resolution, whose repetitions come once a second.
    for vm in [Vm::One, Vm::Two] {
        let (ip, mac) = (vm.other().ip(), vm.other().mac());
        let neighbour = format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent");
        story.vm(vm).ip(&neighbour)?;
    }
    let Some(mut sut) = start(system, &story)? else { return Ok(()) };
    for _ in 0..options.rounds {
        sut.stop()?;
        let asker = story.vm(Vm::One).spawn(&[&peer::path()?, "first", Vm::Two.ip(), "20000"])?;
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        sut.start_again()?;
        let answered = asker.finish(DEADLINE)?.ok()?.trim().parse::<u64>()?;
        let took = Duration::from_micros(answered).saturating_sub(began);
        report.add(system, Metric::Start, took.as_secs_f64() * 1e3);
    }
    sut.load_policy(tools(), POLICY_IP)?;
    std::thread::sleep(Duration::from_secs(1));
    let memory: u64 = sut.pids().map(resident_bytes).sum::<Result<_>>()?;
    report.add(system, Metric::Memory, memory as f64 / f64::from(1 << 20));
    for _ in 0..options.rounds {
        let before: Duration = sut.pids().map(cpu_time).sum::<Result<_>>()?;
        // Ticks are of 10 ms: over 3 s one of them is a third of a percent.
        let window = Duration::from_secs(3);
        std::thread::sleep(window);
        let after: Duration = sut.pids().map(cpu_time).sum::<Result<_>>()?;
        let share = (after - before).as_secs_f64() / window.as_secs_f64();
        report.add(system, Metric::Idle, share * 100.0);
    }
    sut.stop()
}

/// A system with the stateful policy and servers that wait for traffic.
struct Rig<'a> {
    system: System,
    story: &'a Story,
    _servers: [Proc; 2],
    sut: Option<Sut<'a>>,
}

impl<'a> Rig<'a> {
    fn new(system: System, story: &'a Story) -> Result<Rig<'a>> {
        let sut = start(system, story)?;
        if let Some(sut) = &sut {
            sut.load_policy(tools(), POLICY_IP)?;
        }
        let _servers = servers(story.vm(Vm::Two))?;
        ensure!(story.ping(Vm::One, 2)?, "vm1 does not reach vm2");
        if system != System::Direct {
            ensure!(!story.ping(Vm::Two, 1)?, "the policy is not in force");
        }
        let rig = Rig { system, story, _servers, sut };
        rig.let_run(false)?;
        Ok(rig)
    }

    /// Stops a switch that polls all the time, or lets it go on: the others need the processor.
    fn let_run(&self, run: bool) -> Result<()> {
        if let (System::OvsAfxdp, Some(sut)) = (self.system, &self.sut) {
            signal(sut.pid()?, if run { "CONT" } else { "STOP" })?;
        }
        Ok(())
    }

    /// One sample of each metric.
    fn sample(&self, options: &Options, report: &mut Report) -> Result<()> {
        let within = Duration::from_secs(options.seconds + 30);
        let (one, to) = (self.story.vm(Vm::One), Vm::Two.ip());
        self.let_run(true)?;

        report.add(self.system, Metric::Tcp, stream(one, options.seconds, within)?);

        let ping = one.run_within(&["ping", "-q", "-f", "-c", "5000", to], within)?.ok()?;
        let times = ping.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
        let average = times.and_then(|t| t.split('/').nth(1)).context("ping gives no times")?;
        report.add(self.system, Metric::Rtt, average.parse::<f64>()? * 1e3);

        let milliseconds = (options.seconds * 1000).to_string();
        let argv = [&own_path()?, "make-connections", to, &milliseconds];
        let rate = one.run_within(&argv, within)?.ok()?;
        let (rate, failed) = rate.trim().split_once(' ').context("no rate")?;
        report.add(self.system, Metric::Connections, rate.parse()?);
        if failed != "0" {
            println!("  {failed} connections failed");
        }

        let kpps = udp::measure(self.story, options.seconds, within)?;
        report.add(self.system, Metric::Udp, kpps);
        self.let_run(false)
    }
}

/// Starts vm2's servers: of connections and of streams.
fn servers(two: &Netns) -> Result<[Proc; 2]> {
    let mut connections = two.spawn(&[&own_path()?, "serve-connections", Vm::Two.ip()])?;
    connections.wait_for("listens", |out| out.contains("listening"))?;
    let mut streams = two.spawn(&["iperf3", "-s", "--forceflush"])?;
    streams.wait_for("listens", |out| out.contains("listening"))?;
    Ok([connections, streams])
}

/// Gb/s that vm2 got of a TCP stream of so many seconds from this machine.
fn stream(from: &Netns, seconds: u64, within: Duration) -> Result<f64> {
    let argv = ["iperf3", "-c", Vm::Two.ip(), "-t", &seconds.to_string(), "-O", "0.5", "-J"];
    let result = from.run_within(&argv, within)?.ok()?;
    let result: serde_json::Value = serde_json::from_str(&result)?;
    let bits = result["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.context("iperf3 gives no rate")? / 1e9)
}
