//! The log: `TIMESTAMP|SEQ|module|LEVEL|text`, as OVS's vlog writes it, or in another pattern.
//!
//! Each [`Module`] has a level per [`Destination`]; `vlog/set` and `-v` change them while the daemon
//! runs. Modules carry the names that OVS's daemon uses for the same subject, so that scripts which
//! set levels or grep the log find what they look for. Lines that could repeat per packet or per
//! client go through [`Limited`], which drops and later counts them.
//!
//! The log is process-wide (a daemon has one) and is used by the control plane only; datapath
//! workers count, they do not log.

mod pattern;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use base::{Instant, TokenBucket};
use parking_lot::Mutex;

use crate::clock;

/// How grave a line is; a destination takes what is at least as grave as its level.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing at all.
    Off,
    /// The daemon cannot go on.
    Emer,
    /// A high-level operation failed.
    Err,
    /// Something unexpected that was survived.
    Warn,
    /// News.
    Info,
    /// For developers.
    Dbg,
}

impl Level {
    const NAMES: [(&'static str, Level); 6] = [
        ("OFF", Level::Off),
        ("EMER", Level::Emer),
        ("ERR", Level::Err),
        ("WARN", Level::Warn),
        ("INFO", Level::Info),
        ("DBG", Level::Dbg),
    ];

    fn parse(word: &str) -> Option<Level> {
        Level::NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(word)).map(|(_, l)| *l)
    }

    fn name(self) -> &'static str {
        Level::NAMES[self as usize].0
    }

    fn from_u8(v: u8) -> Level {
        Level::NAMES[usize::from(v).min(5)].1
    }
}

/// Where lines go.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    Console,
    /// The system log (accepted as a word; lines are not sent there).
    Syslog,
    /// The file of `--log-file`.
    File,
}

/// Destinations in order: name, which, the pattern of its lines at the start.
const DESTINATIONS: [(&str, Destination, &str); 3] = [
    ("console", Destination::Console, "%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m"),
    ("syslog", Destination::Syslog, "ovs|%05N|%c%T|%p|%m"),
    ("file", Destination::File, "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m"),
];

macro_rules! modules {
    ($($id:ident $name:literal)*) => {
        /// Who says a line.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the name says it
        pub enum Module { $($id,)* }

        const MODULES: &[(&str, Module)] = &[$(($name, Module::$id),)*];
    };
}

