//! Millions of tracked connections: what they weigh, and whether traffic goes on while they are
//! listed, flushed and expire.
//!
//! A machine behind port 4 opens connections as fast as the switch takes them; port 5 leads to one
//! that nobody reads from. The story's machines send the probe through the story's policy, so each
//! of its packets visits the table twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::netns::Netns;
use testkit::process::pause;
use testkit::story::Story;
use testkit::sut::{Sut, Whose, resident_bytes};

use crate::metric::Metric;
use crate::probe::Probe;
use crate::report::Report;
use crate::say;
use crate::stage::{STORY_PORTS, Stage, introduce};
use crate::system::System;

/// Connections of one zone.
const ZONE: u32 = 1_000_000;
/// Frames a second that fill a table: few get lost, and what does is sent again.
const RATE: u32 = 200_000;
/// The slowest switch takes its time.
const PATIENCE: Duration = Duration::from_secs(300);
/// A SYN that is not answered is kept for so long where it is to stay, and where it is to go.
const KEPT: u32 = 100_000;
const BRIEF: u32 = 20;

/// The machines behind ports 4 and 5, with a switch between them and the story's.
pub struct Rig<'a> {
    stage: &'a Stage<'a>,
    pub sut: Sut<'a>,
    /// Behind port 4.
    pub opener: Netns,
    /// Behind port 5.
    sink: Netns,
}

