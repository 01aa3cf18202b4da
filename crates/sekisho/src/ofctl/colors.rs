//! Colours of flows in text: `--color` and `OVS_COLORS`, as `ovs-ofctl(8)` tells of them.
//!
//! The text of a flow is cut into words by what follows them: `WORD=`, `WORD:`, `WORD(` with its `)`, and
//! words that stand alone. [`WORDS`] has those that are special; the others' colour is that of
//! their form.

use std::fmt::Write as _;
use std::io::IsTerminal;

/// What a colour is for; in the order of [`DEFAULTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Actions,
    Drop,
    Learn,
    Param,
    Paren,
    Special,
    Value,
}

/// Names of the classes in `OVS_COLORS`, and what they look like if it says nothing.
const DEFAULTS: [(&str, &str); 7] = [
    ("ac", "1;31"),
    ("dr", "34"),
    ("le", "31"),
    ("pm", "36"),
    ("pr", "35"),
    ("sp", "33"),
    ("vl", "32"),
];

/// Words of a colour that their form does not give: the word with what follows it.
const WORDS: [(&str, Class); 18] = [
    ("actions=", Class::Actions),
    ("drop", Class::Drop),
    ("learn(", Class::Learn),
    ("table=", Class::Special),
    ("priority=", Class::Special),
    ("output:", Class::Special),
    ("group:", Class::Special),
    ("CONTROLLER:", Class::Special),
    ("set_field:", Class::Special),
    ("load:", Class::Special),
    ("move:", Class::Special),
    ("resubmit:", Class::Special),
    ("exit", Class::Special),
    ("dec_nsh_ttl", Class::Special),
    ("dec_ttl", Class::Paren),
    ("set_mpls_label(", Class::Paren),
    ("set_mpls_tc(", Class::Paren),
    ("set_mpls_ttl(", Class::Paren),
];

/// Colours of the classes.
#[derive(Clone, Debug)]
pub struct Palette([String; 7]);

impl Palette {
    /// The colours that `OVS_COLORS` says, e.g. `ac=01;31:dr=34`. What is no list of numbers is left out.
    pub fn parse(said: &str) -> Self {
        let mut colors = DEFAULTS.map(|d| d.1.to_owned());
        for (name, color) in said.split(':').filter_map(|item| item.split_once('=')) {
            let valid = color.bytes().all(|b| b.is_ascii_digit() || b == b';');
            if let Some(i) = DEFAULTS.iter().position(|d| d.0 == name)
                && valid
            {
                colors[i] = color.to_owned();
            }
        }
        Self(colors)
    }

    /// Those of the environment, if `when` of `--color` and standard output ask for some.
    ///
    /// # Errors
    /// `when` is none of the words that there are.
    pub fn wanted(when: &str) -> Result<Option<Self>, String> {
        let wanted = match when.to_ascii_lowercase().as_str() {
            "always" | "yes" | "force" => true,
            "never" | "no" | "none" => false,
            "auto" | "tty" | "if-tty" => {
                let term = std::env::var("TERM").unwrap_or_default();
                std::io::stdout().is_terminal() && !matches!(term.as_str(), "" | "dumb")
            }
            _ => return Err(format!("incorrect value `{when}' for --color option")),
        };
        let said = std::env::var("OVS_COLORS").unwrap_or_default();
        Ok(wanted.then(|| Self::parse(&said)))
    }

    fn put(&self, out: &mut String, class: Class, text: &str) {
        let _ = write!(out, "\x1b[{}m\x1b[K{text}\x1b[m\x1b[K", self.0[class as usize]);
    }

    /// A flow's text in colours.
    pub fn paint(&self, flow: &str) -> String {
        let mut out = String::with_capacity(flow.len() * 3);
        // Classes of the parentheses that are open; `None` for those that no word opened.
        let mut open: Vec<Option<Class>> = Vec::new();
        // Whether a word may begin here: not inside a value.
        let mut fresh = true;
        let mut at = 0;
        while let Some(c) = flow[at..].chars().next() {
            let rest = &flow[at..];
            if fresh && (c.is_ascii_alphabetic() || c == '_') {
                let name =
                    |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
                let end = rest.find(|c| !name(c)).unwrap_or(rest.len());
                let follows = rest[end..].chars().next().filter(|c| matches!(c, '=' | ':' | '('));
                let word = &rest[..end + follows.map_or(0, char::len_utf8)];
                let known = WORDS.iter().find(|w| w.0 == word).map(|w| w.1);
                let class = known.or(match follows {
                    Some('(') => Some(Class::Paren),
                    Some(_) => Some(Class::Param),
                    // Ports and constants that stand for a port.
                    None if word.bytes().any(|b| b.is_ascii_uppercase() || b == b'[') => None,
                    None => Some(Class::Value),
                });
                match class {
                    Some(class) => self.put(&mut out, class, word),
                    None => out.push_str(word),
                }
                if follows == Some('(') {
                    open.push(class);
                }
                fresh = follows == Some('(') || word == "actions=";
                at += word.len();
                continue;
            }
            match c {
                '(' => {
                    open.push(None);
                    out.push(c);
                }
                ')' => match open.pop().flatten() {
                    Some(class) => self.put(&mut out, class, ")"),
                    None => out.push(c),
                },
                '-' if rest.starts_with("->") => {
                    self.put(&mut out, Class::Special, "->");
                    at += 1;
                }
                _ => out.push(c),
            }
            fresh = matches!(c, ' ' | ',' | '(');
            at += c.len_utf8();
        }
        out
    }

    /// A message's text in colours, as far as it is of flows.
    pub fn paint_lines(&self, text: &str) -> String {
        let paint = |line: &str| match line.starts_with(' ') && line.contains("actions=") {
            true => self.paint(line),
            false => line.to_owned(),
        };
        text.split_inclusive('\n').map(paint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the names of the classes in place of their numbers.
    fn named(flow: &str) -> String {
        let names = "ac=1:dr=2:le=3:pm=4:pr=5:sp=6:vl=7";
        let mut text = Palette::parse(names).paint(flow).replace("\x1b[m\x1b[K", "}");
        for (i, d) in DEFAULTS.iter().enumerate() {
            text = text.replace(&format!("\x1b[{}m\x1b[K", i + 1), &format!("{{{}|", d.0));
        }
        text
    }

    #[test]
    fn words_by_what_follows_them() {
        assert_eq!(
            named("table=0, priority=5,tcp,dl_src=aa:bb:cc:00:00:01 actions=drop"),
            "{sp|table=}0, {sp|priority=}5,{vl|tcp},{pm|dl_src=}aa:bb:cc:00:00:01 {ac|actions=}{dr|drop}"
        );
        assert_eq!(
            named("actions=ct(commit,table=1,exec(load:0x1->NXM_NX_CT_MARK[])),output:eth0,NORMAL"),
            "{ac|actions=}{pr|ct(}{vl|commit},{sp|table=}1,{pr|exec(}{sp|load:}0x1{sp|->}NXM_NX_CT_MARK[]\
             {pr|)}{pr|)},{sp|output:}eth0,NORMAL"
        );
        assert_eq!(named("learn(table=1)"), "{le|learn(}{sp|table=}1{le|)}");
    }

    #[test]
    fn colours_are_said_in_the_environment() {
        let p = Palette::parse("ac=7:dr=x:bogus=1:vl=");
        assert_eq!((p.0[0].as_str(), p.0[1].as_str(), p.0[6].as_str()), ("7", "34", ""));
        assert!(Palette::wanted("sometimes").is_err());
        assert!(Palette::wanted("never").unwrap().is_none());
    }
}
