//! What OVS's `dpif` and `dpif_netdev` modules log of a datapath at level DBG: packets without a flow,
//! flows that come, change and go, and each dump of them. Tests and people who debug read it.

use std::collections::HashMap;
use std::sync::Arc;

use base::Instant;
use dpif::text::{NO_NAMES, format_actions, format_key, format_stats};
use dpif::{Megaflow, MegaflowSpec, Ufid};
use flow::PacketKey;

use crate::log;
use crate::vlog::{self, Level, Module};

/// Whether flows are logged, so that it is worth keeping a list of them.
pub fn wants_flows() -> bool {
    vlog::enabled(Module::Dpif, Level::Dbg)
}

/// A packet of datapath `dp` has no flow.
pub fn miss(dp: &str, key: &PacketKey) {
    if vlog::enabled(Module::Dpif, Level::Dbg) {
        log!(Dbg, Dpif, "{dp}: miss upcall:\n{}", format_key(key, None, true, NO_NAMES));
    }
}

/// A flow is made for packets like `key`.
pub fn installed(key: &PacketKey, spec: &MegaflowSpec, now: Instant) {
    if vlog::enabled(Module::DpifNetdev, Level::Dbg) {
        let flow = Megaflow::new(*key, spec.clone(), 0, now);
        let text = format_key(&flow.key, Some(&flow.mask), false, NO_NAMES);
        let (ufid, actions) = (flow.ufid, format_actions(&flow.actions, NO_NAMES));
        log!(Dbg, DpifNetdev, "flow_add: ufid:{ufid} mega_ufid:{ufid} {text}, actions:{actions}");
    }
}

/// All flows were looked at.
pub fn dumped(dp: &str, flows: &[Arc<Megaflow>], now: Instant) {
    for f in flows {
        let (stats, actions) = (f.stats(), format_actions(&f.actions, NO_NAMES));
        let stats = format_stats(&stats, now);
        log!(Dbg, Dpif, "{dp}: flow_dump {}, {stats}, actions:{actions}", name(f));
    }
}

/// Flows are now `after` and were `before`.
pub fn changed(dp: &str, before: &[Arc<Megaflow>], after: &[Arc<Megaflow>], now: Instant) {
    let after: HashMap<Ufid, &Arc<Megaflow>> = after.iter().map(|f| (f.ufid, f)).collect();
    for old in before {
        match after.get(&old.ufid) {
            None => {
                let stats = old.stats();
                log!(Dbg, Dpif, "{dp}: flow_del {}, {}", name(old), format_stats(&stats, now));
            }
            Some(new) if new.actions != old.actions => {
                let actions = format_actions(&new.actions, NO_NAMES);
                log!(Dbg, Dpif, "{dp}: put[modify] {}, actions:{actions}", name(new));
            }
            Some(_) => {}
        }
    }
}

fn name(f: &Megaflow) -> String {
    format!("ufid:{} {}", f.ufid, format_key(&f.key, Some(&f.mask), true, NO_NAMES))
}
