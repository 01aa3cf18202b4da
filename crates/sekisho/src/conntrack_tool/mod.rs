//! `sekisho conntrack`: the switch's connections, with the options and outputs of conntrack-tools.
//!
//! The table belongs to the daemon, which is asked over its control socket by the words of
//! [`switchd::ctl::conntrack`]; a stock `ovs-vswitchd`, which does not know them, is asked by
//! `dpctl/…` ([`ovs`]). Results go to standard output, the closing count to standard error.
//!
//! Where conntrack-tools take nonsense in silence (`--dport ssh`, `-w 70000`), this tool refuses it unless
//! `--lenient` is given.
//! Beyond conntrack-tools: ports and state can be given without `-p`, and `-z 5` is `-w 5`.

mod format;
mod options;
mod ovs;

use std::io::Write;

use switchd::ctl::conntrack::{ConnEventKind, ConnEvents, ConnFilter, ConnRecord, ConnStats};

use crate::applet::{Failure, Outcome, Session};
use crate::control::{Control, DEFAULT_TARGET};
use crate::getopt::{Order, parse_text};
pub(crate) use format::protocol_name;
use format::{Output, XML_HEAD, XML_TAIL};
use options::{Id, OPTIONS, options, zone_for_zero};

/// The release of conntrack-tools whose texts these are.
const BANNER: &str = "conntrack v1.4.7 (conntrack-tools)";

const HELP: &str = "\
usage: conntrack COMMAND [OPTION]...
Lists, watches and deletes the connections that the running switch tracks.

Commands:
  -L [TABLE]              list connections
  -G                      show one connection
  -D                      delete the connections that match
  -F                      delete all connections
  -E                      print events as they happen
  -C                      print the number of connections
  -S                      print statistics of each worker

Which connections:
  -s, --src IP[/MASK]     source address, original direction
  -d, --dst IP[/MASK]     destination address, original direction
  -r, --reply-src IP      source address, reply direction
  -q, --reply-dst IP      destination address, reply direction
  -p, --protonum PROTO    tcp, udp, icmp, icmpv6, sctp, ... or a number
  -f, --family PROTO      ipv4 or ipv6
  --sport, --dport PORT   ports, original direction
  --reply-port-src PORT, --reply-port-dst PORT
  --state STATE           ESTABLISHED, TIME_WAIT, ...
  --icmp-type, --icmp-code, --icmp-id NUMBER
  -w, --zone ZONE         connection tracking zone
  -m, --mark MARK[/MASK]  ct_mark
  -u, --status STATUS     ASSURED, SEEN_REPLY or UNREPLIED
  -n, -g, -j              source, destination, any address or port rewritten

Output:
  -o, --output TYPE[,...] extended, id, timestamp, labels, xml
  -e, --event-mask EVENT[,...]  NEW, UPDATES, DESTROY or ALL
  -z, --zero              with -L: zero the counters that are read
  --lenient               take numbers that are none or too large
";

/// A mistake in the arguments: exit status 2 and where to look.
fn usage(session: &mut Session<'_>, text: impl std::fmt::Display) -> Failure {
    let _ = writeln!(
        session.err,
        "{BANNER}: {text}\nTry `conntrack -h' or 'conntrack --help' for more information."
    );
    Failure::Silent(2)
}

