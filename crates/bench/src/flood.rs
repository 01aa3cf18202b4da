//! A flood of SYNs from one port, and what becomes of others' traffic meanwhile (see [`crate::siege`]).

use anyhow::{Context, Result, ensure};
use testkit::story::Vm;

use crate::metric::Metric;
use crate::report::Report;
use crate::say;
use crate::siege::{PATIENCE, SWITCH, Siege, UNREAD};
use crate::stage::Stage;
use crate::system::System;

/// SYNs, each of another connection.
const SYNS: u32 = 10_000_000;
/// Connections that stand meanwhile.
const HELD: u32 = 500;

/// What the story lets port 2 do, for port 4.
const FLOWS: [&str; 2] = [
    "table=1,ip,in_port=4,ct_state=+new,actions=ct(commit),normal",
    "table=1,ip,in_port=4,ct_state=+est,actions=normal",
];

/// All figures of a system.
pub fn measure(stage: &Stage<'_>, system: System, report: &mut Report) -> Result<()> {
    let story = stage.story(system)?;
    let siege = Siege::new(stage, system, &story, &FLOWS)?;
    let (rig, held) = (&siege.rig, HELD.to_string());
    let hold = stage.end(&["hold-connections", Vm::Two.ip(), &held]);
    let mut holder = story.vm(Vm::One).spawn(&hold)?;
    holder.wait_for("is connected", |out| out.contains("held"))?;
    ensure!(established(stage, &siege)? == HELD, "not all connections are established");

    for _ in 0..stage.options.rounds.min(3) {
        report.add(system, Metric::FloodAlone, siege.stream()?);
        let flood = |device| siege.send("send-syns", device, 0, SYNS, 0);
        let (base, rate) = siege.beside(flood(UNREAD)?)?;
        report.add(system, Metric::FloodBeside, base);
        say(format_args!("  {rate:.0} frames a second went nowhere"));
        let (under, rate) = siege.beside(flood(SWITCH)?)?;
        report.add(system, Metric::FloodUnder, under);
        report.add(system, Metric::FloodShare, under / base);
        report.add(system, Metric::FloodMemory, rig.resident_mib()?);
        let kept = f64::from(established(stage, &siege)?) / f64::from(HELD);
        report.add(system, Metric::FloodKept, 100.0 * kept);
        let (n, max) = (rig.n()?, rig.appctl("dpctl/ct-get-maxconns")?.trim().parse()?);
        say(format_args!("  {rate:.0} frames a second of the flood; {n} connections"));
        ensure!(n <= max, "{n} connections are more than {max}");
    }
    Ok(())
}

/// How many of the held connections the switch has as established.
fn established(stage: &Stage<'_>, siege: &Siege<'_>) -> Result<u32> {
    let sut = &siege.rig.sut;
    let appctl = stage.own_tool(sut, "appctl");
    let line = format!(
        "{appctl} dpctl/dump-conntrack | grep -c 'orig=(src=192.168.0.1,.*,dport=700[0-7].*=ESTABLISHED'"
    );
    let out = sut.spawn(&["sh", "-c", &line])?.finish(PATIENCE)?.stdout;
    out.trim().parse().context("not a number")
}
