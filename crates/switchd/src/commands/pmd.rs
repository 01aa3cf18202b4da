//! `dpif-netdev/pmd-…`: what each worker does, as `ovs-vswitchd(8)` describes it.
//!
//! A worker stands for a PMD thread. Where workers are not bound to cores (`pmd-cpu-mask`), its place among
//! them stands for the core. Time is counted in nanoseconds: the "cycles" of these texts are of a clock of 1 GHz. Caches that
//! there are not have no hits. The main thread sends what controllers send; where packets are processed without
//! threads (the simulated datapath), it also has the ports that no simulated thread has.

use std::fmt::Write;

use datapath::{CONTROL, DpStats};
use dpif::DropReason;

use crate::clock;
use crate::control::{Answer, Command, Text};
use crate::daemon::Daemon;
use crate::pmd::{INTERVAL, MAX_SECS, Usage};
use crate::rxq::Core;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "dpif-netdev/pmd-stats-show",
        usage: "[-pmd core] [dp]",
        arity: (0, 3),
        run: |d, a| stats_show(d, a).into(),
    },
    Command {
        name: "dpif-netdev/pmd-stats-clear",
        usage: "[-pmd core] [dp]",
        arity: (0, 3),
        run: stats_clear,
    },
    Command {
        name: "dpif-netdev/pmd-perf-show",
        usage: "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]",
        arity: (0, 8),
        run: |d, a| perf_show(d, a).into(),
    },
    Command {
        name: "dpif-netdev/pmd-rxq-show",
        usage: "[-pmd core] [-secs secs] [dp]",
        arity: (0, 5),
        run: |d, a| rxq_show(d, a).into(),
    },
    Command {
        name: "dpif-netdev/pmd-sleep-show",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, _| sleep_show(d).into(),
    },
    Command {
        name: "dpif-netdev/pmd-rxq-rebalance",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, _| {
            d.settle_queues(true);
            Ok("pmd rxq rebalance requested.\n".to_owned()).into()
        },
    },
];

/// Time is counted in nanoseconds.
const HZ: f64 = 1e9;

/// What the arguments ask for. Names of datapaths are not looked at: there is one.
#[derive(Default)]
struct Asked {
    core: Option<usize>,
    secs: Option<u64>,
}

impl Asked {
    fn parse(args: &[String]) -> Asked {
        let mut asked = Asked::default();
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            match arg {
                "-pmd" => asked.core = args.next().and_then(|n| n.parse().ok()),
                "-secs" => asked.secs = args.next().and_then(|n| n.parse().ok()),
                // Histories and histograms are not kept.
                "-it" | "-ms" => drop(args.next()),
                _ => {}
            }
        }
        asked
    }

    /// The workers that are asked for with their counters, the main thread as the last of all.
    fn workers(&self, d: &Daemon) -> Vec<(Worker, DpStats)> {
        let cores = d.crew.cores().iter().filter(|c| self.core.is_none_or(|core| core == c.id));
        let mut all: Vec<_> = cores
            .map(|c| (Worker { number: c.worker, core: Some(*c) }, d.dp.worker_stats(c.worker)))
            .collect();
        if self.core.is_none() {
            let mut stats = d.dp.worker_stats(CONTROL);
            if let Some(main) = d.crew.main_worker(&d.dp) {
                stats.add(&d.dp.worker_stats(main));
            }
            all.push((Worker { number: CONTROL, core: None }, stats));
        }
        all
    }
}

#[derive(Copy, Clone)]
pub(super) struct Worker {
    /// As counters know it.
    number: usize,
    /// `None` for the main thread.
    pub core: Option<Core>,
}

/// All workers with their counters since they are there, the main thread as the last of all.
pub(super) fn workers(d: &Daemon) -> Vec<(Worker, DpStats)> {
    Asked::default().workers(d)
}

