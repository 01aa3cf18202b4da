//! What becomes of others' traffic while frames come from another port: what a flood and attacks on caches share.
//!
//! One generator, a TCP stream's two ends and the switch share the machine's processors. So that the
//! generator's own cost does not count, what the stream reaches under it is held against what
//! it reaches while the same frames go into a veth pair that leads to no switch.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::netns::Netns;
use testkit::process::{Proc, pause};
use testkit::story::{Story, Vm};

use crate::stage::Stage;
use crate::streams;
use crate::system::System;
use crate::tracking::Rig;

/// Seconds of the stream, well within those of the frames.
pub const STREAM: u64 = 6;
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Devices of the machine behind port 4: to the switch, and to one that knows nobody.
pub const SWITCH: &str = "eth0";
pub const UNREAD: &str = "unread";

/// A switch with the story's machines and servers, and a machine behind port 4 that sends.
pub struct Siege<'a> {
    pub rig: Rig<'a>,
    stage: &'a Stage<'a>,
    one: &'a Netns,
    _elsewhere: Netns,
    _servers: [Proc; 2],
}

impl<'a> Siege<'a> {
    /// Starts the switch; `flows` are those of port 4.
    pub fn new(
        stage: &'a Stage<'a>,
        system: System,
        story: &'a Story,
        flows: &[&str],
    ) -> Result<Siege<'a>> {
        let rig = Rig::new(stage, system, story)?;
        for flow in flows {
            rig.ofctl(&format!("add-flow br0 {flow}"))?;
        }
        let elsewhere = story.sw.sibling("elsewhere")?;
        let pid = elsewhere.pid();
        rig.opener.ip(&format!("link add {UNREAD} type veth peer name eth0 netns {pid}"))?;
        rig.opener.ip(&format!("link set {UNREAD} up"))?;
        elsewhere.ip("link set eth0 up")?;
        let _servers = stage.servers(story.vm(Vm::Two))?;
        Ok(Siege { rig, stage, one: story.vm(Vm::One), _elsewhere: elsewhere, _servers })
    }

    /// Gb/s of the stream.
    pub fn stream(&self) -> Result<f64> {
        streams::measure(self.stage, self.one, 1, STREAM)
    }

    /// Lets the machine behind port 4 send: `n` frames of a generator of [`crate::frames`], from number `first` on, no
    /// more than `rate` a second (0: as fast as can be).
    pub fn send(&self, end: &str, device: &str, first: u32, n: u32, rate: u32) -> Result<Proc> {
        let [first, n, rate] = [first, n, rate].map(|n| n.to_string());
        let proc = self.rig.opener.spawn(&self.stage.end(&[end, device, &first, &n, &rate]))?;
        pause(Duration::from_secs(1))?;
        Ok(proc)
    }

    /// What the stream reaches beside frames, and how many a second there were.
    pub fn beside(&self, mut frames: Proc) -> Result<(f64, f64)> {
        let rate = self.stream()?;
        ensure!(frames.alive(), "the frames were over before the stream");
        let sent = frames.finish(PATIENCE)?.ok()?;
        let (n, seconds) = sent.trim().split_once(' ').context("no figures")?;
        Ok((rate, n.parse::<f64>()? / seconds.parse::<f64>()?))
    }
}
