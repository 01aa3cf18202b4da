//! The story's topology and traffic: two virtual machines on a switch.
//!
//! ```text
//! vm1 (192.168.0.1, 52:54:00:00:00:01) eth0 --- vm1p  switch  vm2p --- eth0 (192.168.0.2, ...:02) vm2
//! ```
//!
//! `vm1p` is OpenFlow port 2 and `vm2p` port 3 of bridge `br0`. The policy lets port 2 open
//! connections and port 3 only answer; it is in `examples/story/`.

use std::fmt;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;
use crate::peer;
use crate::process::{DEADLINE, Proc, eventually};

/// The policy as the story tells it.
pub const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/story/policy.flow");

/// The same policy with the `ip` that the stock tools want before `ct`.
pub const POLICY_IP: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/story/policy-ip.flow");

/// One of the two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vm {
    /// Port 2, trusted to open connections.
    One = 1,
    /// Port 3, may only answer.
    Two = 2,
}

impl Vm {
    /// Its number.
    pub fn number(self) -> usize {
        self as usize
    }

    /// Its IPv4 address.
    pub fn ip(self) -> &'static str {
        ["192.168.0.1", "192.168.0.2"][self.number() - 1]
    }

    /// Its MAC address.
    pub fn mac(self) -> &'static str {
        ["52:54:00:00:00:01", "52:54:00:00:00:02"][self.number() - 1]
    }

    /// The other one.
    pub fn other(self) -> Vm {
        match self {
            Vm::One => Vm::Two,
            Vm::Two => Vm::One,
        }
    }
}

impl fmt::Display for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm{}", self.number())
    }
}

/// What gets from one machine to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// An ICMP echo is answered.
    pub icmp: bool,
    /// A TCP connection to port 23 echoes a line.
    pub tcp: bool,
    /// A datagram to UDP port 7 comes back.
    pub udp: bool,
    /// A DNS query for an address is answered.
    pub dns: bool,
}

impl Reach {
    /// All of it passes.
    pub const ALL: Reach = Reach { icmp: true, tcp: true, udp: true, dns: true };
    /// Nothing passes.
    pub const NONE: Reach = Reach { icmp: false, tcp: false, udp: false, dns: false };
}

/// The namespaces of the story.
#[derive(Debug)]
pub struct Story {
    servers: Vec<Proc>,
    /// Where the switch runs.
    pub sw: Netns,
    vms: [Netns; 2],
}

impl Story {
    /// Two machines, each with a veth to the switch.
    pub fn new() -> Result<Story> {
        let story = Story::unplugged()?;
        story.plug(Vm::One)?;
        story.plug(Vm::Two)?;
        Ok(story)
    }

    /// Puts a machine's veth to the switch in place (again, after it was deleted).
    pub fn plug(&self, vm: Vm) -> Result<()> {
        let peer = self.vm(vm).pid();
        self.sw.ip(&format!("link add {vm}p type veth peer name eth0 netns {peer}"))?;
        self.sw.ip(&format!("link set {vm}p up"))?;
        self.configure(vm)
    }

    /// Two machines with one veth pair between them and no switch.
    pub fn direct() -> Result<Story> {
        let story = Story::unplugged()?;
        let peer = story.vm(Vm::Two).pid();
        story.vm(Vm::One).ip(&format!("link add eth0 type veth peer name eth0 netns {peer}"))?;
        story.configure(Vm::One)?;
        story.configure(Vm::Two)?;
        Ok(story)
    }

    fn unplugged() -> Result<Story> {
        let sw = Netns::new("switch")?;
        let vms = [sw.sibling("vm1")?, sw.sibling("vm2")?];
        Ok(Story { servers: Vec::new(), sw, vms })
    }

    fn configure(&self, vm: Vm) -> Result<()> {
        let ns = self.vm(vm);
        ns.ip(&format!("link set eth0 address {}", vm.mac()))?;
        ns.ip(&format!("addr add {}/24 dev eth0", vm.ip()))?;
        ns.ip("link set eth0 up")?;
        // Once learned, a neighbour is not asked for again: the ARP counters stay as they are.
        ns.sysctl("net/ipv4/neigh/eth0/delay_first_probe_time", "3600")?;
        ns.sysctl("net/ipv4/neigh/eth0/base_reachable_time_ms", "3600000")?;
        // For connection rates.
        ns.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        ns.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        ns.sysctl("net/core/somaxconn", "8192")?;
        ns.sysctl("net/ipv4/tcp_max_syn_backlog", "8192")
    }

    /// A machine's namespace.
    pub fn vm(&self, vm: Vm) -> &Netns {
        &self.vms[vm.number() - 1]
    }

    /// Turns off the machines' transmit offloads, without which TCP and UDP through the stock
    /// userspace switch do not work. Ours needs no such thing.
    pub fn offloads_off(&self) -> Result<()> {
        for vm in [Vm::One, Vm::Two] {
            self.vm(vm).ok(&["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"])?;
        }
        Ok(())
    }

    /// Starts TCP echo (23), UDP echo (7) and DNS (53) on both machines.
    pub fn serve(&mut self) -> Result<()> {
        let peer = peer::path()?;
        for vm in [Vm::One, Vm::Two] {
            let mut server = self.vm(vm).spawn(&[&peer, "serve", vm.ip()])?;
            server.wait_for("serves", |out| out.contains("serving"))?;
            self.servers.push(server);
        }
        Ok(())
    }