impl std::fmt::Display for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.core {
            None => f.write_str("main thread"),
            Some(Core { id, numa, .. }) => write!(f, "pmd thread numa_id {numa} core_id {id}"),
        }
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn stats_show(d: &mut Daemon, args: &[String]) -> Text {
    let now = d.clock.now();
    let mut s = String::new();
    for (worker, stats) in Asked::parse(args).workers(d) {
        let (c, _) = d.pmd.since(worker.number, now, &stats);
        let _ = write!(s, "{worker}:\n{}", Stats(&c));
    }
    Ok(s)
}

/// Counters as `pmd-stats-show` tells them.
struct Stats<'a>(&'a DpStats);

impl std::fmt::Display for Stats<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let c = self.0;
        let passes = ratio(c.packets + c.recirculated, c.packets);
        write!(
            f,
            "  packets received: {}\n  packet recirculations: {}\n  \
             avg. datapath passes per packet: {passes:.02}\n  phwol hits: 0\n  mfex opt hits: 0\n  \
             simple match hits: 0\n  emc hits: {}\n  smc hits: 0\n  megaflow hits: {}\n  \
             avg. subtable lookups per megaflow hit: {:.02}\n  miss with success upcall: {}\n  \
             miss with failed upcall: {}\n  avg. packets per output batch: {:.02}\n",
            c.packets,
            c.recirculated,
            c.hit_exact,
            c.megaflow_hits(),
            ratio(c.subtables_searched, c.hit_megaflow),
            c.missed - failed(c),
            failed(c),
            ratio(c.sent, c.sent_batches),
        )?;
        let total = c.idle_ns + c.busy_ns;
        if total == 0 {
            return Ok(());
        }
        write!(
            f,
            "  idle cycles: {} ({:.02}%)\n  processing cycles: {} ({:.02}%)\n",
            c.idle_ns,
            100.0 * ratio(c.idle_ns, total),
            c.busy_ns,
            100.0 * ratio(c.busy_ns, total),
        )?;
        if c.packets == 0 {
            return Ok(());
        }
        write!(
            f,
            "  avg cycles per packet: {:.02} ({total}/{})\n  \
             avg processing cycles per packet: {:.02} ({}/{})\n",
            ratio(total, c.packets),
            c.packets,
            ratio(c.busy_ns, c.packets),
            c.busy_ns,
            c.packets,
        )
    }
}

/// Look-ups for which the slow path had no answer either.
fn failed(c: &DpStats) -> u64 {
    c.dropped(DropReason::UpcallError).min(c.missed)
}

fn stats_clear(d: &mut Daemon, args: &[String]) -> Answer {
    let now = d.clock.now();
    for (worker, stats) in Asked::parse(args).workers(d) {
        d.pmd.clear(worker.number, now, stats);
    }
    Ok(String::new()).into()
}

fn perf_show(d: &mut Daemon, args: &[String]) -> Text {
    let now = d.clock.now();
    let mut s = String::new();
    for (worker, stats) in Asked::parse(args).workers(d) {
        if worker.core.is_none() {
            continue;
        }
        let (c, duration) = d.pmd.since(worker.number, now, &stats);
        let secs = duration.as_secs_f64();
        let _ = write!(
            s,
            "\nTime: {}\nMeasurement duration: {secs:.3} s\n\n{worker}:\n\n",
            time_of_day(),
        );
        if secs > 0.0 {
            let _ = write!(s, "{}", Perf(&c, secs));
        }
    }
    Ok(s)
}

/// `HH:MM:SS.mmm`, UTC.
fn time_of_day() -> String {
    let text = clock::iso8601(clock::unix_time());
    text.split_once('T').map_or(text.as_str(), |(_, t)| t).trim_end_matches('Z').to_owned()
}

/// Counters of so many seconds as `pmd-perf-show` tells them.
struct Perf<'a>(&'a DpStats, f64);

