//! Streams, round trips, connections and small packets between the story's machines.
//!
//! All systems stand at the same time with the story's policy and idle while it is not their turn.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::process::{Proc, signal};
use testkit::story::{Story, Vm};
use testkit::sut::Sut;

use crate::metric::Metric;
use crate::part::{Part, TRAFFIC};
use crate::report::Report;
use crate::stage::Stage;
use crate::system::System;
use crate::{say, streams, udp};

/// All figures of the traffic parts, in rounds.
pub fn measure(stage: &Stage<'_>, todo: &[(Part, System)], report: &mut Report) -> Result<()> {
    let parts_of = |system: System| -> Vec<Part> {
        todo.iter().filter(|t| t.1 == system && TRAFFIC.contains(&t.0)).map(|t| t.0).collect()
    };
    let mut stories = Vec::new();
    for system in System::all().filter(|s| !parts_of(*s).is_empty()) {
        let parts = parts_of(system);
        if let Some(story) = report.keep(&parts, system, stage.story(system))? {
            stories.push((system, parts, story));
        }
    }
    let mut rigs = Vec::new();
    for (system, parts, story) in &stories {
        let rig = Rig::new(stage, *system, parts, story);
        rigs.extend(report.keep(parts, *system, rig)?);
    }
    for round in 1..=stage.options.rounds {
        let mut good = Vec::new();
        for rig in rigs {
            say(format_args!("round {round} of {}: {}", stage.options.rounds, rig.system));
            let sampled = rig.sample(stage, report);
            let sampled = sampled.with_context(|| format!("in round {round}"));
            if report.keep(rig.parts, rig.system, sampled)?.is_some() {
                good.push(rig);
            }
        }
        rigs = good;
    }
    Ok(())
}

/// A system with the stateful policy and servers that wait for traffic.
struct Rig<'a> {
    system: System,
    parts: &'a [Part],
    story: &'a Story,
    _servers: [Proc; 2],
    sut: Option<Sut<'a>>,
}

impl<'a> Rig<'a> {
    fn new(
        stage: &Stage<'_>,
        system: System,
        parts: &'a [Part],
        story: &'a Story,
    ) -> Result<Rig<'a>> {
        let sut = stage.start(system, story)?;
        if let Some(sut) = &sut {
            sut.load_policy(stage.tools, &stage.policy)?;
        }
        let _servers = stage.servers(story.vm(Vm::Two))?;
        ensure!(story.ping(Vm::One, 2)?, "vm1 does not reach vm2");
        if system.has_policy() {
            ensure!(!story.ping(Vm::Two, 1)?, "the policy is not in force");
        }
        let rig = Rig { system, parts, story, _servers, sut };
        rig.let_run(false)?;
        Ok(rig)
    }

    /// Stops a switch that polls all the time, or lets it go on: the others need the processor.
    fn let_run(&self, run: bool) -> Result<()> {
        if let (true, Some(sut)) = (self.system.polls(), &self.sut) {
            signal(sut.pid()?, if run { "CONT" } else { "STOP" })?;
        }
        Ok(())
    }

    /// One sample of each figure.
    fn sample(&self, stage: &Stage<'_>, report: &mut Report) -> Result<()> {
        self.let_run(true)?;
        let seconds = stage.options.seconds;
        let one = self.story.vm(Vm::One);
        for part in self.parts {
            let (metric, value) = match part {
                Part::Tcp => (Metric::Tcp, streams::measure(stage, one, 1, seconds)?),
                Part::Tcp4 => (Metric::Tcp4, streams::measure(stage, one, 4, seconds)?),
                Part::Rtt => (Metric::Rtt, self.round_trip()?),
                Part::Connections => (Metric::Connections, self.connections(stage)?),
                Part::Udp => (Metric::Udp, udp::measure(stage, self.story, seconds)?),
                _ => continue,
            };
            report.add(self.system, metric, value);
        }
        self.let_run(false)
    }

    /// The average of a flood ping, microseconds.
    fn round_trip(&self) -> Result<f64> {
        let argv = ["ping", "-q", "-f", "-c", "5000", Vm::Two.ip()];
        let text = self.story.vm(Vm::One).run_within(&argv, Duration::from_secs(60))?.ok()?;
        average(&text).with_context(|| format!("ping gives no times: {text}"))
    }

    /// TCP connections opened and closed in a second.
    fn connections(&self, stage: &Stage<'_>) -> Result<f64> {
        let milliseconds = (stage.options.seconds * 1000).to_string();
        let argv = stage.end(&["make-connections", Vm::Two.ip(), &milliseconds]);
        let within = Duration::from_secs(stage.options.seconds + 30);
        let rate = self.story.vm(Vm::One).run_within(&argv, within)?.ok()?;
        let (rate, failed) = rate.trim().split_once(' ').context("no rate")?;
        if failed != "0" {
            say(format_args!("  {failed} connections failed"));
        }
        Ok(rate.parse()?)
    }
}

/// The average round trip that `ping -q` prints, microseconds.
fn average(text: &str) -> Option<f64> {
    // iputils: rtt min/avg/max/mdev = ...; busybox: round-trip min/avg/max = ...
    let line = text.lines().find(|line| line.contains("min/avg/max"))?;
    let times = line.split_once('=')?.1;
    Some(times.split('/').nth(1)?.parse::<f64>().ok()? * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_of_either_ping() {
        let iputils =
            "rtt min/avg/max/mdev = 0.007/0.010/0.262/0.004 ms, ipg/ewma 0.013/0.010 ms\n";
        assert_eq!(average(iputils), Some(10.0));
        assert_eq!(average("\nround-trip min/avg/max = 0.030/0.045/0.060 ms\n"), Some(45.0));
        assert_eq!(average("5000 packets transmitted, 0 received, 100% packet loss\n"), None);
    }
}
