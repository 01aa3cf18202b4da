//! `sekisho top`: what the running switch does, looked at again and again.
//!
//! [`source`] asks the daemon for samples (`sekisho/status`), [`model`] makes rates and rows of two of them,
//! [`sections`] makes tables of these and [`table`] lays those out. [`display`] is what
//! somebody chose to see of it; [`draw`] puts them on a screen, which [`screen`]
//! has of a terminal; without one they are printed as text, or as JSON.

mod display;
mod draw;
mod model;
mod screen;
mod sections;
mod source;
mod table;
mod units;

use std::io::IsTerminal;
use std::time::Duration;

use switchd::ctl::status::Status;

use crate::applet::{Failure, Outcome, Session};
use crate::control::{DEFAULT_TARGET, arm_timeout, parse_timeout};
use crate::getopt::{Arg, Opt, Order, parse};
use model::View;
use source::Source;

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "once", short: None, arg: Arg::None, id: '1' },
    Opt { long: "json", short: None, arg: Arg::None, id: 'j' },
    Opt { long: "interval", short: Some('i'), arg: Arg::Required, id: 'i' },
    Opt { long: "target", short: Some('t'), arg: Arg::Required, id: 't' },
    Opt { long: "timeout", short: Some('T'), arg: Arg::Required, id: 'T' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
];

const HELP: &str = "\
usage: sekisho top [OPTION]...
Shows what the running switch does: ports and their rates, workers and what answers their look-ups,
connections by zone and state, who moves most, and why packets are dropped.

Options:
      --once           print one look as text and end; so it is where there is no terminal
      --json           print looks as JSON, one a line: one with --once, else until it is ended
  -i, --interval=SECS  seconds between two looks, 0.1 to 3600; default 1
  -t, --target=TARGET  daemon to ask, a name or the absolute path of a control socket; default ovs-vswitchd
  -T, --timeout=SECS   with --once: give up after SECS seconds
  -h, --help           print this

Keys:
  q, Esc, Ctrl-C       quit
  Tab, 1 to 5, a       one section (the next; by its place), all of them
  s                    another order of the section's rows (of all sections: of the ports)
  arrows, Page Up, Page Down, Home
                       scroll
  Space                pause, go on

Rates are those between two looks, by the daemon's clock. Shares under CONN, EXACT, MEGAFLOW and UPCALL are
of look-ups: answered by the connection cache, the exact-match cache, a megaflow, or by nothing, so
that the packet was translated. BUSY is the share of the time that a worker spends on packets.
In a table of very many connections talkers are those of the last few looks.

Exit status: 0; 1 if the daemon cannot be reached, or does not know how to answer.
";

/// How long the first two samples are apart where somebody waits for a screen.
const FIRST: Duration = Duration::from_millis(300);
/// Looks that `--once` waits for talkers of a table that takes long to look through.
const PATIENCE: usize = 8;

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = parse(session, OPTIONS, Order::Permute, args)?;
    let mut target = DEFAULT_TARGET;
    let (mut interval, mut timeout) = (Duration::from_secs(1), None);
    let (mut once, mut json) = (false, false);
    for option in &parsed.options {
        match (option.id, option.value.as_deref().unwrap_or_default()) {
            ('1', _) => once = true,
            ('j', _) => json = true,
            ('i', value) => interval = parse_interval(value)?,
            ('t', value) => target = value,
            ('T', value) => timeout = Some(parse_timeout("-T or --timeout", value)?),
            _ => {
                write!(session.out, "{HELP}")?;
                return Ok(0);
            }
        }
    }
    if let Some(word) = parsed.rest.first() {
        let text = format!("what is \"{word}\"? There are options only (use --help for help)");
        return Err(Failure::fatal(text));
    }
    let on_terminal = std::io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|t| !t.is_empty() && t != "dumb");
    let mut source = Source::new(target);
    match (once || (!on_terminal && !json), json) {
        (true, json) => {
            arm_timeout(timeout);
            let view = look_once(session, &mut source, interval)?;
            if json {
                print_json(session, &view)?
            } else {
                print_text(session, &view)?
            }
            Ok(0)
        }
        (false, true) => stream(session, &mut source, interval),
        (false, false) => {
            // What is wrong from the start is said as all tools say it.
            let first = source.sample(session)?;
            screen::run(session, source, first, interval)
        }
    }
}

fn parse_interval(text: &str) -> Result<Duration, Failure> {
    match text.parse::<f64>() {
        Ok(secs) if (0.1..=3600.0).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err(Failure::fatal(format!(
            "value {text} on -i or --interval is invalid: it is seconds, from 0.1 to 3600"
        ))),
    }
}

/// Two samples, and what they say together.
fn look_once(
    session: &mut Session<'_>,
    source: &mut Source,
    interval: Duration,
) -> Result<View, Failure> {
    let mut before = source.sample(session)?;
    for left in (0..PATIENCE).rev() {
        std::thread::sleep(interval);
        let now = source.sample(session)?;
        if now.connections.look.window_ns > 0 || left == 0 {
            return Ok(View::of(&now, Some(&before)));
        }
        before = now;
    }
    Ok(View::of(&before, None))
}

/// Looks one after the other until it is ended, also over the end of a daemon.
fn stream(session: &mut Session<'_>, source: &mut Source, interval: Duration) -> Outcome {
    let mut before: Option<Status> = Some(source.sample(session)?);
    let mut is_there = true;
    loop {
        std::thread::sleep(interval);
        // What is said of each attempt is said once.
        let mut nowhere = (std::io::sink(), std::io::sink());
        let (program, argv0) = (session.program.clone(), session.argv0.clone());
        let mut quiet = Session { program, argv0, out: &mut nowhere.0, err: &mut nowhere.1 };
        match source.sample(&mut quiet) {
            Ok(now) => {
                print_json(session, &View::of(&now, before.as_ref()))?;
                before = Some(now);
                is_there = true;
            }
            Err(failure) if is_there => {
                session.warn(format_args!("{}; trying again", reason(&failure)));
                is_there = false;
            }
            Err(_) => {}
        }
    }
}

/// A failure in words.
fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Fatal(_, text) => text.clone(),
        Failure::Silent(status) => format!("failed with status {status}"),
        Failure::Io(e) => e.to_string(),
    }
}

fn print_text(session: &mut Session<'_>, view: &View) -> Result<(), Failure> {
    write!(session.out, "{}", sections::plain(view))?;
    Ok(session.out.flush()?)
}

fn print_json(session: &mut Session<'_>, view: &View) -> Result<(), Failure> {
    let line = serde_json::to_string(view).map_err(|e| Failure::fatal(e.to_string()))?;
    writeln!(session.out, "{line}")?;
    Ok(session.out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(parse_interval("0.5").unwrap(), Duration::from_millis(500));
        for bad in ["0", "-1", "x", "1e9", "NaN", ""] {
            let Err(Failure::Fatal(1, text)) = parse_interval(bad) else { panic!("{bad}") };
            assert!(text.starts_with(&format!("value {bad} on -i or --interval is invalid")));
        }
    }
}
