//! A policy: the rules that stand when the lines of its files have been done one after the other,
//! each with the place it comes from.

use std::collections::HashMap;
use std::ops::Range;

use base::TableId;
use classifier::MiniMatch;
use flow::text::{Mode, NameMap, Pairs, TextError, Tok};
use openflow::text::{ActionsText, parse_line};
use openflow::version::Version;
use openflow::{Action, FlowMod, FlowModCommand, Match};

use super::space::{Region, States};

/// A line of a file.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which file, counted from 0.
    pub file: usize,
    /// 1-based.
    pub number: usize,
    /// What it says.
    pub text: String,
}

/// A rule of the tables.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Index of its line in [`Policy::lines`].
    pub line: usize,
    /// Its table.
    pub table: TableId,
    /// Its priority.
    pub priority: u16,
    /// Its match.
    match_: MiniMatch,
    /// Connection states that it lets through.
    pub states: States,
    /// What it does.
    pub actions: Vec<Action>,
    /// For `cookie` in lines that change or delete.
    cookie: u64,
}

impl Rule {
    /// Its match.
    pub fn match_(&self) -> Match {
        self.match_.expand()
    }

    /// Whether it is a part of a conjunctive match, which does nothing by itself.
    pub fn is_clause(&self) -> bool {
        self.actions.iter().any(|a| matches!(a, Action::Conjunction { .. }))
    }
}

