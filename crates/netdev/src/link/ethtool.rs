//! Speed, port type and driver of a device, by the ethtool ioctl.

use std::os::fd::{AsFd, OwnedFd};

use crate::sys::{self, Errno};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
/// `struct ethtool_link_settings` in 32-bit words, without the link mode masks.
const SETTINGS_WORDS: usize = 12;
/// Most words of one link mode mask (the kernel's is a signed byte).
const MASK_WORDS: usize = 127;
/// `struct ethtool_drvinfo` in 32-bit words.
const DRVINFO_WORDS: usize = 49;
/// `struct ethtool_channels` in 32-bit words.
const CHANNELS_WORDS: usize = 9;
const SPEED_UNKNOWN: u32 = u32::MAX;
const PORT_TP: u8 = 0;
const PORT_FIBRE: u8 = 3;

bitflags::bitflags! {
    /// What a port can do and does: `OFPPF_*` of OpenFlow 1.1 and later (also in 1.0 up to the
    /// bit for 10 Gb/s; the bits above it have other places there).
    #[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// 10 Mb/s half-duplex.
        const HD_10MB = 1 << 0;
        /// 10 Mb/s full-duplex.
        const FD_10MB = 1 << 1;
        /// 100 Mb/s half-duplex.
        const HD_100MB = 1 << 2;
        /// 100 Mb/s full-duplex.
        const FD_100MB = 1 << 3;
        /// 1 Gb/s half-duplex.
        const HD_1GB = 1 << 4;
        /// 1 Gb/s full-duplex.
        const FD_1GB = 1 << 5;
        /// 10 Gb/s full-duplex.
        const FD_10GB = 1 << 6;
        /// 40 Gb/s full-duplex.
        const FD_40GB = 1 << 7;
        /// 100 Gb/s full-duplex.
        const FD_100GB = 1 << 8;
        /// 1 Tb/s full-duplex.
        const FD_1TB = 1 << 9;
        /// Another rate.
        const OTHER = 1 << 10;
        /// Copper medium.
        const COPPER = 1 << 11;
        /// Fiber medium.
        const FIBER = 1 << 12;
        /// Auto-negotiation.
        const AUTONEG = 1 << 13;
        /// Pause.
        const PAUSE = 1 << 14;
        /// Asymmetric pause.
        const PAUSE_ASYM = 1 << 15;
    }
}

/// Link mode bits of `linux/ethtool.h` and what they mean here.
const MODES: &[(&[u8], Features)] = &[
    (&[0], Features::HD_10MB),
    (&[1], Features::FD_10MB),
    (&[2], Features::HD_100MB),
    (&[3], Features::FD_100MB),
    (&[4], Features::HD_1GB),
    (&[5, 17, 41], Features::FD_1GB),
    (&[6], Features::AUTONEG),
    (&[7], Features::COPPER),
    (&[10], Features::FIBER),
    (&[12, 18, 19, 20, 42, 43, 44, 45, 46], Features::FD_10GB),
    (&[13], Features::PAUSE),
    (&[14], Features::PAUSE_ASYM),
    (&[23, 24, 25, 26], Features::FD_40GB),
    (&[36, 37, 38, 39], Features::FD_100GB),
];

/// Speeds in Mb/s and the feature of each: (speed, full duplex, half duplex).
const SPEEDS: &[(u32, Features, Features)] = &[
    (10, Features::FD_10MB, Features::HD_10MB),
    (100, Features::FD_100MB, Features::HD_100MB),
    (1000, Features::FD_1GB, Features::HD_1GB),
    (10_000, Features::FD_10GB, Features::OTHER),
    (40_000, Features::FD_40GB, Features::OTHER),
    (100_000, Features::FD_100GB, Features::OTHER),
    (1_000_000, Features::FD_1TB, Features::OTHER),
];

impl Features {
    /// The highest of the rates, in Mb/s; 0 without any.
    pub fn max_mbps(self) -> u32 {
        let has = |&&(_, fd, hd): &&(u32, Features, Features)| {
            self.intersects((fd | hd) - Features::OTHER)
        };
        SPEEDS.iter().rev().find(has).map_or(0, |(speed, _, _)| *speed)
    }

    fn from_modes(mask: &[u32]) -> Features {
        let has =
            |bit: &u8| mask.get(usize::from(*bit) / 32).is_some_and(|w| w & (1 << (bit % 32)) != 0);
        MODES.iter().filter(|(bits, _)| bits.iter().any(has)).map(|(_, f)| *f).collect()
    }
}

/// How a device is connected (`ETHTOOL_GLINKSETTINGS`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Mb/s, if known.
    pub speed: Option<u32>,
    /// Full duplex, if known.
    pub full_duplex: Option<bool>,
    /// In use now.
    pub current: Features,
    /// Told to the other side.
    pub advertised: Features,
    /// Possible.
    pub supported: Features,
    /// Told by the other side.
    pub peer: Features,
}

/// Who drives a device (`ETHTOOL_GDRVINFO`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Driver name.
    pub name: String,
    /// Driver version.
    pub version: String,
    /// Firmware version; may be empty.
    pub firmware: String,
}

/// Asks the drivers of the calling thread's network namespace.
#[derive(Debug)]
pub struct Ethtool {
    fd: OwnedFd,
}

