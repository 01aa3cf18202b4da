//! Command-line options in the manner of glibc's `getopt_long`, driven by a table.
//!
//! OVS and conntrack-tools parse their options with `getopt_long`, and scripts rely on its habits:
//! unambiguous abbreviations of long options, `--opt=val` and `--opt val`, bundled short options
//! (`-mmO`), `-tval`, options after arguments ([`Order::Permute`]) unless the tool stops at the first
//! argument ([`Order::Stop`]), `--` ends options. Its error texts are kept, too.

use crate::applet::{Failure, Session};

/// Does an option take an argument?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// `--opt`
    None,
    /// `--opt=VAL` or `--opt VAL`
    Required,
    /// `--opt` or `--opt=VAL`
    Optional,
}

/// One option. `id` is what the tool looks for; several rows may share it.
#[derive(Clone, Copy, Debug)]
pub struct Opt<T: 'static> {
    /// Long name without dashes; empty if there is only a short one.
    pub long: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Whether it takes an argument.
    pub arg: Arg,
    /// What it means to the tool.
    pub id: T,
}

/// What happens at the first argument that is no option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Options may stand anywhere before `--`.
    Permute,
    /// The rest of the command line is arguments.
    Stop,
}

/// One option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// Which one.
    pub id: T,
    /// Its full long name, or the short letter where it has no long name.
    pub name: String,
    /// Its argument.
    pub value: Option<String>,
}

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// Options in the order given.
    pub options: Vec<Given<T>>,
    /// Arguments that are no options.
    pub rest: Vec<String>,
}

impl<T: PartialEq> Parsed<T> {
    /// Was the option given?
    pub fn has(&self, id: T) -> bool {
        self.options.iter().any(|o| o.id == id)
    }
}

/// Parses `args` (without `argv[0]`).
///
/// # Errors
/// The text that getopt prints, already prefixed with `argv0`, to be shown as it is.
pub fn parse_text<T: Copy + PartialEq>(
    argv0: &str,
    table: &[Opt<T>],
    order: Order,
    args: Vec<String>,
) -> Result<Parsed<T>, String> {
    let mut parsed = Parsed { options: Vec::new(), rest: Vec::new() };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.rest.extend(args.by_ref());
        } else if let Some(word) = arg.strip_prefix("--") {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word, None),
            };
            let opt = find_long(argv0, table, name, word)?;
            let value = match (opt.arg, value) {
                (Arg::None, Some(_)) => {
                    return Err(format!(
                        "{argv0}: option '--{}' doesn't allow an argument",
                        opt.long
                    ));
                }
                (Arg::Required, None) => match args.next() {
                    Some(value) => Some(value),
                    None => {
                        return Err(format!(
                            "{argv0}: option '--{}' requires an argument",
                            opt.long
                        ));
                    }
                },
                (_, value) => value,
            };
            parsed.options.push(Given { id: opt.id, name: opt.long.to_owned(), value });
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut letters = arg[1..].chars();
            while let Some(letter) = letters.next() {
                let Some(opt) = table.iter().find(|o| o.short == Some(letter)) else {
                    return Err(format!("{argv0}: invalid option -- '{letter}'"));
                };
                let tail = letters.as_str();
                let value = match opt.arg {
                    Arg::None => None,
                    Arg::Optional if tail.is_empty() => None,
                    Arg::Required if tail.is_empty() => match args.next() {
                        Some(value) => Some(value),
                        None => {
                            return Err(format!(
                                "{argv0}: option requires an argument -- '{letter}'"
                            ));
                        }
                    },
                    _ => Some(tail.to_owned()),
                };
                let name =
                    if opt.long.is_empty() { letter.to_string() } else { opt.long.to_owned() };
                parsed.options.push(Given { id: opt.id, name, value });
                if opt.arg != Arg::None {
                    break;
                }
            }
        } else {
            parsed.rest.push(arg);
            if order == Order::Stop {
                parsed.rest.extend(args.by_ref());
            }
        }
    }
    Ok(parsed)
}