/// What is wrong with a line by itself.
#[derive(Clone, Debug)]
pub enum Bad {
    /// It is no flow.
    Unreadable(TextError),
    /// It is one for OVS only.
    Lenient {
        /// What the strict way says.
        error: TextError,
        /// Fields were ignored: what is matched instead.
        instead: Option<String>,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Policy {
    /// Every line that says something.
    pub lines: Vec<Line>,
    /// The rules that stand at the end.
    pub rules: Vec<Rule>,
    /// Lines (index) that are wrong by themselves.
    pub bad: Vec<(usize, Bad)>,
    /// Rules (line) that a later line (line) replaced.
    pub replaced: Vec<(usize, usize)>,
}

/// What makes two rules the same.
type Key = (TableId, u16, MiniMatch);

impl Policy {
    /// Does the lines of files.
    pub fn read(files: &[String], names: &dyn NameMap) -> Policy {
        let mut policy = Policy::default();
        let mut standing: Vec<Option<Rule>> = Vec::new();
        let mut index: HashMap<Key, usize> = HashMap::new();
        for (file, text) in files.iter().enumerate() {
            for (i, text) in text.lines().enumerate() {
                let Some(strict) = parse_line(text, None, names, Mode::Strict) else { continue };
                let line = policy.lines.len();
                policy.lines.push(Line { file, number: i + 1, text: text.to_owned() });
                let flow = match strict {
                    Ok(parsed) => parsed.flow,
                    Err(error) => match parse_line(text, None, names, Mode::Ovs) {
                        Some(Ok(parsed)) => {
                            let instead = parsed.normalized.then(|| match_text(&parsed.flow));
                            policy.bad.push((line, Bad::Lenient { error, instead }));
                            parsed.flow
                        }
                        _ => {
                            policy.bad.push((line, Bad::Unreadable(error)));
                            continue;
                        }
                    },
                };
                policy.apply(line, flow, &mut standing, &mut index);
            }
        }
        policy.rules = standing.into_iter().flatten().collect();
        policy
    }

    fn apply(
        &mut self,
        line: usize,
        f: FlowMod,
        standing: &mut Vec<Option<Rule>>,
        index: &mut HashMap<Key, usize>,
    ) {
        let strict =
            matches!(f.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict);
        let delete = matches!(f.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
        if f.command != FlowModCommand::Add {
            let mut hit = false;
            for slot in standing.iter_mut() {
                if !slot.as_ref().is_some_and(|r| is_meant(r, &f, strict)) {
                    continue;
                }
                hit = true;
                match slot {
                    Some(r) if !delete => (r.line, r.actions) = (line, f.actions.clone()),
                    Some(r) => {
                        index.remove(&(r.table, r.priority, r.match_.clone()));
                        *slot = None;
                    }
                    None => {}
                }
            }
            // What finds nothing to change is added, unless it looks for a cookie.
            if hit || delete || f.cookie_mask != 0 || f.new_cookie.is_none() {
                return;
            }
        }
        let table = f.table.unwrap_or(TableId(0));
        let mut match_ = MiniMatch::from(&f.match_);
        if let Some(Some(before)) = standing.last() {
            match_.share_mask(&before.match_);
        }
        let key = (table, f.priority, match_.clone());
        let rule = Rule {
            line,
            table,
            priority: f.priority,
            match_,
            states: Region::of(&f.match_).states,
            actions: f.actions,
            cookie: f.new_cookie.unwrap_or(0),
        };
        if let Some(old) = index.insert(key, standing.len())
            && let Some(old) = standing[old].take()
        {
            self.replaced.push((old.line, line));
        }
        standing.push(Some(rule));
    }

    /// Where in its line the fields of a match stand that have one of these names; all of them
    /// without names. The whole line if there are none.
    pub fn match_span(&self, line: usize, names: &[&str]) -> Range<usize> {
        let text = &self.lines[line].text;
        let head = &text[..actions_at(text)];
        let whole = Tok::line(head);
        let is_match = |name: &str| match names {
            [] => {
                flow::Field::by_name(name).is_some()
                    || flow::text::parse::PROTOCOLS.iter().any(|p| p.0 == name)
            }
            names => names.contains(&name),
        };
        let spans =
            Pairs::new(whole).filter(|p| is_match(p.key.text)).map(|p| p.whole(whole).span());
        spans.reduce(|a, b| a.start..b.end).unwrap_or_else(|| whole.trim().span())
    }

    /// Where in its line an action stands, or the actions if it is written in another way.
    pub fn action_span(&self, line: usize, action: &Action) -> Range<usize> {
        let text = &self.lines[line].text;
        let at = actions_at(text);
        let tail = text[at..].split('#').next().unwrap_or_default().trim_end();
        let names = &flow::text::NoNames;
        let mut words = vec![
            ActionsText { actions: std::slice::from_ref(action), names, version: Version::Of15 }
                .to_string(),
        ];
        let target = match action {
            Action::Ct(ct) => ct.recirc_table.map(|t| format!("table={}", t.0)),
            Action::Learn(learn) => Some(format!("table={}", learn.table.0)),
            Action::Resubmit { table: Some(t), .. } => Some(format!(",{}", t.0)),
            _ => None,
        };
        words.extend(target);
        let found = words.iter().find_map(|w| tail.find(w.as_str()).map(|i| (i, w.len())));
        match found {
            Some((i, len)) => at + i..at + i + len,
            None => at..at + tail.len(),
        }
    }
}

/// Where the actions of a line begin.
fn actions_at(text: &str) -> usize {
    let bare = text.split('#').next().unwrap_or_default();
    bare.find("action").unwrap_or(bare.len())
}

/// Whether a line that changes or deletes means a rule.
fn is_meant(r: &Rule, f: &FlowMod, strict: bool) -> bool {
    let by_match = match strict {
        true => r.match_() == f.match_ && r.priority == f.priority,
        false => r.match_().is_within(&f.match_),
    };
    let out = f.out_port == base::OfPort::NONE
        || r.actions
            .iter()
            .any(|a| matches!(a, Action::Output { port, .. } if *port == f.out_port));
    f.table.is_none_or(|t| t == r.table)
        && by_match
        && out
        && r.cookie & f.cookie_mask == f.cookie & f.cookie_mask
}

/// A match as text; `any packet` if it says nothing.
fn match_text(f: &FlowMod) -> String {
    let names = &flow::text::NoNames;
    let text = flow::text::MatchText { m: &f.match_, priority: None, names }.to_string();
    if text.is_empty() { "any packet".into() } else { text }
}
