//! Commands about the process itself: version, log, clock, end.

use std::time::Duration;

use crate::control::{Answer, Command};
use crate::daemon::Daemon;
use crate::vlog;

/// Both daemons have these.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command { name: "exit", usage: "[--cleanup]", arity: (0, 1), run: exit },
    Command { name: "version", usage: "", arity: (0, 0), run: version },
    Command {
        name: "vlog/set",
        usage: "{spec | PATTERN:destination:pattern}",
        arity: (0, usize::MAX),
        run: vlog_set,
    },
    Command { name: "vlog/list", usage: "", arity: (0, 0), run: |_, _| Ok(vlog::list()).into() },
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
    Command { name: "vlog/close", usage: "", arity: (0, 0), run: vlog_close },
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
    Command { name: "memory/show", usage: "", arity: (0, 0), run: memory },
    Command { name: "coverage/show", usage: "", arity: (0, 0), run: coverage_show },
    Command { name: "coverage/read-counter", usage: "COUNTER", arity: (1, 1), run: coverage_read },
];

/// The switch alone has these.
pub(super) const SWITCH_COMMANDS: &[Command<Daemon>] = &[
    Command { name: "time/stop", usage: "", arity: (0, 0), run: time_stop },
    Command { name: "time/warp", usage: "[large_msecs] msecs", arity: (1, 2), run: time_warp },
];

/// Bridges and devices are always given back, with `--cleanup` or without.
fn exit(d: &mut Daemon, _: &[String]) -> Answer {
    d.quit.notify_one();
    Ok(String::new()).into()
}

fn version(_: &mut Daemon, _: &[String]) -> Answer {
    Ok(format!("ovs-vswitchd (Open vSwitch) {}\n", crate::OVS_VERSION)).into()
}

fn vlog_set(_: &mut Daemon, args: &[String]) -> Answer {
    for spec in args {
        if let Err(text) = vlog::set(spec) {
            return Err(text).into();
        }
    }
    Ok(String::new()).into()
}

fn vlog_close(_: &mut Daemon, _: &[String]) -> Answer {
    vlog::close_file();
    Ok(String::new()).into()
}

fn memory(d: &mut Daemon, _: &[String]) -> Answer {
    let rules: usize = {
        let switch = d.world.switch.read();
        switch.bridges().map(|b| b.tables().visible().map(|(_, t)| t.len()).sum::<usize>()).sum()
    };
    let ports: usize = d.rec.bridges.values().map(|b| b.ifaces.len()).sum();
    let connections = d.dp.conntrack().len();
    let flows = d.dp.n_flows();
    Ok(format!("conntrack:{connections} ports:{ports} rules:{rules} udpif keys:{flows}\n")).into()
}

fn coverage_show(d: &mut Daemon, _: &[String]) -> Answer {
    Ok(d.coverage.show(&d.counters())).into()
}

fn coverage_read(d: &mut Daemon, args: &[String]) -> Answer {
    let found = d.counters().into_iter().find(|(name, _)| *name == args[0]);
    found.map(|(_, n)| format!("{n}\n")).ok_or_else(|| "No such counter".to_owned()).into()
}

fn time_stop(d: &mut Daemon, _: &[String]) -> Answer {
    d.clock.stop();
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
