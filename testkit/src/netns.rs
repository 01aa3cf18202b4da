//! Network namespaces for tests, also for ordinary users.
//!
//! A [`Netns`] is held open by a child process that waits on a pipe from the test: if the test
//! ends in whatever way, the pipe closes, the holder ends and the kernel removes the namespace with
//! all its devices. Nothing is named under `/run/netns`, so parallel tests cannot collide and
//! nothing is left behind. Programs are run inside through `nsenter` and carry a parent-death
//! signal; because that signal comes when the *thread* that started them ends, start programs from
//! the test's own thread.
//!
//! Without root the first namespace is made inside a user namespace of its own in which the caller
//! is root; [`Netns::sibling`] makes further ones in the same user namespace, so that veth pairs
//! can run between them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Proc, Ran};

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    holder: Child,
    /// Whether it lies in a user namespace that was made for it.
    rootless: bool,
}

impl Netns {
    /// A fresh namespace with `lo` up and IPv6 off (so that no neighbour discovery disturbs
    /// counters). `name` is for messages only.
    pub fn new(name: &str) -> Result<Netns> {
        let rootless = process::host(&["id", "-u"])?.trim() != "0";
        let mut unshare = Command::new("unshare");
        unshare.arg("--net");
        if rootless {
            unshare.args(["--user", "--map-root-user"]);
        }
        Netns::hold(name, unshare, rootless)
    }

    /// Another fresh namespace, in the same user namespace.
    pub fn sibling(&self, name: &str) -> Result<Netns> {
        let mut unshare = self.bare_command("unshare");
        unshare.arg("--net");
        Netns::hold(name, unshare, self.rootless)
    }

    fn hold(name: &str, mut unshare: Command, rootless: bool) -> Result<Netns> {
        // The holder says when it is inside, then waits for its input to close.
        let mut holder = unshare
            .args(["sh", "-c", "echo inside; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run unshare (package util-linux)")?;
        let (mut line, mut why) = (String::new(), String::new());
        if let Some(out) = holder.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let inside = line.trim() == "inside";
        if let Some(mut err) = holder.stderr.take().filter(|_| !inside) {
            err.read_to_string(&mut why)?;
        }
        let ns = Netns { name: name.to_owned(), holder, rootless };
        ensure!(
            inside,
            "cannot make network namespace {name}: root or user namespaces are needed ({})",
            why.trim()
        );
        ns.ip("link set lo up")?;
        ns.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        ns.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(ns)
    }

    /// What it was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A process id by which `ip link ... netns PID` finds it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn bare_command(&self, program: &str) -> Command {
        let mut cmd = Command::new("nsenter");
        cmd.args(["--target", &self.pid().to_string(), "--net"]);
        if self.rootless {
            cmd.args(["--user", "--preserve-credentials"]);
        }
        cmd.args(["--", program]);
        cmd
    }

    /// A command that runs `program` inside. It becomes the program by exec, so its process id is
    /// the program's.
    pub fn command(&self, program: &str) -> Command {
        let mut cmd = self.bare_command("setpriv");
        cmd.args(["--pdeathsig", "KILL", "--", program]);
        cmd
    }

    /// Runs `argv` inside to its end.
    pub fn run(&self, argv: &[&str]) -> Result<Ran> {
        self.run_within(argv, process::DEADLINE)
    }

    /// Runs `argv` inside to its end, for at most `deadline`.
    pub fn run_within(&self, argv: &[&str], deadline: Duration) -> Result<Ran> {
        let (program, args) = argv.split_first().context("empty command line")?;
        let mut ran = process::run_with(self.command(program).args(args), b"", deadline)
            .with_context(|| format!("in namespace {}", self.name))?;
        ran.command = argv.join(" ");
        Ok(ran)
    }

    /// Runs `argv` inside and returns its standard output; a non-zero exit status is an error.
    pub fn ok(&self, argv: &[&str]) -> Result<String> {
        self.run(argv)?.ok().with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs `ip` with the words of `line` inside.
    pub fn ip(&self, line: &str) -> Result<String> {
        let mut argv = vec!["ip"];
        argv.extend(line.split_whitespace());
        self.ok(&argv)
    }

    /// Writes a file below `/proc/sys` inside; a knob this kernel lacks is left alone.
    pub fn sysctl(&self, knob: &str, value: &str) -> Result<()> {
        let script = format!("! [ -w /proc/sys/{knob} ] || echo '{value}' > /proc/sys/{knob}");
        self.ok(&["sh", "-c", &script]).map(drop)
    }

    /// Starts `argv` inside, in the background.
    pub fn spawn(&self, argv: &[&str]) -> Result<Proc> {
        let (program, args) = argv.split_first().context("empty command line")?;
        Proc::spawn(self.command(program).args(args))
            .with_context(|| format!("in namespace {}", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_namespaces_ping_and_vanish() {
        let a = Netns::new("a").unwrap();
        let b = a.sibling("b").unwrap();
        a.ip(&format!("link add left type veth peer name right netns {}", b.pid())).unwrap();
        for (ns, dev, addr) in [(&a, "left", "10.9.0.1/24"), (&b, "right", "10.9.0.2/24")] {
            ns.ip(&format!("addr add {addr} dev {dev}")).unwrap();
            ns.ip(&format!("link set {dev} up")).unwrap();
        }
        a.ok(&["ping", "-c1", "-W2", "10.9.0.2"]).unwrap();
        let sleeper = b.spawn(&["sleep", "1000"]).unwrap();
        let (holder, sleeper_pid) = (b.pid(), sleeper.pid());
        drop((sleeper, b));
        for pid in [holder, sleeper_pid] {
            assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        }
        process::eventually("the far end goes", process::DEADLINE, || {
            Ok((!a.run(&["ip", "link", "show", "left"])?.success()).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn a_program_that_fails_inside_is_told_with_its_output() {
        let ns = Netns::new("n").unwrap();
        let error = format!("{:#}", ns.ip("link set nosuch up").unwrap_err());
        assert!(error.contains("namespace n") && error.contains("nosuch"), "{error}");
    }
}
