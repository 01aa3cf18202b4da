//! The two switches, and what they say of a packet.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use testkit::control::Control;
use testkit::netns::Netns;
use testkit::process::Ran;
use testkit::sut::{Sut, Whose};

use crate::generate::{Packet, Table};

/// A switch in its simulated world, with its control connections.
struct Switch<'a> {
    sut: Sut<'a>,
    control: [Control; 2],
    /// It did not answer.
    is_lost: bool,
}

/// Bytes of memory that the stock switch may have: some tables make it want all that there is.
const STOCK_MEMORY: u64 = 8 << 30;

/// What a control connection is for. The stock switch answers that it received a packet before it looks
/// at it. It goes from connection to connection in the order in which they came, and then to its
/// packets: so what is asked on the first, it hears when it is done with what it received by the second.
#[derive(Clone, Copy, Debug)]
enum Connection {
    Ask,
    Receive,
}

const BRIDGE: &str = "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=dummy fail-mode=secure \
    other-config:hwaddr=aa:55:aa:55:00:00 \
    protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";
/// An access port and a trunk among them.
const PORTS: [&str; 4] = ["p1", "p2", "p3 tag=10", "p4 trunks=10,20"];

/// Options of tunnels that fields are of.
const OPTIONS: &str =
    "{class=0xffff,type=0,len=4}->tun_metadata0,{class=0xffff,type=1,len=8}->tun_metadata1";
/// Lets all pass.
const METER: &str = "meter=1 pktps burst band=type=drop rate=1000000 burst_size=1000000";