impl std::fmt::Display for Perf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Perf(c, secs) = self;
        let turns = c.busy_polls + c.idle_polls;
        let used = c.idle_ns + c.busy_ns;
        let kilo = |n: u64| n as f64 / secs / 1000.0;
        let us = |ns: u64, n: u64| ratio(ns, n) / 1000.0;
        write!(
            f,
            "  Iterations:         {turns:12}  ({:.2} us/it)\n  \
             - Used TSC cycles:  {used:12}  ({:5.1} % of total cycles)\n  \
             - idle iterations:  {:12}  ({:5.1} % of used cycles)\n  \
             - busy iterations:  {:12}  ({:5.1} % of used cycles)\n  \
             - sleep iterations: {:12}  ({:5.1} % of iterations)\n  \
             Sleep time (us):    {:12.0}  ({:3.0} us/iteration avg.)\n",
            us(used + c.sleep_ns, turns),
            100.0 * used as f64 / secs / HZ,
            c.idle_polls,
            100.0 * ratio(c.idle_ns, used),
            c.busy_polls,
            100.0 * ratio(c.busy_ns, used),
            c.sleeps,
            100.0 * ratio(c.sleeps, turns),
            c.sleep_ns as f64 / 1000.0,
            us(c.sleep_ns, c.sleeps),
        )?;
        if c.packets > 0 {
            let passes = c.packets + c.recirculated;
            writeln!(
                f,
                "  Rx packets:         {:12}  ({:.0} Kpps, {:.0} cycles/pkt)",
                c.packets,
                kilo(c.packets),
                ratio(c.busy_ns, c.packets),
            )?;
            writeln!(
                f,
                "  Datapath passes:    {passes:12}  ({:.2} passes/pkt)",
                ratio(passes, c.packets)
            )?;
            let percent = |n| 100.0 * ratio(n, passes);
            for (name, n) in [
                ("- PHWOL hits:       ", 0),
                ("- MFEX Opt hits:    ", 0),
                ("- Simple Match hits:", 0),
                ("- EMC hits:         ", c.hit_exact),
                ("- SMC hits:         ", 0),
            ] {
                writeln!(f, "  {name}{n:12}  ({:5.1} %)", percent(n))?;
            }
            writeln!(
                f,
                "  - Megaflow hits:    {:12}  ({:5.1} %, {:.2} subtbl lookups/hit)",
                c.megaflow_hits(),
                percent(c.megaflow_hits()),
                ratio(c.subtables_searched, c.hit_megaflow),
            )?;
            writeln!(
                f,
                "  - Upcalls:          {:12}  ({:5.1} %, {:.1} us/upcall)",
                c.missed,
                percent(c.missed),
                us(c.slow_ns, c.missed),
            )?;
            writeln!(f, "  - Lost upcalls:     {:12}  ({:5.1} %)", failed(c), percent(failed(c)))?;
        } else {
            writeln!(f, "  Rx packets:         {:12}", 0)?;
        }
        if c.sent > 0 {
            writeln!(f, "  Tx packets:         {:12}  ({:.0} Kpps)", c.sent, kilo(c.sent))?;
            writeln!(
                f,
                "  Tx batches:         {:12}  ({:.2} pkts/batch)",
                c.sent_batches,
                ratio(c.sent, c.sent_batches),
            )
        } else {
            writeln!(f, "  Tx packets:         {:12}\n", 0)
        }
    }
}

fn rxq_show(d: &mut Daemon, args: &[String]) -> Text {
    let asked = Asked::parse(args);
    let secs = asked.secs.filter(|s| (1..=MAX_SECS).contains(s)).unwrap_or(MAX_SECS);
    let secs = secs.next_multiple_of(INTERVAL.as_secs());
    let workers = asked.workers(d);
    if workers.is_empty() {
        return Ok(String::new());
    }
    let mut s = format!("Displaying last {secs} seconds pmd usage %\n");
    let queues = d.dp.queues();
    for (worker, _) in &workers {
        let Some(core) = worker.core else { continue };
        let _ = writeln!(s, "{worker}:\n  isolated : {}", d.crew.is_isolated(&core));
        let usage = d.pmd.usage(worker.number, secs);
        let of_worker = queues.iter().filter(|q| q.worker == worker.number);
        let name = |port| d.dp_port_name(port).unwrap_or_default();
        let mut names: Vec<_> = of_worker.map(|q| (name(q.port), q.queue, q.port)).collect();
        names.sort();
        let percent = |n: Option<u64>| n.map_or("NOT AVAIL".to_owned(), |n| format!("{n:2} %"));
        for (name, queue, port) in &names {
            let share = |u: &Usage| u.queues.get(&(*port, *queue)).copied().unwrap_or(0);
            let _ = writeln!(
                s,
                "  port: {name:<16}  queue-id: {queue:2} (enabled)   pmd usage: {}",
                percent(usage.as_ref().map(share))
            );
        }
        if !names.is_empty() {
            let _ = writeln!(s, "  overhead: {}", percent(usage.map(|u| u.overhead)));
        }
    }
    Ok(s)
}

