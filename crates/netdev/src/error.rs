//! What can go wrong when a device is opened or changed.

use std::path::PathBuf;

use crate::Errno;
use crate::af_xdp::{Mode, Step};
use crate::replay::Fault;

/// A device could not be opened, or an operation on it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device does not exist, is of the wrong kind, or permission is missing.
    /// The text is what OVS writes to the `error` column of the Interface table.
    #[error("could not open network device {device} ({errno})")]
    Open {
        /// Name as it was asked for.
        device: String,
        /// The kernel's reason.
        errno: Errno,
    },
    /// Somebody else has the device: a Linux bridge or bond, or another switch.
    #[error("could not open network device {device} ({}): {holder}", Errno(libc::EBUSY))]
    Busy {
        /// Name as it was asked for.
        device: String,
        /// Who has it, as far as it is known.
        holder: String,
    },
    /// The capture file of a [`crate::replay`] port cannot be used.
    #[error("could not open network device {device} ({}: {fault})", .file.display())]
    Replay {
        /// Name of the port.
        device: String,
        /// The file as it was asked for.
        file: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The kernel refuses what an [`crate::af_xdp`] port needs.
    #[error("could not open network device {device} ({step} in {} mode: {errno}{hint})", .mode.name())]
    Xdp {
        /// Name of the port.
        device: String,
        /// The kernel's reason.
        errno: Errno,
        /// What it refused.
        step: Step,
        /// The last mode that was tried.
        mode: Mode,
        /// What may be the cause or the remedy; may be empty.
        hint: &'static str,
    },
    /// A change to an open device was refused.
    #[error("{device}: {action} failed ({errno})")]
    Change {
        /// Device name.
        device: String,
        /// What was to be done.
        action: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The netlink conversation itself failed.
    #[error("netlink {action} failed ({errno})")]
    Netlink {
        /// What was asked.
        action: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
}

impl Error {
    /// The error number behind it (`EBUSY` for a device somebody else has, `EINVAL` for a file that is no capture).
    pub fn errno(&self) -> Errno {
        match self {
            Error::Open { errno, .. }
            | Error::Xdp { errno, .. }
            | Error::Change { errno, .. }
            | Error::Netlink { errno, .. } => *errno,
            Error::Busy { .. } => Errno(libc::EBUSY),
            Error::Replay { fault: Fault::Io(errno), .. } => *errno,
            Error::Replay { .. } => Errno(libc::EINVAL),
        }
    }

    /// Whether there is no such device (any more).
    pub fn is_gone(&self) -> bool {
        matches!(self.errno().0, libc::ENODEV | libc::ENXIO)
    }

    /// There is no such device (any more).
    pub fn gone(device: &str) -> Error {
        Error::open(device, Errno(libc::ENODEV))
    }

    pub(crate) fn open(device: &str, errno: Errno) -> Error {
        Error::Open { device: device.to_owned(), errno }
    }
}

/// The device works, but not as well as it should; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The host's network stack also gets the frames that the switch takes.
    #[error(
        "{device}: the host stack also sees this device's frames (neither BPF nor nftables \
         usable: {reason}); remove its addresses to avoid duplicate answers"
    )]
    NotExclusive {
        /// Device name.
        device: String,
        /// Why the better ways did not work.
        reason: String,
    },
    /// The kernel refused an option that only costs speed.
    #[error("{device}: {option} refused ({errno})")]
    Option {
        /// Device name.
        device: String,
        /// Name of the option.
        option: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
    /// Some of the device's queues have no socket.
    #[error(
        "{device}: reads {read} of the device's {has} queues; frames on the others go to the host's \
         stack"
    )]
    FewQueues {
        /// Device name.
        device: String,
        /// Queues read.
        read: u32,
        /// Queues that the device has.
        has: u32,
    },
    /// VLAN tags that are not in the frames are not seen.
    #[error(
        "{device}: a VLAN tag that a sender or the device keeps beside the frame is lost (the kernel \
         tells it only in native mode, from 6.8 on, if the driver does); ethtool -K rxvlan off here, \
         txvlan off at the peer"
    )]
    TagsLost {
        /// Device name.
        device: String,
    },
    /// The receive buffer is smaller than wished (no privilege for `SO_RCVBUFFORCE`).
    #[error("{device}: receive buffer is {got} bytes instead of {want} (net.core.rmem_max)")]
    SmallBuffer {
        /// Device name.
        device: String,
        /// Bytes wished.
        want: usize,
        /// Bytes given.
        got: usize,
    },
}
