//! What does not depend on traffic: start, memory, processor time of an idle daemon.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use testkit::peer;
use testkit::process::{DEADLINE, pause};
use testkit::story::Vm;
use testkit::sut::{cpu_time, resident_bytes};

use crate::metric::Metric;
use crate::report::Report;
use crate::stage::{Stage, introduce};
use crate::system::System;

/// Ticks are of 10 ms: over 3 s one of them is a third of a percent.
const WINDOW: Duration = Duration::from_secs(3);

/// All figures of a system.
pub fn measure(stage: &Stage<'_>, system: System, report: &mut Report) -> Result<()> {
    let mut story = stage.story(system)?;
    story.serve()?;
    introduce(&story)?;
    let Some(mut sut) = stage.start(system, &story)? else { return Ok(()) };
    for _ in 0..stage.options.rounds {
        sut.stop()?;
        let asker = story.vm(Vm::One).spawn(&[&peer::path()?, "first", Vm::Two.ip(), "20000"])?;
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        sut.start_again()?;
        let answered = asker.finish(DEADLINE)?.ok()?.trim().parse::<u64>()?;
        let took = Duration::from_micros(answered).saturating_sub(began);
        report.add(system, Metric::Start, took.as_secs_f64() * 1e3);
    }
    sut.load_policy(stage.tools, &stage.policy)?;
    pause(Duration::from_secs(1))?;
    let memory: u64 = sut.pids().map(resident_bytes).sum::<Result<_>>()?;
    report.add(system, Metric::Memory, memory as f64 / f64::from(1 << 20));
    for _ in 0..stage.options.rounds {
        let before: Duration = sut.pids().map(cpu_time).sum::<Result<_>>()?;
        pause(WINDOW)?;
        let after: Duration = sut.pids().map(cpu_time).sum::<Result<_>>()?;
        let share = (after - before).as_secs_f64() / WINDOW.as_secs_f64();
        report.add(system, Metric::Idle, share * 100.0);
    }
    sut.stop()
}
