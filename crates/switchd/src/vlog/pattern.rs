//! How a line looks: `%D{…}|%05N|%c%T|%p|%m` and the like (`ovs-appctl(8)`, `vlog/set`).

use std::fmt::Write;

use crate::clock;

/// What a line is made of.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) module: &'a str,
    pub(super) level: &'a str,
    pub(super) text: &'a str,
    pub(super) seq: u64,
    /// Time since 1970.
    pub(super) time: std::time::Duration,
    /// The program's name.
    pub(super) program: &'a str,
}

/// Formats a line, without the newline.
pub(super) fn format(pattern: &str, line: &Line<'_>) -> String {
    let mut out = String::with_capacity(64 + line.text.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        let left = rest.starts_with('-');
        rest = rest.trim_start_matches('-');
        let fill = if rest.starts_with('0') { '0' } else { ' ' };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let width = rest[..digits].parse().unwrap_or(0_usize).min(1000);
        rest = &rest[digits..];
        let Some(letter) = rest.chars().next() else { return out };
        rest = &rest[letter.len_utf8()..];
        let braces = rest.strip_prefix('{').and_then(|r| r.split_once('}'));
        let mut argument = None;
        if let Some((text, after)) = braces.filter(|_| matches!(letter, 'c' | 'd' | 'D')) {
            (argument, rest) = (Some(text), after);
        }
        let field = item(letter, argument, line);
        let pad = width.saturating_sub(field.chars().count());
        if !left {
            out.extend(std::iter::repeat_n(fill, pad));
        }
        out += &field;
        if left {
            out.extend(std::iter::repeat_n(' ', pad));
        }
    }
    out + rest
}

/// The text of one conversion. There is one thread that speaks, which has no name of its own.
fn item(letter: char, argument: Option<&str>, line: &Line<'_>) -> String {
    match letter {
        'A' => line.program.to_owned(),
        'c' => line.module.to_owned(),
        'd' | 'D' => date(argument.unwrap_or("%Y-%m-%d %H:%M:%S.###"), line.time),
        'm' => line.text.trim_end_matches('\n').to_owned(),
        'N' => line.seq.to_string(),
        'n' => "\n".to_owned(),
        'p' => line.level.to_owned(),
        'P' => std::process::id().to_string(),
        't' => "main".to_owned(),
        'T' => String::new(),
        other => other.to_string(),
    }
}

/// A time (UTC) in the manner of strftime; `###` are its milliseconds.
fn date(pattern: &str, time: std::time::Duration) -> String {
    // 2026-11-23T06:26:44.352Z
    let text = clock::iso8601(time);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '#' && rest.starts_with("##") {
            rest = &rest[2..];
            out += part(20, 23);
            continue;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let letter = rest.chars().next().unwrap_or('%');
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        match letter {
            'Y' => out += part(0, 4),
            'm' => out += part(5, 7),
            'd' => out += part(8, 10),
            'H' => out += part(11, 13),
            'M' => out += part(14, 16),
            'S' => out += part(17, 19),
            'y' => out += part(2, 4),
            'F' => out += part(0, 10),
            'T' => out += part(11, 19),
            's' => {
                let _ = write!(out, "{}", time.as_secs());
            }
            '%' => out.push('%'),
            other => out.extend(['%', other]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_in_every_shape() {
        let line = Line {
            module: "bridge",
            level: "INFO",
            text: "hello\n",
            seq: 7,
            time: Duration::from_millis(1_795_415_204_352),
            program: "ovs-vswitchd",
        };
        for (pattern, want) in [
            (
                "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m",
                "2026-11-23T06:26:44.352Z|00007|bridge|INFO|hello",
            ),
            ("%c|%p|%m", "bridge|INFO|hello"),
            ("[%-8c][%8p]%%%A", "[bridge  ][    INFO]%ovs-vswitchd"),
            ("%D{%s}", "1795415204"),
            ("%D", "2026-11-23 06:26:44.352"),
            ("no more%", "no more"),
            ("", ""),
        ] {
            assert_eq!(format(pattern, &line), want, "{pattern}");
        }
    }
}
