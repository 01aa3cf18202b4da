//! The tracker without a switch, beside Open vSwitch's own.
//!
//! Ours is `conntrack_bench`, an example of the crate that `bench/run` builds beside this program; theirs is `ovstest
//! test-conntrack`, which no package has: `$OVSTEST` or the search path says where it is. Both send
//! datagrams, the packets of theirs read but for what the tracker itself reads. Its `benchmark-zones`
//! has a second zone in the table and gives packets one at a time.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testkit::need;
use testkit::process::run_with;

use crate::machine::Lack;
use crate::metric::Metric;
use crate::report::Report;
use crate::stage::Stage;
use crate::system::System;

const PATIENCE: Duration = Duration::from_secs(600);

fn run(program: &str, args: &[&str]) -> Result<String> {
    run_with(Command::new(program).args(args), b"", PATIENCE)?.ok()
}

/// Where Open vSwitch's test program is.
fn ovstest() -> Option<String> {
    let found = || need::find("ovstest").map(|path| path.to_string_lossy().into_owned());
    std::env::var("OVSTEST").ok().or_else(found)
}

/// What theirs needs.
pub fn lack_theirs() -> Option<Lack> {
    let gone = ovstest().is_none();
    gone.then(|| Lack::new("ovstest, which no package has", "$OVSTEST says where it is"))
}

/// Where our test program is.
fn conntrack_bench() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("examples/conntrack_bench");
    path.is_file().then_some(path)
}

/// What ours needs.
pub fn lack_ours() -> Option<Lack> {
    let build = "cargo build --release -p sekisho-conntrack --example conntrack_bench";
    let gone = conntrack_bench().is_none();
    gone.then(|| {
        Lack::new(
            "examples/conntrack_bench beside this program",
            format!("`{build}` in a clone of the sources puts it beside the program built there"),
        )
    })
}

/// One of both.
pub fn measure(stage: &Stage<'_>, system: System, report: &mut Report) -> Result<()> {
    let rounds = stage.options.rounds.min(3);
    match system {
        System::Sekisho => (0..rounds).try_for_each(|_| ours(report)),
        System::Ovs => {
            let ovstest = ovstest().context("ovstest is gone")?;
            (0..rounds).try_for_each(|_| theirs(&ovstest, report))
        }
        _ => bail!("{system} has no tracker that runs alone"),
    }
}

/// The number of a case in what ours prints.
fn case(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.with_context(|| format!("conntrack_bench says nothing of {name:?}"))?;
    value.trim().parse().with_context(|| format!("no number behind {name:?}: {value}"))
}

fn ours(report: &mut Report) -> Result<()> {
    let program = conntrack_bench().context("conntrack_bench is gone")?;
    let text = run(program.to_str().context("a path that is no text")?, &[])?;
    let mut add = |metric, name: &str, of: fn(f64) -> f64| -> Result<()> {
        report.add(System::Sekisho, metric, of(case(&text, name)?));
        Ok(())
    };
    let millions = |ns| 1e3 / ns;
    add(Metric::ConnBytes, "bytes a connection at 1000000", |x| x)?;
    add(Metric::TrackOne, "udp one", millions)?;
    add(Metric::TrackMany, "udp 10000 in order", millions)?;
    add(Metric::TrackMore, "udp 100000 in order", millions)?;
    add(Metric::TrackMost, "udp 1000000 mixed", millions)?;
    add(Metric::Commit, "commit again 100000", |x| x)?;
    add(Metric::Flush, "flush 100000", |x| x)?;
    add(Metric::TwoUpdate, "two threads known, times one", |x| x)?;
    add(Metric::TwoUpdateEach, "two threads known as many each, times one", |x| x)?;
    add(Metric::TwoInsert, "two threads commit, times one", |x| x)?;
    add(Metric::TwoInsertEach, "two threads commit as many each, times one", |x| x)
}

fn theirs(ovstest: &str, report: &mut Report) -> Result<()> {
    let mut add = |metric, value| report.add(System::Ovs, metric, value);
    // Milliseconds for so many packets, the best of five.
    let packets = 4_000_000;
    let time = |threads: &str| -> Result<f64> {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let args = ["test-conntrack", "benchmark", threads, &packets.to_string(), "32"];
            let text = run(ovstest, &args)?;
            let ms = text.trim().strip_prefix("conntrack:").context("ovstest gives no time")?;
            best = best.min(ms.trim().trim_end_matches(" ms").parse()?);
        }
        Ok(best)
    };
    let (one, two) = (time("1")?, time("2")?);
    add(Metric::TrackOne, f64::from(packets) / one / 1e3);
    add(Metric::TwoUpdateEach, 2.0 * one / two);
    for (metric, n, rounds) in
        [(Metric::TrackMany, 10_000, "50"), (Metric::TrackMore, 100_000, "10")]
    {
        let args = ["test-conntrack", "benchmark-zones", &n.to_string(), "2", rounds];
        let text = run(ovstest, &args)?;
        let best = text.lines().find_map(|l| l.strip_prefix("| Min ")).context("no table")?;
        let ns: Vec<f64> = (best.split('|'))
            .filter_map(|cell| cell.trim().trim_end_matches(" us").parse::<f64>().ok())
            .map(|us| us * 1e3 / f64::from(n))
            .collect();
        ensure!(ns.len() == 4, "not four columns: {best}");
        add(metric, 1e3 / ns[1]);
        if metric == Metric::TrackMore {
            add(Metric::Commit, ns[0]);
            add(Metric::Flush, ns[2]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_number_behind_its_whole_name() {
        let text = "udp one: 3.5\nudp one more: 7\ntcp one: fast\n";
        assert_eq!(case(text, "udp one").unwrap(), 3.5);
        assert_eq!(case(text, "udp one more").unwrap(), 7.0);
        assert!(case(text, "udp").is_err());
        assert!(case(text, "tcp one").is_err());
    }
}
