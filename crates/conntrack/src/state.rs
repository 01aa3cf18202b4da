//! `ct_state`: what the tracker says about one packet.
//!
//! Bits and rules are those of `ovs-fields(7)`, "Connection Tracking State Field": without `trk`
//! nothing else is set; with `inv` only `trk`; `new` excludes `est` and `rpl`.

use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// The `ct_state` bits. Zero is "not tracked".
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CtState(pub u8);

impl CtState {
    /// Not tracked: no `ct` action has seen the packet, or it is not IP.
    pub const UNTRACKED: CtState = CtState(0);
    /// The packet belongs to a connection that is not committed, or whose other end has not
    /// answered yet.
    pub const NEW: CtState = CtState(0x01);
    /// Part of a committed connection seen in both directions.
    pub const EST: CtState = CtState(0x02);
    /// Related to a committed connection, as an ICMP error is.
    pub const REL: CtState = CtState(0x04);
    /// In the direction opposite to the packet that was committed.
    pub const RPL: CtState = CtState(0x08);
    /// Could not be assigned to a connection; see [`crate::InvalidReason`].
    pub const INV: CtState = CtState(0x10);
    /// The packet went through the tracker.
    pub const TRK: CtState = CtState(0x20);
    /// The source was translated by this `ct` action.
    pub const SNAT: CtState = CtState(0x40);
    /// The destination was translated by this `ct` action.
    pub const DNAT: CtState = CtState(0x80);

    /// The state of every packet that cannot be tracked although it was tried.
    pub const INVALID: CtState = CtState(0x30);

    /// The state of a packet of a committed connection.
    #[inline]
    pub(crate) const fn of_known(still_new: bool, dir: crate::Dir) -> CtState {
        match (still_new, dir) {
            (true, _) => CtState(Self::TRK.0 | Self::NEW.0),
            (false, crate::Dir::Orig) => CtState(Self::TRK.0 | Self::EST.0),
            (false, crate::Dir::Reply) => CtState(Self::TRK.0 | Self::EST.0 | Self::RPL.0),
        }
    }

    /// All bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: CtState) -> bool {
        self.0 & other.0 == other.0
    }

    /// Some bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: CtState) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits as `ct_state` holds them.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    const NAMES: [(CtState, &'static str); 8] = [
        (CtState::NEW, "new"),
        (CtState::EST, "est"),
        (CtState::REL, "rel"),
        (CtState::RPL, "rpl"),
        (CtState::INV, "inv"),
        (CtState::TRK, "trk"),
        (CtState::SNAT, "snat"),
        (CtState::DNAT, "dnat"),
    ];
}

impl BitOr for CtState {
    type Output = CtState;

    fn bitor(self, o: CtState) -> CtState {
        CtState(self.0 | o.0)
    }
}

impl BitOrAssign for CtState {
    fn bitor_assign(&mut self, o: CtState) {
        self.0 |= o.0;
    }
}

impl BitAnd for CtState {
    type Output = CtState;

    fn bitand(self, o: CtState) -> CtState {
        CtState(self.0 & o.0)
    }
}

impl Not for CtState {
    type Output = CtState;

    fn not(self) -> CtState {
        CtState(!self.0)
    }
}

/// Names joined by `|`, for test failures and logs; the OpenFlow text form belongs to the field
/// table.
impl fmt::Debug for CtState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("untracked");
        }
        let mut first = true;
        for (bit, name) in CtState::NAMES {
            if self.contains(bit) {
                f.write_str(if first { "" } else { "|" })?;
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}