impl Ethtool {
    /// Opens the socket that carries the ioctls.
    pub fn open() -> Result<Ethtool, Errno> {
        Ok(Ethtool { fd: sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)? })
    }

    /// How the device is connected; `EOPNOTSUPP` if its driver does not tell.
    pub fn settings(&self, device: &str) -> Result<Settings, Errno> {
        let mut cmd = vec![0u32; SETTINGS_WORDS + 3 * MASK_WORDS];
        // The first call answers with the length of a mask, negated.
        cmd[0] = ETHTOOL_GLINKSETTINGS;
        sys::ioctl_ethtool(self.fd.as_fd(), device, &mut cmd)?;
        let words = cmd[3].to_ne_bytes()[3] as i8;
        if words < 0 {
            cmd.fill(0);
            cmd[0] = ETHTOOL_GLINKSETTINGS;
            cmd[3] = u32::from_ne_bytes([0, 0, 0, words.unsigned_abs()]);
            sys::ioctl_ethtool(self.fd.as_fd(), device, &mut cmd)?;
        }
        Ok(parse_settings(&cmd))
    }

    /// Who drives the device; `EOPNOTSUPP` if nobody says.
    pub fn driver(&self, device: &str) -> Result<Driver, Errno> {
        let mut cmd = [0u32; DRVINFO_WORDS];
        cmd[0] = ETHTOOL_GDRVINFO;
        sys::ioctl_ethtool(self.fd.as_fd(), device, &mut cmd)?;
        let bytes: Vec<u8> = cmd[1..].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let text = |i: usize| crate::netlink::str_of(&bytes[32 * i..32 * (i + 1)]);
        Ok(Driver { name: text(0), version: text(1), firmware: text(2) })
    }

    /// How many queues the device receives on; 1 if its driver does not tell.
    pub fn rx_queues(&self, device: &str) -> u32 {
        let mut cmd = [0u32; CHANNELS_WORDS];
        cmd[0] = ETHTOOL_GCHANNELS;
        match sys::ioctl_ethtool(self.fd.as_fd(), device, &mut cmd) {
            // Words 5 and 8: receiving alone, and both ways.
            Ok(()) => cmd[5].saturating_add(cmd[8]).max(1),
            Err(_) => 1,
        }
    }
}

fn parse_settings(cmd: &[u32]) -> Settings {
    let speed = Some(cmd[1]).filter(|s| *s != SPEED_UNKNOWN && *s != 0);
    // Words 2 and 3: duplex, port, phy address, autoneg; mdio, mdi-x, mdi-x control, mask words.
    let [duplex, port, _, autoneg] = cmd[2].to_ne_bytes();
    let words = usize::from(cmd[3].to_ne_bytes()[3]).min(MASK_WORDS);
    let full_duplex = (duplex <= 1).then_some(duplex == 1);
    let mut current = match (speed, full_duplex) {
        (Some(speed), duplex) => {
            let row = SPEEDS.iter().find(|(s, _, _)| *s == speed);
            match (row, duplex) {
                (Some((_, _, half)), Some(false)) => *half,
                (Some((_, full, _)), _) => *full,
                (None, _) => Features::OTHER,
            }
        }
        (None, _) => Features::empty(),
    };
    current.set(Features::COPPER, port == PORT_TP);
    current.set(Features::FIBER, port == PORT_FIBRE);
    current.set(Features::AUTONEG, autoneg != 0);
    let mask = |i: usize| {
        let at = SETTINGS_WORDS + i * words;
        Features::from_modes(&cmd[at..at + words])
    };
    Settings { speed, full_duplex, current, supported: mask(0), advertised: mask(1), peer: mask(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(speed: u32, bytes: [u8; 4], supported: u32) -> Vec<u32> {
        let mut cmd = vec![0; SETTINGS_WORDS + 3 * 4];
        cmd[1] = speed;
        cmd[2] = u32::from_ne_bytes(bytes);
        cmd[3] = u32::from_ne_bytes([0, 0, 0, 4]);
        cmd[SETTINGS_WORDS] = supported;
        cmd
    }

    #[test]
    fn a_veth_is_ten_gigabit_copper() {
        let s = parse_settings(&answer(10_000, [1, PORT_TP, 0, 0], 0));
        assert_eq!(s.current, Features::FD_10GB | Features::COPPER);
        assert_eq!(
            (s.speed, s.full_duplex, s.current.max_mbps()),
            (Some(10_000), Some(true), 10_000)
        );
        assert_eq!(s.supported, Features::empty());
    }

    #[test]
    fn a_gigabit_card_tells_its_modes() {
        let modes = 0b11_0000 | 1 << 6 | 1 << 7 | 1 << 13;
        let s = parse_settings(&answer(1000, [0, PORT_TP, 0, 1], modes));
        assert_eq!(s.current, Features::HD_1GB | Features::COPPER | Features::AUTONEG);
        assert_eq!(
            s.supported,
            Features::HD_1GB
                | Features::FD_1GB
                | Features::AUTONEG
                | Features::COPPER
                | Features::PAUSE
        );
    }

    #[test]
    fn unknown_speeds_are_other_or_nothing() {
        assert_eq!(
            parse_settings(&answer(25_000, [1, 3, 0, 0], 0)).current,
            Features::OTHER | Features::FIBER
        );
        let down = parse_settings(&answer(SPEED_UNKNOWN, [0xff, 0xff, 0, 0], 0));
        assert_eq!((down.speed, down.full_duplex, down.current), (None, None, Features::empty()));
        assert_eq!(down.current.max_mbps(), 0);
    }
}
