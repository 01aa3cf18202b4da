//! The tracker without a switch, beside Open vSwitch's own.
//!
//! Ours is `conntrack_bench`, an example of the crate that `bench/run` builds; theirs is `ovstest
//! test-conntrack`, which no package has: `$OVSTEST` or the search path says where it is. Both send
//! datagrams, the packets of theirs read but for what the tracker itself reads. Its `benchmark-zones`
//! has a second zone in the table and gives packets one at a time.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::need;
use testkit::process::run_with;

use crate::report::{Metric, Report, System};
use crate::{Options, own_path};

const PATIENCE: Duration = Duration::from_secs(600);

fn run(program: &str, args: &[&str]) -> Result<String> {
    run_with(Command::new(program).args(args), b"", PATIENCE)?.ok()
}

/// Where Open vSwitch's test program is.
fn ovstest() -> Option<String> {
    let found = || need::find("ovstest").map(|path| path.to_string_lossy().into_owned());
    std::env::var("OVSTEST").ok().or_else(found)
}

/// Both, in turn.
pub fn measure(system: System, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds.min(3);
    match system {
        System::Sekisho => (0..rounds).try_for_each(|_| ours(report)),
        System::Ovs => match ovstest() {
            Some(ovstest) => (0..rounds).try_for_each(|_| theirs(&ovstest, report)),
            None => {
                println!(
                    "  skipped: ovstest is not here, which no package has; $OVSTEST says where it is"
                );
                Ok(())
            }
        },
        System::Bridge | System::Direct => Ok(()),
    }
}

/// The numbers behind a name in what ours prints, its table's columns.
fn columns(text: &str, name: &str) -> Result<Vec<f64>> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("conntrack_bench says nothing of {name:?}"))?;
    let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>();
    numbers.with_context(|| format!("no numbers behind {name:?}: {line}"))
}

fn ours(report: &mut Report) -> Result<()> {
    let program = std::path::Path::new(&own_path()?).with_file_name("examples/conntrack_bench");
    let program = program.to_str().context("a path that is no text")?;
    let text = run(program, &[]).context("bench/run builds it")?;
    let last = |name: &str| columns(&text, name)?.last().copied().context("no columns");
    let mut add = |metric, value| report.add(System::Sekisho, metric, value);
    add(Metric::ConnBytes, last("bytes a connection at 1,000,000")?);
    for (metric, n) in [
        (Metric::TrackOne, 1),
        (Metric::TrackMany, 10_000),
        (Metric::TrackMore, 100_000),
        (Metric::TrackMost, 1_000_000),
    ] {
        add(metric, 1e3 / last(&format!("UDP, {n} established, ns/packet"))?);
    }
    add(Metric::Commit, last("commit of a new one, ns")?);
    add(Metric::Flush, last("zone flush, ns a connection")?);
    for (metric, name) in [(Metric::TwoUpdate, "known"), (Metric::TwoInsert, "commit of new ones")]
    {
        let rates = columns(&text, name)?;
        ensure!(rates.len() == 2, "not two columns behind {name:?}");
        add(metric, rates[1] / rates[0]);
    }
    Ok(())
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
    add(Metric::TwoUpdate, 2.0 * one / two);
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
    fn columns_are_those_behind_the_name() {
        let text = "UDP, 1 established, ns/packet      3.5   4\nUDP, 10 established, ns/packet 7\n";
        assert_eq!(columns(text, "UDP, 1 established, ns/packet").unwrap(), [3.5, 4.0]);
        assert_eq!(columns(text, "UDP, 10 established, ns/packet").unwrap(), [7.0]);
        assert!(columns(text, "TCP").is_err());
        assert!(columns(text, "UDP").is_err());
    }
}
