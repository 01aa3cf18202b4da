//! Flow formats: which of them can say a flow, which are allowed, and how a switch is told.
//!
//! What a format can say is found out by saying it: a flow is usable in a format if it can be encoded
//! and its match comes back the same.

use openflow::message::{Body, FlowFormat, GroupCommand, GroupMod, Message, Session as Agreed};
use openflow::text::ParsedGroup;
use openflow::version::Version;
use openflow::{FlowMod, Match};

use super::Tool;
use super::conn::Conn;
use crate::applet::Failure;

/// One flow format.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    name: &'static str,
    /// Its version.
    pub version: Version,
    /// In Nicira's form (1.0).
    pub nicira: bool,
    /// Says the table (1.0's extension).
    pub table_id: bool,
}

const fn row(name: &'static str, version: Version, nicira: bool, table_id: bool) -> Protocol {
    Protocol { name, version, nicira, table_id }
}

/// All formats, in order of preference.
pub const PROTOCOLS: [Protocol; 9] = [
    row("OpenFlow10-table_id", Version::Of10, false, false),
    row("OpenFlow10+table_id", Version::Of10, false, true),
    row("NXM-table_id", Version::Of10, true, false),
    row("NXM+table_id", Version::Of10, true, true),
    row("OpenFlow11", Version::Of11, false, true),
    row("OXM-OpenFlow12", Version::Of12, false, true),
    row("OXM-OpenFlow13", Version::Of13, false, true),
    row("OXM-OpenFlow14", Version::Of14, false, true),
    row("OXM-OpenFlow15", Version::Of15, false, true),
];

/// A set of formats: bit N is row N of [`PROTOCOLS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set(pub u16);

/// Names of sets.
const ABBREVIATIONS: [(&str, Set); 4] = [
    ("any", Set::ALL),
    ("OpenFlow10", Set(0b11)),
    ("NXM", Set(0b1100)),
    ("OXM", Set(0b1_1110_0000)),
];

impl Set {
    /// Every format.
    pub const ALL: Set = Set(0b1_1111_1111);
    /// Those of 1.0.
    pub const OF10: Set = Set(0b1111);
    /// Those that match anything, tunnel options included.
    pub const NXM_OXM: Set = Set(0b1_1110_1100);

    /// Those of the versions in a bitmap.
    pub fn of_versions(bitmap: u32) -> Set {
        Set::of(|p| p.version.bit() & bitmap != 0)
    }

    fn of(f: impl Fn(&Protocol) -> bool) -> Set {
        let bits = PROTOCOLS.iter().enumerate().filter(|p| f(p.1)).map(|p| 1 << p.0);
        Set(bits.fold(0, |a, b: u16| a | b))
    }

    /// Those in both.
    pub fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The rows.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = &'static Protocol> {
        PROTOCOLS.iter().enumerate().filter(move |p| self.0 & 1 << p.0 != 0).map(|p| p.1)
    }

    /// Reads a list as of `-F`.
    ///
    /// # Errors
    /// A name that is not known.
    pub fn parse(text: &str) -> Result<Set, Failure> {
        let mut set = Set(0);
        for name in text.split(',').filter(|n| !n.is_empty()) {
            let one = ABBREVIATIONS.iter().find(|a| a.0.eq_ignore_ascii_case(name)).map(|a| a.1);
            let one = one.unwrap_or_else(|| Set::of(|p| p.name.eq_ignore_ascii_case(name)));
            if one.is_empty() {
                return Err(Failure::fatal(format!("{name}: unknown flow protocol")));
            }
            set.0 |= one.0;
        }
        match set.is_empty() {
            true => Err(Failure::fatal(format!("{text}: no flow protocol specified"))),
            false => Ok(set),
        }
    }

    /// The formats that can say a flow.
    pub fn usable(f: &FlowMod) -> Set {
        let mut message = Message::new(Version::Of10, 0, Body::FlowMod(Box::new(f.clone())));
        let bits = PROTOCOLS.iter().enumerate().filter(|p| p.1.say(&mut message).is_some());
        Set(bits.fold(0, |set, p| set | 1 << p.0))
    }
}

impl Protocol {
    /// The bytes of a flow mod in this format, which `message` is put into; `None` if the format
    /// cannot say it.
    pub fn say(&self, message: &mut Message) -> Option<Vec<u8>> {
        (message.version, message.nicira) = (self.version, self.nicira);
        let Body::FlowMod(f) = &message.body else { return None };
        if f.table.is_some() && !self.table_id
            || self.version == Version::Of11 && !sayable_in_11(&f.match_)
        {
            return None;
        }
        let agreed = Agreed { flow_mod_table_id: self.table_id };
        let bytes = message.encode(agreed).ok()?;
        let same = match Message::decode(&bytes, agreed).map(|m| m.body) {
            Ok(Body::FlowMod(back)) => {
                back.match_ == f.match_ && (f.cookie_mask == 0 || back.cookie_mask == f.cookie_mask)
            }
            // What the switch will refuse is said all the same.
            _ => true,
        };
        same.then_some(bytes)
    }
}

