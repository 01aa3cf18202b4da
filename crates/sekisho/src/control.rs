//! Talking to a daemon's control socket: where it is, one call, and giving up after a time.
//!
//! `RUNDIR/TARGET.pid` holds the process id, `RUNDIR/TARGET.PID.ctl` is the socket. Calls block; the
//! only clock is the watchdog of [`arm_timeout`], a thread that ends the process as OVS's tools end
//! when their `--timeout` passes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use switchd::unixctl::{Decoder, Lines, Request};

use crate::applet::{Failure, Session};

/// The daemon that is meant where none is named.
pub const DEFAULT_TARGET: &str = "ovs-vswitchd";

/// Exit status after a timeout: what a shell shows for a death by SIGALRM, which is how OVS's tools end.
const TIMEOUT_STATUS: i32 = 128 + 14;

/// Directory of sockets and pid files: `$OVS_RUNDIR`, or OVS's usual one.
pub fn rundir() -> PathBuf {
    env_dir("OVS_RUNDIR", "/var/run/openvswitch")
}

/// Directory of log files: `$OVS_LOGDIR`, or OVS's usual one.
pub fn logdir() -> PathBuf {
    env_dir("OVS_LOGDIR", "/var/log/openvswitch")
}

/// Directory of databases: `$OVS_DBDIR`, or OVS's usual one.
pub fn dbdir() -> PathBuf {
    env_dir("OVS_DBDIR", "/etc/openvswitch")
}

fn env_dir(name: &str, default: &str) -> PathBuf {
    std::env::var_os(name).filter(|v| !v.is_empty()).map_or_else(|| default.into(), PathBuf::from)
}

/// An error's text without Rust's ` (os error N)`, as C programs print it.
pub fn strerror(e: &io::Error) -> String {
    let text = e.to_string();
    match text.rfind(" (os error ") {
        Some(at) if e.raw_os_error().is_some() => text[..at].to_owned(),
        _ => text,
    }
}

/// Prints a warning in the form of OVS's log, which is where its libraries report trouble; `seq` counts
/// the messages of a process.
pub fn log_warn(err: &mut dyn Write, seq: u32, module: &str, text: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let _ = writeln!(err, "{}|{seq:05}|{module}|WARN|{text}", utc(now));
}

/// `2026-11-23T06:27:06Z` for seconds since 1970-01-01 UTC.
pub fn utc(secs: u64) -> String {
    let with_millis = switchd::clock::iso8601(Duration::from_secs(secs));
    with_millis.replace(".000Z", "Z")
}

/// Parses the argument of `--timeout`: whole seconds, at least 1.
///
/// # Errors
/// OVS's text, naming both spellings of the option (`-T or --timeout`).
pub fn parse_timeout(names: &str, text: &str) -> Result<Duration, Failure> {
    match text.parse::<u32>() {
        Ok(secs) if secs > 0 => Ok(Duration::from_secs(secs.into())),
        _ => Err(Failure::fatal(format!("value {text} on {names} is invalid"))),
    }
}

/// Ends the process after `limit` (of `--timeout`) or else after `$OVS_CTL_TIMEOUT` seconds, as OVS's tools
/// end; a value of the variable that is no such number is as good as none.
pub fn arm_timeout(limit: Option<Duration>) {
    let from_env = || {
        let secs = std::env::var("OVS_CTL_TIMEOUT").ok()?.parse::<u32>().ok()?;
        (secs > 0).then(|| Duration::from_secs(secs.into()))
    };
    let Some(limit) = limit.or_else(from_env) else { return };
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        let text = "terminating with signal 14 (Alarm clock)";
        log_warn(&mut io::stderr(), 1, "fatal_signal", text);
        std::process::exit(TIMEOUT_STATUS);
    });
}

/// The socket of a daemon given as an absolute path or as a name.
///
/// # Errors
/// A pid file that is missing or names no running process.
pub fn socket_of(session: &mut Session<'_>, target: &str) -> Result<PathBuf, Failure> {
    if target.starts_with('/') {
        return Ok(target.into());
    }
    let pidfile = rundir().join(format!("{target}.pid"));
    let unreadable = |why: &str| {
        Failure::fatal(format!("cannot read pidfile \"{}\" ({why})", pidfile.display()))
    };
    let text = std::fs::read_to_string(&pidfile).map_err(|e| {
        let text = format!("{}: open: {}", pidfile.display(), strerror(&e));
        log_warn(session.err, 1, "daemon_unix", &text);
        unreadable(&strerror(&e))
    })?;
    let pid: u32 = text.trim().parse().map_err(|_| unreadable("No such process"))?;
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(unreadable("No such process"));
    }
    Ok(rundir().join(format!("{target}.{pid}.ctl")))
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    stream: UnixStream,
    decoder: Decoder,
    next_id: u64,
}

