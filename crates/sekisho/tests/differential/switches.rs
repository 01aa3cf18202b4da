//! The two switches, and what they say of a packet.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, anyhow, bail};
use testkit::netns::Netns;
use testkit::sut::{Sut, Whose};

use crate::generate::Table;

/// A switch in its simulated world, with its control connection.
struct Switch<'a> {
    sut: Sut<'a>,
    control: BufReader<UnixStream>,
}

const BRIDGE: &str = "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=dummy fail-mode=secure \
    other-config:hwaddr=aa:55:aa:55:00:00 \
    protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";
/// An access port and a trunk among them.
const PORTS: [&str; 4] = ["p1", "p2", "p3 tag=10", "p4 trunks=10,20"];

impl<'a> Switch<'a> {
    fn start(whose: Whose, ns: &'a Netns) -> Result<Switch<'a>> {
        let options: &[&str] = match whose {
            Whose::Ours => &["--simulate"],
            Whose::Stock => &["--enable-dummy=override", "--disable-system"],
        };
        let sut = Sut::start_with(whose, env!("CARGO_BIN_EXE_sekisho"), ns, options)?;
        sut.ok(Whose::Stock, BRIDGE)?;
        // One after the other, since floods go out in the order in which ports came.
        for (port, n) in PORTS.iter().zip(1..) {
            let set = format!("set Interface p{n} type=dummy ofport_request={n}");
            sut.ok(Whose::Stock, &format!("ovs-vsctl add-port br0 {port} -- {set}"))?;
        }
        let path = sut.file(&format!("ovs-vswitchd.{}.ctl", sut.pid()?));
        let control = BufReader::new(UnixStream::connect(path)?);
        let mut switch = Switch { sut, control };
        switch.call("time/stop", &[])?;
        Ok(switch)
    }

    /// A control command's answer, be it an error.
    fn call(&mut self, method: &str, args: &[&str]) -> Result<String> {
        let request = serde_json::json!({ "id": 0, "method": method, "params": args });
        self.control.get_mut().write_all(request.to_string().as_bytes())?;
        let mut replies = serde_json::Deserializer::from_reader(&mut self.control);
        let reply: serde_json::Value = match serde::Deserialize::deserialize(&mut replies) {
            Ok(reply) => reply,
            Err(e) => {
                std::thread::sleep(std::time::Duration::from_millis(100));
                self.sut.check_alive()?;
                return Err(e.into());
            }
        };
        let text = |name: &str| reply[name].as_str().map(str::to_owned);
        text("result").or_else(|| text("error")).context("neither result nor error")
    }

    fn ofctl(&self, words: &[&str]) -> Result<testkit::process::Ran> {
        self.sut.tool(Whose::Stock, &[&["ovs-ofctl", "-O", "OpenFlow15"], words].concat())
    }

    /// Loads a table in place of another; `Some` is why it was refused.
    fn load(&mut self, groups: &str, flows: &str) -> Result<Option<String>> {
        self.ofctl(&["del-flows", "br0"])?.ok()?;
        let no_groups = std::fs::read_to_string(groups)?.trim().is_empty();
        if !no_groups {
            self.ofctl(&["del-groups", "br0"])?.ok()?;
        }
        for (verb, file) in [("add-groups", groups), ("add-flows", flows)] {
            if verb == "add-groups" && no_groups {
                continue;
            }
            let ran = self.ofctl(&[verb, "br0", file])?;
            if !ran.success() {
                return Ok(Some(ran.stderr));
            }
        }
        self.call("fdb/flush", &["br0"])?;
        self.call("dpctl/flush-conntrack", &[])?;
        self.call("revalidator/purge", &[])?;
        Ok(None)
    }

    /// Traces a packet given as a flow, which leaves nothing behind.
    fn trace(&mut self, packet: &str) -> Result<String> {
        let args: Vec<&str> = std::iter::once("br0").chain(packet.split(' ')).collect();
        self.call("ofproto/trace", &args)
    }

    fn receive(&mut self, port: usize, hex: &str) -> Result<()> {
        let said = self.call("netdev-dummy/receive", &[&format!("p{port}"), hex])?;
        if !said.is_empty() {
            bail!("netdev-dummy/receive: {said}");
        }
        // From packets that its cache takes, the stock switch learns only when it looks the cache
        // through: let it have none.
        if self.sut.whose() == Whose::Stock {
            self.call("revalidator/purge", &[])?;
        }
        Ok(())
    }

    /// What was counted for each rule.
    fn counters(&mut self) -> Result<Vec<String>> {
        self.call("revalidator/wait", &[])?;
        let dump = self.ofctl(&["dump-flows", "br0"])?.ok()?;
        let mut lines: Vec<String> = dump
            .lines()
            .filter(|l| l.contains("n_packets"))
            .map(|l| {
                let words = l.trim().split(", ").filter(|w| {
                    !["duration=", "idle_age=", "hard_age="].iter().any(|p| w.starts_with(p))
                });
                words.collect::<Vec<_>>().join(", ")
            })
            .collect();
        lines.sort();
        Ok(lines)
    }
}

/// Ingress port and bytes, in hexadecimal, of a packet given as a flow, or as its bytes after a flow.
pub fn frame(packet: &str) -> (usize, String) {
    let (packet, bytes) = packet.split_once(' ').unwrap_or((packet, ""));
    let key = flow::text::parse_exact(packet, &flow::text::NoNames).expect(packet);
    if !bytes.is_empty() {
        return (key.pkt.in_port as usize, bytes.to_owned());
    }
    let bytes = flow::compose(&key.pkt, b"sekisho", 60);
    (key.pkt.in_port as usize, bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The lines of a trace that say what happens to the packet.
///
/// The megaflow is not among them: how many bits a lookup looks at follows from the order in which
/// a classifier does so. That its mask is not too wide shows in the counters.
fn verdict(trace: &str) -> Vec<String> {
    const WORDS: &[&str] = &["Flow:", "Final flow:", "Datapath actions:", "Translation failed"];
    let is_rule = |l: &&str| l.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
    let said = |l: &&str| is_rule(l) || WORDS.iter().any(|w| l.starts_with(w));
    trace.lines().map(str::trim).filter(said).map(|l| ordered(&without_numbers(l))).collect()
}

/// Puts outputs that follow each other in order: to which port of a flood a packet goes first is
/// nobody's promise.
fn ordered(line: &str) -> String {
    let Some(actions) = line.strip_prefix("Datapath actions: ") else { return line.to_owned() };
    let mut words: Vec<&str> = actions.split(',').collect();
    let is_port = |w: &&str| w.parse::<u32>().is_ok();
    for run in words.chunk_by_mut(|a, b| is_port(a) && is_port(b)) {
        run.sort_unstable();
    }
    format!("Datapath actions: {}", words.join(","))
}

/// Leaves out the numbers of frozen pipelines: which of them are one is each switch's own.
fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) =
        ["recirc(", "recirc_id="].iter().filter_map(|w| Some(rest.find(w)? + w.len())).min()
    {
        let (head, tail) = rest.split_at(at);
        out += head;
        rest = tail.trim_start_matches(|c: char| c == 'x' || c.is_ascii_hexdigit());
    }
    out + rest
}

/// Both switches.
pub struct Pair<'a> {
    ours: Switch<'a>,
    stock: Switch<'a>,
}

