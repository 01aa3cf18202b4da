//! The switch under test: ours or the stock Open vSwitch, behind one handle.
//!
//! Both run in a namespace with all their files in a scratch directory of their own, both are
//! driven by either set of tools: [`Sut::tool`] takes the command line of a stock tool
//! (`ovs-vsctl show`) and runs that, or our equivalent (`sekisho vsctl show`), with `OVS_RUNDIR`
//! set.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::control::Control;
use crate::need;
use crate::netns::Netns;
use crate::process::{DEADLINE, Proc, Ran, eventually, run_with};
use crate::scratch::Scratch;

/// Whose switch, or whose tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This project's.
    Ours,
    /// The distribution's Open vSwitch.
    Stock,
}

/// The programs of the stock Open vSwitch that the harness uses.
pub const STOCK_PROGRAMS: &[&str] =
    &["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"];

/// The schema of its database.
pub const STOCK_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A running switch; killed when dropped, with its files.
#[derive(Debug)]
pub struct Sut<'a> {
    whose: Whose,
    binary: String,
    ns: &'a Netns,
    /// Database server first, switch last; ours is one process.
    procs: Vec<Proc>,
    /// Options of the daemon besides those of its files.
    options: Vec<String>,
    /// The stock daemon.
    daemon: String,
    /// `KEY=VALUE`s of the table Open_vSwitch that are there before the stock daemon starts.
    settings: Vec<String>,
    dir: Scratch,
}

impl<'a> Sut<'a> {
    /// Starts a switch with an empty database in `ns` and waits until its sockets are there.
    /// `binary` is the path of `sekisho` (the environment variable `SEKISHO` overrides it).
    pub fn start(whose: Whose, binary: &str, ns: &'a Netns) -> Result<Sut<'a>> {
        Sut::start_with(whose, binary, ns, &[])
    }

    /// [`Sut::start`] with more options for `sekisho run` or the stock `ovs-vswitchd`.
    pub fn start_with(
        whose: Whose,
        binary: &str,
        ns: &'a Netns,
        options: &[&str],
    ) -> Result<Sut<'a>> {
        let mut sut = Sut { whose, ..Sut::stage(binary, ns)? };
        sut.options = options.iter().map(|o| (*o).to_owned()).collect();
        sut.first_launch()?;
        Ok(sut)
    }