    /// Runs the network program on `vm` toward the other machine; whether it got its answer.
    pub fn ask(&self, vm: Vm, what: &str, args: &[&str]) -> Result<bool> {
        let peer = peer::path()?;
        let mut argv = vec![peer.as_str(), what, vm.other().ip()];
        argv.extend(args);
        Ok(self.vm(vm).run(&argv)?.success())
    }

    /// Whether `n` echo requests from `vm` to the other machine are all answered.
    pub fn ping(&self, vm: Vm, n: u32) -> Result<bool> {
        let n = n.to_string();
        let argv = ["ping", "-n", "-q", "-c", &n, "-i", "0.05", "-W", "1", vm.other().ip()];
        let ran = self.vm(vm).run(&argv)?;
        Ok(ran.success() && ran.stdout.contains(" 0% packet loss"))
    }

    /// What gets from `vm` to the other machine. `patience` is how long to wait for what may be
    /// blocked, in milliseconds.
    pub fn reach(&self, vm: Vm, patience: u32) -> Result<Reach> {
        let ms = patience.to_string();
        Ok(Reach {
            icmp: self.ping(vm, 1)?,
            tcp: self.ask(vm, "tcp", &["23", &ms])?,
            udp: self.ask(vm, "udp", &["7", &ms])?,
            dns: self.ask(vm, "dns", &["www.example.org", &ms])?,
        })
    }

    /// Sends `bytes` over one TCP connection from `vm` to the other machine and compares what was
    /// sent with what was received, by length and hash.
    pub fn transfer(&self, vm: Vm, bytes: usize) -> Result<()> {
        transfer(self.vm(vm), self.vm(vm.other()), vm.other().ip(), bytes)
    }

    /// Gives the machines the addresses `fd00::1` and `fd00::2`.
    pub fn enable_ipv6(&self) -> Result<()> {
        for vm in [Vm::One, Vm::Two] {
            let ns = self.vm(vm);
            ns.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
            ns.sysctl("net/ipv6/conf/eth0/router_solicitations", "0")?;
            ns.sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")?;
            ns.ip(&format!("addr add fd00::{}/64 dev eth0 nodad", vm.number()))?;
        }
        Ok(())
    }

    /// A Linux bridge in place of a switch; `stateful` adds the story's policy by br_netfilter and
    /// iptables.
    pub fn linux_bridge(&self, stateful: bool) -> Result<()> {
        self.sw.ip("link add br0 type bridge stp_state 0 forward_delay 0")?;
        for vm in [Vm::One, Vm::Two] {
            self.sw.ip(&format!("link set {vm}p master br0"))?;
        }
        self.sw.ip("link set br0 up")?;
        let filter = if stateful { "1" } else { "0" };
        self.sw.sysctl("net/bridge/bridge-nf-call-iptables", filter)?;
        if stateful {
            self.sw.ok(&["iptables", "-P", "FORWARD", "DROP"])?;
            for (port, state, verdict) in [
                ("vm1p", "NEW,ESTABLISHED", "ACCEPT"),
                ("vm2p", "NEW", "DROP"),
                ("vm2p", "ESTABLISHED", "ACCEPT"),
            ] {
                let rule = format!(
                    "iptables -A FORWARD -m physdev --physdev-in {port} \
                     -m conntrack --ctstate {state} -j {verdict}"
                );
                self.sw.ok(&rule.split_whitespace().collect::<Vec<_>>())?;
            }
        }
        eventually("the bridge forwards", DEADLINE, || Ok(self.ping(Vm::One, 1)?.then_some(())))
    }
}

/// Sends `bytes` over one TCP connection from a namespace to address `ip` in another one, and
/// compares what was sent with what was received, by length and hash.
pub fn transfer(from: &Netns, to: &Netns, ip: &str, bytes: usize) -> Result<()> {
    let peer = peer::path()?;
    let mut sink = to.spawn(&[&peer, "sink", "5001"])?;
    sink.wait_for("listens", |out| out.contains("listening"))?;
    let bytes = bytes.to_string();
    let sent = from.ok(&[&peer, "send", ip, "5001", &bytes])?;
    let received = sink.finish(DEADLINE)?.ok()?;
    let sent = sent.strip_prefix("sent ").context("no report of what was sent")?;
    ensure!(received.ends_with(&format!("received {sent}")), "sent {sent}, {received}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::need;

    #[test]
    fn machines_reach_each_other_over_a_linux_bridge() {
        let mut story = Story::new().unwrap();
        story.linux_bridge(false).unwrap();
        story.serve().unwrap();
        assert_eq!(story.reach(Vm::One, 2000).unwrap(), Reach::ALL);
        assert_eq!(story.reach(Vm::Two, 2000).unwrap(), Reach::ALL);
        story.transfer(Vm::One, 1_000_000).unwrap();
    }

    #[test]
    fn the_kernel_policy_stops_one_way() {
        if !need::programs(&["iptables"]).unwrap() {
            return;
        }
        let mut story = Story::new().unwrap();
        story.linux_bridge(true).unwrap();
        story.serve().unwrap();
        assert_eq!(story.reach(Vm::One, 2000).unwrap(), Reach::ALL);
        assert_eq!(story.reach(Vm::Two, 200).unwrap(), Reach::NONE);
    }

    #[test]
    fn the_policies_differ_in_ip_alone() {
        let read = |path| std::fs::read_to_string(path).unwrap();
        let lines = |text: &str| -> Vec<String> {
            text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
        };
        let with_ip: Vec<_> =
            lines(&read(POLICY)).iter().map(|l| l.replace("table=1,in", "table=1,ip,in")).collect();
        assert_eq!(with_ip, lines(&read(POLICY_IP)));
    }
}
