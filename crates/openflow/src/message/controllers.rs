//! What became of controllers (`ofp_controller_status`, OpenFlow 1.5.1 §7.4.8).

use alloc::string::String;
use alloc::vec::Vec;

use super::codec::Result;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Why a controller's status is told (`OFPCSR_*`).
pub mod controller_reason {
    /// It was asked for.
    pub const REQUEST: u8 = 0;
    /// Its channel came up or went down.
    pub const CHANNEL_STATUS: u8 = 1;
    /// Its role changed.
    pub const ROLE: u8 = 2;
    /// It was configured.
    pub const CONTROLLER_ADDED: u8 = 3;
    /// It is not configured any more.
    pub const CONTROLLER_REMOVED: u8 = 4;

    /// Names of all, by number.
    pub(crate) const NAMES: &[&str] = &[
        "request",
        "channel_status",
        "role",
        "controller_added",
        "controller_removed",
        "short_id",
        "experimenter",
    ];
}

/// A controller as the switch sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ControllerStatus {
    /// The number that it gave itself; 0 is none.
    pub short_id: u16,
    /// `OFPCR_ROLE_*`.
    pub role: u32,
    /// Why this is told: one of [`controller_reason`].
    pub reason: u8,
    /// Its channel is down.
    pub is_down: bool,
    /// How it is reached, as it is configured; empty if that is not said.
    pub uri: String,
}

/// Bytes in front of properties.
const HEADER_LEN: usize = 16;
/// The property that holds the URI.
const PROP_URI: u16 = 0;
/// Most bytes of a URI that a message has place for.
const MAX_URI: usize = 0xff00;

/// Reads a status. Properties other than the URI are passed over.
pub(super) fn read_status(r: &mut Reader<'_>) -> Result<ControllerStatus> {
    let here = *r;
    let len = usize::from(r.u16()?);
    if len < HEADER_LEN {
        return Err(here.error(OfError::OFPBRC_BAD_LEN));
    }
    let mut e = r.sub(len - 2)?;
    let short_id = e.u16()?;
    let here = e;
    let role = e.u32()?;
    if role > 3 {
        return Err(here.error(OfError::OFPRRFC_BAD_ROLE));
    }
    let (reason, is_down) = (e.u8()?, e.u8()? != 0);
    e.skip(6)?;
    let mut uri = String::new();
    while !e.is_empty() {
        let (typ, mut p) = e.property()?;
        if typ == PROP_URI {
            let n = p.len();
            uri = p.text(n)?;
        }
    }
    Ok(ControllerStatus { short_id, role, reason, is_down, uri })
}

/// Writes a status.
pub(super) fn write_status(out: &mut Vec<u8>, s: &ControllerStatus) {
    let uri = &s.uri.as_bytes()[..s.uri.len().min(MAX_URI)];
    let prop = if uri.is_empty() { 0 } else { 4 + uri.len() };
    out.put16((HEADER_LEN + prop.next_multiple_of(8)) as u16);
    out.put16(s.short_id);
    out.put32(s.role);
    out.put8(s.reason);
    out.put8(s.is_down.into());
    out.zeros(6);
    if prop > 0 {
        out.put16(PROP_URI);
        out.put16(prop as u16);
        out.extend_from_slice(uri);
        out.zeros(prop.next_multiple_of(8) - prop);
    }
}
