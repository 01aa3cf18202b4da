//! Options of the command line, and what they say.

use std::io::IsTerminal;

use flow::text::Mode;
use openflow::message::PacketInFormat;
use openflow::version::Version;

use super::protocols::Protocols;
use super::{colors, watch};
use crate::applet::Failure;
use crate::getopt::{Arg, Opt};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Protocols,
    FlowFormat,
    PacketInFormat,
    Strict,
    Readd,
    MayCreate,
    Bundle,
    ReadOnly,
    Names,
    NoNames,
    Stats,
    NoStats,
    Sort,
    Rsort,
    More,
    Timeout,
    Timestamp,
    Lenient,
    Help,
    Version,
    Commands,
    Detach,
    Respawn,
    NoChdir,
    Pidfile,
    OverwritePidfile,
    Unixctl,
    Pcap,
    Bare,
    BadCsum,
    Color,
    Pki,
    Verbose,
    LogFile,
    /// Accepted, and without effect here: the system log.
    Ignored,
}

const fn opt(long: &'static str, short: Option<char>, arg: Arg, id: Id) -> Opt<Id> {
    Opt { long, short, arg, id }
}

pub(super) const OPTIONS: &[Opt<Id>] = &[
    opt("protocols", Some('O'), Arg::Required, Id::Protocols),
    opt("flow-format", Some('F'), Arg::Required, Id::FlowFormat),
    opt("packet-in-format", Some('P'), Arg::Required, Id::PacketInFormat),
    opt("strict", None, Arg::None, Id::Strict),
    opt("readd", None, Arg::None, Id::Readd),
    opt("may-create", None, Arg::None, Id::MayCreate),
    opt("bundle", None, Arg::None, Id::Bundle),
    opt("read-only", None, Arg::None, Id::ReadOnly),
    opt("names", None, Arg::None, Id::Names),
    opt("no-names", None, Arg::None, Id::NoNames),
    opt("stats", None, Arg::None, Id::Stats),
    opt("no-stats", None, Arg::None, Id::NoStats),
    opt("sort", None, Arg::Optional, Id::Sort),
    opt("rsort", None, Arg::Optional, Id::Rsort),
    opt("more", Some('m'), Arg::None, Id::More),
    opt("timeout", Some('t'), Arg::Required, Id::Timeout),
    opt("timestamp", None, Arg::None, Id::Timestamp),
    opt("lenient", None, Arg::None, Id::Lenient),
    opt("help", Some('h'), Arg::None, Id::Help),
    opt("version", Some('V'), Arg::None, Id::Version),
    opt("commands", None, Arg::None, Id::Commands),
    opt("detach", None, Arg::None, Id::Detach),
    opt("monitor", None, Arg::None, Id::Respawn),
    opt("no-chdir", None, Arg::None, Id::NoChdir),
    opt("pidfile", None, Arg::Optional, Id::Pidfile),
    opt("overwrite-pidfile", None, Arg::None, Id::OverwritePidfile),
    opt("unixctl", None, Arg::Required, Id::Unixctl),
    opt("pcap", None, Arg::None, Id::Pcap),
    opt("raw", None, Arg::None, Id::Pcap),
    opt("bare", None, Arg::None, Id::Bare),
    opt("bad-csum", None, Arg::None, Id::BadCsum),
    opt("color", None, Arg::Optional, Id::Color),
    opt("verbose", Some('v'), Arg::Optional, Id::Verbose),
    opt("log-file", None, Arg::Optional, Id::LogFile),
    opt("syslog-method", None, Arg::Required, Id::Ignored),
    opt("syslog-target", None, Arg::Required, Id::Ignored),
];

/// Environment variable that stands for `--lenient`, for scripts that cannot give options.
pub(super) const LENIENT: &str = "SEKISHO_LENIENT";

/// What the options say.
pub(super) struct Settings {
    /// Versions that may be agreed on.
    pub(super) versions: u32,
    /// Formats that may be used for flows.
    pub(super) protocols: Protocols,
    pub(super) packet_in: Option<PacketInFormat>,
    pub(super) strict: bool,
    pub(super) readd: bool,
    pub(super) may_create: bool,
    pub(super) bundle: bool,
    pub(super) read_only: bool,
    /// Whether names of ports are understood, and whether they are printed.
    pub(super) names: (bool, bool),
    pub(super) stats: bool,
    /// Of flows.
    pub(super) colors: Option<colors::Palette>,
    /// Fields to sort by, and whether downward.
    pub(super) sort: Vec<(String, bool)>,
    pub(super) verbosity: u8,
    pub(super) timestamp: bool,
    pub(super) mode: Mode,
    /// For TLS.
    pub(super) keys: Option<tls::Context>,
    /// How a monitor runs.
    pub(super) background: watch::Background,
    /// What `compose-packet` writes, and whether with wrong checksums.
    pub(super) pcap: bool,
    pub(super) bare: bool,
    pub(super) bad_csum: bool,
}

/// The versions of `-O`.
pub(super) fn parse_versions(text: &str) -> Result<u32, Failure> {
    let mut bitmap = 0;
    for name in text.split([',', ' ', '\t']).filter(|n| !n.is_empty()) {
        let version = Version::from_name(name)
            .ok_or_else(|| Failure::fatal(format!("Unknown OpenFlow version: \"{name}\"")))?;
        bitmap |= version.bit();
    }
    Ok(bitmap)
}

impl Settings {
    /// What holds where no option says otherwise.
    pub(super) fn new() -> Self {
        Self {
            versions: Version::Of10.bit(),
            protocols: Protocols::ALL,
            packet_in: None,
            strict: false,
            readd: false,
            may_create: false,
            bundle: false,
            read_only: false,
            names: (true, std::io::stdout().is_terminal()),
            stats: true,
            colors: None,
            sort: Vec::new(),
            verbosity: 0,
            timestamp: false,
            mode: match std::env::var_os(LENIENT).is_some_and(|v| !v.is_empty()) {
                true => Mode::Ovs,
                false => Mode::Strict,
            },
            background: watch::Background::default(),
            pcap: false,
            bare: false,
            bad_csum: false,
            keys: None,
        }
    }
}