fn sleep_show(d: &mut Daemon) -> Text {
    let mut s = format!("Default max sleep: {:4} us\n", d.crew.default_sleep());
    for core in d.crew.cores() {
        let worker = Worker { number: core.worker, core: Some(*core) };
        let _ = write!(s, "{worker}:\n  max sleep: {:4} us\n", d.crew.sleep_of(core));
    }
    Ok(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> DpStats {
        let mut c = DpStats {
            packets: 1000,
            recirculated: 500,
            hit_exact: 900,
            hit_megaflow: 400,
            stale: 100,
            missed: 100,
            subtables_searched: 600,
            slow_ns: 250_000,
            sent: 960,
            sent_batches: 30,
            busy_polls: 40,
            idle_polls: 60,
            sleeps: 20,
            busy_ns: 30_000,
            idle_ns: 10_000,
            sleep_ns: 1_000_000,
            ..DpStats::default()
        };
        c.drops[DropReason::UpcallError as usize] = 1;
        c
    }

    #[test]
    fn statistics_of_a_worker() {
        let expected = "  packets received: 1000
  packet recirculations: 500
  avg. datapath passes per packet: 1.50
  phwol hits: 0
  mfex opt hits: 0
  simple match hits: 0
  emc hits: 900
  smc hits: 0
  megaflow hits: 500
  avg. subtable lookups per megaflow hit: 1.50
  miss with success upcall: 99
  miss with failed upcall: 1
  avg. packets per output batch: 32.00
  idle cycles: 10000 (25.00%)
  processing cycles: 30000 (75.00%)
  avg cycles per packet: 40.00 (40000/1000)
  avg processing cycles per packet: 30.00 (30000/1000)
";
        assert_eq!(Stats(&counters()).to_string(), expected);
        let idle = Stats(&DpStats::default()).to_string();
        assert!(idle.ends_with("avg. packets per output batch: 0.00\n"), "{idle}");
    }

    #[test]
    fn performance_of_a_worker() {
        let expected = "  Iterations:                  100  (10.40 us/it)
  - Used TSC cycles:         40000  (  2.0 % of total cycles)
  - idle iterations:            60  ( 25.0 % of used cycles)
  - busy iterations:            40  ( 75.0 % of used cycles)
  - sleep iterations:           20  ( 20.0 % of iterations)
  Sleep time (us):            1000  ( 50 us/iteration avg.)
  Rx packets:                 1000  (500 Kpps, 30 cycles/pkt)
  Datapath passes:            1500  (1.50 passes/pkt)
  - PHWOL hits:                  0  (  0.0 %)
  - MFEX Opt hits:               0  (  0.0 %)
  - Simple Match hits:           0  (  0.0 %)
  - EMC hits:                  900  ( 60.0 %)
  - SMC hits:                    0  (  0.0 %)
  - Megaflow hits:             500  ( 33.3 %, 1.50 subtbl lookups/hit)
  - Upcalls:                   100  (  6.7 %, 2.5 us/upcall)
  - Lost upcalls:                1  (  0.1 %)
  Tx packets:                  960  (480 Kpps)
  Tx batches:                   30  (32.00 pkts/batch)
";
        assert_eq!(Perf(&counters(), 0.002).to_string(), expected);
        let idle = Perf(&DpStats::default(), 1.0).to_string();
        assert!(idle.ends_with(
            "  Rx packets:                    0\n  Tx packets:                    0\n\n"
        ));
    }
}
