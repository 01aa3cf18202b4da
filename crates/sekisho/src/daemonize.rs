//! Going to the background, as `--detach` and `--monitor` of OVS's daemons do.
//!
//! A process cannot be forked safely here, so the program starts itself again with the same
//! arguments and [`ROLE`] in its environment. The child's standard output is a pipe to the parent,
//! on which [`Background::ready`] writes once the daemon serves; the parent ends with status 0 then,
//! and with the child's status if the child ends before. With `--monitor` a process stands between
//! the two that starts the daemon again when it dies of a defect.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::applet::Failure;

/// Environment variable that tells a child what it is.
const ROLE: &str = "SEKISHO_BACKGROUND";
/// What a daemon that is ready says to its parent.
const READY: &[u8] = b"ready\n";
/// Least time between two restarts of a daemon that keeps dying.
const THROTTLE: Duration = Duration::from_secs(10);
/// Signals of a defect: after one of these `--monitor` starts the daemon again. In the numbers of
/// Linux: ILL, TRAP, ABRT, BUS, FPE, SEGV, PIPE, XCPU, XFSZ.
const DEFECTS: [i32; 9] = [4, 5, 6, 7, 8, 11, 13, 24, 25];
/// Exit status of a Rust program whose main thread panicked.
const PANICKED: i32 = 101;

/// How a daemon runs.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// In the background.
    pub detach: bool,
    /// Started again when it dies of a defect.
    pub monitor: bool,
    /// Stay in the working directory (by default a detached daemon goes to `/`).
    pub no_chdir: bool,
}

/// What this process is to do.
#[derive(Debug)]
pub enum Fork {
    /// Be the daemon.
    Daemon(Background),
    /// The daemon runs elsewhere: end with this status.
    Parent(u8),
}

/// The daemon's side of going to the background.
#[derive(Copy, Clone, Debug)]
pub struct Background {
    how: How,
    detached: bool,
}

/// Starts going to the background, as far as `how` asks for it.
///
/// # Errors
/// The program could not be started again.
pub fn start(how: How, argv0: &str) -> Result<Fork, Failure> {
    let role = std::env::var(ROLE).unwrap_or_default();
    let role = match (role.as_str(), how.detach, how.monitor) {
        ("daemon", ..) | (_, false, false) => "daemon",
        ("monitor", ..) | (_, false, true) => "monitor",
        _ => "parent",
    };
    if role != "parent" {
        set_name(argv0);
    }
    match role {
        "daemon" => {
            let detached = how.detach && std::env::var_os(ROLE).is_some();
            if detached {
                leave_session();
            }
            Ok(Fork::Daemon(Background { how, detached }))
        }
        "monitor" => {
            if how.detach {
                leave_session();
            }
            monitor(how, argv0).map(Fork::Parent)
        }
        _ => {
            let role = if how.monitor { "monitor" } else { "daemon" };
            let mut child = again(argv0, role, Stdio::piped())?;
            Ok(Fork::Parent(wait_ready(&mut child)))
        }
    }
}

/// Starts this program again in another role.
fn again(argv0: &str, role: &str, stdout: Stdio) -> Result<Child, Failure> {
    let cannot = |e| Failure::fatal(format!("cannot start the daemon's process ({e})"));
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    command.arg0(OsStr::new(argv0)).args(std::env::args_os().skip(1)).env(ROLE, role);
    command.stdin(Stdio::null()).stdout(stdout).spawn().map_err(cannot)
}

/// Gives the process the name that it was called by, which `ps` and `pidof` look for, and not that
/// of the file behind the link.
fn set_name(argv0: &str) {
    let base = argv0.rsplit('/').next().unwrap_or(argv0);
    if let Ok(name) = std::ffi::CString::new(base) {
        // Of no further consequence if it cannot be.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Leaves the terminal and the process group of whoever started this.
fn leave_session() {
    // Fails only in a process that leads its group: then there is nothing to leave.
    let _ = rustix::process::setsid();
}

/// Waits until the daemon is ready or dead; the status to end with.
fn wait_ready(child: &mut Child) -> u8 {
    let mut said = Vec::new();
    if let Some(pipe) = &mut child.stdout {
        // A pipe that breaks is a daemon that said nothing.
        let _ = pipe.read_to_end(&mut said);
    }
    if said == READY {
        return 0;
    }
    child.wait().map_or(1, status_of)
}

/// An exit status that says the same as the child's, and is never success.
fn status_of(status: ExitStatus) -> u8 {
    status.code().and_then(|c| u8::try_from(c).ok()).filter(|c| *c != 0).unwrap_or(1)
}

/// Keeps a daemon running. Returns the status to end with when it ended on purpose.
fn monitor(how: How, argv0: &str) -> Result<u8, Failure> {
    let mut stdout = Stdio::inherit();
    let mut restarted: Option<Instant> = None;
    loop {
        let mut child = again(argv0, "daemon", stdout)?;
        stdout = Stdio::null();
        if how.detach {
            // The parent waits for the end of its pipe, which is the daemon's alone now.
            silence(how.no_chdir, true)?;
        }
        let status = child.wait()?;
        let defect = status.signal().is_some_and(|s| DEFECTS.contains(&s))
            || status.code() == Some(PANICKED);
        if !defect {
            return Ok(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1));
        }
        if let Some(last) = restarted {
            std::thread::sleep(THROTTLE.saturating_sub(last.elapsed()));
        }
        restarted = Some(Instant::now());
    }
}

/// Lets go of the terminal: standard input, output and, unless `keep_stderr`, error.
fn silence(no_chdir: bool, keep_stderr: bool) -> Result<(), Failure> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).map_err(std::io::Error::from)?;
    rustix::stdio::dup2_stdout(&null).map_err(std::io::Error::from)?;
    if !keep_stderr {
        rustix::stdio::dup2_stderr(&null).map_err(std::io::Error::from)?;
    }
    if !no_chdir {
        std::env::set_current_dir("/")?;
    }
    Ok(())
}

impl Background {
    /// The daemon serves: whoever started it may go on. From here on a detached daemon has no
    /// terminal.
    pub fn ready(self) {
        self.serves(false);
    }

    /// The same, for a program whose standard error is its output.
    pub fn ready_keeping_stderr(self) {
        self.serves(true);
    }

    fn serves(self, keep_stderr: bool) {
        if !self.detached {
            return;
        }
        let mut out = std::io::stdout();
        // Nobody left to tell is no reason to end.
        let _ = out.write_all(READY).and_then(|()| out.flush());
        let _ = silence(self.how.no_chdir, keep_stderr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_child_is_never_success() {
        assert_eq!(status_of(ExitStatus::from_raw(0)), 1);
        assert_eq!(status_of(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(status_of(ExitStatus::from_raw(9)), 1);
    }
}
