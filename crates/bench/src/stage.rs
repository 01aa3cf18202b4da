//! What all measurements stand on: the programs under test, the story's machines with a switch between them, and the two
//! ends of their traffic.

use anyhow::{Context, Result, ensure};
use testkit::need;
use testkit::netns::Netns;
use testkit::peer;
use testkit::process::{DEADLINE, Proc, eventually};
use testkit::scratch::Scratch;
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::Options;
use crate::system::System;

/// The policy of the story, with the `ip` that the stock tools want before `ct`.
const POLICY: &str = include_str!("../../../examples/story/policy-ip.flow");

/// The ports of the story's machines.
pub const STORY_PORTS: [&str; 2] = ["vm1p", "vm2p"];

/// The programs and files of a run; the files go when it is dropped.
#[derive(Debug)]
pub struct Stage<'o> {
    pub options: &'o Options,
    /// This program.
    own: String,
    /// The program whose switch is measured: this one, or `$SEKISHO`.
    pub binary: String,
    /// The tools that set up all switches alike: the stock ones where they are installed.
    pub tools: Whose,
    pub dir: Scratch,
    /// The file of the story's policy.
    pub policy: String,
}

impl<'o> Stage<'o> {
    pub fn new(options: &'o Options) -> Result<Stage<'o>> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let own = own.to_str().context("this program's path is no text")?.to_owned();
        let dir = Scratch::new()?;
        peer::use_program(&own, &dir)?;
        let policy = dir.join("policy.flow");
        std::fs::write(&policy, POLICY)?;
        let tools = if need::find("ovs-ofctl").is_some() { Whose::Stock } else { Whose::Ours };
        let binary = std::env::var("SEKISHO").unwrap_or_else(|_| own.clone());
        Ok(Stage { options, own, binary, tools, dir, policy })
    }

    /// The words that call one end of the traffic (see [`crate::run_end`]).
    pub fn end<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&[&*self.own, "bench-end"], words].concat()
    }

    /// The words that begin a call of a tool that belongs to a switch.
    pub fn own_tool(&self, sut: &Sut<'_>, tool: &str) -> String {
        match sut.whose() {
            Whose::Ours => format!("{} {tool}", self.binary),
            Whose::Stock => format!("ovs-{tool}"),
        }
    }

    /// The machines of a system, with its bridge if it is the kernel's.
    pub fn story(&self, system: System) -> Result<Story> {
        let story = if system == System::Direct { Story::direct()? } else { Story::new()? };
        match system {
            System::BrNetfilter => story.linux_bridge(true)?,
            System::Bridge => story.linux_bridge(false)?,
            // Without this no TCP passes them at all.
            System::Ovs | System::OvsAfxdp => story.offloads_off()?,
            _ => {}
        }
        Ok(story)
    }

    /// Starts a system's daemon, if it has one, without bridges.
    pub fn launch<'a>(&self, system: System, ns: &'a Netns) -> Result<Option<Sut<'a>>> {
        let Some(whose) = system.whose() else { return Ok(None) };
        if system != System::OvsTso {
            return Sut::start(whose, &self.binary, ns).map(Some);
        }
        let sut = Sut::start_stock(None, &["other_config:userspace-tso-enable=true"], ns)?;
        eventually("ovs-vswitchd logs that userspace TSO is enabled", DEADLINE, || {
            let log = std::fs::read_to_string(sut.file("ovs-vswitchd.log"))?;
            Ok(log.contains("Segmentation Offloading support enabled").then_some(()))
        })?;
        Ok(Some(sut))
    }

    /// Starts a system's daemon, if it has one, with the story's machines on its bridge.
    pub fn start<'a>(&self, system: System, story: &'a Story) -> Result<Option<Sut<'a>>> {
        let Some(sut) = self.launch(system, &story.sw)? else { return Ok(None) };
        sut.add_bridge(self.tools, &STORY_PORTS)?;
        if matches!(system, System::Afxdp | System::OvsAfxdp) {
            if system == System::OvsAfxdp {
                sut.ok(self.tools, "ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask=0x2")?;
            }
            for port in STORY_PORTS {
                sut.ok(self.tools, &format!("ovs-vsctl set Interface {port} type=afxdp"))?;
                let error = sut.ok(self.tools, &format!("ovs-vsctl get Interface {port} error"))?;
                ensure!(error.trim() == "[]", "{port} as a port of type=afxdp: {error}");
            }
        }
        Ok(Some(sut))
    }

    /// Starts vm2's servers: of connections and of streams.
    pub fn servers(&self, two: &Netns) -> Result<[Proc; 2]> {
        let serve = |what: &str| -> Result<Proc> {
            let mut server = two.spawn(&self.end(&[what, Vm::Two.ip()]))?;
            server.wait_for("listens", |out| out.contains("listening"))?;
            Ok(server)
        };
        Ok([serve("serve-connections")?, serve("serve-streams")?])
    }
}

/// Enters the machines in each other's table of neighbours: address resolution is repeated once a second only.
pub fn introduce(story: &Story) -> Result<()> {
    for vm in [Vm::One, Vm::Two] {
        let (ip, mac) = (vm.other().ip(), vm.other().mac());
        let neighbour = format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent");
        story.vm(vm).ip(&neighbour)?;
    }
    Ok(())
}