/// As [`parse_text`], for tools that exit with status 1 on a bad option.
///
/// # Errors
/// [`Failure::Silent`] after printing getopt's text on standard error.
pub fn parse<T: Copy + PartialEq>(
    session: &mut Session<'_>,
    table: &[Opt<T>],
    order: Order,
    args: Vec<String>,
) -> Result<Parsed<T>, Failure> {
    parse_text(&session.argv0, table, order, args).map_err(|text| {
        let _ = writeln!(session.err, "{text}");
        Failure::Silent(1)
    })
}

/// Exact long name, else the only row (or rows of one meaning) that it abbreviates.
fn find_long<'t, T: Copy + PartialEq>(
    argv0: &str,
    table: &'t [Opt<T>],
    name: &str,
    word: &str,
) -> Result<&'t Opt<T>, String> {
    if let Some(opt) = table.iter().find(|o| !o.long.is_empty() && o.long == name) {
        return Ok(opt);
    }
    let candidates: Vec<&Opt<T>> =
        table.iter().filter(|o| !name.is_empty() && o.long.starts_with(name)).collect();
    match candidates.as_slice() {
        [] => Err(format!("{argv0}: unrecognized option '--{word}'")),
        [first, rest @ ..] if rest.iter().all(|o| o.id == first.id && o.arg == first.arg) => {
            Ok(first)
        }
        many => {
            let list: Vec<String> = many.iter().map(|o| format!("'--{}'", o.long)).collect();
            Err(format!(
                "{argv0}: option '--{word}' is ambiguous; possibilities: {}",
                list.join(" ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Opt<u8>] = &[
        Opt { long: "timeout", short: Some('t'), arg: Arg::Required, id: 1 },
        Opt { long: "timestamp", short: None, arg: Arg::None, id: 2 },
        Opt { long: "verbose", short: Some('v'), arg: Arg::Optional, id: 3 },
        Opt { long: "more", short: Some('m'), arg: Arg::None, id: 4 },
    ];

    fn get(order: Order, args: &[&str]) -> Result<Parsed<u8>, String> {
        parse_text("tool", TABLE, order, args.iter().map(|s| (*s).to_owned()).collect())
    }

    fn ids(p: &Parsed<u8>) -> Vec<(u8, Option<&str>)> {
        p.options.iter().map(|o| (o.id, o.value.as_deref())).collect()
    }

    #[test]
    fn forms() {
        let p = get(
            Order::Permute,
            &["-mmt5", "a", "--timeo", "6", "--verb", "-vx", "-", "--timeout=7", "--", "-m"],
        )
        .unwrap();
        assert_eq!(
            ids(&p),
            [
                (4, None),
                (4, None),
                (1, Some("5")),
                (1, Some("6")),
                (3, None),
                (3, Some("x")),
                (1, Some("7"))
            ]
        );
        assert_eq!(p.rest, ["a", "-", "-m"]);
    }

    #[test]
    fn stops_at_first_argument() {
        let p = get(Order::Stop, &["-m", "show", "-m", "--", "x"]).unwrap();
        assert_eq!(ids(&p), [(4, None)]);
        assert_eq!(p.rest, ["show", "-m", "--", "x"]);
    }

    #[test]
    fn errors() {
        let err = |args: &[&str]| get(Order::Permute, args).unwrap_err();
        assert_eq!(err(&["--frob"]), "tool: unrecognized option '--frob'");
        assert_eq!(err(&["--frob=3"]), "tool: unrecognized option '--frob=3'");
        assert_eq!(err(&["-q"]), "tool: invalid option -- 'q'");
        assert_eq!(err(&["-t"]), "tool: option requires an argument -- 't'");
        assert_eq!(err(&["--timeout"]), "tool: option '--timeout' requires an argument");
        assert_eq!(err(&["--more=1"]), "tool: option '--more' doesn't allow an argument");
        assert_eq!(
            err(&["--time"]),
            "tool: option '--time' is ambiguous; possibilities: '--timeout' '--timestamp'"
        );
    }
}
