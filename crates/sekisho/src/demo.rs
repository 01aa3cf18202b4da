//! `sekisho demo`: the story, live, in network namespaces.
//!
//! Two namespaces play the machines, a third holds the switch; nothing outside them is touched, and
//! no root is needed where user namespaces are allowed. Each step prints the command that a user
//! would type, what it prints, and a verdict; one wrong verdict makes the exit status 1.
//! `--keep` leaves everything running until the terminal says otherwise.

use std::time::Duration;

use testkit::netns::Netns;
use testkit::peer;
use testkit::process::{DEADLINE, Proc, eventually, run};
use testkit::scratch::Scratch;
use testkit::story::{Story, Vm};

use crate::applet::{Failure, Outcome, Session};

/// The policy of the story, as it stands in the documentation.
const POLICY: &str = include_str!("../../../examples/story/policy.flow");

/// How long to wait for what should be stopped.
const PATIENCE_MS: u32 = 400;

/// Runs the network program of the story's machines (`testkit::peer_program`).
pub fn run_peer(_: &mut Session<'_>, args: Vec<String>) -> Outcome {
    Ok(testkit::peer_program::run(&args))
}

/// Runs the demo.
pub fn run_demo(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let keep = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        _ => return Err(Failure::fatal("usage: sekisho demo [--keep]")),
    };
    match Demo::start(session).and_then(|mut demo| demo.play(keep)) {
        Ok(true) => Ok(0),
        Ok(false) => Ok(1),
        Err(e) => Err(Failure::fatal(format!("demo: {e:#}"))),
    }
}

/// What a step expects of the traffic.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Want {
    Passes,
    Stopped,
}

struct Demo<'s, 'a> {
    session: &'s mut Session<'a>,
    dir: Scratch,
    story: Story,
    /// The switch; ends with the demo.
    daemon: Proc,
    program: String,
    n_steps: u32,
    n_wrong: u32,
}