/// Anything else that fails: exit status 1.
fn failed(session: &mut Session<'_>, text: impl std::fmt::Display) -> Failure {
    let _ = session.out.flush();
    let _ = writeln!(session.err, "{BANNER}: {text}");
    Failure::Silent(1)
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = match parse_text("", OPTIONS, Order::Permute, zone_for_zero(args)) {
        Ok(parsed) => parsed,
        Err(text) => {
            // getopt says `: invalid option -- 'Q'` or `: unrecognized option '--frob'`.
            let word = text.rsplit('\'').nth(1).unwrap_or_default();
            let dashes = if text.contains("invalid option --") { "-" } else { "" };
            let text = match text.contains("requires an argument") {
                true => format!("option `{dashes}{word}' requires an argument"),
                false => format!("unknown option `{dashes}{word}'"),
            };
            return Err(usage(session, text));
        }
    };
    let mut commands = parsed.options.iter().filter(|o| {
        use Id::{Count, Delete, Event, Flush, Get, Help, List, Stats, Unsupported, Version};
        matches!(
            o.id,
            List | Get | Delete | Event | Flush | Count | Stats | Unsupported | Version | Help
        )
    });
    let Some(command) = commands.next() else {
        write!(session.out, "{HELP}")?;
        return Ok(0);
    };
    if commands.next().is_some() {
        return Err(usage(session, "Invalid commands combination"));
    }
    let own_table = match parsed.rest.first().map(String::as_str) {
        None | Some("conntrack") => true,
        Some("expect" | "dying" | "unconfirmed") => false,
        Some(other) => return Err(usage(session, format_args!("unknown type `{other}'"))),
    };
    if let Some(extra) = parsed.rest.get(1) {
        return Err(usage(session, format_args!("unknown argument `{extra}'")));
    }
    let (filter, output, events) = match options(&parsed) {
        Ok(done) => done,
        Err(text) => return Err(usage(session, text)),
    };
    match command.id {
        Id::Version => writeln!(session.out, "{BANNER}").map(|()| 0).map_err(Failure::Io),
        Id::Help => write!(session.out, "{HELP}").map(|()| 0).map_err(Failure::Io),
        Id::Unsupported => {
            let name = &command.name;
            let text = format!("`--{name}' is not supported: only packets make connections here");
            Err(usage(session, text))
        }
        _ if !own_table => other_table(session, command.id, &parsed.rest[0]),
        _ => {
            let mut daemon = Daemon::connect(session)?;
            match command.id {
                Id::Get => get(session, &mut daemon, &filter, output),
                Id::Delete => delete(session, &mut daemon, &filter, output),
                Id::Event => watch(session, &mut daemon, &filter, output, &events),
                Id::Flush => flush(session, &mut daemon),
                Id::Count => count(session, &mut daemon),
                Id::Stats => stats(session, &mut daemon),
                _ => list(session, &mut daemon, &filter, output),
            }
        }
    }
}

/// The tables that Linux has beside the connections; there is never anything in them here.
fn other_table(session: &mut Session<'_>, command: Id, table: &str) -> Outcome {
    let what = if table == "expect" { "expectations" } else { "flow entries" };
    match command {
        Id::Count => writeln!(session.out, "0")?,
        Id::List => writeln!(session.err, "{BANNER}: 0 {what} have been shown.")?,
        Id::Flush if table == "expect" => {
            writeln!(session.err, "{BANNER}: expectation table has been emptied.")?;
        }
        _ => return Err(usage(session, format_args!("there is nothing to do with `{table}'"))),
    }
    Ok(0)
}

/// The daemon, and whether it is one of ours.
struct Daemon {
    control: Control,
}

impl Daemon {
    fn connect(session: &mut Session<'_>) -> Result<Self, Failure> {
        match Control::connect(session, DEFAULT_TARGET) {
            Ok(control) => Ok(Self { control }),
            Err(Failure::Fatal(_, text)) => Err(failed(session, text)),
            Err(other) => Err(other),
        }
    }

    /// Asks by one of the `conntrack/*` words; `None` if the daemon does not know it.
    fn ask<T: for<'de> serde::Deserialize<'de>>(
        &mut self,
        session: &mut Session<'_>,
        word: &str,
        args: &[String],
    ) -> Result<Option<T>, Failure> {
        match self.control.call(session, word, args)? {
            Ok(text) => match serde_json::from_str(&text) {
                Ok(value) => Ok(Some(value)),
                Err(e) => Err(failed(session, format_args!("cannot read the daemon's reply: {e}"))),
            },
            Err(text) if text.contains("is not a valid command") => Ok(None),
            Err(text) => Err(failed(session, text.trim_end())),
        }
    }

    /// Asks a stock daemon; its text.
    fn stock(
        &mut self,
        session: &mut Session<'_>,
        word: &str,
        args: &[String],
    ) -> Result<String, Failure> {
        match self.control.call(session, word, args)? {
            Ok(text) => Ok(text),
            Err(text) => Err(failed(session, text.trim_end())),
        }
    }

