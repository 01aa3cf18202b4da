//! Running other programs from a test: to the end with a deadline, or in the background.
//!
//! A program's output is read by threads, so neither a full pipe nor a silent program can hang a
//! test; a program that outlives its deadline is killed and that is an error.
//!
//! A program that is told to end calls [`interrupt`]: from then on every wait of this crate is an error, and all
//! that was started ends as the values that hold it are dropped.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long [`run`] waits where a caller names no other deadline.
pub const DEADLINE: Duration = Duration::from_secs(30);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait of this crate an error, those under way too.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sleeps.
///
/// # Errors
/// If [`interrupt`] is called before the end.
pub fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        ensure!(!interrupted(), "interrupted");
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Ok(()),
            left => std::thread::sleep(left.min(Duration::from_millis(50))),
        }
    }
}

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line, for messages.
    pub command: String,
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ran {
    /// Whether it ended with exit status 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }

    /// Standard output, or an error that shows everything if the exit status was not 0.
    pub fn ok(self) -> Result<String> {
        ensure!(self.success(), "{self}");
        Ok(self.stdout)
    }

    /// Standard output followed by standard error, as a terminal would have shown them.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        f.write_str(&self.stdout)?;
        f.write_str(&self.stderr)?;
        match self.status {
            Some(code) => write!(f, "[exit {code}]"),
            None => write!(f, "[killed]"),
        }
    }
}

fn command_line(cmd: &Command) -> String {
    std::iter::once(cmd.get_program())
        .chain(cmd.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, feeding it `input`.
///
/// # Errors
/// If it cannot be started or is still running after `deadline` (it is killed then). A non-zero
/// exit status is not an error here: see [`Ran::ok`].
pub fn run_with(cmd: &mut Command, input: &[u8], deadline: Duration) -> Result<Ran> {
    let command = command_line(cmd);
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut proc = Proc::start(cmd.stdin(stdin), &command)?;
    if let Some(mut pipe) = proc.take_stdin() {
        // A program may well end without reading all of its input.
        let _ = pipe.write_all(input);
    }
    let status = proc.wait(deadline)?;
    Ok(Ran { command, status, stdout: proc.stdout.finish(), stderr: proc.stderr.finish() })
}

/// [`run_with`] no input and [`DEADLINE`].
pub fn run(cmd: &mut Command) -> Result<Ran> {
    run_with(cmd, b"", DEADLINE)
}

/// Runs `argv` on the host and returns its standard output; a non-zero exit status is an error.
pub fn host(argv: &[&str]) -> Result<String> {
    let (program, args) = argv.split_first().context("empty command line")?;
    run(Command::new(program).args(args))?.ok()
}

/// Output of a running program, collected by a thread.
#[derive(Debug, Default)]
struct Collected {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Collected {
        let Some(mut pipe) = pipe else { return Collected::default() };
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                if let Ok(mut text) = sink.lock() {
                    text.extend_from_slice(&chunk[..n]);
                }
            }
        });
        Collected { text, thread: Some(thread) }
    }

    fn so_far(&self) -> String {
        self.text.lock().map(|t| String::from_utf8_lossy(&t).into_owned()).unwrap_or_default()
    }

    /// All of it. Only after the program has ended; a grandchild that inherited the pipe is given
    /// a moment and then left alone.
    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let patience = Instant::now() + Duration::from_millis(500);
            while !thread.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.so_far()
    }
}

/// A program in the background; killed when dropped.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    command: String,
    stdout: Collected,
    stderr: Collected,
}

impl Proc {
    /// Starts `cmd` with its outputs collected. `command` names it in messages.
    pub fn start(cmd: &mut Command, command: &str) -> Result<Proc> {
        let mut child = cmd
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{command}`"))?;
        let stdout = Collected::from(child.stdout.take());
        let stderr = Collected::from(child.stderr.take());
        Ok(Proc { child, command: command.to_owned(), stdout, stderr })
    }

    /// Starts `cmd` in the background, with nothing on its standard input.
    pub fn spawn(cmd: &mut Command) -> Result<Proc> {
        let command = command_line(cmd);
        Proc::start(cmd.stdin(Stdio::null()), &command)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The writing end of its standard input, if it was started with a pipe there.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// What it has written to standard output until now.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// What it has written to standard error until now.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end and returns the exit status (`None`: ended by a signal).
    ///
    /// # Errors
    /// If it does not end in time; it is killed then.
    pub fn wait(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let end = Instant::now() + deadline;
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            ensure!(!interrupted(), "`{}`: interrupted", self.command);
            if Instant::now() >= end {
                self.kill();
                bail!(
                    "`{}` did not end within {deadline:?}; it had written:\n{}{}",
                    self.command,
                    self.stdout.finish(),
                    self.stderr.finish()
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Waits for its end and returns all it wrote.
    pub fn finish(mut self, deadline: Duration) -> Result<Ran> {
        let status = self.wait(deadline)?;
        Ok(Ran {
            command: self.command.clone(),
            status,
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        })
    }

    /// Waits until `seen` holds for its standard output.
    pub fn wait_for(&mut self, what: &str, seen: impl Fn(&str) -> bool) -> Result<String> {
        let command = self.command.clone();
        eventually(&format!("`{command}`: {what}"), DEADLINE, || {
            let text = self.stdout.so_far();
            if seen(&text) {
                return Ok(Some(text));
            }
            ensure!(self.alive(), "`{command}` ended: {text}{}", self.stderr.so_far());
            Ok(None)
        })
    }

    /// Sends SIGTERM.
    pub fn terminate(&mut self) -> Result<()> {
        signal(self.pid(), "TERM")
    }

    /// Sends SIGKILL and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends the signal named `name` (`TERM`, `KILL`, ...) to a process the test has started.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    host(&["sh", "-c", &format!("kill -{name} {pid}")]).map(drop)
}

/// Calls `probe` until it gives a value; pauses in between grow from 1 to 50 ms.
///
/// # Errors
/// The probe's own error at once; or a message that names `what` after `deadline`.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        ensure!(!interrupted(), "{what}: interrupted");
        ensure!(Instant::now() < end, "{what}: did not happen within {deadline:?}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_to_its_end_with_its_input() {
        let ran = run_with(
            Command::new("sh").args(["-c", "cat; echo no >&2; exit 3"]),
            b"yes\n",
            DEADLINE,
        )
        .unwrap();
        assert_eq!(
            (ran.status, ran.stdout.as_str(), ran.stderr.as_str()),
            (Some(3), "yes\n", "no\n")
        );
        assert!(ran.ok().unwrap_err().to_string().ends_with("[exit 3]"));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let mut hung = Proc::spawn(Command::new("sleep").arg("1000")).unwrap();
        let pid = hung.pid();
        assert!(hung.alive());
        assert!(hung.wait(Duration::from_millis(20)).is_err());
        assert!(!hung.alive(), "{pid} still runs");
    }

    #[test]
    fn a_full_pipe_does_not_hang() {
        let ran =
            run(Command::new("sh").args(["-c", "head -c 300000 /dev/zero | tr '\\0' x"])).unwrap();
        assert_eq!(ran.stdout.len(), 300_000);
    }

    #[test]
    fn an_unknown_program_is_named() {
        let error = run(&mut Command::new("no-such-program-at-all")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-at-all"));
    }
}