impl<'a> Pair<'a> {
    pub fn start(ns: &'a Netns) -> Result<Pair<'a>> {
        Ok(Pair { ours: Switch::start(Whose::Ours, ns)?, stock: Switch::start(Whose::Stock, ns)? })
    }

    /// Options of tunnels that fields are of, and a meter that lets all pass.
    pub fn add_options_and_meter(&mut self) -> Result<()> {
        const OPTION: &str = "{class=0xffff,type=0,len=4}->tun_metadata0";
        const METER: &str = "meter=1 pktps burst band=type=drop rate=1000000 burst_size=1000000";
        for switch in self.both() {
            switch.ofctl(&["add-tlv-map", "br0", OPTION])?.ok()?;
            switch.ofctl(&["add-meter", "br0", METER])?.ok()?;
        }
        Ok(())
    }

    fn both(&mut self) -> [&mut Switch<'a>; 2] {
        [&mut self.ours, &mut self.stock]
    }

    /// Loads a table into both. False if both refuse it.
    fn load(&mut self, table: &Table) -> Result<bool> {
        let mut refusals = Vec::new();
        for switch in self.both() {
            let [groups, flows] =
                [("groups", &table.groups), ("flows", &table.flows)].map(|(name, lines)| {
                    let path = switch.sut.file(name);
                    std::fs::write(&path, lines.join("\n") + "\n").map(|()| path)
                });
            refusals.push(switch.load(&groups?, &flows?)?);
        }
        match &refusals[..] {
            [None, None] => Ok(true),
            [Some(_), Some(_)] => Ok(false),
            [ours, stock] => Err(anyhow!(
                "ours refuses: {ours:?}\nstock refuses: {stock:?}\n{}",
                table.flows.join("\n")
            )),
            _ => Ok(false),
        }
    }

    /// Sends packets through a table. False if both refuse the table.
    ///
    /// # Errors
    /// The first difference, reduced.
    pub fn run(&mut self, table: &Table, packets: &[(usize, String)]) -> Result<bool> {
        if !self.load(table)? {
            return Ok(false);
        }
        for (port, packet) in packets {
            if let Some(difference) = self.traces_differ(packet)? {
                let less = self.reduce(table, packet)?;
                let still = self.traces_differ(packet)?.unwrap_or(difference);
                bail!("{still}\n{packet}\n{}\n{}", less.groups.join("\n"), less.flows.join("\n"));
            }
            let hex = frame(packet).1;
            for switch in self.both() {
                switch.receive(*port, &hex)?;
            }
        }
        match self.counters_differ()? {
            None => Ok(true),
            Some(difference) => {
                let last = self.blame(table, packets)?.unwrap_or_default();
                let flows = table.flows.join("\n");
                bail!("{difference}\n{last}\n{}\n{flows}", table.groups.join("\n"));
            }
        }
    }

    /// What only one of the switches has counted.
    fn counters_differ(&mut self) -> Result<Option<String>> {
        let (ours, stock) = (self.ours.counters()?, self.stock.counters()?);
        let only = |a: &[String], b: &[String]| {
            a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>().join("\n  ")
        };
        Ok((ours != stock).then(|| {
            let (ours, stock) = (only(&ours, &stock), only(&stock, &ours));
            format!("counters differ; only ours:\n  {ours}\nonly stock:\n  {stock}")
        }))
    }

    /// The first packet after which counters differ, with the traces of those before.
    fn blame(&mut self, table: &Table, packets: &[(usize, String)]) -> Result<Option<String>> {
        self.load(table)?;
        for (n, (port, packet)) in packets.iter().enumerate() {
            let trace = self.ours.trace(packet)?;
            let hex = frame(packet).1;
            for switch in self.both() {
                switch.receive(*port, &hex)?;
            }
            if let Some(difference) = self.counters_differ()? {
                let before = packets[..n].iter().map(|p| p.1.as_str()).collect::<Vec<_>>();
                return Ok(Some(format!(
                    "after\n{}\ncomes\n{packet}\n{difference}\n{trace}",
                    before.join("\n")
                )));
            }
        }
        Ok(None)
    }

    fn traces_differ(&mut self, packet: &str) -> Result<Option<String>> {
        let (ours, stock) = (self.ours.trace(packet)?, self.stock.trace(packet)?);
        let same = verdict(&ours) == verdict(&stock);
        Ok((!same).then(|| format!("--- ours\n{ours}\n--- stock\n{stock}")))
    }

    /// Leaves out flows as long as the traces of the packet differ, learned addresses aside.
    fn reduce(&mut self, table: &Table, packet: &str) -> Result<Table> {
        let mut best = table.clone();
        let mut chunk = best.flows.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < best.flows.len() {
                let mut less = best.clone();
                less.flows.drain(at..(at + chunk).min(less.flows.len()));
                if self.load(&less)? && self.traces_differ(packet)?.is_some() {
                    best = less;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
        self.load(&best)?;
        Ok(best)
    }
}
