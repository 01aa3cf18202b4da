//! The samples, their medians and ratios, and the promises they are held against.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use testkit::process;

use crate::machine::Lack;
use crate::metric::{Metric, Target};
use crate::part::Part;
use crate::say;
use crate::system::System;

/// Samples by figure and system, and what there are none of.
#[derive(Debug, Default)]
pub struct Report {
    samples: BTreeMap<Metric, BTreeMap<System, Vec<f64>>>,
    left_out: Vec<LeftOut>,
}

/// Why there are no figures, or fewer, of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub parts: Vec<Part>,
    pub system: System,
    pub why: String,
    /// What would bring it, if that is known.
    pub remedy: Option<String>,
    /// It was begun and failed.
    pub failed: bool,
}

/// A system's figures, in words of statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Report {
    /// Takes a sample.
    pub fn add(&mut self, system: System, metric: Metric, value: f64) {
        self.samples.entry(metric).or_default().entry(system).or_default().push(value);
    }

    /// Notes that a part is not measured of a system.
    pub fn leave_out(&mut self, part: Part, system: System, lack: Lack) {
        let (why, remedy) = (format!("needs {}", lack.what), Some(lack.remedy));
        self.note(&[part], LeftOut { parts: vec![], system, why, remedy, failed: false });
    }

    /// A step's result; if it failed that is noted of the system, and the rest goes on.
    ///
    /// # Errors
    /// If the program is to end.
    pub fn keep<T>(
        &mut self,
        parts: &[Part],
        system: System,
        result: Result<T>,
    ) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        // A signal that ended what was waited for comes here as well.
        process::pause(Duration::from_millis(100))?;
        let why = format!("{error:#}");
        say(format_args!("{system}: {why}"));
        self.note(parts, LeftOut { parts: vec![], system, why, remedy: None, failed: true });
        Ok(None)
    }

    fn note(&mut self, parts: &[Part], left_out: LeftOut) {
        let same =
            |known: &&mut LeftOut| (known.system, &known.why) == (left_out.system, &left_out.why);
        match self.left_out.iter_mut().find(same) {
            Some(known) => {
                known.parts.extend(parts);
                known.parts.dedup();
            }
            None => self.left_out.push(LeftOut { parts: parts.to_vec(), ..left_out }),
        }
    }

    /// Whether something failed that had been begun.
    pub fn has_failures(&self) -> bool {
        self.left_out.iter().any(|l| l.failed)
    }

    /// What was left out, and why.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The same as lines of text.
    pub fn left_out_text(&self) -> String {
        let mut lines: Vec<(String, String)> = Vec::new();
        for l in &self.left_out {
            let parts: Vec<&str> = l.parts.iter().map(|p| p.name()).collect();
            let remedy = l.remedy.as_ref().map_or(String::new(), |r| format!("; {r}"));
            let why = format!(" ({}): {}{remedy}", parts.join(", "), l.why.trim_end());
            // Systems that lack the same share a line.
            match lines.iter_mut().find(|(_, known)| *known == why) {
                Some((head, _)) => head.push_str(&format!(", {}", l.system)),
                None => {
                    let what = if l.failed { "failed" } else { "left out" };
                    lines.push((format!("{what}: {}", l.system), why));
                }
            }
        }
        lines.into_iter().map(|(head, why)| head + &why).collect::<Vec<_>>().join("\n")
    }

    /// The figures there are, in the order of the tables.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> {
        self.samples.keys().copied()
    }

    /// Every round's figure of each system that has some.
    pub fn of(&self, metric: Metric) -> impl Iterator<Item = (System, &[f64])> {
        self.samples.get(&metric).into_iter().flatten().map(|(s, all)| (*s, all.as_slice()))
    }

    /// Smallest, median and largest figure of a system.
    pub fn spread(&self, system: System, metric: Metric) -> Option<Spread> {
        let mut sorted = self.samples.get(&metric)?.get(&system)?.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Spread { min: *sorted.first()?, median: median(&sorted)?, max: *sorted.last()? })
    }

    /// The system whose median is the unit of ratios.
    pub fn reference(&self, metric: Metric) -> Option<System> {
        System::REFERENCES.into_iter().find(|s| self.spread(*s, metric).is_some())
    }

    /// A system's median by that of the reference.
    pub fn ratio(&self, system: System, metric: Metric) -> Option<f64> {
        let unit = self.spread(self.reference(metric)?, metric)?.median;
        (unit != 0.0).then_some(self.spread(system, metric)?.median / unit)
    }

    /// Which promises are kept, as far as something was measured that they are of.
    pub fn targets(&self) -> Vec<Verdict> {
        Target::all().into_iter().filter_map(|target| self.verdict(target)).collect()
    }

    fn verdict(&self, target: Target) -> Option<Verdict> {
        let ours = self.spread(target.ours(), target.metric)?.median;
        let (unit, recorded) = match target.against {
            None => (1.0, false),
            Some(system) => match (self.spread(system, target.metric), target.recorded) {
                (Some(theirs), _) => (theirs.median, false),
                (None, recorded) => (recorded?, true),
            },
        };
        let value = ours / unit;
        let met = if target.at_least { value >= target.bound } else { value <= target.bound };
        Some(Verdict { target, value, recorded, met })
    }

    /// The same as lines of text.
    pub fn verdicts(&self) -> String {
        self.targets().iter().map(|verdict| format!("{verdict}\n")).collect()
    }
}