impl<'a> Switch<'a> {
    fn start(whose: Whose, ns: &'a Netns) -> Result<Switch<'a>> {
        let options: &[&str] = match whose {
            Whose::Ours => &["--simulate"],
            Whose::Stock => &["--enable-dummy=override", "--disable-system"],
        };
        let sut = Sut::start_with(whose, env!("CARGO_BIN_EXE_sekisho"), ns, options)?;
        // From packets that its cache takes, the stock switch learns only when it looks the cache
        // through: let it have none.
        if whose == Whose::Stock {
            sut.ok(
                Whose::Stock,
                "ovs-vsctl --no-wait set Open_vSwitch . other_config:flow-limit=0",
            )?;
        }
        if whose == Whose::Stock {
            let limit = format!("--as={STOCK_MEMORY}");
            sut.run(&["prlimit", "--pid", &sut.pid()?.to_string(), &limit])?.ok()?;
        }
        sut.ok(Whose::Stock, BRIDGE)?;
        // One after the other, since floods go out in the order in which ports came.
        for (port, n) in PORTS.iter().zip(1..) {
            let set = format!("set Interface p{n} type=dummy ofport_request={n}");
            sut.ok(Whose::Stock, &format!("ovs-vsctl add-port br0 {port} -- {set}"))?;
        }
        let mut switch = Switch { control: [sut.control()?, sut.control()?], sut, is_lost: false };
        switch.call_on(Connection::Ask, "time/stop", &[])?;
        switch.call_on(Connection::Receive, "version", &[])?;
        switch.ofctl(Whose::Stock, &["add-tlv-map", "br0", OPTIONS])?.ok()?;
        switch.ofctl(Whose::Stock, &["add-meter", "br0", METER])?.ok()?;
        Ok(switch)
    }

    /// A control command's answer, be it an error.
    fn call(&mut self, method: &str, args: &[&str]) -> Result<String> {
        self.call_on(Connection::Ask, method, args)
    }

    fn call_on(&mut self, by: Connection, method: &str, args: &[&str]) -> Result<String> {
        self.control[by as usize].call(method, args).map_err(|e| self.lose(e))
    }

    /// What there is to say when it does not answer.
    fn lose(&mut self, e: anyhow::Error) -> anyhow::Error {
        self.is_lost = true;
        std::thread::sleep(Duration::from_millis(100));
        self.sut.check_alive().err().unwrap_or(e)
    }

    fn ofctl(&mut self, whose: Whose, words: &[&str]) -> Result<Ran> {
        let words = [&["ovs-ofctl", "-O", "OpenFlow15"], words].concat();
        match self.sut.tool(whose, &words) {
            Ok(ran) if ran.success() || self.sut.check_alive().is_ok() => Ok(ran),
            Ok(ran) => Err(self.lose(anyhow!(ran.stderr))),
            Err(e) => Err(self.lose(e)),
        }
    }

    /// Loads a table in place of another; `Some` is why it was refused.
    fn load(&mut self, table: &Table) -> Result<Option<String>> {
        // Not in the bundle: flows that go take those along that they have learned, be they new ones
        // that look the same.
        self.ofctl(Whose::Stock, &["del-flows", "br0"])?.ok()?;
        let mut lines = vec!["group delete".to_owned()];
        lines.extend(table.groups.iter().map(|g| format!("group add {g}")));
        lines.extend(table.flows.iter().map(|f| format!("flow add {f}")));
        let file = self.sut.file("table");
        std::fs::write(&file, lines.join("\n") + "\n")?;
        let ran = self.ofctl(Whose::Stock, &["bundle", "br0", &file])?;
        if !ran.success() {
            return Ok(Some(ran.stderr));
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
        let request = ["netdev-dummy/receive", &format!("p{port}"), hex];
        let said = self.call_on(Connection::Receive, request[0], &request[1..])?;
        if !said.is_empty() {
            bail!("netdev-dummy/receive: {said}");
        }
        Ok(())
    }

    /// What was counted for each rule.
    fn counters(&mut self) -> Result<Vec<String>> {
        // The stock switch has no cache to look through, only a packet perhaps that it has not seen yet.
        match self.sut.whose() {
            Whose::Ours => self.call("revalidator/wait", &[])?,
            Whose::Stock => self.call("version", &[])?,
        };
        // The stock client cannot read `debug_recirc`.
        let dump = self.ofctl(Whose::Ours, &["dump-flows", "br0"])?.ok()?;
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
    // Stock writes these of headers and of packets that have none, too.
    const NOTHING: [&str; 3] = [
        ",c1=0x0,c2=0x0,c3=0x0,c4=0x0",
        "ct_nw_src=0.0.0.0,ct_nw_dst=0.0.0.0,",
        "ct_ipv6_src=::,ct_ipv6_dst=::,",
    ];
    let something = |l: String| NOTHING.iter().fold(l, |l, n| l.replace(n, ""));
    let line = |l: &str| something(ordered(&without_numbers(l)));
    trace.lines().map(str::trim).filter(said).map(line).collect()
}

/// Puts outputs that follow each other in order: to which port of a flood a packet goes first is
/// nobody's promise.
fn ordered(line: &str) -> String {
    let Some(actions) = line.strip_prefix("Datapath actions: ") else { return line.to_owned() };
    let (mut out, mut ports) = (String::from("Datapath actions: "), Vec::new());
    for word in actions.split_inclusive([',', '(', ')']) {
        let (name, end) = word.split_at(word.trim_end_matches([',', '(', ')']).len());
        let is_port = name.parse::<u32>().is_ok();
        if is_port {
            ports.push(name);
        }
        // A run of them ends with what is no port, or has no comma behind it.
        if !is_port || end != "," {
            ports.sort_unstable();
            let run = ports.join(",");
            ports.clear();
            match is_port {
                true => out += &(run + end),
                false if run.is_empty() => out += word,
                false => out += &(run + "," + word),
            }
        }
    }
    out
}

/// Whether two lines say the same. What is set of a field is written with the bits of it that were
/// looked at, which are as they were: only those count that both write.
fn alike(ours: &str, stock: &str) -> bool {
    if ours == stock || !ours.starts_with("Datapath actions: ") {
        return ours == stock;
    }
    let words = |l: &str| l.split([',', '(', ')', '=']).map(str::to_owned).collect::<Vec<_>>();
    let (ours, stock) = (words(ours), words(stock));
    let set = |text: &str| {
        let (value, mask) = text.split_once('/').unwrap_or((text, ""));
        Some((bits(value)?, if mask.is_empty() { u128::MAX } else { bits(mask)? }))
    };
    ours.len() == stock.len()
        && ours.iter().zip(&stock).all(|(a, b)| match (set(a), set(b)) {
            (Some((v, m)), Some((w, n))) => (v ^ w) & m & n == 0,
            _ => a == b,
        })
}

/// A number or an address.
fn bits(text: &str) -> Option<u128> {
    let mac = || {
        let bytes =
            text.split(':').map(|b| u8::from_str_radix(b, 16)).collect::<Result<Vec<_>, _>>();
        let bytes: [u8; 6] = bytes.ok()?.try_into().ok()?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b)))
    };
    let v4 = || text.parse::<Ipv4Addr>().ok().map(|a| a.to_bits().into());
    let v6 = || text.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits);
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok().or_else(mac).or_else(v4).or_else(v6),
    }
}

#[test]
fn what_is_set_counts_as_far_as_both_say() {
    let alike = |a: &str, b: &str| {
        alike(&format!("Datapath actions: {a}"), &format!("Datapath actions: {b}"))
    };
    assert!(alike("set(skb_mark(0x1/0x1)),3", "set(skb_mark(0x1/0xffff0001)),3"));
    assert!(alike("set(ipv4(src=10.0.0.9/0.0.0.255))", "set(ipv4(src=10.0.0.9))"));
    assert!(!alike("set(skb_mark(0x1/0x1)),3", "set(skb_mark(0/0xffff0001)),3"));
    assert!(!alike(
        "set(eth(dst=02:00:00:00:00:09))",
        "set(eth(dst=02:00:00:00:00:08/00:00:00:00:00:ff))"
    ));
    assert!(!alike("set(skb_mark(0x1/0x1)),3", "set(skb_mark(0x1/0x1)),2"));
    assert!(!alike("3", "3,2"));
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
    ns: &'a Netns,
    ours: Switch<'a>,
    stock: Switch<'a>,
}

