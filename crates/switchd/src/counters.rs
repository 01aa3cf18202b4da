//! What the daemon counts: events of all kinds, and why packets were dropped or refused.

use conntrack::{Counters, InvalidReason};
use dpif::DropReason;
use netdev::{RxDrop, TxDrop};

use crate::coverage::Counter;
use crate::ctl::status::{Reason, ReasonKind};
use crate::daemon::Daemon;

impl Daemon {
    /// All counters of the daemon that count events, in a fixed order.
    pub fn counters(&self) -> Vec<Counter> {
        let stats = self.dp.stats();
        let mut all: Vec<Counter> =
            stats.rows().map(|(name, n)| (format!("datapath_{name}"), n)).collect();
        for (reason, name, _) in DropReason::ALL {
            all.push(((*name).to_owned(), stats.dropped(*reason)));
        }
        let of = self.connections.counters();
        all.extend(of.map(|(name, n)| (name.to_owned(), n)));
        all.push(("packet_in_overflow".to_owned(), self.world.n_overflows()));
        all.push(("revalidate_missing_dp_flow".to_owned(), self.n_flows_deleted));
        let switch = self.world.switch.read();
        let macs = switch.mac_totals();
        for (name, n) in [
            ("learned", macs.n_learned),
            ("expired", macs.n_expired),
            ("evicted", macs.n_evicted),
            ("moved", macs.n_moved),
            ("static_none_move", macs.n_static_elsewhere),
        ] {
            all.push((format!("mac_learning_{name}"), n));
        }
        drop(switch);
        let fragments = self.dp.fragments();
        let (v4, v6) = (fragments.counters(false), fragments.counters(true));
        // These by the names that OVS has for them.
        all.push(("ipf_stuck_frag_list_expired".to_owned(), v4.expired + v6.expired));
        all.push(("ipf_stuck_frag_list_purged".to_owned(), v4.purged + v6.purged));
        for (version, counters) in [("v4", v4), ("v6", v6)] {
            all.extend(counters.rows().map(|(name, n)| (format!("fragments_{version}_{name}"), n)));
        }
        let ct = self.dp.conntrack().counters();
        all.extend(ct.rows().map(|(name, n)| (format!("conntrack_{name}"), n)));
        let invalid = InvalidReason::ALL.iter().map(|r| (invalid_counter(*r), ct.invalid_by(*r)));
        all.extend(invalid);
        all
    }

    /// Why packets were dropped, refused or found invalid, and how many: the reasons that there are any of.
    pub fn reasons(&self) -> Vec<Reason> {
        let reason = |kind, name: &str, text: &str, port: Option<&str>, n| Reason {
            kind,
            name: name.to_owned(),
            text: text.to_owned(),
            port: port.map(str::to_owned),
            n,
        };
        let mut all = Vec::new();
        let stats = self.dp.stats();
        for (r, name, text) in DropReason::ALL {
            all.push(reason(ReasonKind::Drop, name, text, None, stats.dropped(*r)));
        }
        let ifaces = self.rec.bridges.values().flat_map(|b| &b.ifaces);
        for (port, device) in ifaces.filter_map(|(name, i)| Some((name, i.device.as_ref()?))) {
            let lost = device.counters();
            let port = Some(port.as_str());
            for r in RxDrop::ALL {
                all.push(reason(ReasonKind::Received, r.name(), r.text(), port, lost.rx_drop(*r)));
            }
            for r in TxDrop::ALL {
                all.push(reason(ReasonKind::Sent, r.name(), r.text(), port, lost.tx_drop(*r)));
            }
        }
        let ct = self.dp.conntrack().counters();
        for (name, n) in ct.rows().filter(|(name, _)| ["drop", "zone_full"].contains(name)) {
            let text = Counters::text(name).unwrap_or_default();
            all.push(reason(ReasonKind::Refused, &format!("conntrack_{name}"), text, None, n));
        }
        for r in InvalidReason::ALL {
            let n = ct.invalid_by(*r);
            all.push(reason(ReasonKind::Invalid, &invalid_counter(*r), r.text(), None, n));
        }
        all.retain(|r| r.n > 0);
        all
    }
}

/// Name of the counter of packets that were invalid for this reason.
fn invalid_counter(reason: InvalidReason) -> String {
    format!("conntrack_invalid_{}", reason.name().replace([' ', '-'], "_"))
}
