//! Which asynchronous messages a controller wants: a mask of reasons for each class of message and
//! each side of its role.
//!
//! Before 1.4 a message says all masks of the first three classes; since 1.4, and in
//! `NXT_SET_ASYNC_CONFIG2`, it says a list of properties and leaves the other masks alone. Source:
//! OpenFlow 1.3.5 §7.3.10, 1.5.1 §7.3.10.

use alloc::vec::Vec;

use super::codec::Result;
use super::controllers::controller_reason;
use super::kind::Kind;
use crate::action::PacketInReason;
use crate::error::OfError;
use crate::version::Version;
use crate::wire::{Put, Reader};

macro_rules! classes {
    ($($class:ident $number:literal $name:literal $masks:expr, $reasons:expr, $doc:literal;)*) => {
        /// A class of asynchronous messages.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum AsyncClass { $(#[doc = $doc] $class),* }

        /// Class, half of the number of its property, name, the bits of reasons that versions before 1.4, 1.4 and
        /// 1.5 have, names of reasons.
        static CLASSES: &[(AsyncClass, u16, &str, [u32; 3], &[&str])] =
            &[$((AsyncClass::$class, $number, $name, $masks, $reasons)),*];
    };
}

classes! {
    PacketIn 0 "PACKET_IN" [0x07, 0x3f, 0x3f], &PacketInReason::NAMES, "Packets for the controller.";
    PortStatus 1 "PORT_STATUS" [0x07, 0x07, 0x07], &["add", "delete", "modify"], "Ports that came, changed or went.";
    FlowRemoved 2 "FLOW_REMOVED" [0x3f, 0x3f, 0x3f],
        &["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"], "Flows that went.";
    RoleStatus 3 "ROLE_STATUS" [0x07, 0x07, 0x07],
        &["primary_request", "configuration_changed", "experimenter_data_changed"],
        "A role that was taken away.";
    TableStatus 4 "TABLE_STATUS" [0x18, 0x18, 0x18], &["", "", "", "vacancy_down", "vacancy_up"],
        "Tables that fill or empty.";
    Requestforward 5 "REQUESTFORWARD" [0x03, 0x03, 0x03], &["group_mod_request", "meter_mod_request"],
        "What other controllers do to groups and meters.";
    ControllerStatus 7 "CONTROLLER_STATUS" [0, 0, 0x7f], controller_reason::NAMES,
        "What becomes of controllers (1.5).";
}

/// Number of classes.
const N: usize = 7;

impl AsyncClass {
    /// All classes.
    pub fn all() -> impl Iterator<Item = AsyncClass> {
        CLASSES.iter().map(|c| c.0)
    }

    /// Its name as `ovs-ofctl` prints it.
    pub fn name(self) -> &'static str {
        CLASSES[self as usize].2
    }

    /// Names of its reasons, by number; empty for those that are not printed.
    pub fn reasons(self) -> &'static [&'static str] {
        CLASSES[self as usize].4
    }

    /// The class of a property, if the version has it, and whether it is the secondary's.
    pub fn of_property(typ: u16, v: Version) -> Option<(AsyncClass, bool)> {
        let row = CLASSES.iter().find(|c| c.1 == typ / 2 && c.0.allowed(v) != 0)?;
        // Even types are the secondary's, odd ones the primary's.
        Some((row.0, typ.is_multiple_of(2)))
    }

    fn property(self, secondary: bool) -> u16 {
        2 * CLASSES[self as usize].1 + u16::from(!secondary)
    }

    /// The reasons that a version knows.
    pub fn allowed(self, v: Version) -> u32 {
        let masks = &CLASSES[self as usize].3;
        match v {
            Version::Of15 => masks[2],
            Version::Of14 => masks[1],
            _ => masks[0],
        }
    }
}

/// Masks of reasons: bit 1 << reason.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct AsyncConfig {
    /// By class; \[primary or equal, secondary\].
    masks: [[u32; 2]; N],
}