    /// Starts the stock switch with settings of its table Open_vSwitch (`other_config:dpdk-init=true`) that the
    /// daemon finds when it starts. `program` is the daemon if it is not the `ovs-vswitchd` on the path.
    pub fn start_stock(program: Option<&str>, settings: &[&str], ns: &'a Netns) -> Result<Sut<'a>> {
        let mut sut = Sut { whose: Whose::Stock, ..Sut::stage("", ns)? };
        sut.settings = settings.iter().map(|s| (*s).to_owned()).collect();
        if let Some(program) = program {
            // By its name it names its sockets, where tools look for them.
            sut.daemon = sut.dir.join("ovs-vswitchd");
            std::os::unix::fs::symlink(program, &sut.daemon)?;
        }
        sut.first_launch()?;
        Ok(sut)
    }

    fn first_launch(&mut self) -> Result<()> {
        if self.whose == Whose::Stock {
            self.run(&["ovsdb-tool", "create", &self.database(), STOCK_SCHEMA])?.ok()?;
        }
        self.launch()
    }

    /// Directory and environment of a switch of ours that a test starts itself.
    pub fn stage(binary: &str, ns: &'a Netns) -> Result<Sut<'a>> {
        let binary = std::env::var("SEKISHO").unwrap_or_else(|_| binary.to_owned());
        Ok(Sut {
            whose: Whose::Ours,
            binary,
            ns,
            procs: Vec::new(),
            options: Vec::new(),
            daemon: "ovs-vswitchd".to_owned(),
            settings: Vec::new(),
            dir: Scratch::new()?,
        })
    }

    fn launch(&mut self) -> Result<()> {
        match self.whose {
            Whose::Ours => self.launch_ours(),
            Whose::Stock => self.launch_stock(),
        }
    }

    fn launch_ours(&mut self) -> Result<()> {
        let (dir, db) = (self.rundir(), self.database());
        let mut argv = vec![&*self.binary, "run", "--rundir", dir, "--db", &db];
        argv.extend(self.options.iter().map(String::as_str));
        let proc = self.spawn(&argv)?;
        self.procs.push(proc);
        self.await_pid_file("ovs-vswitchd.pid")?;
        self.await_database()
    }

    fn launch_stock(&mut self) -> Result<()> {
        let remote = format!("punix:{}", self.dir.join("db.sock"));
        let quiet = "-vconsole:off";
        let proc = self.spawn(&[
            "ovsdb-server",
            &self.database(),
            &format!("--remote={remote}"),
            "--pidfile",
            quiet,
        ])?;
        self.procs.push(proc);
        self.await_database()?;
        self.run(&["ovs-vsctl", "--no-wait", "init"])?.ok()?;
        if !self.settings.is_empty() {
            let mut set = vec!["ovs-vsctl", "--no-wait", "set", "Open_vSwitch", "."];
            set.extend(self.settings.iter().map(String::as_str));
            self.run(&set)?.ok()?;
        }
        let mut argv = vec![&*self.daemon, "--pidfile", "--log-file", quiet];
        argv.extend(self.options.iter().map(String::as_str));
        let proc = self.spawn(&argv)?;
        self.procs.push(proc);
        self.await_pid_file("ovs-vswitchd.pid")
    }

    /// Waits until the pid file holds the process started last: one of its predecessor may be there.
    fn await_pid_file(&mut self, name: &str) -> Result<()> {
        let (path, pid) = (self.dir.path().join(name), self.pid()?.to_string());
        eventually(&format!("the switch writes {name}"), DEADLINE, || {
            self.check_alive()?;
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            Ok((written.trim() == pid).then_some(()))
        })
    }

    /// Waits until the database takes clients.
    fn await_database(&mut self) -> Result<()> {
        let socket = self.dir.path().join("db.sock");
        eventually("the database takes clients", DEADLINE, || {
            self.check_alive()?;
            Ok(UnixStream::connect(&socket).ok().map(drop))
        })
    }

    /// Whose switch it is.
    pub fn whose(&self) -> Whose {
        self.whose
    }

    /// The namespace it runs in.
    pub fn ns(&self) -> &'a Netns {
        self.ns
    }

    /// The directory of its sockets, pid files and database.
    pub fn rundir(&self) -> &str {
        self.dir.path().to_str().unwrap_or_default()
    }

    /// The path of a file in its directory.
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name)
    }

    /// Its database file.
    pub fn database(&self) -> String {
        self.dir.join("conf.db")
    }

    /// Process id of the switch itself.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.procs.last().context("the switch is not running")?.pid())
    }

    /// A connection to its control socket.
    pub fn control(&self) -> Result<Control> {
        Control::connect(&self.file(&format!("ovs-vswitchd.{}.ctl", self.pid()?)))
    }

    /// Process ids of all its processes.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.procs.iter().map(Proc::pid)
    }

    /// Errors with what it wrote if any of its processes has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        ensure!(!self.procs.is_empty(), "the switch is not running");
        for proc in &mut self.procs {
            ensure!(proc.alive(), "the switch ended: {}{}", proc.stdout(), proc.stderr());
        }
        Ok(())
    }

    /// All it wrote to its standard outputs.
    pub fn output(&self) -> String {
        self.procs.iter().map(|p| p.stdout() + &p.stderr()).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut cmd = self.ns.command(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            cmd.env(variable, self.dir.path());
        }
        cmd
    }

    /// Starts a program beside the switch with its environment, in the background.
    pub fn spawn(&self, argv: &[&str]) -> Result<Proc> {
        Proc::spawn(self.command(argv[0]).args(&argv[1..]))
    }

    /// Runs a program beside the switch with its environment.
    pub fn run(&self, argv: &[&str]) -> Result<Ran> {
        self.run_with_input(argv, b"")
    }

    fn run_with_input(&self, argv: &[&str], input: &[u8]) -> Result<Ran> {
        let mut ran = run_with(self.command(argv[0]).args(&argv[1..]), input, DEADLINE)?;
        ran.command = argv.join(" ");
        Ok(ran)
    }

    /// Runs a tool: `["ovs-vsctl", "show"]` is the stock one or `sekisho vsctl show`. The command
    /// in the result is the one given here, so that transcripts of both are alike.
    pub fn tool(&self, tools: Whose, argv: &[&str]) -> Result<Ran> {
        self.tool_with_input(tools, argv, b"")
    }

    /// [`Sut::tool`] with something to read on standard input.
    pub fn tool_with_input(&self, tools: Whose, argv: &[&str], input: &[u8]) -> Result<Ran> {
        let mut ran = self.run_with_input(&self.tool_words(tools, argv), input)?;
        ran.command = argv.join(" ");
        Ok(ran)
    }

    /// Starts the words of `line` as a tool in the background.
    pub fn spawn_tool(&self, tools: Whose, line: &str) -> Result<Proc> {
        self.spawn(&self.tool_words(tools, &line.split_whitespace().collect::<Vec<_>>()))
    }

    fn tool_words<'w>(&'w self, tools: Whose, argv: &[&'w str]) -> Vec<&'w str> {
        let mut words = argv.to_vec();
        if tools == Whose::Ours {
            let name = argv[0];
            words.splice(..1, [self.binary.as_str(), name.strip_prefix("ovs-").unwrap_or(name)]);
        }
        words
    }

    /// Runs the words of `line` as a tool and returns its standard output; a failure is an error.
    pub fn ok(&self, tools: Whose, line: &str) -> Result<String> {
        self.tool(tools, &line.split_whitespace().collect::<Vec<_>>())?.ok()
    }

    /// Makes bridge `br0` of datapath type netdev with `ports` as OpenFlow ports 2, 3, ...
    pub fn add_bridge(&self, tools: Whose, ports: &[&str]) -> Result<()> {
        self.ok(
            tools,
            "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev \
             other-config:hwaddr=5a:00:00:00:00:b0",
        )?;
        // One after the other, so that datapath port numbers are the same every time.
        for (port, number) in ports.iter().zip(2..) {
            self.ok(
                tools,
                &format!(
                    "ovs-vsctl add-port br0 {port} -- set Interface {port} ofport_request={number}"
                ),
            )?;
        }
        Ok(())
    }

    /// Replaces the flows of `br0` by a policy file.
    pub fn load_policy(&self, tools: Whose, file: &str) -> Result<()> {
        self.ok(tools, "ovs-ofctl del-flows br0")?;
        if self.whose == Whose::Stock {
            // It may count packets of before for a flow that comes in the place of the deleted one.
            self.ok(Whose::Stock, "ovs-appctl revalidator/purge")?;
        }
        self.ok(tools, &format!("ovs-ofctl add-flows br0 {file}")).map(drop)
    }

    /// Stops it as an init system does, and errors if it does not end well.
    pub fn stop(&mut self) -> Result<()> {
        while let Some(mut proc) = self.procs.pop() {
            proc.terminate()?;
            let status = proc.wait(DEADLINE)?;
            ensure!(
                // The stock daemons let SIGTERM end them.
                status == Some(0) || (self.whose == Whose::Stock && status.is_none()),
                "the switch ended with {status:?}: {}{}",
                proc.stdout(),
                proc.stderr()
            );
        }
        Ok(())
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        while let Some(mut proc) = self.procs.pop() {
            proc.kill();
        }
    }

    /// Starts it again on the same database, among whatever files the last one left.
    pub fn start_again(&mut self) -> Result<()> {
        self.kill();
        self.launch()
    }
}

