//! What the datapath can do, as `dpif/show-dp-features` lists it and the log tells it when the first
//! bridge comes up. The datapath is part of the program, so nothing is probed.

use ofproto::Support;

use crate::log;

/// How much of a feature there is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It is there or not.
    Is(bool),
    /// As many, or as deep.
    UpTo(usize),
}

/// One feature: its name in commands, its title in listings, how much of it there is, and how the log calls it.
#[derive(Debug)]
pub struct Feature {
    /// Name.
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// How much.
    pub extent: Extent,
    /// For the log: what is supported, or what was found to be so many.
    said: &'static str,
}

const fn is(name: &'static str, title: &'static str, there: bool, said: &'static str) -> Feature {
    Feature { name, title, extent: Extent::Is(there), said }
}

const fn up_to(name: &'static str, title: &'static str, n: usize, said: &'static str) -> Feature {
    Feature { name, title, extent: Extent::UpTo(n), said }
}

/// All of them, in the order of OVS's listing.
pub const FEATURES: &[Feature] = &[
    is("masked_set_action", "Masked set action", true, ""),
    is("tnl_push_pop", "Tunnel push pop", false, ""),
    is("ufid", "Ufid", true, "unique flow ids"),
    is("trunc", "Truncate action", true, "truncate action"),
    is("clone", "Clone action", true, "clone action"),
    up_to("sample_nesting", "Sample nesting", 10, "Max sample nesting level probed as"),
    is("ct_eventmask", "Conntrack eventmask", false, "eventmask in conntrack action"),
    is("ct_clear", "Conntrack clear", true, "ct_clear action"),
    up_to("max_hash_alg", "Max dp_hash algorithm", 1, "Max dp_hash algorithm probed to be"),
    is("check_pkt_len", "Check pkt length action", true, "check_pkt_len action"),
    is("ct_timeout", "Conntrack timeout policy", true, "timeout policy in conntrack action"),
    is("explicit_drop_action", "Explicit Drop action", true, "explicit drop action"),
    is("lb_output_action", "Optimized Balance TCP mode", false, "optimized balance-tcp mode"),
    is("ct_zero_snat", "Conntrack all-zero IP SNAT", true, "ct_zero_snat"),
    is("add_mpls", "MPLS Label add", false, "add_mpls action"),
    is("psample", "psample action", false, "psample action"),
    up_to("max_vlan_headers", "Max VLAN headers", 2, "VLAN header stack length probed as"),
    up_to("max_mpls_depth", "Max MPLS depth", 3, "MPLS label stack length probed as"),
    is("recirc", "Recirc", true, "recirculation"),
    is("ct_state", "CT state", true, "ct_state"),
    is("ct_zone", "CT zone", true, "ct_zone"),
    is("ct_mark", "CT mark", true, "ct_mark"),
    is("ct_label", "CT label", true, "ct_label"),
    is("ct_state_nat", "CT state NAT", true, "ct_state_nat"),
    is("ct_orig_tuple", "CT orig tuple", true, "ct_orig_tuple"),
    is("ct_orig_tuple6", "CT orig tuple for IPv6", true, "ct_orig_tuple6"),
    is("nd_ext", "IPv6 ND Extension", true, "IPv6 ND Extensions"),
];

impl Feature {
    /// How much of it translations may use: a part of [`Support`] if there is a choice.
    fn extent_now(&self, support: &Support) -> Extent {
        match choice(&mut support.clone(), self.name) {
            Some(Choice::Is(there)) => Extent::Is(*there),
            Some(Choice::UpTo(n)) => Extent::UpTo(*n),
            None => self.extent,
        }
    }

    fn display(&self, support: &Support) -> String {
        let text = |e: Extent| match e {
            Extent::Is(there) => there.to_string(),
            Extent::UpTo(n) => n.to_string(),
        };
        let (now, all) = (text(self.extent_now(support)), text(self.extent));
        format!("{} ({}) : [run time]:{now}, [boot time]:{all}\n", self.name, self.title)
    }
}

/// A feature that translations can do without.
enum Choice<'a> {
    Is(&'a mut bool),
    UpTo(&'a mut usize),
}

fn choice<'a>(support: &'a mut Support, name: &str) -> Option<Choice<'a>> {
    Some(match name {
        "clone" => Choice::Is(&mut support.clone),
        "sample_nesting" => Choice::UpTo(&mut support.sample_nesting),
        "check_pkt_len" => Choice::Is(&mut support.check_pkt_len),
        "add_mpls" => Choice::Is(&mut support.add_mpls),
        _ => return None,
    })
}