modules! {
    Backtrace "backtrace"
    Bfd "bfd"
    Bond "bond"
    Bridge "bridge"
    Bundle "bundle"
    Bundles "bundles"
    Cfm "cfm"
    Collectors "collectors"
    Connmgr "connmgr"
    Conntrack "conntrack"
    ConntrackTp "conntrack_tp"
    CooperativeMultitasking "cooperative_multitasking"
    Coverage "coverage"
    CtDpif "ct_dpif"
    Daemon "daemon"
    DaemonUnix "daemon_unix"
    DnsResolve "dns_resolve"
    DpPacketGso "dp_packet_gso"
    Dpctl "dpctl"
    Dpdk "dpdk"
    Dpif "dpif"
    DpifLookupGeneric "dpif_lookup_generic"
    DpifMfexExtractStudy "dpif_mfex_extract_study"
    DpifNetdev "dpif_netdev"
    DpifNetdevExtract "dpif_netdev_extract"
    DpifNetdevImpl "dpif_netdev_impl"
    DpifNetdevLookup "dpif_netdev_lookup"
    DpifNetlink "dpif_netlink"
    DpifNetlinkRtnl "dpif_netlink_rtnl"
    DpifOffload "dpif_offload"
    DpifOffloadDpdk "dpif_offload_dpdk"
    DpifOffloadDpdkNetdev "dpif_offload_dpdk_netdev"
    DpifOffloadDummy "dpif_offload_dummy"
    DpifOffloadTc "dpif_offload_tc"
    DpifOffloadTcNetdev "dpif_offload_tc_netdev"
    Dummy "dummy"
    Entropy "entropy"
    FailOpen "fail_open"
    FatalSignal "fatal_signal"
    Flow "flow"
    Hmap "hmap"
    InBand "in_band"
    Ipf "ipf"
    Ipfix "ipfix"
    Jsonrpc "jsonrpc"
    Lacp "lacp"
    LearningSwitch "learning_switch"
    Lldp "lldp"
    Lldpd "lldpd"
    LldpdStructs "lldpd_structs"
    Lockfile "lockfile"
    MacLearning "mac_learning"
    Memory "memory"
    MetaFlow "meta_flow"
    NativeTnl "native_tnl"
    Netdev "netdev"
    NetdevDpdk "netdev_dpdk"
    NetdevDummy "netdev_dummy"
    NetdevLinux "netdev_linux"
    NetdevVport "netdev_vport"
    Netflow "netflow"
    Netlink "netlink"
    NetlinkConntrack "netlink_conntrack"
    NetlinkNotifier "netlink_notifier"
    NetlinkSocket "netlink_socket"
    NxMatch "nx_match"
    OdpExecute "odp_execute"
    OdpExecuteImpl "odp_execute_impl"
    OdpUtil "odp_util"
    OfpActions "ofp_actions"
    OfpBundle "ofp_bundle"
    OfpConnection "ofp_connection"
    OfpCt "ofp_ct"
    OfpErrors "ofp_errors"
    OfpFlow "ofp_flow"
    OfpGroup "ofp_group"
    OfpMatch "ofp_match"
    OfpMeter "ofp_meter"
    OfpMonitor "ofp_monitor"
    OfpMsgs "ofp_msgs"
    OfpPacket "ofp_packet"
    OfpPort "ofp_port"
    OfpProtocol "ofp_protocol"
    OfpQueue "ofp_queue"
    OfpTable "ofp_table"
    OfpUtil "ofp_util"
    Ofproto "ofproto"
    OfprotoDpif "ofproto_dpif"
    OfprotoDpifMirror "ofproto_dpif_mirror"
    OfprotoDpifMonitor "ofproto_dpif_monitor"
    OfprotoDpifRid "ofproto_dpif_rid"
    OfprotoDpifUpcall "ofproto_dpif_upcall"
    OfprotoDpifXlate "ofproto_dpif_xlate"
    OfprotoXlateCache "ofproto_xlate_cache"
    OvsLldp "ovs_lldp"
    OvsNuma "ovs_numa"
    OvsRcu "ovs_rcu"
    OvsRouter "ovs_router"
    OvsThread "ovs_thread"
    Ovsdb "ovsdb"
    OvsdbFile "ovsdb_file"
    OvsdbIdl "ovsdb_idl"
    OvsdbServer "ovsdb_server"
    OxStat "ox_stat"
    Pcap "pcap"
    PmdPerf "pmd_perf"
    PollLoop "poll_loop"
    Process "process"
    Rconn "rconn"
    Reconnect "reconnect"
    RouteTable "route_table"
    Rstp "rstp"
    RstpSm "rstp_sm"
    Sflow "sflow"
    Sha1 "sha1"
    Signals "signals"
    SocketUtil "socket_util"
    SocketUtilUnix "socket_util_unix"
    Stopwatch "stopwatch"
    Stp "stp"
    Stream "stream"
    StreamFd "stream_fd"
    StreamSsl "stream_ssl"
    StreamTcp "stream_tcp"
    StreamUnix "stream_unix"
    Svec "svec"
    SystemStats "system_stats"
    Tc "tc"
    Timeval "timeval"
    Tunnel "tunnel"
    Unixctl "unixctl"
    UserspaceTso "userspace_tso"
    Util "util"
    Uuid "uuid"
    Vconn "vconn"
    VconnStream "vconn_stream"
    Vlog "vlog"
    Vswitchd "vswitchd"
}

const N: usize = MODULES.len();

/// Default levels: console OFF is for tests' sake set by `-vconsole:off`; OVS's defaults else.
static LEVELS: [[AtomicU8; 3]; N] = [const {
    [
        AtomicU8::new(Level::Info as u8),
        AtomicU8::new(Level::Info as u8),
        AtomicU8::new(Level::Info as u8),
    ]
}; N];
/// Modules whose lines come however often.
static UNLIMITED: [AtomicBool; N] = [const { AtomicBool::new(false) }; N];
/// Patterns that were set in place of those of [`DESTINATIONS`].
static PATTERNS: Mutex<[Option<String>; 3]> = Mutex::new([const { None }; 3]);
static PROGRAM: OnceLock<String> = OnceLock::new();
static SEQ: AtomicU64 = AtomicU64::new(0);
static FILE: Mutex<Option<(PathBuf, File)>> = Mutex::new(None);

/// Whether a line of this module and level would go anywhere.
pub fn enabled(module: Module, level: Level) -> bool {
    let takes =
        |d: Destination| level as u8 <= LEVELS[module as usize][d as usize].load(Ordering::Relaxed);
    takes(Destination::Console) || (takes(Destination::File) && FILE.lock().is_some())
}