impl<'a> Rig<'a> {
    /// Starts a switch of four ports.
    pub fn new(stage: &'a Stage<'a>, system: System, story: &'a Story) -> Result<Rig<'a>> {
        let [opener, sink] = [story.sw.sibling("opener")?, story.sw.sibling("sink")?];
        for (port, ns) in [("openp", &opener), ("sinkp", &sink)] {
            let pid = ns.pid();
            story.sw.ip(&format!("link add {port} type veth peer name eth0 netns {pid}"))?;
            story.sw.ip(&format!("link set {port} up"))?;
            ns.ip("link set eth0 up")?;
        }
        introduce(story)?;
        let sut = stage.launch(system, &story.sw)?;
        let sut = sut.with_context(|| format!("{system} has no tracker of its own"))?;
        sut.add_bridge(stage.tools, &[&STORY_PORTS[..], &["openp", "sinkp"]].concat())?;
        sut.load_policy(stage.tools, &stage.policy)?;
        let rig = Rig { stage, sut, opener, sink };
        rig.ofctl("add-flow br0 priority=50,in_port=5,actions=normal")?;
        rig.sink.ok(&stage.end(&["announce", "eth0"]))?;
        Ok(rig)
    }

    /// Lets the thread that forwards go before all that is not of real-time priority.
    fn hurry(&self) -> Result<()> {
        match self.sut.whose() {
            Whose::Ours => {
                let line = "ovs-vsctl set Open_vSwitch . other_config:pmd-rt-priority=5";
                self.sut.ok(self.stage.tools, line)?;
            }
            // It forwards on its main thread.
            Whose::Stock => {
                let pid = self.sut.pid()?.to_string();
                self.sut.run(&["chrt", "--fifo", "-p", "5", &pid])?.ok()?;
            }
        }
        Ok(())
    }

    /// Runs `ovs-ofctl`.
    pub fn ofctl(&self, words: &str) -> Result<()> {
        self.ofctl_says(words).map(drop)
    }

    /// Runs `ovs-ofctl`; what it prints.
    pub fn ofctl_says(&self, words: &str) -> Result<String> {
        self.sut.ok(self.stage.tools, &format!("ovs-ofctl {words}"))
    }

    /// Runs `ovs-appctl`.
    pub fn appctl(&self, words: &str) -> Result<String> {
        self.sut.ok(self.stage.tools, &format!("ovs-appctl {words}"))
    }

    /// Connections in the table.
    pub fn n(&self) -> Result<u32> {
        self.appctl("dpctl/ct-get-nconns")?.trim().parse().context("not a number")
    }

    /// Runs such a tool, its output into nothing; the seconds it took.
    fn timed(&self, tool: &str, words: &str) -> Result<f64> {
        let began = Instant::now();
        let line = format!("exec {} {words} > /dev/null", self.stage.own_tool(&self.sut, tool));
        self.sut.spawn(&["sh", "-c", &line])?.finish(PATIENCE)?.ok()?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Unanswered SYNs of a zone are kept for `seconds`.
    fn set_timeout(&self, zone: u32, seconds: u32) -> Result<()> {
        let line = format!("ovs-vsctl add-zone-tp netdev zone={zone} tcp_syn_sent={seconds}");
        self.sut.ok(self.stage.tools, &line).map(drop)
    }

    /// Opens [`ZONE`] connections in a zone.
    fn fill(&self, zone: u32) -> Result<()> {
        self.ofctl(&format!(
            "add-flow br0 priority=200,tcp,in_port=4,actions=ct(commit,zone={zone})"
        ))?;
        // In place of those whose frames got lost, others.
        let (want, mut first) = (self.n()? + ZONE, 0);
        for _ in 0..30 {
            let missing = want.saturating_sub(self.n()?);
            if missing == 0 {
                return Ok(());
            }
            let [at, n, rate] = [first, missing, RATE].map(|n| n.to_string());
            let send = self.stage.end(&["send-syns", "eth0", &at, &n, &rate]);
            self.opener.run_within(&send, PATIENCE)?.ok()?;
            first += missing;
            // What waits in queues still.
            pause(Duration::from_millis(200))?;
        }
        anyhow::bail!("{} connections where {want} were to be opened", self.n()?);
    }

    /// Resident memory of the daemon in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        Ok(resident_bytes(self.sut.pid()?)? as f64 / f64::from(1 << 20))
    }
}

/// All figures of a system.
pub fn measure(stage: &Stage<'_>, system: System, report: &mut Report) -> Result<()> {
    let options = stage.options;
    let story = stage.story(system)?;
    let rig = Rig::new(stage, system, &story)?;
    rig.appctl("dpctl/ct-set-maxconns 4000000")?;
    rig.sut.ok(
        stage.tools,
        "ovs-vsctl -- --id=@d create Datapath datapath_version=0 -- \
         set Open_vSwitch . datapaths:netdev=@d",
    )?;
    for (zone, seconds) in [(1, KEPT), (2, KEPT), (3, BRIEF), (4, KEPT)] {
        rig.set_timeout(zone, seconds)?;
    }
    if options.first {
        rig.hurry()?;
    }
    rig.fill(1)?;
    rig.fill(2)?;
    report.add(system, Metric::ConnMemory, rig.resident_mib()?);

    let rounds = options.rounds.min(3);
    for _ in 0..rounds {
        rig.fill(3)?;
        let probe = Probe::start(stage, &story, "send-probe")?;
        // Asked for seldom: to start a tool takes processor time as well. Some connections are there that
        // the probe and its like made.
        let end = Instant::now() + PATIENCE;
        while rig.n()? >= 2 * ZONE + 100 {
            ensure!(Instant::now() < end, "the connections of a zone do not expire");
            pause(Duration::from_secs(3))?;
        }
        report.add(system, Metric::GapExpire, probe.finish()?);
    }
    for round in 0..rounds {
        rig.fill(4)?;
        if round == 0 {
            report.add(system, Metric::ConnMemoryMore, rig.resident_mib()?);
        }
        let probe = Probe::start(stage, &story, "send-probe")?;
        // As long as an expiry takes.
        pause(Duration::from_secs(20))?;
        report.add(system, Metric::GapQuiet, probe.finish()?);

        let probe = Probe::start(stage, &story, "send-probe")?;
        let took = rig.timed("appctl", "dpctl/dump-conntrack")?;
        report.add(system, Metric::GapDump, probe.finish()?);
        report.add(system, Metric::DumpConns, took);
        if rig.sut.whose() == Whose::Ours {
            let probe = Probe::start(stage, &story, "send-probe")?;
            let took = rig.timed("conntrack", "-L")?;
            report.add(system, Metric::GapList, probe.finish()?);
            say(format_args!("  conntrack -L took {took:.1} s"));
        }
        let probe = Probe::start(stage, &story, "send-probe")?;
        let took = rig.timed("appctl", "dpctl/flush-conntrack zone=4")?;
        report.add(system, Metric::GapFlush, probe.finish()?);
        say(format_args!("  the flush took {took:.2} s"));
        ensure!(rig.n()? < 2 * ZONE + 100, "the zone was not flushed");
    }
    Ok(())
}
