//! What the datapath can do, as `dpif/show-dp-features` lists it and the log tells it when the first
//! bridge comes up. The datapath is part of the program, so nothing is probed.

use crate::log;

/// How much of a feature there is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It is there or not.
    Is(bool),
    /// As many, or as deep.
    UpTo(usize),
}

/// One feature: its title in listings, how much of it there is, and how the log calls it.
#[derive(Debug)]
pub struct Feature {
    /// Title.
    pub title: &'static str,
    /// How much.
    pub extent: Extent,
    /// For the log: what is supported, or what was found to be so many.
    said: &'static str,
}

const fn is(title: &'static str, there: bool, said: &'static str) -> Feature {
    Feature { title, extent: Extent::Is(there), said }
}

const fn up_to(title: &'static str, n: usize, said: &'static str) -> Feature {
    Feature { title, extent: Extent::UpTo(n), said }
}

/// All of them, in the order of OVS's listing.
pub const FEATURES: &[Feature] = &[
    is("Masked set action", true, ""),
    is("Tunnel push pop", false, ""),
    is("Ufid", true, "unique flow ids"),
    is("Truncate action", true, "truncate action"),
    is("Clone action", true, "clone action"),
    up_to("Sample nesting", 10, "Max sample nesting level probed as"),
    is("Conntrack eventmask", false, "eventmask in conntrack action"),
    is("Conntrack clear", true, "ct_clear action"),
    up_to("Max dp_hash algorithm", 1, "Max dp_hash algorithm probed to be"),
    is("Check pkt length action", true, "check_pkt_len action"),
    is("Conntrack timeout policy", false, "timeout policy in conntrack action"),
    is("Explicit Drop action", true, "explicit drop action"),
    is("Optimized Balance TCP mode", false, "optimized balance-tcp mode"),
    is("Conntrack all-zero IP SNAT", false, "ct_zero_snat"),
    is("MPLS Label add", false, "add_mpls action"),
    is("psample action", false, "psample action"),
    up_to("Max VLAN headers", 2, "VLAN header stack length probed as"),
    up_to("Max MPLS depth", 3, "MPLS label stack length probed as"),
    is("Recirc", true, "recirculation"),
    is("CT state", true, "ct_state"),
    is("CT zone", true, "ct_zone"),
    is("CT mark", true, "ct_mark"),
    is("CT label", true, "ct_label"),
    is("CT state NAT", true, "ct_state_nat"),
    is("CT orig tuple", true, "ct_orig_tuple"),
    is("CT orig tuple for IPv6", true, "ct_orig_tuple6"),
    is("IPv6 ND Extension", true, "IPv6 ND Extensions"),
];

/// The text of `dpif/show-dp-features`.
pub fn list() -> String {
    let line = |f: &Feature| match f.extent {
        Extent::Is(there) => format!("{}: {}\n", f.title, if there { "Yes" } else { "No" }),
        Extent::UpTo(n) => format!("{}: {n}\n", f.title),
    };
    FEATURES.iter().map(line).collect()
}

/// Tells the log what datapath `dp` can do.
pub fn tell(dp: &str) {
    for f in FEATURES.iter().filter(|f| !f.said.is_empty()) {
        match f.extent {
            Extent::Is(there) => {
                let verb = if there { "supports" } else { "does not support" };
                log!(Info, OfprotoDpif, "{dp}: Datapath {verb} {}", f.said);
            }
            Extent::UpTo(n) => log!(Info, OfprotoDpif, "{dp}: {} {n}", f.said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_listed_once() {
        let text = list();
        assert_eq!(text.lines().count(), FEATURES.len());
        assert!(text.contains("Truncate action: Yes\n") && text.contains("Max MPLS depth: 3\n"));
        let titles: std::collections::BTreeSet<_> = FEATURES.iter().map(|f| f.title).collect();
        assert_eq!(titles.len(), FEATURES.len());
    }
}