/// Writes a line. Prefer the macro [`crate::log`].
pub fn write(module: Module, level: Level, text: fmt::Arguments<'_>) {
    if !enabled(module, level) {
        return;
    }
    let text = text.to_string();
    let line = pattern::Line {
        module: MODULES[module as usize].0,
        level: level.name(),
        text: &text,
        seq: SEQ.fetch_add(1, Ordering::Relaxed) + 1,
        time: clock::unix_time(),
        program: PROGRAM.get().map_or("ovs-vswitchd", String::as_str),
    };
    let takes =
        |d: Destination| level as u8 <= LEVELS[module as usize][d as usize].load(Ordering::Relaxed);
    let formatted = |d: Destination| {
        let patterns = PATTERNS.lock();
        let set = patterns[d as usize].as_deref();
        pattern::format(set.unwrap_or(DESTINATIONS[d as usize].2), &line) + "\n"
    };
    // Whoever listens having gone is nothing that could be logged.
    if takes(Destination::Console) {
        let _ = io::stderr().write_all(formatted(Destination::Console).as_bytes());
    }
    if takes(Destination::File)
        && let Some((_, file)) = &mut *FILE.lock()
    {
        let _ = file.write_all(formatted(Destination::File).as_bytes());
    }
}

/// Sets the program's name, which lines may have. Only the first call counts.
pub fn set_program(name: &str) {
    let _ = PROGRAM.set(name.to_owned());
}

/// Logs at a level: `log!(Info, Bridge, "text {}", x)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $module:ident, $($text:tt)*) => {
        $crate::vlog::write(
            $crate::vlog::Module::$module,
            $crate::vlog::Level::$level,
            format_args!($($text)*),
        )
    };
}

/// A place that may speak only so often.
#[derive(Debug)]
pub struct Limited {
    module: Module,
    bucket: TokenBucket,
    suppressed: u64,
}

impl Limited {
    /// At most `per_minute` lines of a module a minute, in bursts of at most `burst`.
    pub fn new(module: Module, per_minute: u64, burst: u64, now: Instant) -> Self {
        // A token is a sixtieth of a line, so that slow rates stay whole numbers.
        let bucket = TokenBucket::new(per_minute, burst * 60, now);
        Limited { module, bucket, suppressed: 0 }
    }

