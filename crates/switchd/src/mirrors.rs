//! The Mirror table: from its rows to the mirrors of a bridge.
//!
//! A row names ports; a mirror has their OpenFlow numbers, which come and go with devices. What a
//! row says and cannot be is said in the log once, as long as it stays so.

use std::collections::BTreeSet;

use base::OfPort;
use flow::Match;
use flow::text::{Mode, NameMap, parse_exact, parse_match};
use ofproto::{MAX_MIRRORS, MirrorId, MirrorOutput, MirrorSpec};
use ovsdb::types::Uuid;

use crate::log;

/// A row of Mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorConfig {
    /// Row.
    pub uuid: Uuid,
    /// `name`.
    pub name: String,
    /// `select_all`.
    pub select_all: bool,
    /// `select_src_port`: names of ports.
    pub select_src: BTreeSet<String>,
    /// `select_dst_port`: names of ports.
    pub select_dst: BTreeSet<String>,
    /// `select_vlan`.
    pub select_vlan: BTreeSet<u16>,
    /// `output_port`: name of a port.
    pub output_port: Option<String>,
    /// `output_vlan`.
    pub output_vlan: Option<u16>,
    /// `snaplen`; 0 for the whole packet.
    pub snaplen: u16,
    /// `filter`: a flow that packets must match.
    pub filter: Option<String>,
}

/// Something to say of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// As the bridge's: it is not as it was meant.
    Warn(String),
    /// As the bridge's: it cannot be done.
    Error(String),
    /// As the filter's reader.
    Filter(String),
}

impl Complaint {
    pub(crate) fn tell(&self) {
        match self {
            Complaint::Warn(text) => log!(Warn, Bridge, "{text}"),
            Complaint::Error(text) => log!(Err, Bridge, "{text}"),
            Complaint::Filter(text) => log!(Warn, OfprotoDpifMirror, "{text}"),
        }
    }
}

/// What a bridge has: its ports, and the numbers that they have.
pub(crate) trait Ports: NameMap {
    /// OpenFlow numbers of the interfaces of a port that run; `None` if the bridge has no such port.
    fn of(&self, port: &str) -> Option<Vec<OfPort>>;
}

/// The mirrors that rows ask for on a bridge, and what is wrong with them.
pub(crate) fn specs(
    bridge: &str,
    rows: &[MirrorConfig],
    ports: &dyn Ports,
) -> (Vec<(MirrorId, MirrorSpec)>, Vec<Complaint>) {
    let (mut all, mut complaints) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(spec) = spec(bridge, row, ports, &mut complaints) else { continue };
        if all.len() == MAX_MIRRORS {
            complaints.push(Complaint::Filter(format!(
                "maximum of {MAX_MIRRORS} port mirrors reached, cannot create {}",
                row.name
            )));
            break;
        }
        all.push((MirrorId(row.uuid.0), spec));
    }
    (all, complaints)
}

fn spec(
    bridge: &str,
    row: &MirrorConfig,
    ports: &dyn Ports,
    complaints: &mut Vec<Complaint>,
) -> Option<MirrorSpec> {
    let this = format!("bridge {bridge}: mirror {}", row.name);
    let output = match (&row.output_port, row.output_vlan) {
        (Some(port), vlan) => {
            let Some(numbers) = ports.of(port) else {
                complaints.push(Complaint::Error(format!("{this} outputs to port not on bridge")));
                return None;
            };
            if vlan.is_some() {
                complaints.push(Complaint::Error(format!(
                    "{this} specifies both output port and output vlan; ignoring output vlan"
                )));
            }
            MirrorOutput::Port(numbers.first().copied().unwrap_or(OfPort::NONE))
        }
        (None, Some(vlan)) => MirrorOutput::Vlan(vlan),
        (None, None) => {
            complaints.push(Complaint::Error(format!("{this} does not specify output; ignoring")));
            return None;
        }
    };
    let mut collect = |names: &BTreeSet<String>| {
        let mut numbers = BTreeSet::new();
        for name in names.iter().filter(|_| !row.select_all) {
            match ports.of(name) {
                Some(n) => numbers.extend(n),
                None => complaints.push(Complaint::Warn(format!(
                    "{this} cannot match on nonexistent port {name}"
                ))),
            }
        }
        numbers
    };
    let (src, dst) = (collect(&row.select_src), collect(&row.select_dst));
    let filter = row.filter.as_deref().filter(|f| !f.is_empty());
    let filter = match filter.map(|text| read_filter(text, ports)).transpose() {
        Ok(filter) => filter,
        Err(why) => {
            complaints.push(Complaint::Filter(why));
            complaints.push(Complaint::Error(format!("{this} configuration is invalid")));
            return None;
        }
    };
    Some(MirrorSpec {
        all: row.select_all,
        src,
        dst,
        vlans: row.select_vlan.clone(),
        filter,
        output,
        snaplen: row.snaplen,
    })
}