/// Whether the stock Open vSwitch is installed (see [`need::programs`]).
pub fn have_stock() -> Result<bool> {
    need::programs(STOCK_PROGRAMS)
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Processor time a process has used, user and system.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // The second field is the name in parentheses and may contain anything; the 14th and 15th are
    // the times in ticks of 10 ms (USER_HZ, which Linux fixes at 100).
    let after = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks = |n| -> Result<u64> {
        Ok(after.split_whitespace().nth(n).context("a short stat")?.parse()?)
    };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{POLICY_IP, Reach, Story, Vm};

    /// The harness is right if the stock switch plays the story in it.
    #[test]
    fn the_stock_switch_plays_the_story() {
        if !have_stock().unwrap() || !need::programs(&["ethtool"]).unwrap() {
            return;
        }
        let mut story = Story::new().unwrap();
        story.offloads_off().unwrap();
        story.serve().unwrap();
        let mut sut = Sut::start(Whose::Stock, "", &story.sw).unwrap();
        sut.add_bridge(Whose::Stock, &["vm1p", "vm2p"]).unwrap();
        sut.load_policy(Whose::Stock, POLICY_IP).unwrap();
        assert_eq!(story.reach(Vm::One, 2000).unwrap(), Reach::ALL);
        assert_eq!(story.reach(Vm::Two, 200).unwrap(), Reach::NONE);
        story.transfer(Vm::One, 1_000_000).unwrap();
        assert!(resident_bytes(sut.pid().unwrap()).unwrap() > 1 << 20);
        sut.start_again().unwrap();
        assert_eq!(sut.ok(Whose::Stock, "ovs-vsctl list-ports br0").unwrap(), "vm1p\nvm2p\n");
        sut.stop().unwrap();
    }
}