    /// Whether to speak now; `Some(n)` says how many lines were swallowed since the last time.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        let unlimited = UNLIMITED[self.module as usize].load(Ordering::Relaxed);
        if unlimited || self.bucket.take(60, now) {
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

/// Lets modules speak as often as they like, or not any more (`vlog/disable-rate-limit` and its
/// opposite); all of them if none is named.
///
/// # Errors
/// A module that is none.
pub fn set_unlimited(modules: &[String], unlimited: bool) -> Result<(), String> {
    let all = modules.is_empty();
    for name in modules.iter().map(String::as_str).chain(all.then_some("ANY")) {
        let one = find_module(name);
        if one.is_none() && !name.eq_ignore_ascii_case("ANY") {
            return Err("unknown module".to_owned());
        }
        for (i, slot) in UNLIMITED.iter().enumerate() {
            if one.is_none_or(|m| m as usize == i) {
                slot.store(unlimited, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// The module with this name.
pub fn find_module(word: &str) -> Option<Module> {
    let word = word.replace('-', "_");
    MODULES.iter().find(|(n, _)| n.eq_ignore_ascii_case(&word)).map(|(_, m)| *m)
}

fn find_destination(word: &str) -> Option<Destination> {
    DESTINATIONS.iter().find(|(n, ..)| n.eq_ignore_ascii_case(word)).map(|(_, d, _)| *d)
}

/// Opens (or reopens) the log file; an existing one is appended to.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn open_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    *FILE.lock() = Some((path.to_owned(), file));
    log!(Info, Vlog, "opened log file {}", path.display());
    Ok(())
}

/// Opens the log file again under its name (`vlog/reopen`), for log rotation.
///
/// # Errors
/// No log file is configured, or it cannot be opened; the text says which.
pub fn reopen() -> Result<(), String> {
    let path = FILE.lock().as_ref().map(|(p, _)| p.clone());
    let path = path.ok_or("Logging to file not configured")?;
    open_file(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Closes the log file (`vlog/close`).
pub fn close_file() {
    *FILE.lock() = None;
}

/// Applies one word of `vlog/set` or `-v`: module, destination and level in any order, separated by
/// `:`, each optional; or `PATTERN:destination:pattern`. `FACILITY:…` is accepted: nothing goes to
/// the system log.
///
/// # Errors
/// A part that is none of the three or given twice, with OVS's wording.
pub fn set(spec: &str) -> Result<(), String> {
    const SEPARATORS: [char; 4] = [' ', ',', ':', '\t'];
    let (first, rest) = spec.split_once(SEPARATORS).unwrap_or((spec, ""));
    if first.eq_ignore_ascii_case("PATTERN") {
        let (name, pattern) = rest.split_once(SEPARATORS).unwrap_or((rest, ""));
        return set_pattern(name, pattern);
    }
    if first.eq_ignore_ascii_case("FACILITY") {
        return Ok(());
    }
    let (mut module, mut destination, mut level) = (None, None, None);
    for word in spec.split(SEPARATORS).filter(|w| !w.is_empty()) {
        let twice = if word.eq_ignore_ascii_case("ANY") {
            // Any module, any destination: the default of both.
            None
        } else if let Some(d) = find_destination(word) {
            destination.replace(d).map(|_| "destinations")
        } else if let Some(l) = Level::parse(word) {
            level.replace(l).map(|_| "levels")
        } else if let Some(m) = find_module(word) {
            module.replace(m).map(|_| "modules")
        } else {
            return Err(format!("no destination, level, or module \"{word}\""));
        };
        if let Some(what) = twice {
            return Err(format!("cannot specify multiple {what}"));
        }
    }
    let level = level.unwrap_or(Level::Dbg);
    for (i, levels) in LEVELS.iter().enumerate() {
        for (j, slot) in levels.iter().enumerate() {
            if module.is_none_or(|m| m as usize == i) && destination.is_none_or(|d| d as usize == j)
            {
                slot.store(level as u8, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

fn set_pattern(destination: &str, pattern: &str) -> Result<(), String> {
    if destination.is_empty() {
        return Err("missing destination".to_owned());
    }
    let one = find_destination(destination);
    if one.is_none() && !destination.eq_ignore_ascii_case("ANY") {
        return Err(format!("unknown destination \"{destination}\""));
    }
    for (_, d, _) in DESTINATIONS {
        if one.is_none_or(|o| o == d) {
            PATTERNS.lock()[d as usize] = Some(pattern.to_owned());
        }
    }
    Ok(())
}

/// The text of `vlog/list-pattern`.
pub fn list_patterns() -> String {
    let mut s = String::from("         prefix                            format\n");
    s += "         ------                            ------\n";
    let patterns = PATTERNS.lock();
    for (name, d, default) in DESTINATIONS {
        let pattern = patterns[d as usize].as_deref().unwrap_or(default);
        s += &format!("{name:<7}  {:<32}  {pattern}\n", "none");
    }
    s
}

/// The text of `vlog/list`.
pub fn list() -> String {
    let mut s = String::from("                 console    syslog    file\n");
    s += "                 -------    ------    ------\n";
    for (i, (name, _)) in MODULES.iter().enumerate() {
        let level = |d: usize| Level::from_u8(LEVELS[i][d].load(Ordering::Relaxed)).name();
        s += format!("{name:<16}  {:>4}       {:>4}       {:>4}", level(0), level(1), level(2))
            .trim_end();
        if UNLIMITED[i].load(Ordering::Relaxed) {
            s += "    (rate limiting disabled)";
        }
        s.push('\n');
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, since levels are process-wide.
    #[test]
    fn words_set_levels_and_nonsense_is_named() {
        set("bridge:file:dbg").unwrap();
        assert!(list().lines().any(|l| l.split_whitespace().eq(["bridge", "INFO", "INFO", "DBG"])));
        set("vconn").unwrap();
        assert!(list().lines().any(|l| l.split_whitespace().eq(["vconn", "DBG", "DBG", "DBG"])));
        set("console:off").unwrap();
        assert!(!enabled(Module::Bridge, Level::Emer), "no file and no console");
        set("ofproto-dpif warn").unwrap();
        for (bad, why) in [
            ("bogus", "no destination, level, or module \"bogus\""),
            ("file:console:dbg", "cannot specify multiple destinations"),
            ("bridge,vconn", "cannot specify multiple modules"),
            ("warn dbg", "cannot specify multiple levels"),
            ("PATTERN", "missing destination"),
            ("PATTERN:nowhere:%m", "unknown destination \"nowhere\""),
        ] {
            assert_eq!(set(bad).unwrap_err(), why);
        }
        set("PATTERN:file:%c|%p|%m").unwrap();
        assert!(list_patterns().ends_with("%c|%p|%m\n"), "{}", list_patterns());
        set_unlimited(&["vconn".to_owned()], true).unwrap();
        assert!(list().contains(
            "vconn              OFF        DBG        DBG    (rate limiting disabled)\n"
        ));
        assert_eq!(set_unlimited(&["frob".to_owned()], true).unwrap_err(), "unknown module");
    }

    #[test]
    fn limited_speech_counts_what_it_swallows() {
        let t = Instant::from_secs(100);
        let mut l = Limited::new(Module::Bridge, 60, 2, t);
        assert_eq!(
            (l.allow(t), l.allow(t), l.allow(t), l.allow(t)),
            (Some(0), Some(0), None, None)
        );
        assert_eq!(l.allow(t + base::Duration::from_secs(1)), Some(2));
    }
}