    /// The connections that match, from either kind of daemon.
    fn list(
        &mut self,
        session: &mut Session<'_>,
        filter: &ConnFilter,
    ) -> Result<Vec<ConnRecord>, Failure> {
        if let Some(records) = self.ask(session, "conntrack/list", &[json(filter)?])? {
            return Ok(records);
        }
        let text = self.stock(session, "dpctl/dump-conntrack", &["-s".to_owned()])?;
        let mut records = ovs::parse_dump(&text).map_err(|e| failed(session, e))?;
        records.retain(|c| filter.matches(c));
        Ok(records)
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::fatal(e.to_string()))
}

/// Prints connections and the closing count.
fn show(
    session: &mut Session<'_>,
    records: &[ConnRecord],
    output: Output,
    done: &str,
) -> Result<(), Failure> {
    if output.xml && !records.is_empty() {
        write!(session.out, "{XML_HEAD}")?;
    }
    for c in records {
        writeln!(session.out, "{}", format::record(c, output))?;
    }
    if output.xml && !records.is_empty() {
        write!(session.out, "{XML_TAIL}")?;
    }
    shown(session, records.len(), done)
}

/// The closing count.
fn shown(session: &mut Session<'_>, n: usize, done: &str) -> Result<(), Failure> {
    session.out.flush()?;
    writeln!(session.err, "{BANNER}: {n} flow entries have been {done}.")?;
    Ok(())
}

/// Prints the connections of one line of `conntrack/list`, after `n` others.
fn list_line(
    session: &mut Session<'_>,
    line: &str,
    output: Output,
    n: &mut usize,
) -> Result<(), Failure> {
    let line = line.strip_prefix('[').unwrap_or(line);
    let line = line.strip_suffix([',', ']']).unwrap_or(line);
    let records: Vec<ConnRecord> = match serde_json::from_str(&format!("[{line}]")) {
        Ok(records) => records,
        Err(e) => return Err(failed(session, format_args!("cannot read the daemon's reply: {e}"))),
    };
    for c in records {
        if output.xml && *n == 0 {
            write!(session.out, "{XML_HEAD}")?;
        }
        writeln!(session.out, "{}", format::record(&c, output))?;
        *n += 1;
    }
    Ok(())
}

fn list(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
) -> Outcome {
    // Each is printed as it comes: there may be millions.
    let (mut n, mut done) = (0, Ok(()));
    let result = daemon.control.call_lines(
        session,
        "conntrack/list",
        &[json(filter)?],
        |session, line| {
            done = list_line(session, line, output, &mut n);
            done.is_ok()
        },
    )?;
    match result {
        Err(text) if text.contains("is not a valid command") => {
            let records = daemon.list(session, filter)?;
            show(session, &records, output, "shown")?;
            return Ok(0);
        }
        Err(text) => return Err(failed(session, text.trim_end())),
        Ok(()) => done?,
    }
    if output.xml && n > 0 {
        write!(session.out, "{XML_TAIL}")?;
    }
    shown(session, n, "shown")?;
    Ok(0)
}

fn get(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
) -> Outcome {
    let records = daemon.list(session, filter)?;
    if records.is_empty() {
        return Err(failed(session, "Operation failed: such conntrack doesn't exist"));
    }
    show(session, &records[..1], output, "shown")?;
    Ok(0)
}

fn delete(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
) -> Outcome {
    let records: Vec<ConnRecord> =
        match daemon.ask(session, "conntrack/delete", &[json(filter)?])? {
            Some(records) => records,
            None => {
                let records = daemon.list(session, filter)?;
                for c in &records {
                    daemon.stock(session, "dpctl/flush-conntrack", &ovs::flush_args(c))?;
                }
                records
            }
        };
    show(session, &records, output, "deleted")?;
    Ok(u8::from(records.is_empty()))
}

fn flush(session: &mut Session<'_>, daemon: &mut Daemon) -> Outcome {
    let done: Option<serde_json::Value> = daemon.ask(session, "conntrack/flush", &[])?;
    if done.is_none() {
        daemon.stock(session, "dpctl/flush-conntrack", &[])?;
    }
    writeln!(session.err, "{BANNER}: connection tracking table has been emptied.")?;
    Ok(0)
}

fn count(session: &mut Session<'_>, daemon: &mut Daemon) -> Outcome {
    match daemon.ask::<u64>(session, "conntrack/count", &[])? {
        Some(n) => writeln!(session.out, "{n}")?,
        None => {
            let text = daemon.stock(session, "dpctl/ct-get-nconns", &[])?;
            writeln!(session.out, "{}", text.trim_end())?;
        }
    }
    Ok(0)
}