impl AsyncConfig {
    /// The mask of a class. `secondary` chooses the side.
    pub fn mask(&self, class: AsyncClass, secondary: bool) -> u32 {
        self.masks[class as usize][usize::from(secondary)]
    }

    /// The same, to change.
    pub fn mask_mut(&mut self, class: AsyncClass, secondary: bool) -> &mut u32 {
        &mut self.masks[class as usize][usize::from(secondary)]
    }
}

/// What a controller says it wants.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct SetAsync {
    /// Masks; those that are not said are 0.
    pub config: AsyncConfig,
    /// Which are said if not all that the form has: bit 2 × class, + 1 for the secondary's.
    pub said: Option<u16>,
}

impl SetAsync {
    /// What is wanted, where `old` was until now.
    pub fn apply(&self, old: &AsyncConfig) -> AsyncConfig {
        let Some(said) = self.said else { return self.config };
        let mut new = *old;
        for class in AsyncClass::all() {
            for secondary in [false, true] {
                if said >> bit(class, secondary) & 1 != 0 {
                    *new.mask_mut(class, secondary) = self.config.mask(class, secondary);
                }
            }
        }
        new
    }
}

fn bit(class: AsyncClass, secondary: bool) -> u8 {
    2 * class as u8 + u8::from(secondary)
}

/// Whether a request of this kind consists of properties.
pub(super) fn has_props(kind: Kind, v: Version) -> bool {
    kind == Kind::NxSetAsync2 || kind == Kind::SetAsync && v >= Version::Of14
}

/// Classes that the form without properties has.
const OLD: [AsyncClass; 3] =
    [AsyncClass::PacketIn, AsyncClass::PortStatus, AsyncClass::FlowRemoved];

/// Reads the form without properties. Reasons that are not known are not wanted.
pub(super) fn read_masks(r: &mut Reader<'_>, v: Version) -> Result<AsyncConfig> {
    let mut c = AsyncConfig::default();
    for class in OLD {
        for secondary in [false, true] {
            *c.mask_mut(class, secondary) = r.u32()? & class.allowed(v);
        }
    }
    Ok(c)
}

/// Writes the form without properties.
pub(super) fn write_masks(out: &mut Vec<u8>, c: &AsyncConfig) {
    for class in OLD {
        out.put32(c.mask(class, false));
        out.put32(c.mask(class, true));
    }
}

/// Reads properties. What is not known is an error in a request (`strict`), and passed over in a
/// reply.
pub(super) fn read_props(r: &mut Reader<'_>, v: Version, strict: bool) -> Result<SetAsync> {
    let (mut config, mut said) = (AsyncConfig::default(), 0);
    while !r.is_empty() {
        let here = *r;
        let (typ, mut p) = r.property()?;
        let Some((class, secondary)) = AsyncClass::of_property(typ, v) else {
            if strict {
                return Err(here.error(OfError::OFPACFC_UNSUPPORTED));
            }
            continue;
        };
        if p.len() != 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        let mask = p.u32()?;
        if strict && mask & !class.allowed(v) != 0 {
            return Err(here.error(OfError::OFPACFC_INVALID));
        }
        *config.mask_mut(class, secondary) = mask & class.allowed(v);
        said |= 1 << bit(class, secondary);
    }
    Ok(SetAsync { config, said: Some(said) })
}

/// Writes the properties of `said` that the version has; all of them without.
pub(super) fn write_props(out: &mut Vec<u8>, set: &SetAsync, v: Version) {
    for class in AsyncClass::all().filter(|c| c.allowed(v) != 0) {
        for secondary in [true, false] {
            let said = match set.said {
                Some(said) => said >> bit(class, secondary) & 1 != 0,
                // As in Open vSwitch, which does not have it.
                None if class == AsyncClass::ControllerStatus => {
                    set.config.mask(class, secondary) != 0
                }
                None => true,
            };
            if said {
                out.put16(class.property(secondary));
                out.put16(8);
                out.put32(set.config.mask(class, secondary));
            }
        }
    }
}
