//! `dpctl/ipf-*`: fragments that wait for the rest of their datagrams.

use std::fmt::Write;

use base::Zone;
use conntrack::frag::{DatagramKey, FragConfig, FragSnapshot, LEAST_MIN_LEN, MOST_FRAGMENTS};
use packet::header::ethertype;

use super::{PROGRAM, options, take_datapath};
use crate::control::{Command, Text};
use crate::daemon::Daemon;

pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "dpctl/ipf-set-enabled",
        usage: "[dp] v4|v6",
        arity: (1, 2),
        run: |d, a| set_enabled(d, a, true).into(),
    },
    Command {
        name: "dpctl/ipf-set-disabled",
        usage: "[dp] v4|v6",
        arity: (1, 2),
        run: |d, a| set_enabled(d, a, false).into(),
    },
    Command {
        name: "dpctl/ipf-set-min-frag",
        usage: "[dp] v4|v6 minfragment",
        arity: (2, 3),
        run: |d, a| set_min_len(d, a).into(),
    },
    Command {
        name: "dpctl/ipf-set-max-nfrags",
        usage: "[dp] maxfrags",
        arity: (1, 2),
        run: |d, a| set_max(d, a).into(),
    },
    Command {
        name: "dpctl/ipf-get-status",
        usage: "[-m] [dp]",
        arity: (0, 2),
        run: |d, a| status(d, a).into(),
    },
];

/// The last `n` arguments; before them there may be a datapath's name.
fn last(args: &[String], n: usize) -> Result<Vec<&str>, String> {
    let mut rest: Vec<&str> = args.iter().map(String::as_str).collect();
    if rest.len() > n {
        take_datapath(&mut rest, |_| false)?;
    }
    Ok(rest)
}

fn invalid(text: &str) -> String {
    format!("{PROGRAM}: {text} (Invalid argument)")
}

/// Whether it is IPv6.
fn version(word: &str, error: &str) -> Result<bool, String> {
    match word {
        "v4" => Ok(false),
        "v6" => Ok(true),
        _ => Err(invalid(error)),
    }
}

fn change(d: &Daemon, f: impl FnOnce(&mut FragConfig)) {
    let table = d.dp.fragments();
    let mut config = table.config();
    f(&mut config);
    table.set_config(config);
}

fn set_enabled(d: &mut Daemon, args: &[String], on: bool) -> Text {
    let rest = last(args, 1)?;
    let v6 = version(rest[0], "parameter missing: 'v4' for IPv4 or 'v6' for IPv6")?;
    change(d, |c| c.rules_mut(v6).enabled = on);
    let what = if on { "enabling" } else { "disabling" };
    Ok(format!("{what} fragmentation reassembly successful\n"))
}

fn set_min_len(d: &mut Daemon, args: &[String]) -> Text {
    let rest = last(args, 2)?;
    let v6 = version(rest[0], "parameter missing: v4 for IPv4 or v6 for IPv6")?;
    let min_len: u32 =
        rest[1].parse().map_err(|_| invalid("parameter missing for minimum fragment size"))?;
    if min_len < LEAST_MIN_LEN {
        return Err(format!(
            "{PROGRAM}: requested minimum fragment size too small; see documentation \
             (Operation not permitted)"
        ));
    }
    change(d, |c| c.rules_mut(v6).min_len = min_len);
    Ok("setting minimum fragment size successful\n".to_owned())
}

fn set_max(d: &mut Daemon, args: &[String]) -> Text {
    let rest = last(args, 1)?;
    let max: u32 =
        rest[0].parse().map_err(|_| invalid("parameter missing for maximum fragments"))?;
    if max > MOST_FRAGMENTS {
        return Err(format!(
            "{PROGRAM}: setting maximum fragments failed (Operation not permitted)"
        ));
    }
    change(d, |c| c.max_fragments = max);
    Ok("setting maximum fragments successful\n".to_owned())
}

fn status(d: &mut Daemon, args: &[String]) -> Text {
    let (opts, mut rest) = options(args);
    take_datapath(&mut rest, |_| false)?;
    let table = d.dp.fragments();
    let config = table.config();
    let mut s = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(s, "        {text}");
    };
    line(format_args!("Fragmentation Module Status"));
    line(format_args!("---------------------------"));
    line(format_args!("v4 enabled: {}", u8::from(config.v4.enabled)));
    line(format_args!("v6 enabled: {}", u8::from(config.v6.enabled)));
    line(format_args!("max num frags (v4/v6): {}", config.max_fragments));
    line(format_args!("num frag: {}", table.len()));
    for (v6, name) in [(false, "v4"), (true, "v6")] {
        let c = table.counters(v6);
        line(format_args!("min {name} frag size: {}", config.rules(v6).min_len));
        for (what, n) in [
            ("accepted", c.accepted),
            ("completed", c.completed),
            ("expired", c.expired),
            ("too small", c.too_small),
            ("overlapped", c.overlap),
            ("purged", c.purged),
        ] {
            line(format_args!("{name} frags {what}: {n}"));
        }
    }
    if opts.iter().any(|o| ["-m", "--more"].contains(o)) {
        s.push_str("\n        Fragment Lists:\n\n");
        for datagram in table.dump() {
            let _ = writeln!(s, "{}", list_line(&datagram));
        }
    }
    Ok(s)
}

/// A datagram as OVS lists it.
fn list_line(f: &FragSnapshot) -> String {
    let DatagramKey { id, src, dst, proto, zone: Zone(zone), place } = f.key;
    let eth_type = if f.key.is_ipv6() { ethertype::IPV6 } else { ethertype::IPV4 };
    format!(
        "(src={src},dst={dst},recirc_id={place},ip_id={id},dl_type={eth_type:#x},zone={zone},nw_proto={proto},\
         num_fragments={},state={})",
        f.n_fragments, f.state
    )
}
