//! Security groups as an orchestrator writes them, for 200 ports: a zone for each port, egress in
//! the sender's and ingress in the receiver's, remote groups by conjunctions, verdicts of old
//! connections remembered by a mark.

use std::collections::BTreeMap;
use std::fmt::Write;

use packet::checksum::{add, checksum, finish, pseudo_v4};
use testkit::netns::Netns;
use testkit::sut::Sut;

use crate::simulated::{captured, simulated};
use crate::tools;

/// Ports, each a machine; numbers begin at 1.
const N: u16 = 200;

#[derive(Copy, Clone, PartialEq, Debug)]
enum Group {
    Web,
    App,
    Db,
    Admin,
}

use Group::{Admin, App, Db, Web};

fn group(port: u16) -> Group {
    match port {
        197.. => Admin,
        p => [Web, App, Db][usize::from(p % 3)],
    }
}

fn members(of: Group) -> impl Iterator<Item = u16> {
    (1..=N).filter(move |p| group(*p) == of)
}

/// What a machine may be asked for: its group, by whom (or anybody), the protocol, the port.
const RULES: [(Option<Group>, Option<Group>, &str, u16); 5] = [
    (Some(Web), None, "tcp", 80),
    (Some(App), Some(Web), "tcp", 8080),
    (Some(Db), Some(App), "tcp", 5432),
    (None, Some(Admin), "tcp", 22),
    (None, Some(Admin), "icmp", 0),
];

fn allowed(from: u16, to: u16, proto: &str, port: u16) -> bool {
    RULES.iter().any(|(of, by, p, at)| {
        of.is_none_or(|g| g == group(to))
            && by.is_none_or(|g| g == group(from))
            && (*p, *at) == (proto, port)
    })
}

fn mac(port: u16) -> String {
    format!("02:00:00:00:{:02x}:{:02x}", port >> 8, port & 0xff)
}

fn ip(port: u16) -> String {
    std::net::Ipv4Addr::from(address(port)).to_string()
}

/// The flows, in tables as Neutron numbers them.
fn flows() -> String {
    const ZONE: &str = "zone=NXM_NX_REG5[0..15]";
    let mut s = String::new();
    let mut add = |flow: std::fmt::Arguments<'_>| {
        let _ = writeln!(s, "{flow}");
    };
    for p in 1..=N {
        let (mac, ip) = (mac(p), ip(p));
        add(format_args!("table=0,in_port={p},actions=load:{p}->NXM_NX_REG5[],resubmit(,71)"));
        // Nobody speaks in another's name.
        add(format_args!(
            "table=71,priority=95,reg5={p},in_port={p},arp,dl_src={mac},arp_spa={ip},actions=normal"
        ));
        add(format_args!(
            "table=71,priority=65,reg5={p},in_port={p},ip,dl_src={mac},nw_src={ip},\
             actions=ct(table=72,{ZONE})"
        ));
        add(format_args!(
            "table=72,priority=70,ct_state=+new-est,ip,reg5={p},actions=resubmit(,73)"
        ));
        let to = format!("load:{p}->NXM_NX_REG5[],resubmit(,81)");
        add(format_args!(
            "table=73,priority=100,ct_state=+new-est,dl_dst={mac},actions=ct(commit,{ZONE}),{to}"
        ));
        add(format_args!("table=73,priority=90,dl_dst={mac},actions={to}"));
        for state in ["+est-rel+rpl,ct_mark=0", "+rel-inv,ct_mark=0"] {
            add(format_args!("table=82,priority=50,ct_state={state},reg5={p},actions=output:{p}"));
        }
        let states = [
            ("+est-rel-rpl", format!("output:{p}")),
            ("+new-est", format!("ct(commit,{ZONE}),output:{p}")),
        ];
        for (i, (state, then)) in states.into_iter().enumerate() {
            let at = format!("table=82,priority=77,ct_state={state}");
            // Of each machine that a rule names, the rules that do.
            let mut named: BTreeMap<u16, Vec<String>> = BTreeMap::new();
            for (k, (of, by, proto, port)) in RULES.iter().enumerate() {
                if of.is_some_and(|g| g != group(p)) {
                    continue;
                }
                let what = match *port {
                    0 => format!("{proto},reg5={p}"),
                    port => format!("{proto},reg5={p},tp_dst={port}"),
                };
                let Some(by) = by else {
                    add(format_args!("{at},{what},actions={then}"));
                    continue;
                };
                let id = usize::from(p) * 16 + k * 2 + i;
                add(format_args!("{at},conj_id={id},ip,actions={then}"));
                add(format_args!("{at},{what},actions=conjunction({id},2/2)"));
                for m in members(*by) {
                    named.entry(m).or_default().push(format!("conjunction({id},1/2)"));
                }
            }
            for (m, conjunctions) in named {
                let (ip, parts) = (self::ip(m), conjunctions.join(","));
                add(format_args!("{at},ip,reg5={p},nw_src={ip},actions={parts}"));
            }
        }
    }
    for table in [72, 82] {
        add(format_args!("table={table},priority=50,ct_state=+inv+trk,actions=drop"));
        add(format_args!("table={table},priority=50,ct_mark=0x1,actions=drop"));
        // A connection that no rule allows any more.
        add(format_args!(
            "table={table},priority=40,ct_state=+est,ip,\
             actions=ct(commit,{ZONE},exec(set_field:0x1->ct_mark))"
        ));
    }
    for state in ["+est-rel-rpl", "+est-rel+rpl,ct_mark=0", "+rel-inv,ct_mark=0"] {
        add(format_args!("table=72,priority=60,ct_state={state},actions=resubmit(,73)"));
    }
    add(format_args!("table=81,ip,actions=ct(table=82,{ZONE})"));
    s
}