impl Control {
    /// Connects to the daemon `target` (a name, or an absolute path of a socket).
    ///
    /// # Errors
    /// No pid file, no such process, nobody listening.
    pub fn connect(session: &mut Session<'_>, target: &str) -> Result<Self, Failure> {
        let path = socket_of(session, target)?;
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Self { path, stream, decoder: Decoder::new(usize::MAX), next_id: 0 }),
            Err(e) => {
                let text = format!("failed to connect to {}", path.display());
                log_warn(session.err, 1, "unixctl", &text);
                let why = strerror(&e);
                Err(Failure::fatal(format!("cannot connect to \"{}\" ({why})", path.display())))
            }
        }
    }

    /// Calls `method`; the inner result is the daemon's own: text for output, or text of an error.
    ///
    /// # Errors
    /// The connection broke or the reply is no JSON-RPC.
    pub fn call(
        &mut self,
        session: &mut Session<'_>,
        method: &str,
        params: &[String],
    ) -> Result<Result<String, String>, Failure> {
        self.transact(method, params).map_err(|e| self.broken(session, &e))
    }

    /// [`Control::call`], but the daemon's text goes to `each` line by line as it comes, until that says
    /// no more. Nothing else can be asked after that.
    ///
    /// # Errors
    /// As there.
    pub fn call_lines(
        &mut self,
        session: &mut Session<'_>,
        method: &str,
        params: &[String],
        each: impl FnMut(&mut Session<'_>, &str) -> bool,
    ) -> Result<Result<(), String>, Failure> {
        let result = self.transact_lines(session, method, params, each);
        result.map_err(|e| self.broken(session, &e))
    }

    /// Says that the connection broke.
    fn broken(&self, session: &mut Session<'_>, e: &io::Error) -> Failure {
        let why = match e.kind() {
            io::ErrorKind::UnexpectedEof => "End of file".to_owned(),
            io::ErrorKind::InvalidData => "Protocol error".to_owned(),
            _ => strerror(e),
        };
        let path = self.path.display();
        let text = format!("error communicating with unix:{path}: {why}");
        log_warn(session.err, 1, "unixctl", &text);
        Failure::fatal(format!("{path}: transaction error ({why})"))
    }

    /// Sends a request; its id.
    fn ask(&mut self, method: &str, params: &[String]) -> io::Result<serde_json::Value> {
        let id = serde_json::Value::from(self.next_id);
        self.next_id += 1;
        let (method, params) = (method.to_owned(), params.to_vec());
        self.stream.write_all(&Request { id: id.clone(), method, params }.encode())?;
        Ok(id)
    }

    /// Some bytes, at least one.
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn transact_lines(
        &mut self,
        session: &mut Session<'_>,
        method: &str,
        params: &[String],
        mut each: impl FnMut(&mut Session<'_>, &str) -> bool,
    ) -> io::Result<Result<(), String>> {
        let mut lines = Lines::new(&self.ask(method, params)?);
        let mut buf = vec![0; 64 << 10];
        let mut wanted = true;
        while wanted {
            let n = self.receive(&mut buf)?;
            let reply = lines.feed(&buf[..n], |line| wanted = wanted && each(session, line));
            let reply = reply.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if let Some(reply) = reply {
                return Ok(reply.result.map(|text| {
                    text.lines().all(|line| each(session, line));
                }));
            }
        }
        Ok(Ok(()))
    }

    fn transact(&mut self, method: &str, params: &[String]) -> io::Result<Result<String, String>> {
        let id = self.ask(method, params)?;
        let mut buf = vec![0; 64 << 10];
        loop {
            match self.decoder.next_reply() {
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
                Ok(Some(reply)) if reply.id == id => return Ok(reply.result),
                Ok(Some(_)) => return Err(io::ErrorKind::InvalidData.into()),
                Ok(None) => {}
            }
            let n = self.receive(&mut buf)?;
            self.decoder.feed(&buf[..n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_459_217), "2026-11-23T18:40:17Z");
        assert_eq!(utc(4_102_444_800), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn timeouts() {
        assert_eq!(parse_timeout("-t", "3").unwrap(), Duration::from_secs(3));
        for bad in ["0", "x", "-1", ""] {
            match parse_timeout("-T or --timeout", bad) {
                Err(Failure::Fatal(1, text)) => {
                    assert_eq!(text, format!("value {bad} on -T or --timeout is invalid"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn os_errors_read_as_in_c() {
        assert_eq!(strerror(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(strerror(&io::Error::other("plain")), "plain");
    }
}