impl Set {
    /// The formats that can say a group.
    pub fn usable_group(g: &ParsedGroup) -> Set {
        // Whether a version has the command is not a matter of formats.
        let group = GroupMod { command: GroupCommand::Add, ..g.group.clone() };
        Set::of(|p| {
            let body = Body::GroupMod(Box::new(group.clone()));
            (has_buckets(p.version) || !g.needs_15)
                && Message::new(p.version, 0, body).encode(Agreed::default()).is_ok()
        })
    }
}

/// Whether a version has commands for single buckets, and ids of them.
pub fn has_buckets(v: Version) -> bool {
    matches!(v, Version::Of10 | Version::Of15)
}

/// Whether 1.1's fixed match has all fields that a match asks for.
fn sayable_in_11(m: &Match) -> bool {
    let mut rest = m.mask;
    rest.metadata = 0;
    let p = &mut rest.pkt;
    (p.in_port, p.dl_type, p.nw_src, p.nw_dst) = (0, 0, 0, 0);
    (p.dl_src, p.dl_dst) = (Default::default(), Default::default());
    (p.nw_proto, p.nw_tos, p.tp_src, p.tp_dst) = (0, 0, 0, 0);
    p.vlans = Default::default();
    p.mpls_lse = [0; 3];
    rest == Match::ANY.mask
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        let mut names = Vec::new();
        for (name, set) in ABBREVIATIONS {
            if rest & set.0 == set.0 {
                names.push(name);
                rest &= !set.0;
            }
        }
        names.extend(Set(rest).iter().map(|p| p.name));
        f.write_str(&match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(","),
        })
    }
}

impl Protocol {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tells the switch to use this format from now on. 1.0's has to be told; others are the version's own.
    ///
    /// # Errors
    /// The switch does not know the format, or the connection broke.
    pub fn set(&'static self, tool: &mut Tool<'_, '_>, conn: &mut Conn) -> Result<(), Failure> {
        if self.version == Version::Of10 {
            if self.nicira {
                tool.change(conn, Body::SetFlowFormat(FlowFormat::Nxm), false)?;
            }
            if self.table_id {
                tool.change(conn, Body::FlowModTableId(true), false)?;
                conn.agreed.flow_mod_table_id = true;
            }
        }
        Ok(())
    }
}

/// The usable formats that are allowed.
fn check_allowed(tool: &Tool<'_, '_>, usable: Set) -> Result<Set, Failure> {
    let allowed = tool.settings.protocols;
    match allowed.and(usable) {
        none if none.is_empty() => Err(Failure::fatal(format!(
            "none of the usable flow formats ({usable}) is among the allowed flow formats ({allowed})"
        ))),
        some => Ok(some),
    }
}

/// Connects for flow mods: in the first allowed and usable format of the negotiated version.
///
/// # Errors
/// No format is both allowed and usable; no connection.
pub fn open(
    tool: &mut Tool<'_, '_>,
    target: &str,
    usable: Set,
) -> Result<(Conn, &'static Protocol), Failure> {
    let allowed = check_allowed(tool, usable)?;
    let mut conn = Conn::open(tool, target, super::conn::Socket::Management)?;
    let version = conn.version;
    let chosen = allowed.iter().find(|p| p.version == version).ok_or_else(|| {
        Failure::fatal(format!(
            "{target}: switch does not support any of the usable flow formats ({usable})"
        ))
    })?;
    chosen.set(tool, &mut conn)?;
    Ok((conn, chosen))
}

/// Connects for a dump of flows: in the format that says most.
///
/// # Errors
/// No connection; the switch refuses the format.
pub fn open_dump(
    tool: &mut Tool<'_, '_>,
    target: &str,
    usable: Set,
) -> Result<(Conn, bool), Failure> {
    let mut conn = Conn::open(tool, target, super::conn::Socket::Management)?;
    let allowed = check_allowed(tool, usable)?;
    let nxm = &PROTOCOLS[2];
    let wanted = allowed.iter().any(|p| p.nicira);
    let nicira = conn.version == Version::Of10 && wanted;
    if nicira {
        nxm.set(tool, &mut conn)?;
    }
    Ok((conn, nicira))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_and_write() {
        assert_eq!(Set::ALL.to_string(), "any");
        assert_eq!(Set::of_versions(Version::Of10.bit()).to_string(), "OpenFlow10,NXM");
        assert_eq!(Set(0b1_1111_0000).to_string(), "OXM,OpenFlow11");
        assert_eq!(Set::parse("NXM,oxm-openflow13").unwrap(), Set(0b100_1100));
        assert!(Set::parse("bogus").is_err());
    }

    #[test]
    fn a_flow_is_usable_where_it_can_be_said() {
        let any = FlowMod::default();
        assert_eq!(Set::usable(&any), Set::ALL);
        let mut table = any.clone();
        table.table = Some(base::TableId(3));
        assert_eq!(Set::usable(&table), Set(0b1_1111_1010));
        let mut reg = any;
        reg.match_.set(flow::FieldId::Reg0, 1, 0xffff_ffff);
        assert_eq!(Set::usable(&reg).to_string(), "NXM,OXM");
    }
}