struct Cloud<'a> {
    sut: Sut<'a>,
}

impl Cloud<'_> {
    fn app(&self, line: &str) -> String {
        self.sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap()
    }

    /// How many frames came out of a machine's port.
    fn n_got(&self, port: u16) -> usize {
        captured(&self.sut, &format!("p{port}")).len()
    }

    /// Whether a packet from one machine reaches another, and nobody else of a few.
    fn reaches(&self, from: u16, to: u16, l4: &[u8]) -> bool {
        self.passes(from, to, from, l4)
    }

    /// The same for a packet that says it is of the machine `of`.
    fn passes(&self, from: u16, to: u16, of: u16, l4: &[u8]) -> bool {
        let others = || [1, 2, 3, 197].map(|p| if p == to { 0 } else { self.n_got(p) });
        let before = (self.n_got(to), others());
        let mut frame = vec![2, 0, 0, 0, (to >> 8) as u8, to as u8];
        frame.extend([2, 0, 0, 0, (from >> 8) as u8, from as u8, 8, 0]);
        frame.extend(packet_of(of, to, l4));
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        self.app(&format!("netdev-dummy/receive p{from} {hex}"));
        assert_eq!(others(), before.1, "{from} to {to}: {l4:?}");
        self.n_got(to) > before.0
    }

    /// A machine asks another; if it is let through the other answers, and they go on.
    fn ask(&self, from: u16, to: u16, proto: &str, port: u16) -> bool {
        if proto == "icmp" {
            let asked = self.reaches(from, to, &icmp(8, 0, &[0, 1]));
            assert_eq!(self.reaches(to, from, &icmp(0, 0, &[0, 1])), asked, "the answer");
            return asked;
        }
        let asked = self.reaches(from, to, &tcp(40_000, port, SYN, (100, 0)));
        // Without a question this is an answer that nobody asked for.
        let answer = tcp(port, 40_000, SYN | ACK, (500, 101));
        assert_eq!(self.reaches(to, from, &answer), asked, "the answer");
        if asked {
            assert!(self.reaches(from, to, &tcp(40_000, port, ACK, (101, 501))));
            assert!(self.reaches(to, from, &tcp(port, 40_000, ACK, (501, 101))));
        }
        asked
    }
}

const SYN: u8 = 2;
const ACK: u8 = 16;

/// A TCP header; its checksum is put in by [`packet_of`].
fn tcp(sport: u16, dport: u16, flags: u8, (seq, ack): (u32, u32)) -> Vec<u8> {
    let mut t = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    t.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    t.extend([0x50, flags, 255, 255, 0, 0, 0, 0]);
    t
}

fn icmp(ty: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut i = vec![ty, code, 0, 0];
    i.extend(rest);
    i.resize(i.len().max(8), 0);
    let sum = checksum(&i);
    i[2..4].copy_from_slice(&sum.to_be_bytes());
    i
}