/// Whether a promise is kept.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    pub target: Target,
    /// In the unit of the bound.
    pub value: f64,
    /// The other's figure is of another machine.
    pub recorded: bool,
    pub met: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { metric, against, at_least, bound, .. } = self.target;
        let (facts, value) = (metric.facts(), short(self.value));
        let verdict = if self.met { "met   " } else { "MISSED" };
        write!(f, "{verdict} {}", facts.title)?;
        match self.target.ours() {
            System::Sekisho => {}
            system => write!(f, ", {system}")?,
        }
        match against {
            Some(system) => write!(f, ": {value} x {system}")?,
            None if facts.unit.is_empty() => write!(f, ": {value}")?,
            None => write!(f, ": {value} {}", facts.unit)?,
        }
        if self.recorded {
            write!(f, " as recorded on another machine")?;
        }
        write!(f, " ({} {bound})", if at_least { "at least" } else { "at most" })
    }
}

/// The median of sorted samples.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

/// Three significant digits, without an exponent.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A table for each figure.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for metric in self.metrics() {
            let facts = metric.facts();
            let unit = if facts.unit.is_empty() { "" } else { ", " };
            writeln!(
                f,
                "{}{unit}{} ({}: {} is better)",
                facts.title,
                facts.unit,
                facts.part,
                facts.better.name()
            )?;
            let reference = self.reference(metric);
            let by = reference.map_or(String::new(), |system| format!("   x {system}"));
            writeln!(f, "  {:<14}{:>10} {:>20}{by}", "", "median", "[min..max]")?;
            for (system, _) in self.of(metric) {
                let Some(Spread { min, median, max }) = self.spread(system, metric) else {
                    continue;
                };
                let spread = format!("[{}..{}]", short(min), short(max));
                let ratio = self.ratio(system, metric);
                let ratio = ratio.map_or(String::new(), |r| format!("{:>1$}", short(r), by.len()));
                writeln!(f, "  {system:<14}{:>10} {spread:>20}{ratio}", short(median))?;
            }
            writeln!(f)?;
        }
        match self.left_out_text() {
            text if text.is_empty() => Ok(()),
            text => writeln!(f, "{text}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up() -> Report {
        let mut report = Report::default();
        for value in [9.0, 7.0, 8.0] {
            report.add(System::Sekisho, Metric::Tcp, value);
        }
        for value in [0.4, 0.4] {
            report.add(System::Ovs, Metric::Tcp, value);
        }
        report.add(System::Bridge, Metric::Tcp, 11.0);
        report.add(System::Sekisho, Metric::Start, 250.0);
        report
    }

    #[test]
    fn a_table_has_a_row_for_each_system() {
        let text = made_up().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TCP, one stream, Gb/s (tcp: more is better)");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[1]), ["median", "[min..max]", "x", "ovs"]);
        assert_eq!(words(lines[2]), ["sekisho", "8.00", "[7.00..9.00]", "20.0"]);
        assert_eq!(words(lines[3]), ["ovs", "0.40", "[0.40..0.40]", "1.00"]);
        assert_eq!(words(lines[4]), ["bridge", "11.0", "[11.0..11.0]", "27.5"]);
        // Nothing to compare with: no ratio.
        assert!(text.contains("start to first packet, ms (rest: less is better)"), "{text}");
        assert_eq!(words(lines[8]), ["sekisho", "250", "[250..250]"]);
    }

    #[test]
    fn without_ovs_ratios_are_to_a_bridge() {
        let mut report = Report::default();
        report.add(System::Sekisho, Metric::Rtt, 8.0);
        report.add(System::Bridge, Metric::Rtt, 4.0);
        assert_eq!(report.reference(Metric::Rtt), Some(System::Bridge));
        assert_eq!(report.ratio(System::Sekisho, Metric::Rtt), Some(2.0));
        report.add(System::BrNetfilter, Metric::Rtt, 0.0);
        assert_eq!(report.reference(Metric::Rtt), Some(System::BrNetfilter), "the same policy");
        assert_eq!(report.ratio(System::Sekisho, Metric::Rtt), None, "not infinite");
    }

    #[test]
    fn promises_are_told_as_far_as_their_systems_were_measured() {
        let text = made_up().verdicts();
        assert!(text.contains("met    TCP, one stream: 20.0 x ovs (at least 18)\n"), "{text}");
        assert!(text.contains("MISSED start to first packet: 250 ms (at most 200)\n"), "{text}");
        assert!(!text.contains("br_netfilter"), "nothing was measured there: {text}");
        // Of ports of one type, where the other's are of it.
        let mut report = Report::default();
        let rates = [(System::Sekisho, 9.0), (System::Afxdp, 5.0), (System::OvsAfxdp, 4.0)];
        rates.iter().for_each(|(system, rate)| report.add(*system, Metric::Udp, *rate));
        let expected = "met    UDP of 64 bytes, afxdp: 1.25 x ovs-afxdp (at least 1.2)\n";
        assert_eq!(report.verdicts(), expected);
    }

    #[test]
    fn what_is_left_out_is_told_once_with_what_would_bring_it() {
        let mut report = made_up();
        let lack = || Lack::new("ethtool", "apt-get install ethtool brings it");
        for system in [System::Ovs, System::OvsAfxdp] {
            report.leave_out(Part::Tcp, system, lack());
            report.leave_out(Part::Rtt, system, lack());
        }
        assert!(!report.has_failures());
        let failed = report.keep::<()>(
            &[Part::Udp],
            System::Direct,
            Err(anyhow::anyhow!("a made-up failure")),
        );
        assert!(failed.unwrap().is_none() && report.has_failures());
        assert_eq!(
            report.left_out_text(),
            "left out: ovs, ovs-afxdp (tcp, rtt): needs ethtool; apt-get install ethtool brings it\n\
             failed: direct (udp): a made-up failure"
        );
    }
}
