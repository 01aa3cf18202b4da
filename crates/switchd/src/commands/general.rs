//! Commands about the process itself: version, log, clock, end.

use std::time::Duration;

use tokio::sync::Notify;

use crate::control::{Answer, Command};
use crate::coverage::{Counter, Coverage};
use crate::daemon::Daemon;
use crate::vlog;

/// A daemon, as far as the commands about its process care.
pub(crate) trait Process: Sized + 'static {
    /// Its name.
    const PROGRAM: &'static str;

    /// Ends it when notified.
    fn quit(&self) -> &Notify;

    /// What it counts.
    fn counters(&self) -> Vec<Counter>;

    /// Rates of that.
    fn coverage(&self) -> &Coverage;

    /// What fills its memory: `NAME:NUMBER …`.
    fn memory(&self) -> String;
}

/// Commands that all daemons have.
pub(crate) trait ProcessCommands: Process {
    /// The table.
    const PROCESS: &'static [Command<Self>] = &[
        Command { name: "exit", usage: "[--cleanup]", arity: (0, 1), run: exit::<Self> },
        Command { name: "version", usage: "", arity: (0, 0), run: version::<Self> },
        Command {
            name: "vlog/set",
            usage: "{spec | PATTERN:destination:pattern}",
            arity: (0, usize::MAX),
            run: vlog_set::<Self>,
        },
        Command {
            name: "vlog/list",
            usage: "",
            arity: (0, 0),
            run: |_, _| Ok(vlog::list()).into(),
        },
        Command {
            name: "vlog/list-pattern",
            usage: "",
            arity: (0, 0),
            run: |_, _| Ok(vlog::list_patterns()).into(),
        },
        Command {
            name: "vlog/reopen",
            usage: "",
            arity: (0, 0),
            run: |_, _| vlog::reopen().map(|()| String::new()).into(),
        },
        Command { name: "vlog/close", usage: "", arity: (0, 0), run: vlog_close::<Self> },
        Command {
            name: "vlog/disable-rate-limit",
            usage: "[module]...",
            arity: (0, usize::MAX),
            run: |_, a| vlog::set_unlimited(a, true).map(|()| String::new()).into(),
        },
        Command {
            name: "vlog/enable-rate-limit",
            usage: "[module]...",
            arity: (0, usize::MAX),
            run: |_, a| vlog::set_unlimited(a, false).map(|()| String::new()).into(),
        },
        Command {
            name: "memory/show",
            usage: "",
            arity: (0, 0),
            run: |d, _| Ok(d.memory()).into(),
        },
        Command { name: "coverage/show", usage: "", arity: (0, 0), run: coverage_show::<Self> },
        Command {
            name: "coverage/read-counter",
            usage: "COUNTER",
            arity: (1, 1),
            run: coverage_read::<Self>,
        },
    ];
}

impl<D: Process> ProcessCommands for D {}

/// The switch alone has these.
pub(super) const SWITCH_COMMANDS: &[Command<Daemon>] = &[
    Command { name: "time/stop", usage: "", arity: (0, 0), run: time_stop },
    Command { name: "time/warp", usage: "[large_msecs] msecs", arity: (1, 2), run: time_warp },
];

/// Bridges and devices are always given back, with `--cleanup` or without.
fn exit<D: Process>(d: &mut D, _: &[String]) -> Answer {
    d.quit().notify_one();
    Ok(String::new()).into()
}

fn version<D: Process>(_: &mut D, _: &[String]) -> Answer {
    Ok(format!("{} (Open vSwitch) {}\n", D::PROGRAM, crate::OVS_VERSION)).into()
}

fn vlog_set<D>(_: &mut D, args: &[String]) -> Answer {
    for spec in args {
        if let Err(text) = vlog::set(spec) {
            return Err(text).into();
        }
    }
    Ok(String::new()).into()
}

fn vlog_close<D>(_: &mut D, _: &[String]) -> Answer {
    vlog::close_file();
    Ok(String::new()).into()
}

impl Process for Daemon {
    const PROGRAM: &'static str = "ovs-vswitchd";

    fn quit(&self) -> &Notify {
        &self.quit
    }

    fn counters(&self) -> Vec<Counter> {
        Daemon::counters(self)
    }

    fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    fn memory(&self) -> String {
        let rules: usize = {
            let switch = self.world.switch.read();
            let visible =
                |b: &ofproto::Bridge| -> usize { b.tables().visible().map(|(_, t)| t.len()).sum() };
            switch.bridges().map(visible).sum()
        };
        let ports: usize = self.rec.bridges.values().map(|b| b.ifaces.len()).sum();
        let connections = self.dp.conntrack().len();
        let flows = self.dp.n_flows();
        format!("conntrack:{connections} ports:{ports} rules:{rules} udpif keys:{flows}\n")
    }
}

fn coverage_show<D: Process>(d: &mut D, _: &[String]) -> Answer {
    Ok(d.coverage().show(&d.counters())).into()
}

fn coverage_read<D: Process>(d: &mut D, args: &[String]) -> Answer {
    let found = d.counters().into_iter().find(|(name, _)| *name == args[0]);
    found.map(|(_, n)| format!("{n}\n")).ok_or_else(|| "No such counter".to_owned()).into()
}

fn time_stop(d: &mut Daemon, _: &[String]) -> Answer {
    d.clock.stop();
    d.set_kernel_mode(d.config.kernel_mode);
    Ok(String::new()).into()
}

fn time_warp(d: &mut Daemon, args: &[String]) -> Answer {
    let mut numbers = Vec::new();
    for arg in args {
        match arg.parse::<u64>() {
            Ok(n) if n > 0 => numbers.push(n),
            _ => return Err("invalid MSECS".to_owned()).into(),
        }
    }
    let (total, step) = match numbers[..] {
        [total, step] => (total, step),
        [step] => (step, step),
        _ => return Err("invalid MSECS".to_owned()).into(),
    };
    let mut left = total;
    while left > 0 {
        let ms = step.min(left);
        d.clock.warp(Duration::from_millis(ms));
        left -= ms;
        d.tick();
    }
    if let Some(host) = d.db.host() {
        host.borrow_mut().poll();
    }
    Ok("warped\n".to_owned()).into()
}