fn address(port: u16) -> [u8; 4] {
    [10, 0, (port / 100) as u8, (port % 100 + 1) as u8]
}

/// An IPv4 packet with a TCP segment, if it is one's length, or an ICMP message.
fn packet_of(from: u16, to: u16, l4: &[u8]) -> Vec<u8> {
    let is_tcp = l4.len() == 20;
    let mut ip = vec![0x45, 0, 0, 20 + l4.len() as u8, 0, 0, 0, 0, 64, if is_tcp { 6 } else { 1 }];
    ip.extend([0, 0]);
    ip.extend(address(from));
    ip.extend(address(to));
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(l4);
    if is_tcp {
        let [src, dst] = [from, to].map(|p| u32::from_be_bytes(address(p)));
        let sum = finish(add(pseudo_v4(src, dst, 6, 20), l4));
        ip[36..38].copy_from_slice(&sum.to_be_bytes());
    }
    ip
}

#[test]
fn two_hundred_ports_in_four_groups() {
    let ns = Netns::new("groups").unwrap();
    let cloud = Cloud { sut: simulated(&ns, u32::from(N)) };
    let flows = flows();
    let file = cloud.sut.file("groups.flow");
    std::fs::write(&file, &flows).unwrap();
    cloud.sut.ok(tools(), &format!("ovs-ofctl --bundle add-flows br0 {file}")).unwrap();
    let n: usize = flows.lines().count();
    let aggregate = cloud.sut.ok(tools(), "ovs-ofctl dump-aggregate br0").unwrap();
    assert!(aggregate.contains(&format!("flow_count={n}\n")), "{n}: {aggregate}");
    cloud.app("time/stop");

    // One of each group asks one of each, and itself's neighbour, for everything.
    let asked = [(3, 6), (3, 1), (1, 2), (2, 1), (1, 3), (197, 3), (197, 2), (2, 197), (3, 2)];
    let mut let_in = 0;
    for (from, to) in asked {
        for (_, _, proto, port) in RULES {
            let expected = allowed(from, to, proto, port);
            let (f, t) = (group(from), group(to));
            let got = cloud.ask(from, to, proto, port);
            assert_eq!(got, expected, "{f:?} ({from}) asks {t:?} ({to}) for {proto}/{port}");
            let_in += usize::from(got);
        }
    }
    assert!((6..40).contains(&let_in), "{let_in}");

    // An error about a connection comes back; one about none does not, nor does nonsense.
    let error = |from: u16, to: u16, sport: u16| {
        // Machine `to` sent to `from`, and `from` says: port unreachable.
        let mut rest = vec![0; 4];
        rest.extend(&packet_of(to, from, &tcp(sport, 80, ACK, (101, 501)))[..28]);
        cloud.reaches(from, to, &icmp(3, 3, &rest))
    };
    assert!(cloud.ask(1, 3, "tcp", 80));
    assert!(error(3, 1, 40_000), "it is related");
    assert!(!error(3, 1, 40_001), "it is about nothing");
    // An acknowledgment with a SYN that nobody sent.
    assert!(!cloud.reaches(2, 3, &tcp(80, 41_000, SYN | ACK, (1, 1))));
    // A stolen address.
    assert!(!cloud.passes(1, 3, 4, &tcp(1, 80, SYN, (1, 0))));

    // What was allowed and is not any more stops, marked, although it is established.
    assert!(cloud.reaches(1, 3, &tcp(40_000, 80, ACK, (101, 501))));
    cloud.sut.ok(tools(), "ovs-ofctl del-flows br0 table=82,tcp,reg5=3,tp_dst=80").unwrap();
    assert!(!cloud.reaches(1, 3, &tcp(40_000, 80, ACK, (101, 501))));
    let marked = cloud.app("dpctl/dump-conntrack zone=3");
    let line = marked.lines().find(|l| l.contains("sport=40000,dport=80") && l.contains("mark=1"));
    assert!(line.is_some(), "{marked}");
    // The machine cannot answer on it either, and others are as they were.
    assert!(!cloud.reaches(3, 1, &tcp(80, 40_000, ACK, (501, 101))));
    assert!(cloud.ask(1, 6, "tcp", 80));
}
