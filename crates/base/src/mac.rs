//! Ethernet addresses.

use core::fmt;
use core::str::FromStr;

/// A 48-bit Ethernet address in wire order.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// 00:00:00:00:00:00.
    pub const ZERO: MacAddr = MacAddr([0; 6]);
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Group bit set: multicast or broadcast.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// 01:80:c2:00:00:00 to :0f and the Cisco addresses that an 802.1D bridge must not forward
    /// (`ovs-vswitchd.conf.db(5)`, Bridge `other_config:forward-bpdu`).
    pub const fn is_reserved(self) -> bool {
        let a = self.0;
        (a[0] == 0x01 && a[1] == 0x80 && a[2] == 0xc2 && a[3] == 0 && a[4] == 0 && a[5] & 0xf0 == 0)
            || (a[0] == 0x01
                && a[1] == 0x00
                && a[2] == 0x0c
                && a[3] == 0xcc
                && a[4] == 0xcc
                && (a[5] == 0xcc || a[5] == 0xcd))
    }

    /// The address as an integer, first octet most significant.
    pub const fn to_u64(self) -> u64 {
        let a = self.0;
        u64::from_be_bytes([0, 0, a[0], a[1], a[2], a[3], a[4], a[5]])
    }

    /// The low 48 bits of `v` as an address.
    pub const fn from_u64(v: u64) -> Self {
        let b = v.to_be_bytes();
        MacAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", a[0], a[1], a[2], a[3], a[4], a[5])
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six colon-separated octets in hexadecimal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid Ethernet address: want six hexadecimal octets as xx:xx:xx:xx:xx:xx")
    }
}

impl core::error::Error for ParseMacError {}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(s: &str) -> Result<Self, ParseMacError> {
        let mut a = [0u8; 6];
        let mut octets = s.split(':');
        for byte in &mut a {
            let t = octets.next().ok_or(ParseMacError)?;
            if t.is_empty() || t.len() > 2 || !t.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(t, 16).map_err(|_| ParseMacError)?;
        }
        if octets.next().is_some() { Err(ParseMacError) } else { Ok(MacAddr(a)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_and_integer_round_trip() {
        let m: MacAddr = "52:54:0:00:ab:01".parse().unwrap();
        assert_eq!(m.to_string(), "52:54:00:00:ab:01");
        assert_eq!(MacAddr::from_u64(m.to_u64()), m);
        for bad in
            ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "zz:0:0:0:0:0", "123:0:0:0:0:0", "+1:0:0:0:0:0"]
        {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn reserved_addresses_are_the_bridge_groups() {
        assert!("01:80:c2:00:00:0f".parse::<MacAddr>().unwrap().is_reserved());
        assert!(!"01:80:c2:00:00:10".parse::<MacAddr>().unwrap().is_reserved());
        assert!("01:00:0c:cc:cc:cd".parse::<MacAddr>().unwrap().is_reserved());
    }
}
