//! Identifiers: numbers that must not be mixed up.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// An OpenFlow port number of one bridge, 16 bits wide as in OpenFlow 1.0. OpenFlow 1.1+
    /// numbers 0xffffff00 to 0xffffffff map to 0xff00 to 0xffff ([`OfPort::from_wire32`]).
    OfPort(u16)
}
id! {
    /// A port number of the datapath, shared by all bridges of it.
    DpPort(u32)
}
id! {
    /// An OpenFlow table, 0 to 254; 255 means "all tables" in some messages.
    TableId(u8)
}
id! {
    /// A controller's opaque mark on a flow.
    Cookie(u64)
}
id! {
    /// A conntrack zone.
    Zone(u16)
}
id! {
    /// A recirculation: which pipeline state a packet resumes with. 0 is a fresh packet.
    RecircId(u32)
}

impl OfPort {
    /// Highest number + 1 that a port of a switch may have (`OFPP_MAX`).
    pub const MAX: OfPort = OfPort(0xff00);
    /// `OFPP_UNSET`, "no port": for the action set's output field.
    pub const UNSET: OfPort = OfPort(0xfff7);
    /// `OFPP_IN_PORT`: back out of the port it came in by.
    pub const IN_PORT: OfPort = OfPort(0xfff8);
    /// `OFPP_TABLE`: through the flow tables (packet-out only).
    pub const TABLE: OfPort = OfPort(0xfff9);
    /// `OFPP_NORMAL`: as a learning switch would.
    pub const NORMAL: OfPort = OfPort(0xfffa);
    /// `OFPP_FLOOD`: all ports that do not forbid flooding.
    pub const FLOOD: OfPort = OfPort(0xfffb);
    /// `OFPP_ALL`: all ports but the one it came in by.
    pub const ALL: OfPort = OfPort(0xfffc);
    /// `OFPP_CONTROLLER`: to the controllers.
    pub const CONTROLLER: OfPort = OfPort(0xfffd);
    /// `OFPP_LOCAL`: the bridge's own port.
    pub const LOCAL: OfPort = OfPort(0xfffe);
    /// `OFPP_NONE` (1.0) or `OFPP_ANY` (1.1+): wildcard or nothing.
    pub const NONE: OfPort = OfPort(0xffff);

    /// Reserved ports with their text names in upper case, as OpenFlow 1.0 numbers.
    pub const RESERVED: [(&'static str, OfPort); 10] = [
        ("UNSET", OfPort::UNSET),
        ("IN_PORT", OfPort::IN_PORT),
        ("TABLE", OfPort::TABLE),
        ("NORMAL", OfPort::NORMAL),
        ("FLOOD", OfPort::FLOOD),
        ("ALL", OfPort::ALL),
        ("CONTROLLER", OfPort::CONTROLLER),
        ("LOCAL", OfPort::LOCAL),
        ("NONE", OfPort::NONE),
        ("ANY", OfPort::NONE),
    ];

    /// From an OpenFlow 1.1+ 32-bit number; `None` in the gap that no 16-bit number names.
    pub const fn from_wire32(v: u32) -> Option<OfPort> {
        match v {
            0..0xff00 => Some(OfPort(v as u16)),
            0xffff_ff00..=0xffff_ffff => Some(OfPort((v & 0xffff) as u16)),
            _ => None,
        }
    }

    /// To an OpenFlow 1.1+ 32-bit number.
    pub const fn to_wire32(self) -> u32 {
        if self.0 >= 0xff00 { 0xffff_0000 | self.0 as u32 } else { self.0 as u32 }
    }

    /// Whether the number may belong to a port of a switch: 1 to 0xfeff, or LOCAL.
    pub const fn is_real(self) -> bool {
        (self.0 > 0 && self.0 < Self::MAX.0) || self.0 == Self::LOCAL.0
    }
}

/// The reserved name in upper case, else the number.
impl fmt::Display for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match OfPort::RESERVED.iter().find(|(_, p)| p == self) {
            Some((name, _)) => f.write_str(if *self == OfPort::NONE { "ANY" } else { name }),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TableId {
    /// `OFPTT_ALL`.
    pub const ALL: TableId = TableId(255);
}

impl DpPort {
    /// "No port": a packet that came from nowhere (packet-out without in_port).
    pub const NONE: DpPort = DpPort(u32::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_16_bit_port_survives_the_wide_wire_form() {
        for p in 0..=u16::MAX {
            assert_eq!(OfPort::from_wire32(OfPort(p).to_wire32()), Some(OfPort(p)));
        }
        assert_eq!(OfPort::from_wire32(0x1_0000), None);
        assert_eq!(OfPort::from_wire32(0xff00), None);
    }

    #[test]
    fn reserved_ports_print_by_name() {
        assert_eq!(OfPort::LOCAL.to_string(), "LOCAL");
        assert_eq!(OfPort::NONE.to_string(), "ANY");
        assert_eq!(OfPort(7).to_string(), "7");
    }
}
