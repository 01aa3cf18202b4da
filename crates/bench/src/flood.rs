//! A flood of SYNs from one port, and what becomes of others' traffic meanwhile.
//!
//! One generator, a TCP stream's two ends and the switch share the machine's processors. So that the
//! generator's own cost does not count, what the stream reaches under the flood is held against what
//! it reaches while the same frames go into a veth pair that leads to no switch.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::netns::Netns;
use testkit::process::Proc;
use testkit::story::{Story, Vm};

use crate::report::{Metric, Report, System};
use crate::tracking::Rig;
use crate::{Options, own_path, servers, story, stream};

/// SYNs, each of another connection.
const SYNS: u32 = 10_000_000;
/// Connections that stand meanwhile.
const HELD: u32 = 500;
/// Seconds of the stream, well within those of the flood.
pub const STREAM: u64 = 6;
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What the story lets port 2 do, for port 4.
const FLOWS: [&str; 2] = [
    "table=1,ip,in_port=4,ct_state=+new,actions=ct(commit),normal",
    "table=1,ip,in_port=4,ct_state=+est,actions=normal",
];

/// All figures of a system.
pub fn measure(system: System, options: &Options, report: &mut Report) -> Result<()> {
    let story = story(system)?;
    let Some(rig) = Rig::new(system, &story)? else { return Ok(()) };
    for flow in FLOWS {
        rig.ofctl(&format!("add-flow br0 {flow}"))?;
    }
    let _elsewhere = unread(&story, &rig)?;

    let (one, two) = (story.vm(Vm::One), story.vm(Vm::Two));
    let own = own_path()?;
    let _servers = servers(two)?;
    let held = HELD.to_string();
    let mut holder = one.spawn(&[&own, "hold-connections", Vm::Two.ip(), &held])?;
    holder.wait_for("is connected", |out| out.contains("held"))?;
    ensure!(established(&rig)? == HELD, "not all connections are established");

    for _ in 0..options.rounds.min(3) {
        report.add(system, Metric::StreamAlone, stream(one, STREAM, PATIENCE)?);
        let (base, rate) = beside(one, flood(&rig.opener, "unread")?)?;
        report.add(system, Metric::StreamBeside, base);
        println!("  {rate:.0} frames a second went nowhere");
        let (under, rate) = beside(one, flood(&rig.opener, "eth0")?)?;
        report.add(system, Metric::StreamUnder, under);
        report.add(system, Metric::FloodShare, under / base);
        report.add(system, Metric::FloodMemory, rig.resident_mib()?);
        report.add(
            system,
            Metric::FloodKept,
            100.0 * f64::from(established(&rig)?) / f64::from(HELD),
        );
        let (n, max) = (rig.n()?, rig.appctl("dpctl/ct-get-maxconns")?.trim().parse()?);
        println!("  {rate:.0} frames a second of the flood; {n} connections");
        ensure!(n <= max, "{n} connections are more than {max}");
    }
    Ok(())
}

/// Gives the machine behind port 4 a device `unread` that leads to one that knows nobody.
pub fn unread(story: &Story, rig: &Rig<'_>) -> Result<Netns> {
    let elsewhere = story.sw.sibling("elsewhere")?;
    let pid = elsewhere.pid();
    rig.opener.ip(&format!("link add unread type veth peer name eth0 netns {pid}"))?;
    rig.opener.ip("link set unread up")?;
    elsewhere.ip("link set eth0 up")?;
    Ok(elsewhere)
}

/// Starts a flood on a device.
fn flood(from: &Netns, device: &str) -> Result<Proc> {
    let proc = from.spawn(&[&own_path()?, "send-syns", device, "0", &SYNS.to_string(), "0"])?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(proc)
}

/// What a stream reaches beside a flood, and how many frames a second the flood had.
pub fn beside(from: &Netns, mut flood: Proc) -> Result<(f64, f64)> {
    let rate = stream(from, STREAM, PATIENCE)?;
    ensure!(flood.alive(), "the flood was over before the stream");
    let sent = flood.finish(PATIENCE)?.ok()?;
    let (n, seconds) = sent.trim().split_once(' ').context("no figures")?;
    Ok((rate, n.parse::<f64>()? / seconds.parse::<f64>()?))
}

/// How many of the held connections the switch has as established.
fn established(rig: &Rig<'_>) -> Result<u32> {
    let appctl = rig.own_tool("appctl")?;
    let line = format!(
        "{appctl} dpctl/dump-conntrack | grep -c 'orig=(src=192.168.0.1,.*,dport=700[0-7].*=ESTABLISHED'"
    );
    let out = rig.sut.spawn(&["sh", "-c", &line])?.finish(PATIENCE)?.stdout;
    out.trim().parse().context("not a number")
}
