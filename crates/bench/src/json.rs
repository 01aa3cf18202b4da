//! The figures as one JSON document. `docs/bench.md` describes it: change both, and the name of the schema where a
//! reader of the old one would be misled.

use serde_json::{Value, json};

use crate::Options;
use crate::machine::Machine;
use crate::metric::Metric;
use crate::part::Part;
use crate::report::Report;
use crate::system::System;

/// The name of this form of the document.
const SCHEMA: &str = "sekisho-bench/1";

/// The document, ending in a newline.
pub fn document(options: &Options, machine: &Machine, report: &Report) -> String {
    let metrics: Vec<Metric> = report.metrics().collect();
    let measured = |part: Part| metrics.iter().copied().filter(move |m| m.facts().part == part);
    let mut systems: Vec<System> = Vec::new();
    for metric in &metrics {
        systems.extend(report.of(*metric).map(|(system, _)| system));
    }
    systems.sort_unstable();
    systems.dedup();
    let document = json!({
        "schema": SCHEMA,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "machine": machine.json(),
        "systems": systems.iter().map(|s| json!({
            "name": s.name(),
            "about": s.about(),
            "version": machine.version(*s),
        })).collect::<Vec<_>>(),
        "left_out": report.left_out().iter().map(|l| json!({
            "system": l.system.name(),
            "parts": l.parts.iter().map(|p| p.name()).collect::<Vec<_>>(),
            "why": l.why,
            "remedy": l.remedy,
            "failed": l.failed,
        })).collect::<Vec<_>>(),
        "parts": Part::all().filter(|p| measured(*p).next().is_some()).map(|part| json!({
            "name": part.name(),
            "about": part.about(),
            "metrics": measured(part).map(|m| metric(report, m)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "targets": report.targets().iter().map(|v| json!({
            "part": v.target.metric.facts().part.name(),
            "metric": v.target.metric.facts().name,
            "system": v.target.ours().name(),
            "against": v.target.against.map(System::name),
            "recorded": v.recorded,
            "at_least": v.target.at_least,
            "bound": v.target.bound,
            "value": v.value,
            "met": v.met,
        })).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn metric(report: &Report, metric: Metric) -> Value {
    let facts = metric.facts();
    let figure = |(system, rounds): (System, &[f64])| {
        let spread = report.spread(system, metric);
        json!({
            "system": system.name(),
            "rounds": rounds,
            "median": spread.map(|s| s.median),
            "min": spread.map(|s| s.min),
            "max": spread.map(|s| s.max),
            "ratio": report.ratio(system, metric),
        })
    };
    json!({
        "name": facts.name,
        "title": facts.title,
        "unit": facts.unit,
        "better": facts.better.name(),
        "reference": report.reference(metric).map(System::name),
        "figures": report.of(metric).map(figure).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Lack;

    #[test]
    fn a_document_holds_every_round_and_what_is_made_of_it() {
        let mut report = Report::default();
        for value in [9.0, 7.0, 8.0, 8.5] {
            report.add(System::Sekisho, Metric::Tcp, value);
        }
        report.add(System::Ovs, Metric::Tcp, 0.25);
        report.add(System::Sekisho, Metric::Frames(0), 30.0);
        let lack = Lack::new("X", "get X");
        report.leave_out(Part::Memory, System::OvsDpdk, lack);
        let text = document(&Options::default(), &Machine::made_up(), &report);
        let all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&all["schema"], &all["rounds"]), (&json!("sekisho-bench/1"), &json!(3)));
        assert_eq!(all["machine"]["cores"], 2);
        assert_eq!(all["systems"][1]["name"], "ovs");
        assert_eq!(all["systems"][1]["version"], "3.1.0");
        assert_eq!(
            all["left_out"][0],
            json!({ "system": "ovs-dpdk", "parts": ["memory"], "why": "needs X", "remedy": "get X",
                    "failed": false })
        );
        let tcp = &all["parts"][0];
        assert_eq!((&tcp["name"], &tcp["metrics"][0]["unit"]), (&json!("tcp"), &json!("Gb/s")));
        assert_eq!(tcp["metrics"][0]["reference"], "ovs");
        assert_eq!(
            tcp["metrics"][0]["figures"][0],
            json!({ "system": "sekisho", "rounds": [9.0, 7.0, 8.0, 8.5], "median": 8.25,
                    "min": 7.0, "max": 9.0, "ratio": 33.0 })
        );
        let memory = &all["parts"][1]["metrics"][0];
        assert_eq!((&memory["name"], &memory["reference"]), (&json!("drop-1"), &Value::Null));
        assert_eq!(memory["figures"][0]["ratio"], Value::Null);
        let target = all["targets"].as_array().unwrap().iter().find(|t| t["metric"] == "tcp");
        assert_eq!(target.unwrap()["met"], true);
    }
}