impl<'s, 'a> Demo<'s, 'a> {
    fn start(session: &'s mut Session<'a>) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.to_string_lossy().into_owned();
        let dir = Scratch::new()?;
        // The machines' program is this one under another name.
        peer::use_program(&program, &dir)?;
        let story = Story::new()?;
        let (rundir, db) = (dir.join(""), dir.join("conf.db"));
        let rundir = rundir.trim_end_matches('/');
        let daemon = story.sw.spawn(&[&program, "run", "--rundir", rundir, "--db", &db])?;
        Ok(Demo { session, dir, story, daemon, program, n_steps: 0, n_wrong: 0 })
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.session.out, "{text}");
        let _ = self.session.out.flush();
    }

    fn step(&mut self, title: &str) {
        self.n_steps += 1;
        let n = self.n_steps;
        self.say(&format!("\n{n}. {title}"));
    }

    fn verdict(&mut self, right: bool, text: &str) {
        let mark = if right { "ok   " } else { "WRONG" };
        self.n_wrong += u32::from(!right);
        self.say(&format!("   [{mark}] {text}"));
    }

    /// Runs one of our tools and returns what it printed.
    fn tool(&mut self, line: &str) -> anyhow::Result<String> {
        let mut words = line.split_whitespace();
        let mut command = self.story.sw.command(&self.program);
        command.env("OVS_RUNDIR", self.dir.path()).current_dir(self.dir.path());
        if words.next() == Some("conntrack") {
            command.arg("conntrack");
        }
        command.args(words);
        let ran = run(&mut command)?;
        anyhow::ensure!(ran.success(), "{line}: {}", ran.text());
        Ok(ran.stdout)
    }

    /// Shows a command and what it prints.
    fn show(&mut self, line: &str) -> anyhow::Result<String> {
        self.say(&format!("   $ {line}"));
        let text = self.tool(line)?;
        for line in text.lines() {
            self.say(&format!("     {line}"));
        }
        Ok(text)
    }

    /// Sends one kind of traffic and compares with what should become of it.
    fn traffic(&mut self, from: Vm, what: &str, want: Want) -> anyhow::Result<()> {
        let ms = if want == Want::Passes { 3000 } else { PATIENCE_MS }.to_string();
        let ip = from.other().ip();
        let (passed, shown) = match what {
            "ping" => (self.ping(from, want)?, format!("ping -c 1 {ip}")),
            "telnet" => (self.story.ask(from, "tcp", &["23", &ms])?, format!("telnet {ip}")),
            _ => {
                let asked = self.story.ask(from, "dns", &["www.example.org", &ms])?;
                (asked, format!("dig @{ip} www.example.org"))
            }
        };
        let verb = if passed { "answered" } else { "no answer" };
        self.verdict(passed == (want == Want::Passes), &format!("{from}$ {shown:<38} {verb}"));
        Ok(())
    }

    fn ping(&self, from: Vm, want: Want) -> anyhow::Result<bool> {
        let wait = if want == Want::Passes { "3" } else { "0.4" };
        let ran = self.story.vm(from).run(&["ping", "-c", "1", "-W", wait, from.other().ip()])?;
        Ok(ran.success())
    }

    /// Packets that the first flow whose text has all of `parts` has counted.
    fn n_packets(&mut self, parts: &[&str]) -> anyhow::Result<u64> {
        let dump = self.tool("sekisho ofctl dump-flows br0")?;
        let line = dump.lines().find(|l| parts.iter().all(|p| l.contains(p)));
        let count = line.and_then(|l| l.split("n_packets=").nth(1)?.split(',').next());
        count.and_then(|n| n.parse().ok()).ok_or_else(|| anyhow::anyhow!("no flow {parts:?}"))
    }

    fn play(&mut self, keep: bool) -> anyhow::Result<bool> {
        self.say("Two machines, vm1 (192.168.0.1) and vm2 (192.168.0.2), on ports 2 and 3 of bridge br0.");
        self.say("The policy: what vm1 opens, vm2 may answer; vm2 may open nothing.");
        self.bring_up()?;
        self.load_policy()?;
        self.vm2_opens()?;
        self.vm1_opens()?;
        self.explain()?;
        let wrong = self.n_wrong;
        let alive = self.daemon.alive();
        self.verdict(alive, "the switch is still there");
        self.say(&match wrong {
            0 => "\nAll verdicts are right.".to_owned(),
            n => format!("\n{n} verdicts are wrong."),
        });
        if keep {
            self.wait_for_end()?;
        }
        Ok(self.n_wrong == 0)
    }

    fn bring_up(&mut self) -> anyhow::Result<()> {
        self.step("Start the switch and put both machines on a bridge");
        self.say("   $ sekisho run &");
        let socket = self.dir.path().join("db.sock");
        eventually("the switch listens", DEADLINE, || Ok(socket.exists().then_some(())))?;
        self.story.serve()?;
        self.show("sekisho vsctl add-br br0")?;
        for (port, number) in [("vm1p", 2), ("vm2p", 3)] {
            self.show(&format!(
                "sekisho vsctl add-port br0 {port} -- set Interface {port} ofport_request={number}"
            ))?;
        }
        self.show("sekisho vsctl show")?;
        let ports = self.show("sekisho ofctl show br0")?;
        let right = ports.contains(" 2(vm1p)") && ports.contains(" 3(vm2p)");
        self.verdict(right, "vm1 is on port 2, vm2 on port 3");
        self.say("   Without a policy br0 is a learning switch:");
        self.traffic(Vm::One, "ping", Want::Passes)?;
        self.traffic(Vm::Two, "ping", Want::Passes)
    }

    fn load_policy(&mut self) -> anyhow::Result<()> {
        self.step("Load the policy");
        std::fs::write(self.dir.join("policy.flow"), POLICY)?;
        self.say("   $ cat policy.flow");
        for line in POLICY.lines() {
            self.say(&format!("     {line}"));
        }
        self.show("sekisho ofctl del-flows br0")?;
        self.show("sekisho ofctl add-flows br0 policy.flow")?;
        let flows = self.show("sekisho ofctl dump-flows br0")?;
        self.verdict(flows.lines().filter(|l| l.contains("actions=")).count() == 7, "seven flows");
        Ok(())
    }

    fn vm2_opens(&mut self) -> anyhow::Result<()> {
        self.step("vm2 tries to open something: stopped, and counted on the +new line of port 3");
        let line = ["+new", "in_port=3"];
        for what in ["ping", "telnet", "dig"] {
            let before = self.n_packets(&line)?;
            self.traffic(Vm::Two, what, Want::Stopped)?;
            let counted = self.n_packets(&line)? - before;
            self.verdict(counted > 0, &format!("the line dropped {counted} of its packets"));
        }
        Ok(())
    }

    fn vm1_opens(&mut self) -> anyhow::Result<()> {
        self.step("vm1 opens the same: passes, and vm2's answers come back");
        for what in ["ping", "telnet", "dig"] {
            self.traffic(Vm::One, what, Want::Passes)?;
        }
        self.show("sekisho ofctl dump-flows br0")?;
        let answers = self.n_packets(&["+est", "in_port=3"])?;
        self.verdict(
            answers >= 3,
            &format!("{answers} answers of vm2 took the +est line of port 3"),
        );
        let table = self.show("conntrack -L")?;
        for protocol in ["icmp", "tcp", "udp"] {
            let entry =
                table.lines().any(|l| l.starts_with(protocol) && l.contains("src=192.168.0.1"));
            self.verdict(entry, &format!("{protocol}: the connection is in the table"));
        }
        let reverse = table.lines().any(|l| {
            l.find("src=192.168.0.2")
                .is_some_and(|at| l.find("src=192.168.0.1").is_none_or(|o| at < o))
        });
        self.verdict(!reverse, "no connection that vm2 opened is");
        Ok(())
    }

    fn explain(&mut self) -> anyhow::Result<()> {
        self.step("Ask the switch why vm2's telnet is stopped");
        let trace = self.show(
            "sekisho appctl ofproto/trace br0 in_port=3,tcp,dl_src=52:54:00:00:00:02,\
             dl_dst=52:54:00:00:00:01,nw_src=192.168.0.2,nw_dst=192.168.0.1,nw_ttl=64,\
             tp_src=40000,tp_dst=23,tcp_flags=syn",
        )?;
        let right = trace.trim_end().ends_with("Datapath actions: drop") && trace.contains("+new");
        self.verdict(right, "a new connection from port 3 meets the drop line of table 1");
        Ok(())
    }

    fn wait_for_end(&mut self) -> anyhow::Result<()> {
        let enter = |ns: &Netns| {
            format!("nsenter --target {} --net --user --preserve-credentials", ns.pid())
        };
        let lines = [
            "\nEverything is left running. In another terminal:".to_owned(),
            format!("  export OVS_RUNDIR={}", self.dir.path().display()),
            format!("  switch: {} -- {} vsctl show", enter(&self.story.sw), self.program),
            format!("  vm1:    {} -- ping 192.168.0.2", enter(self.story.vm(Vm::One))),
            format!("  vm2:    {} -- ping 192.168.0.1", enter(self.story.vm(Vm::Two))),
            "Enter ends it.".to_owned(),
        ];
        for line in lines {
            self.say(&line);
        }
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            // No terminal: stay until killed.
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        Ok(())
    }
}
