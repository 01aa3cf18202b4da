//! What a switch is and how it is configured.

use core::fmt::{self, Write};

use super::{Bits, HexDump, ports};
use crate::action::table::bitmap;
use crate::message::{Features, SwitchConfig, SwitchDesc};
use crate::version::Version;

/// Names of [`crate::message::capability`] bits.
const CAPABILITIES: [&str; 11] = [
    "FLOW_STATS",
    "TABLE_STATS",
    "PORT_STATS",
    "GROUP_STATS",
    "",
    "IP_REASM",
    "QUEUE_STATS",
    "ARP_MATCH_IP",
    "PORT_BLOCKED",
    "BUNDLES",
    "FLOW_MONITORING",
];

/// Modes of fragment handling, by number.
const FRAGS: [&str; 4] = ["normal", "drop", "reassemble", "nx-match"];

/// The name of a mode of fragment handling.
pub fn frag_name(frag: u8) -> &'static str {
    FRAGS[usize::from(frag & 3)]
}

/// The mode of fragment handling with this name, letter case aside.
pub fn frag_from_name(name: &str) -> Option<u8> {
    FRAGS.iter().position(|n| n.eq_ignore_ascii_case(name)).map(|i| i as u8)
}

/// Writes a hello's versions. `unknown` are its bytes if they hold more than that.
pub(super) fn write_hello(
    out: &mut impl Write,
    bitmap: u32,
    unknown: Option<&[u8]>,
) -> fmt::Result {
    write!(out, "\n version bitmap: ")?;
    let mut separator = "";
    for bit in (0..32).filter(|b| bitmap & 1 << b != 0) {
        write!(out, "{separator}0x{bit:02x}")?;
        separator = ", ";
    }
    writeln!(out)?;
    match unknown {
        Some(bytes) => write!(out, " unknown data in hello:\n{}", HexDump(bytes)),
        None => Ok(()),
    }
}

/// Writes a features reply.
pub(super) fn write_features(out: &mut impl Write, x: &Features, v: Version) -> fmt::Result {
    writeln!(out, " dpid:{:016x}", x.dpid)?;
    write!(out, "n_tables:{}, n_buffers:{}", x.n_tables, x.n_buffers)?;
    if x.auxiliary_id != 0 {
        write!(out, ", auxiliary_id:{}", x.auxiliary_id)?;
    }
    writeln!(out)?;
    let mut names = CAPABILITIES;
    if v == Version::Of10 {
        names[3] = "STP";
    }
    // What a later version may mean by a bit is not told.
    let known = (0..names.len()).filter(|&i| !names[i].is_empty()).fold(0, |bits, i| bits | 1 << i);
    let bits = x.capabilities & known;
    let capabilities = Bits { bits, names: &names, separator: ' ' };
    writeln!(out, "capabilities: {capabilities}")?;
    if v == Version::Of10 {
        write!(out, "actions:")?;
        write_actions(out, x.actions, v)?;
    }
    ports::write_descs(out, &x.ports, v)
}

/// Writes the actions of a version's bitmap, a space before each, and a line's end.
pub(super) fn write_actions(out: &mut impl Write, bits: u32, v: Version) -> fmt::Result {
    let mut rest = bits;
    for (name, bit) in bitmap(v).filter(|a| bits & a.1 != 0) {
        write!(out, " {name}")?;
        rest &= !bit;
    }
    if rest != 0 || bits == 0 {
        write!(out, " {rest:#x}")?;
    }
    writeln!(out)
}

/// Writes a configuration.
pub(super) fn write_config(out: &mut impl Write, x: &SwitchConfig) -> fmt::Result {
    write!(out, " frags={}", frag_name(x.frag))?;
    if x.invalid_ttl_to_controller == Some(true) {
        write!(out, " invalid_ttl_to_controller")?;
    }
    writeln!(out, " miss_send_len={}", x.miss_send_len)
}

/// Writes a description.
pub(super) fn write_desc(out: &mut impl Write, x: &SwitchDesc) -> fmt::Result {
    writeln!(
        out,
        "\nManufacturer: {}\nHardware: {}\nSoftware: {}\nSerial Num: {}\nDP Description: {}",
        x.mfr_desc, x.hw_desc, x.sw_desc, x.serial_num, x.dp_desc
    )
}