fn stats(session: &mut Session<'_>, daemon: &mut Daemon) -> Outcome {
    let Some(workers) = daemon.ask::<Vec<ConnStats>>(session, "conntrack/stats", &[])? else {
        return Err(failed(session, "this daemon keeps no such statistics"));
    };
    for (i, s) in workers.iter().enumerate() {
        writeln!(
            session.out,
            "cpu={i:<4}\tfound={} invalid={} insert={} insert_failed={} drop={} early_drop={} \
             error={} search_restart={} clash_resolve={} chaintoolong={} ",
            s.found,
            s.invalid,
            s.insert,
            s.insert_failed,
            s.drop,
            s.early_drop,
            s.error,
            s.search_restart,
            s.clash_resolve,
            s.chaintoolong,
        )?;
    }
    Ok(0)
}

/// `-E`: prints events until the reader leaves, the daemon stops, or SIGINT or SIGTERM comes.
fn watch(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
    wanted: &[ConnEventKind],
) -> Outcome {
    let shown = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    count_on_signal(std::sync::Arc::clone(&shown), output.xml)?;
    let filter = json(filter)?;
    let Some(start) = daemon.ask::<ConnEvents>(session, "conntrack/events", &[])? else {
        return Err(failed(session, "this daemon does not report events"));
    };
    let mut seq = start.seq;
    if output.xml {
        write!(session.out, "{XML_HEAD}")?;
    }
    loop {
        session.out.flush()?;
        let args = [seq.to_string(), filter.clone()];
        let Some(batch) = daemon.ask::<ConnEvents>(session, "conntrack/events", &args)? else {
            return Err(failed(session, "the daemon stopped reporting events"));
        };
        seq = batch.seq;
        if batch.lost != 0 {
            session.out.flush()?;
            writeln!(session.err, "{BANNER}: {} events were lost", batch.lost)?;
        }
        for e in batch.events.iter().filter(|e| wanted.contains(&e.kind)) {
            writeln!(session.out, "{}", format::event(e, output))?;
            shown.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Prints the closing count and ends the process when it is asked to stop.
fn count_on_signal(
    shown: std::sync::Arc<std::sync::atomic::AtomicU64>,
    xml: bool,
) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (int, term) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            if let (Ok(mut int), Ok(mut term)) = (int, term) {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                let n = shown.load(std::sync::atomic::Ordering::Relaxed);
                if xml {
                    // The main thread holds the lock of standard output: go around it.
                    let _ = std::fs::OpenOptions::new()
                        .append(true)
                        .open("/dev/stdout")
                        .and_then(|mut f| f.write_all(XML_TAIL.as_bytes()));
                }
                let mut err = std::io::stderr();
                let _ = writeln!(err, "{BANNER}: {n} flow events have been shown.");
                std::process::exit(0);
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: &[&str]) -> (Result<u8, u8>, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut session = Session {
            program: "conntrack".into(),
            argv0: "conntrack".into(),
            out: &mut out,
            err: &mut err,
        };
        let outcome = run(&mut session, args.iter().map(|s| (*s).to_owned()).collect());
        let status = outcome.map_err(|f| match f {
            Failure::Silent(status) => status,
            other => panic!("{other:?}"),
        });
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn texts_of_conntrack_tools() {
        let hint = "\nTry `conntrack -h' or 'conntrack --help' for more information.\n";
        for (args, text) in [
            (&["-Q"][..], "unknown option `-Q'"),
            (&["--frob"], "unknown option `--frob'"),
            (&["-L", "-C"], "Invalid commands combination"),
            (&["-L", "bogus"], "unknown type `bogus'"),
        ] {
            let (status, out, err) = call(args);
            assert_eq!((status, out.as_str()), (Err(2), ""));
            assert_eq!(err, format!("{BANNER}: {text}{hint}"));
        }
        assert_eq!(call(&["-V"]).1, "conntrack v1.4.7 (conntrack-tools)\n");
        assert_eq!(call(&["-C", "expect"]).1, "0\n");
        let shown = "conntrack v1.4.7 (conntrack-tools): 0 expectations have been shown.\n";
        assert_eq!(call(&["-L", "expect"]).2, shown);
    }
}
