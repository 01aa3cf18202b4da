//! How much a peer changes the tables, in the log: module `connmgr` at level INFO, as OVS writes it.

use std::time::Duration;

use base::Instant;
use ofproto::FlowModCounts;

use crate::log;

/// How long flow mods are counted before they are reported.
const PERIOD: Duration = Duration::from_secs(10);
/// Shortest time from one report to the next, while the connection lasts.
const PAUSE: Duration = Duration::from_secs(60);

/// The flow mods of one connection that were not reported yet.
#[derive(Debug, Default)]
pub(super) struct FlowModReport {
    counts: FlowModCounts,
    /// When the first and the last of them were done.
    first: Instant,
    last: Instant,
    /// When they are to be reported.
    due: Option<Instant>,
    /// No report is due before.
    not_before: Instant,
}

impl FlowModReport {
    /// Some were done.
    pub(super) fn count(&mut self, more: FlowModCounts, now: Instant) {
        if more == FlowModCounts::default() {
            return;
        }
        self.counts += more;
        self.last = now;
        if self.due.is_none() {
            self.first = now;
            let due = (now + PERIOD).max(self.not_before);
            self.due = Some(due);
            self.not_before = due + PAUSE;
        }
    }

    /// Whether it is time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|t| t <= now)
    }

    /// Reports what there is, if anything.
    pub(super) fn log(&mut self, peer: &str, now: Instant) {
        if self.due.take().is_some() {
            log!(Info, Connmgr, "{peer}: {}", self.text(now));
            self.counts = FlowModCounts::default();
        }
    }

    fn text(&self, now: Instant) -> String {
        let FlowModCounts { adds, deletes, modifications } = self.counts;
        let ago = now.since(self.first).as_secs();
        let when = match self.last.since(self.first).as_secs() {
            interval if interval == ago => format!("in the last {ago} s"),
            0 => format!("{ago} s ago"),
            interval => format!("in the {interval} s starting {ago} s ago"),
        };
        let kinds = [(adds, "adds"), (deletes, "deletes"), (modifications, "modifications")];
        let kinds = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, kind)| format!("{n} {kind}"));
        let kinds: Vec<String> = kinds.collect();
        format!("{} flow_mods {when} ({})", adds + deletes + modifications, kinds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn reports_come_after_a_while_and_seldom() {
        let (one, mut r) =
            (FlowModCounts { adds: 1, ..FlowModCounts::default() }, FlowModReport::default());
        r.count(FlowModCounts::default(), at(0));
        assert!(!r.is_due(at(1000)), "there is nothing to report");
        r.count(one, at(1));
        assert_eq!(r.text(at(1)), "1 flow_mods in the last 0 s (1 adds)");
        assert_eq!(r.text(at(4)), "1 flow_mods 3 s ago (1 adds)");
        r.count(FlowModCounts { adds: 2, deletes: 3, modifications: 4 }, at(9));
        assert!(!r.is_due(at(10)) && r.is_due(at(11)));
        assert_eq!(
            r.text(at(11)),
            "10 flow_mods in the 8 s starting 10 s ago (3 adds, 3 deletes, 4 modifications)"
        );
        r.log("br0<->unix#1", at(11));
        assert!(!r.is_due(at(1000)));
        r.count(one, at(12));
        assert!(!r.is_due(at(70)) && r.is_due(at(71)));
        assert_eq!(r.text(at(12)), "1 flow_mods in the last 0 s (1 adds)");
    }
}
