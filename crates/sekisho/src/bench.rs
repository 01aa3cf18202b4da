//! `sekisho bench`: this switch beside Open vSwitch and the Linux bridge, on the user's own machine.
//!
//! The measurements are the crate `bench`; here are the command line and the exit statuses.

use bench::{Error, Options, Part, System};

use crate::applet::{Failure, Outcome, Session};
use crate::getopt::{Arg, Opt, Order, parse};

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "parts", short: Some('p'), arg: Arg::Required, id: 'p' },
    Opt { long: "only", short: Some('o'), arg: Arg::Required, id: 'o' },
    Opt { long: "cases", short: Some('c'), arg: Arg::Required, id: 'c' },
    Opt { long: "rounds", short: Some('r'), arg: Arg::Required, id: 'r' },
    Opt { long: "seconds", short: Some('s'), arg: Arg::Required, id: 's' },
    Opt { long: "first", short: None, arg: Arg::None, id: 'f' },
    Opt { long: "targets", short: None, arg: Arg::None, id: 't' },
    Opt { long: "json", short: Some('j'), arg: Arg::None, id: 'j' },
    Opt { long: "list", short: Some('l'), arg: Arg::None, id: 'l' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
];

const HELP: &str = "\
usage: sekisho bench [OPTION]...
Measures this switch beside Open vSwitch and the Linux bridge, as far as they are installed, in network
namespaces that go when it ends. Prints a table for each figure: median, spread and ratio.

Options:
  -p, --parts=PART,...    what is measured
  -o, --only=SYSTEM,...   against what
  -c, --cases=CASE,...    which frames from memory (beginnings of names)
  -r, --rounds=N          samples of each figure (3)
  -s, --seconds=N         length of a sample (2)
      --first             let the forwarding thread go before all others (part conntrack)
      --targets           say which of this project's promises are kept
  -j, --json              print a JSON document instead of tables
  -l, --list              list parts, systems and cases, and what is missing here
  -h, --help              print this

Exit status: 0 if all that is here was measured, 1 if something failed, 2 for a wrong command line, 3 if
nothing can be measured on this machine, 130 if it was interrupted.
";

/// What a command line asks for.
#[derive(Debug)]
enum Asked {
    Help,
    List,
    Run { options: Options, json: bool, targets: bool },
}

fn wrong(text: impl std::fmt::Display) -> Failure {
    Failure::Fatal(2, text.to_string())
}

/// A number above 0.
fn number<T: std::str::FromStr + Default + PartialEq>(
    name: &str,
    value: &str,
) -> Result<T, Failure> {
    let n = value.parse().ok().filter(|n| *n != T::default());
    n.ok_or_else(|| wrong(format!("--{name}: \"{value}\" is not a whole number above 0")))
}

fn read(session: &mut Session<'_>, args: Vec<String>) -> Result<Asked, Failure> {
    let parsed = parse(session, OPTIONS, Order::Permute, args).map_err(|e| match e {
        Failure::Silent(_) => Failure::Silent(2),
        e => e,
    })?;
    if let Some(word) = parsed.rest.first() {
        return Err(wrong(format!("what is \"{word}\"? (use --help for help)")));
    }
    let mut options = Options::default();
    let (mut json, mut targets) = (false, false);
    for option in &parsed.options {
        let value = option.value.as_deref().unwrap_or_default();
        match option.id {
            'p' => options.parts = Part::parse_list(value).map_err(wrong)?,
            'o' => options.systems = System::parse_list(value).map_err(wrong)?,
            'c' => options.cases = bench::parse_cases(value).map_err(wrong)?,
            'r' => options.rounds = number("rounds", value)?,
            's' => options.seconds = number("seconds", value)?,
            'f' => options.first = true,
            't' => targets = true,
            'j' => json = true,
            'l' => return Ok(Asked::List),
            _ => return Ok(Asked::Help),
        }
    }
    Ok(Asked::Run { options, json, targets })
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let (options, json, targets) = match read(session, args)? {
        Asked::Help => {
            write!(session.out, "{HELP}")?;
            return Ok(0);
        }
        Asked::List => {
            write!(session.out, "{}", bench::list())?;
            return Ok(0);
        }
        Asked::Run { options, json, targets } => (options, json, targets),
    };
    let run = bench::run(&options).map_err(|error| {
        let status = match &error {
            Error::Failed(_) => 1,
            Error::Asked(_) => 2,
            Error::Machine(_) => 3,
            Error::Interrupted => 130,
        };
        Failure::Fatal(status, error.to_string())
    })?;
    let text = if json { run.json() } else { run.text(targets) };
    write!(session.out, "{text}")?;
    Ok(u8::from(!run.complete()))
}

/// Runs one end of the traffic, in a machine's namespace.
pub fn run_end(_: &mut Session<'_>, args: Vec<String>) -> Outcome {
    bench::run_end(&args).map(|()| 0).map_err(|e| Failure::fatal(format!("{e:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Result<Asked, String> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let program = "sekisho bench".to_owned();
        let mut session =
            Session { program: program.clone(), argv0: program, out: &mut out, err: &mut err };
        let args = words.split_whitespace().map(str::to_owned).collect();
        read(&mut session, args).map_err(|failure| match failure {
            Failure::Fatal(2, text) => text,
            Failure::Silent(2) => String::from_utf8(err).unwrap(),
            other => panic!("{words}: {other:?}"),
        })
    }

    #[test]
    fn a_command_line_says_what_and_how_long() {
        let Ok(Asked::Run { options, json: true, targets: false }) =
            asked("--parts tcp,rtt --only=sekisho,bridge -r 7 --seconds 1 --cases new- --json")
        else {
            panic!("not understood");
        };
        assert_eq!(options.parts, [Part::Tcp, Part::Rtt]);
        assert_eq!(options.systems, [System::Sekisho, System::Bridge]);
        assert_eq!((options.rounds, options.seconds), (7, 1));
        assert_eq!(options.cases, ["new-"]);
        let Ok(Asked::Run { options, json: false, .. }) = asked("") else {
            panic!("nothing is all")
        };
        assert!(options.parts.contains(&Part::Memory) && !options.parts.contains(&Part::Flood));
        // The last word counts, so that a script can set defaults before what its user says.
        let Ok(Asked::Run { options, .. }) = asked("--parts all --parts udp") else { panic!() };
        assert_eq!(options.parts, [Part::Udp]);
        assert!(matches!(asked("--list"), Ok(Asked::List)));
        assert!(matches!(asked("-h"), Ok(Asked::Help)));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        for (words, told) in [
            ("--parts tpc", "there is no part \"tpc\"; there are tcp, tcp4"),
            ("--only ovn", "there is no system \"ovn\"; there are sekisho, afxdp"),
            ("--cases x", "no case begins with \"x\"; there are drop-1"),
            ("--rounds 0", "--rounds: \"0\" is not a whole number above 0"),
            ("--seconds 1.5", "--seconds: \"1.5\" is not a whole number above 0"),
            ("tcp", "what is \"tcp\"?"),
            ("--part", "requires an argument"),
            ("--fast", "unrecognized option"),
        ] {
            let error = asked(words).unwrap_err();
            assert!(error.contains(told), "{words}: {error}");
        }
    }

    #[test]
    fn the_list_has_everything_that_can_be_asked_for() {
        let list = bench::list();
        for name in Part::all().map(Part::name).chain(System::all().map(System::name)) {
            let line = |l: &str| l.split_whitespace().find(|word| *word != "*") == Some(name);
            assert!(list.lines().any(line), "{name} is not in\n{list}");
        }
    }
}
