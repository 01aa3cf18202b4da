//! Large flow tables: loading and dumping them, what they weigh, and whether traffic goes on.
//!
//! Each switch is driven by its own tool, one flow mod and barrier after the other, as `add-flows`
//! does. The flows have eight kinds of masks, five lists of actions and many priorities.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::sut::{Sut, Whose, resident_bytes};

use crate::metric::Metric;
use crate::probe::Probe;
use crate::report::Report;
use crate::stage::{Stage, introduce};
use crate::system::System;

/// Flows that are loaded and dumped.
const MANY: usize = 100_000;
/// Flows whose weight is taken.
const VERY_MANY: usize = 1_000_000;
/// The slowest switch takes its time.
const DEADLINE: Duration = Duration::from_secs(1800);

/// xorshift64*: the flows are the same each time.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n
    }
}

/// `n` flows, a few in a thousand the same as another.
fn flows(n: usize) -> Result<String> {
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut out = String::new();
    for i in 0..n {
        let mut r = |n: u64| rng.below(n);
        let [a, b] = [(); 2].map(|()| [10, r(256), r(256), r(256)]);
        let net = |[w, x, y, z]: [u64; 4], len: u32| match len {
            16 => format!("{w}.{x}.0.0/16"),
            24 => format!("{w}.{x}.{y}.0/24"),
            _ => format!("{w}.{x}.{y}.{z}"),
        };
        let (src, dst) = (net(a, 32), net(b, 32));
        let mac = format!("02:00:{:02x}:{:02x}:{:02x}:{:02x}", r(256), r(256), r(256), r(256));
        let (port, wide) = (r(65536), r(1 << 32));
        write!(out, "priority={},", 1 + r(999))?;
        match i % 8 {
            0 => write!(out, "tcp,nw_src={src},nw_dst={dst},tp_dst={port}"),
            1 => write!(out, "udp,nw_dst={dst},tp_dst={port}"),
            2 => write!(out, "ip,nw_src={},nw_dst={dst}", net(a, 24)),
            3 => write!(out, "in_port={},dl_dst={mac}", 1 + port % 65_000),
            4 => write!(out, "dl_vlan={},dl_src={mac}", port % 4095),
            5 => write!(out, "ipv6,ipv6_dst=2001:db8:{:x}:{port:x}::/64", wide % 65536),
            6 => write!(out, "tcp,reg0={wide},nw_dst={},tp_src={}", net(b, 16), port % 1024),
            _ => write!(out, "ct_state=+est+trk,ct_mark={wide},ip,nw_src={src}"),
        }?;
        match r(5) {
            0 => writeln!(out, ",actions=output:2"),
            1 => writeln!(out, ",actions=drop"),
            2 => writeln!(out, ",actions=resubmit(,3)"),
            3 => writeln!(out, ",actions=load:{wide:#x}->NXM_NX_REG1[],output:3"),
            _ => writeln!(out, ",actions=mod_vlan_vid:{},normal", port % 4095),
        }?;
    }
    Ok(out)
}

/// Runs a tool to its end; the seconds it took.
fn timed(sut: &Sut<'_>, whose: Whose, line: &str) -> Result<f64> {
    let began = Instant::now();
    sut.spawn_tool(whose, line)?.finish(DEADLINE)?.ok()?;
    Ok(began.elapsed().as_secs_f64())
}

/// All figures of a system.
pub fn measure(stage: &Stage<'_>, system: System, report: &mut Report) -> Result<()> {
    let Some(whose) = system.whose() else { return Ok(()) };
    let story = stage.story(system)?;
    introduce(&story)?;
    let Some(sut) = stage.start(system, &story)? else { return Ok(()) };
    let (many, very_many) = (stage.dir.join("many"), stage.dir.join("very-many"));
    std::fs::write(&many, flows(MANY)?)?;
    std::fs::write(&very_many, flows(VERY_MANY)?)?;
    // Packets of one megaflow, and packets of which each needs one of its own.
    let known = ("actions=output:3", "send-probe", Metric::Gap);
    let new = (
        "actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:3",
        "send-new-probe",
        Metric::GapNew,
    );

    let add = format!("ovs-ofctl add-flows br0 {many}");
    let dumped = stage.dir.join("dumped");
    let tool = stage.own_tool(&sut, "ofctl");
    for _ in 0..stage.options.rounds.min(3) {
        timed(&sut, whose, "ovs-ofctl del-flows br0")?;
        report.add(system, Metric::AddFlows, timed(&sut, whose, &add)?);
        let began = Instant::now();
        sut.run(&["sh", "-c", &format!("exec {tool} dump-flows br0 > {dumped}")])?.ok()?;
        report.add(system, Metric::DumpFlows, began.elapsed().as_secs_f64());
        let text = std::fs::read_to_string(&dumped)?;
        let n = text.lines().filter(|l| l.contains("actions=")).count();
        ensure!(n > MANY * 99 / 100, "{n} flows dumped");

        // Again with a probe, which takes processor time from whoever has none to spare.
        for (actions, sender, metric) in [known, new] {
            timed(&sut, whose, "ovs-ofctl del-flows br0")?;
            let forward = format!("ovs-ofctl add-flow br0 priority=60000,udp,in_port=2,{actions}");
            timed(&sut, whose, &forward)?;
            let probe = Probe::start(stage, &story, sender)?;
            timed(&sut, whose, &add)?;
            report.add(system, metric, probe.finish()?);
        }
    }
    timed(&sut, whose, "ovs-ofctl del-flows br0")?;
    timed(&sut, whose, &format!("ovs-ofctl add-flows br0 {very_many}"))?;
    let memory: u64 = sut.pids().map(resident_bytes).sum::<Result<_>>()?;
    report.add(system, Metric::FlowMemory, memory as f64 / f64::from(1 << 20));
    Ok(())
}