/// What came of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The same.
    Same,
    /// Both refuse the table.
    Refused,
    /// The stock switch ended, or did not answer in time; another has taken its place.
    Lost(String),
}

/// A table, and packets for it.
type Case = (Table, Vec<Packet>);

impl<'a> Pair<'a> {
    pub fn start(ns: &'a Netns) -> Result<Pair<'a>> {
        let (ours, stock) = (Switch::start(Whose::Ours, ns)?, Switch::start(Whose::Stock, ns)?);
        Ok(Pair { ns, ours, stock })
    }

    fn both(&mut self) -> [&mut Switch<'a>; 2] {
        [&mut self.ours, &mut self.stock]
    }

    /// Sends packets through a table.
    ///
    /// # Errors
    /// The first difference, reduced.
    pub fn run(&mut self, table: &Table, packets: &[Packet]) -> Result<Outcome> {
        let case = (table.clone(), packets.to_vec());
        match self.compare(&case) {
            Ok(None) => Ok(Outcome::Refused),
            Ok(Some(None)) => Ok(Outcome::Same),
            Ok(Some(Some((n, difference)))) => {
                let (table, packets) = self.reduce((case.0, packets[..n].to_vec()))?;
                let still = match self.compare(&(table.clone(), packets.clone()))? {
                    Some(Some((_, difference))) => difference,
                    _ => format!("{difference}\n(which does not come again)"),
                };
                let said = packets.iter().map(|p| p.1.as_str()).collect::<Vec<_>>().join("\n");
                let [groups, flows] = [&table.groups, &table.flows].map(|l| l.join("\n"));
                bail!("{still}\n{said}\n{groups}\n{flows}")
            }
            Err(e) => self.replace_stock(e).map(Outcome::Lost),
        }
    }

    /// Starts another stock switch if it is that which is lost, and says why.
    fn replace_stock(&mut self, e: anyhow::Error) -> Result<String> {
        if !self.stock.is_lost {
            return Err(e);
        }
        self.stock = Switch::start(Whose::Stock, self.ns)?;
        Ok(format!("{e:#}"))
    }

    /// Sends packets through a table: the first difference, and how many packets it takes. `None` if
    /// both refuse the table.
    fn compare(&mut self, (table, packets): &Case) -> Result<Option<Option<(usize, String)>>> {
        if !self.load(table)? {
            return Ok(None);
        }
        for (n, (port, packet)) in packets.iter().enumerate() {
            if let Some(difference) = self.traces_differ(packet)? {
                return Ok(Some(Some((n + 1, difference))));
            }
            let hex = frame(packet).1;
            for switch in self.both() {
                switch.receive(*port, &hex)?;
            }
        }
        Ok(Some(self.counters_differ()?.map(|difference| (packets.len(), difference))))
    }

    /// Loads a table into both. False if both refuse it.
    fn load(&mut self, table: &Table) -> Result<bool> {
        let [ours, stock] = [self.ours.load(table)?, self.stock.load(table)?];
        match (ours, stock) {
            (None, None) => Ok(true),
            (Some(_), Some(_)) => Ok(false),
            (ours, stock) => {
                let flows = table.flows.join("\n");
                bail!("ours refuses: {ours:?}\nstock refuses: {stock:?}\n{flows}")
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

    fn traces_differ(&mut self, packet: &str) -> Result<Option<String>> {
        let (ours, stock) = (self.ours.trace(packet)?, self.stock.trace(packet)?);
        let (a, b) = (verdict(&ours), verdict(&stock));
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| alike(a, b));
        Ok((!same).then(|| format!("--- ours\n{ours}\n--- stock\n{stock}")))
    }

    /// Leaves out packets and flows as long as something differs.
    fn reduce(&mut self, mut best: Case) -> Result<Case> {
        let alone = (best.0.clone(), best.1.split_off(best.1.len() - 1));
        if self.differs(&alone)? {
            best = alone;
        } else {
            best.1.extend(alone.1);
            best = self.shrink(best, |b| &mut b.1)?;
        }
        self.shrink(best, |b| &mut b.0.flows)
    }

    fn differs(&mut self, case: &Case) -> Result<bool> {
        match self.compare(case) {
            Ok(found) => Ok(found.flatten().is_some()),
            Err(e) => self.replace_stock(e).map(|_| false),
        }
    }

    /// Leaves out as much as can be of one list.
    fn shrink<T>(
        &mut self,
        mut best: Case,
        list: impl Fn(&mut Case) -> &mut Vec<T>,
    ) -> Result<Case> {
        let mut chunk = list(&mut best).len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < list(&mut best).len() {
                let mut less = best.clone();
                let shorter = list(&mut less);
                shorter.drain(at..(at + chunk).min(shorter.len()));
                if self.differs(&less)? {
                    best = less;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
        Ok(best)
    }
}
