//! The kernel fast path: whether it can be had, what it may do (`other_config:kernel-fast-path`), and how it fares
//! (`kernel-fast-path/show`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use base::HashKey;
use datapath::{KernelMode, KernelStats};
use ebpf::{KernelPath, Programs};
use netdev::Bypass;

use crate::clock::Clock;
use crate::log;

/// Directions of connections that the kernel forwards, at most.
const MAX_ENTRIES: u32 = 1 << 17;

/// Values of `other_config:kernel-fast-path`, the default first.
const MODES: [(&str, KernelMode); 3] =
    [("peer", KernelMode::Peer), ("device", KernelMode::Device), ("off", KernelMode::Off)];

/// What the setting says. A word that it is not is as if it were not there, and told in `complaints`.
pub fn mode(other_config: &BTreeMap<String, String>, complaints: &mut Vec<String>) -> KernelMode {
    let Some(word) = other_config.get("kernel-fast-path") else { return KernelMode::default() };
    match MODES.iter().find(|(name, _)| name == word) {
        Some((_, mode)) => *mode,
        None => {
            complaints.push(format!(
                "ignoring other_config:kernel-fast-path={word}: none of peer, device, off"
            ));
            KernelMode::default()
        }
    }
}

/// The path, where time goes as by `clock`, and what ports need of it; `None` if the kernel or our rights do not suffice.
pub fn open(clock: &Clock, secret: HashKey) -> Option<(Arc<KernelPath>, Bypass)> {
    match KernelPath::new(secret, MAX_ENTRIES) {
        Ok((path, Programs { filter, ingress })) => {
            path.set_clock(|| clock.now());
            Some((Arc::new(path), Bypass { filter, ingress }))
        }
        Err(e) => {
            log!(Info, DpifOffload, "no packets are forwarded in the kernel: {e}");
            None
        }
    }
}

/// The text of `kernel-fast-path/show`.
pub fn show(stats: Option<KernelStats>) -> String {
    let Some(s) = stats else {
        return "the kernel forwards nothing: it takes Linux 6.10 and the rights CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN\n"
            .to_owned();
    };
    let mut out = String::new();
    let name = MODES.iter().find(|(_, m)| *m == s.mode).map_or("", |(name, _)| name);
    // Writing to a string does not fail.
    let _ = writeln!(out, "mode: {name}");
    let _ = writeln!(out, "entries: {} of {}", s.entries, s.max_entries);
    let _ = writeln!(out, "made: {}", s.made);
    let _ = writeln!(out, "no room: {}", s.no_room);
    let _ = writeln!(out, "packets: {}", s.packets);
    let _ = writeln!(out, "bytes: {}", s.bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_one_of_three_words() {
        let read = |word: &str| {
            let mut complaints = Vec::new();
            let map = [("kernel-fast-path".to_owned(), word.to_owned())].into();
            (mode(&map, &mut complaints), complaints)
        };
        for (word, mode) in MODES {
            assert_eq!(read(word), (mode, vec![]));
        }
        assert_eq!(mode(&BTreeMap::new(), &mut Vec::new()), KernelMode::Peer);
        let (mode, complaints) = read("on");
        assert_eq!(mode, KernelMode::Peer);
        assert!(complaints[0].contains("kernel-fast-path=on: none of peer, device, off"));
    }
}