/// A flow without an input port, which `select_src_port` is for.
fn read_filter(text: &str, names: &dyn NameMap) -> Result<Match, String> {
    let m = parse_match(text, names, Mode::Strict).map_err(|e| {
        // In the words of OVS's reader, which knows no masks, if it does not take it either.
        let why = parse_exact(text, names).map_or_else(|e| e.message, |_| e.message);
        format!("filter is invalid: {why}")
    })?;
    if m.mask.pkt.in_port != 0 {
        return Err("filter is invalid due to in_port field.".to_owned());
    }
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Br;

    impl NameMap for Br {
        fn number(&self, name: &str) -> Option<OfPort> {
            (name == "p1").then_some(OfPort(1))
        }

        fn name(&self, _: OfPort) -> Option<&str> {
            None
        }
    }

    impl Ports for Br {
        fn of(&self, port: &str) -> Option<Vec<OfPort>> {
            match port {
                "p1" => Some(vec![OfPort(1)]),
                "bond" => Some(vec![OfPort(2), OfPort(3)]),
                "broken" => Some(Vec::new()),
                _ => None,
            }
        }
    }

    fn row() -> MirrorConfig {
        MirrorConfig {
            uuid: Uuid(7),
            name: "m".to_owned(),
            select_all: false,
            select_src: BTreeSet::new(),
            select_dst: BTreeSet::new(),
            select_vlan: BTreeSet::new(),
            output_port: Some("p1".to_owned()),
            output_vlan: None,
            snaplen: 0,
            filter: None,
        }
    }

    #[test]
    fn names_become_numbers() {
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect();
        let row = MirrorConfig {
            select_src: names(&["bond", "gone"]),
            select_dst: names(&["p1"]),
            ..row()
        };
        let (specs, complaints) = specs("br0", &[row], &Br);
        let [(id, spec)] = &specs[..] else { panic!("{specs:?}") };
        assert_eq!((*id, spec.output), (MirrorId(7), MirrorOutput::Port(OfPort(1))));
        assert_eq!(spec.src, BTreeSet::from([OfPort(2), OfPort(3)]));
        assert_eq!(spec.dst, BTreeSet::from([OfPort(1)]));
        let said = "bridge br0: mirror m cannot match on nonexistent port gone".to_owned();
        assert_eq!(complaints, [Complaint::Warn(said)]);
    }

    #[test]
    fn what_cannot_be_is_said_and_not_done() {
        let with = |f: fn(&mut MirrorConfig)| {
            let mut row = row();
            f(&mut row);
            let (specs, complaints) = specs("br0", &[row], &Br);
            (specs.len(), format!("{complaints:?}"))
        };
        for (change, n, text) in [
            (
                (|r| r.output_port = Some("gone".into())) as fn(&mut MirrorConfig),
                0,
                "not on bridge",
            ),
            (|r| r.output_port = None, 0, "does not specify output; ignoring"),
            (|r| r.output_vlan = Some(5), 1, "ignoring output vlan"),
            (|r| r.output_port = Some("broken".into()), 1, "[]"),
            (|r| r.filter = Some(String::new()), 1, "[]"),
            (|r| r.filter = Some("tcp,nw_src=10.0.0.0/8".into()), 1, "[]"),
            (|r| r.filter = Some("bogus".into()), 0, "invalid: bogus: unknown field bogus"),
            (|r| r.filter = Some("in_port=p1".into()), 0, "due to in_port field"),
            (|r| r.filter = Some("tcp_dst=80".into()), 0, "configuration is invalid"),
        ] {
            let (specs, said) = with(change);
            assert!(specs == n && said.contains(text), "{specs} {said}");
        }
        let many = vec![row(); 40];
        let (specs, complaints) = specs("br0", &many, &Br);
        assert_eq!((specs.len(), complaints.len()), (32, 1));
    }
}
