//! The log: `TIMESTAMP|SEQ|module|LEVEL|text`, as OVS's vlog writes it.
//!
//! Each [`Module`] has a level per [`Destination`]; `vlog/set` and `-v` change them while the daemon
//! runs. Modules carry the names that OVS's daemon uses for the same subject, so that scripts which
//! set levels or grep the log find what they look for. Lines that could repeat per packet or per
//! client go through [`Limited`], which drops and later counts them.
//!
//! The log is process-wide (a daemon has one) and is used by the control plane only; datapath
//! workers count, they do not log.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

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

const DESTINATIONS: [(&str, Destination); 3] = [
    ("console", Destination::Console),
    ("syslog", Destination::Syslog),
    ("file", Destination::File),
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
    Bridge "bridge"
    Collectors "collectors"
    Connmgr "connmgr"
    Conntrack "conntrack"
    Coverage "coverage"
    Daemon "daemon"
    DaemonUnix "daemon_unix"
    Dpctl "dpctl"
    Dpif "dpif"
    DpifNetdev "dpif_netdev"
    Dummy "dummy"
    FailOpen "fail_open"
    FatalSignal "fatal_signal"
    Jsonrpc "jsonrpc"
    MacLearning "mac_learning"
    Memory "memory"
    Netdev "netdev"
    NetdevDummy "netdev_dummy"
    NetdevLinux "netdev_linux"
    Ofproto "ofproto"
    OfprotoDpif "ofproto_dpif"
    OfprotoDpifUpcall "ofproto_dpif_upcall"
    OfprotoDpifXlate "ofproto_dpif_xlate"
    OfpActions "ofp_actions"
    OvsdbFile "ovsdb_file"
    OvsdbIdl "ovsdb_idl"
    OvsdbServer "ovsdb_server"
    PollLoop "poll_loop"
    Rconn "rconn"
    Reconnect "reconnect"
    Stream "stream"
    StreamSsl "stream_ssl"
    SystemStats "system_stats"
    Timeval "timeval"
    Unixctl "unixctl"
    Util "util"
    Vconn "vconn"
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
    let seq = SEQ.fetch_add(1, Ordering::Relaxed) + 1;
    let name = MODULES[module as usize].0;
    let line =
        format!("{}|{seq:05}|{name}|{}|{text}\n", clock::iso8601(clock::unix_time()), level.name());
    let takes =
        |d: Destination| level as u8 <= LEVELS[module as usize][d as usize].load(Ordering::Relaxed);
    if takes(Destination::Console) {
        let _ = io::stderr().write_all(line.as_bytes());
    }
    if takes(Destination::File)
        && let Some((_, file)) = &mut *FILE.lock()
    {
        let _ = file.write_all(line.as_bytes());
    }
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
    bucket: TokenBucket,
    suppressed: u64,
}

impl Limited {
    /// At most `per_minute` lines a minute, in bursts of at most `burst`.
    pub fn new(per_minute: u64, burst: u64, now: Instant) -> Self {
        // A token is a sixtieth of a line, so that slow rates stay whole numbers.
        Limited { bucket: TokenBucket::new(per_minute, burst * 60, now), suppressed: 0 }
    }

    /// Whether to speak now; `Some(n)` says how many lines were swallowed since the last time.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.take(60, now) {
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
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
/// `:`, each optional; `PATTERN:destination:pattern` is accepted and leaves the format as it is.
///
/// # Errors
/// A part that is none of the three, with OVS's wording.
pub fn set(spec: &str) -> Result<(), String> {
    if spec.starts_with("PATTERN:") || spec.starts_with("FACILITY:") {
        return Ok(());
    }
    let (mut module, mut destination, mut level) = (None, None, None);
    for word in spec.split([':', ' ', '\t']).filter(|w| !w.is_empty()) {
        let named =
            |name: &&str| name.eq_ignore_ascii_case(word) || **name == word.replace('-', "_");
        if word.eq_ignore_ascii_case("ANY") {
            // Any module, any destination: the default of both.
        } else if let Some(l) = Level::parse(word) {
            level = Some(l);
        } else if let Some((_, d)) = DESTINATIONS.iter().find(|(n, _)| named(n)) {
            destination = Some(*d);
        } else if let Some((_, m)) = MODULES.iter().find(|(n, _)| named(n)) {
            module = Some(*m);
        } else {
            return Err(format!("no destination, level, or module \"{word}\""));
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

/// The text of `vlog/list`.
pub fn list() -> String {
    let mut s = String::from("                 console    syslog    file\n");
    s += "                 -------    ------    ------\n";
    for (i, (name, _)) in MODULES.iter().enumerate() {
        let level = |d: usize| Level::from_u8(LEVELS[i][d].load(Ordering::Relaxed)).name();
        s += format!("{name:<16}  {:>4}       {:>4}       {:>4}", level(0), level(1), level(2))
            .trim_end();
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
        assert_eq!(set("bogus").unwrap_err(), "no destination, level, or module \"bogus\"");
    }

    #[test]
    fn limited_speech_counts_what_it_swallows() {
        let t = Instant::from_secs(100);
        let mut l = Limited::new(60, 2, t);
        assert_eq!(
            (l.allow(t), l.allow(t), l.allow(t), l.allow(t)),
            (Some(0), Some(0), None, None)
        );
        assert_eq!(l.allow(t + base::Duration::from_secs(1)), Some(2));
    }
}