/// The text of `dpif/show-dp-features`.
pub fn list(support: &Support) -> String {
    let line = |f: &Feature| match f.extent_now(support) {
        Extent::Is(there) => format!("{}: {}\n", f.title, if there { "Yes" } else { "No" }),
        Extent::UpTo(n) => format!("{}: {n}\n", f.title),
    };
    FEATURES.iter().map(line).collect()
}

/// `dpif/set-dp-features`: shows all features or one, or changes one in `support`. Returns what there
/// is to say.
pub fn set(support: &mut Support, name: Option<&str>, value: Option<&str>) -> String {
    let Some(name) = name else {
        return FEATURES.iter().map(|f| f.display(support)).collect();
    };
    let Some(feature) = FEATURES.iter().find(|f| f.name == name) else {
        return "Unexpected support field".to_owned();
    };
    let Some(value) = value else { return feature.display(support) };
    let wanted = match feature.extent {
        Extent::Is(_) => match value.to_ascii_lowercase().as_str() {
            "true" => Extent::Is(true),
            "false" => Extent::Is(false),
            _ => return "Boolean value expected".to_owned(),
        },
        Extent::UpTo(_) => match value.parse::<i64>() {
            Ok(n) if n < 0 => return "Negative number not expected".to_owned(),
            Ok(n) => Extent::UpTo(usize::try_from(n).unwrap_or(usize::MAX)),
            Err(_) => return "Integer number expected".to_owned(),
        },
    };
    match (wanted, feature.extent) {
        (Extent::Is(true), Extent::Is(false)) => {
            return "Can not enable features not supported by the datapath".to_owned();
        }
        (Extent::UpTo(n), Extent::UpTo(most)) if n > most => {
            return "Can not set value beyond the datapath capability".to_owned();
        }
        _ => {}
    }
    match (choice(support, name), wanted) {
        (Some(Choice::Is(there)), Extent::Is(wanted)) => *there = wanted,
        (Some(Choice::UpTo(n)), Extent::UpTo(wanted)) => *n = wanted,
        _ if wanted == feature.extent => {}
        _ => return format!("Can not do without {name}"),
    }
    String::new()
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
        let text = list(&Support::default());
        assert_eq!(text.lines().count(), FEATURES.len());
        assert!(text.contains("Truncate action: Yes\n") && text.contains("Max MPLS depth: 3\n"));
        let titles: std::collections::BTreeSet<_> = FEATURES.iter().map(|f| f.title).collect();
        assert_eq!(titles.len(), FEATURES.len());
    }
    #[test]
    fn what_can_be_done_without_is_turned_off_and_on() {
        let mut s = Support::default();
        assert_eq!(set(&mut s, Some("clone"), Some("False")), "");
        assert!(!s.clone && list(&s).contains("Clone action: No\n"));
        let shown = set(&mut s, Some("clone"), None);
        assert_eq!(shown, "clone (Clone action) : [run time]:false, [boot time]:true\n");
        assert_eq!(set(&mut s, Some("clone"), Some("true")), "");
        assert_eq!(set(&mut s, Some("sample_nesting"), Some("2")), "");
        assert_eq!(s, Support { sample_nesting: 2, ..Support::default() });
        assert_eq!(set(&mut s, None, None).lines().count(), FEATURES.len());
        for (name, value, said) in [
            ("bogus", "true", "Unexpected support field"),
            ("clone", "maybe", "Boolean value expected"),
            ("psample", "true", "Can not enable features not supported by the datapath"),
            ("psample", "false", ""),
            ("recirc", "true", ""),
            ("recirc", "false", "Can not do without recirc"),
            ("sample_nesting", "11", "Can not set value beyond the datapath capability"),
            ("sample_nesting", "-1", "Negative number not expected"),
            ("sample_nesting", "x", "Integer number expected"),
        ] {
            assert_eq!(set(&mut s, Some(name), Some(value)), said, "{name} {value}");
        }
        assert_eq!(s, Support { sample_nesting: 2, ..Support::default() });
    }
}
