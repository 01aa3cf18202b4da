//! Attacks on the caches from one port, and what becomes of others' traffic meanwhile.
//!
//! Port 4 has a whitelist of four rules, each of another field, and drops the rest: what tells a packet from all
//! four is some bits of each field, and which, the sender chooses. A thousand packets a second are
//! crafted so that each has other bits; a scan goes from anywhere to anywhere, as fast as one thread sends.
//! The measure is a TCP stream between the story's machines, through the story's policy. For the scan it is
//! held against what the stream reaches while the same frames go nowhere, as in [`crate::siege`].

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::process::pause;
use testkit::story::Vm;

use crate::metric::Metric;
use crate::report::Report;
use crate::say;
use crate::siege::{STREAM, SWITCH, Siege, UNREAD};
use crate::stage::Stage;
use crate::system::System;
use crate::tracking::Rig;

/// The rules of port 4.
const FLOWS: [&str; 6] = [
    "priority=200,ip,in_port=4,actions=resubmit(,2)",
    "table=2,priority=100,tcp,nw_src=10.0.0.1,actions=normal",
    "table=2,priority=100,tcp,nw_dst=192.168.0.4,actions=normal",
    "table=2,priority=100,tcp,tp_src=12345,actions=normal",
    "table=2,priority=100,tcp,tp_dst=80,actions=normal",
    "table=2,priority=0,actions=drop",
];

/// Crafted packets a second.
const CRAFTED: u32 = 1000;
/// For so long they come before the stream: no switch forgets what it cached within that time.
const BEFORE: Duration = Duration::from_secs(9);
/// After so long all that was cached is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(11);
/// Frames of a scan, more than one thread sends while a stream lasts.
const SCANNED: u32 = 10_000_000;

/// All figures of a system.
pub fn measure(stage: &Stage<'_>, system: System, report: &mut Report) -> Result<()> {
    let story = stage.story(system)?;
    let siege = Siege::new(stage, system, &story, &FLOWS)?;
    let rig = &siege.rig;
    for round in 0..stage.options.rounds as u32 {
        let before = siege.stream()?;

        let n = CRAFTED * (BEFORE.as_secs() + STREAM + 4) as u32;
        let attack = siege.send("send-crafted", SWITCH, round * n, n, CRAFTED)?;
        pause(BEFORE - Duration::from_secs(1))?;
        let flows = rig.appctl("dpctl/dump-flows")?;
        let masks = testkit::masks::of(&flows, "in_port(4)").len();
        report.add(system, Metric::CraftedMasks, masks as f64);
        say(format_args!("  {} flows of the attacker", flows.matches("in_port(4)").count()));
        let (under, _) = siege.beside(attack)?;
        report.add(system, Metric::StreamCrafted, under);
        pause(FORGOTTEN)?;
        // Half a minute lies between the two, in which machines get faster and slower.
        let alone = (before + siege.stream()?) / 2.0;
        report.add(system, Metric::AttackAlone, alone);
        report.add(system, Metric::CraftedShare, under / alone);

        let scan = |device| siege.send("send-scan", device, 0, SCANNED, 0);
        let (base, rate) = siege.beside(scan(UNREAD)?)?;
        say(format_args!("  {rate:.0} frames a second went nowhere"));
        report.add(system, Metric::StreamBesideScan, base);
        let before = received(rig)?;
        let (under, rate) = siege.beside(scan(SWITCH)?)?;
        let got = (received(rig)? - before) as f64 / f64::from(SCANNED);
        say(format_args!(
            "  {rate:.0} frames a second of the scan, of which the switch took {got:.2}"
        ));
        report.add(system, Metric::StreamScanned, under);
        report.add(system, Metric::ScanShare, under / base);
        report.add(system, Metric::ScanWhole, under / alone);
        ensure!(story.ping(Vm::One, 2)?, "vm1 does not reach vm2 after the scan");
        pause(FORGOTTEN)?;
    }
    Ok(())
}

/// Packets that the switch received from port 4.
fn received(rig: &Rig<'_>) -> Result<u64> {
    let text = rig.ofctl_says("dump-ports br0 4")?;
    let n = text.split_once("rx pkts=").and_then(|(_, rest)| rest.split(',').next());
    n.and_then(|n| n.parse().ok()).ok_or_else(|| anyhow::anyhow!("no packets in {text}"))
}
