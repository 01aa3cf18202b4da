//! A switch that conversations go through.

use std::fmt::Write;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use testkit::control::Control;
use testkit::netns::Netns;
use testkit::rows::{Row, host};
use testkit::sut::{Sut, Whose};

use crate::simulated::simulation_of;

/// What is to be done with a packet, as flows have it; the place in the list is the number in the packet's
/// destination address.
#[derive(Clone, Debug, PartialEq)]
pub struct Treatment {
    /// What packets it is for.
    of: &'static str,
    /// The first `ct`.
    look: String,
    /// What the packet is to be for the second one, and that one.
    commit: Option<(&'static str, String)>,
    /// The third one.
    then: Option<String>,
}

/// The arguments of `nat(...)` for hosts `N` or `N-N`, with ports perhaps.
fn nat(v6: bool, kind: &str, to: &str) -> String {
    let (hosts, ports) =
        to.split_once(':').map_or((to, String::new()), |(h, p)| (h, format!(":{p}")));
    let address = |n: &str| match host(v6, n.parse().unwrap()) {
        a if v6 && !ports.is_empty() => format!("[{a}]"),
        a => a.to_string(),
    };
    let hosts: Vec<String> = hosts.split('-').map(address).collect();
    format!("nat({kind}={}{ports})", hosts.join("-"))
}

impl Treatment {
    fn of(row: &Row, v6: bool) -> Treatment {
        let kinds = [("snat", "src"), ("dnat", "dst")];
        let zone = row.num("zone", 0);
        let translated = kinds.iter().find_map(|(word, kind)| Some(nat(v6, kind, row.get(word)?)));
        let plain = if row.has("nat") || translated.is_some() { ",nat" } else { "" };
        let alg = row.get("alg").map_or(String::new(), |alg| format!(",alg={alg}"));
        let with = translated.map_or(plain.to_owned(), |n| format!(",{n}"));
        let commit = |more: &str| format!("ct(commit,zone={zone}{with}{alg}{more},table=2)");
        let mark = ",exec(set_field:0x5->ct_mark,set_field:0x77->ct_label)";
        let commit = match row.get("commit").unwrap_or("new") {
            "no" => None,
            "new" => Some((",ct_state=+new", commit(""))),
            "mark" => Some(("", commit(mark))),
            "force" => Some(("", commit(",force"))),
            other => panic!("unknown commit {other}"),
        };
        let then = row.get("then").map(|then| {
            let (zone, what) = then.split_once(':').unwrap();
            match what.split_once('=') {
                None => format!("ct(zone={zone},nat,table=3)"),
                Some((word, to)) => {
                    let kind = kinds.iter().find(|k| k.0 == word).unwrap().1;
                    format!("ct(commit,zone={zone},{},table=3)", nat(v6, kind, to))
                }
            }
        });
        // A helper is for one protocol only.
        let of = match (row.get("alg"), v6) {
            (Some("ftp"), false) => "tcp",
            (Some("ftp"), true) => "tcp6",
            (Some(_), false) => "udp",
            (Some(_), true) => "udp6",
            (None, false) => "ip",
            (None, true) => "ipv6",
        };
        Treatment { of, look: format!("ct(zone={zone}{plain},table=1)"), commit, then }
    }
}

/// All that rows want.
pub fn treatments<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Treatment> {
    let mut all = vec![Treatment::of(&Row::parse(DRAIN, false), false)];
    for row in rows {
        let t = Treatment::of(row, row.is_v6());
        if !all.contains(&t) {
            all.push(t);
        }
    }
    assert!(all.len() < 256, "a number is a byte");
    all
}

/// A packet that nothing comes of.
const DRAIN: &str = "> udp zone=65000 commit=no";

/// Passages through the tracker, each with two ports where it shows.
const STAGES: u32 = 3;
const FIRST_PORT: u32 = 3;

fn flows(treatments: &[Treatment]) -> String {
    let mut out = String::from("priority=0,actions=drop\n");
    // The verdict goes into the addresses of the packet: state, zone, label and mark by one port, the
    // original tuple, if there is one, by the other. Nothing of it stays in the packet.
    for (ip, part) in [("ip", "NW_"), ("ipv6", "IPV6_")] {
        for stage in 0..STAGES {
            let (a, b) = (FIRST_PORT + stage, FIRST_PORT + STAGES + stage);
            let show = format!(
                "clone(move:NXM_NX_CT_STATE[0..7]->NXM_OF_ETH_DST[0..7],\
                 move:NXM_NX_CT_ZONE[]->NXM_OF_ETH_DST[8..23],\
                 move:NXM_NX_CT_LABEL[0..7]->NXM_OF_ETH_DST[24..31],\
                 move:NXM_NX_CT_MARK[]->NXM_OF_ETH_SRC[0..31],output:{a})"
            );
            let tuple = format!(
                "clone(move:NXM_NX_CT_{part}SRC[0..31]->NXM_OF_ETH_DST[0..31],\
                 move:NXM_NX_CT_{part}DST[0..31]->NXM_OF_ETH_SRC[0..31],\
                 move:NXM_NX_CT_TP_SRC[]->NXM_OF_ETH_DST[32..47],\
                 move:NXM_NX_CT_TP_DST[]->NXM_OF_ETH_SRC[32..47],output:{b})"
            );
            let it = format!("table=9,reg0={stage},{ip}");
            let _ = writeln!(out, "priority=1,{it},actions={show}");
            // Of later fragments the stock switch knows no ports of the tuple; ours does, as the kernel.
            let known = "ip_frag=not_later,ct_state=+trk-inv";
            let _ = writeln!(out, "priority=2,{it},{known},actions={show},{tuple}");
        }
    }
    for (n, t) in treatments.iter().enumerate() {
        let it = format!("dl_dst=02:00:00:00:00:{n:02x},{}", t.of);
        let show = |stage: u32| format!("load:{stage}->NXM_NX_REG0[],resubmit(,9)");
        let then = t.then.as_ref().map_or(String::new(), |then| format!(",{then}"));
        let _ = writeln!(out, "{it},actions={}", t.look);
        let _ = writeln!(out, "table=1,priority=1,{it},actions={}{then}", show(0));
        if let Some((state, commit)) = &t.commit {
            let _ = writeln!(out, "table=1,priority=2,{it}{state},actions={},{commit}", show(0));
        }
        let _ = writeln!(out, "table=2,{it},actions={}{then}", show(1));
        let _ = writeln!(out, "table=3,{it},actions={}", show(2));
    }
    out
}

/// What came of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// What came in from where to where, and the frames that left, with their ports.
    Frames(String, Vec<(u32, Vec<u8>)>),
    /// Connections.
    List(String),
}

impl Default for Seen {
    fn default() -> Seen {
        Seen::Frames(String::new(), Vec::new())
    }
}

/// State bits of the key in the order in which conversations write them.
const BITS: [(u8, &str); 7] = [
    (0x01, "new"),
    (0x02, "est"),
    (0x04, "rel"),
    (0x08, "rpl"),
    (0x10, "inv"),
    (0x40, "snat"),
    (0x80, "dnat"),
];

fn verdict(frame: &[u8]) -> String {
    let bits = BITS.iter().filter(|b| frame[5] & b.0 != 0).map(|b| b.1.to_owned());
    let mark = u32::from_be_bytes(frame[8..12].try_into().unwrap());
    let mark = (mark != 0).then(|| format!("mark={mark}"));
    bits.chain(mark).collect::<Vec<_>>().join(" ")
}

/// Source and destination with their ports, as `1.1000>2.80` for hosts 1 and 2.
fn ends(ip: &[u8]) -> String {
    let (src, dst, proto, l4) = match ip[0] >> 4 {
        4 => (ip[15], ip[19], ip[9], &ip[20..]),
        _ => (ip[23], ip[39], ip[6], &ip[40..]),
    };
    let port = |at: usize| match proto {
        6 | 17 | 132 => format!(".{}", u16::from_be_bytes([l4[at], l4[at + 1]])),
        _ => String::new(),
    };
    format!("{src}{}>{dst}{}", port(0), port(2))
}

impl Seen {
    /// What each `ct` said of each packet and where that goes, as far as it is not as before; or the list.
    pub fn text(&self) -> String {
        let (sent, frames) = match self {
            Seen::List(list) => return list.clone(),
            Seen::Frames(sent, frames) => (sent, frames),
        };
        let mut said: Vec<String> = Vec::new();
        for stage in 0..STAGES {
            let of_stage = frames.iter().filter(|f| f.0 == FIRST_PORT + stage);
            let one = |f: &(u32, Vec<u8>)| match ends(&f.1[14..]) {
                same if same == *sent => verdict(&f.1),
                other => format!("{} {other}", verdict(&f.1)),
            };
            let all = of_stage.map(one).collect::<Vec<_>>().join(", ");
            if !all.is_empty() {
                said.push(all);
            }
        }
        if said.is_empty() { "nothing".into() } else { said.join(" / ") }
    }

    /// All of it, for a person.
    pub fn detail(&self) -> String {
        let Seen::Frames(_, frames) = self else { return self.text() };
        let mut out = self.text();
        for (port, f) in frames {
            let hex: String = f.iter().take(160).map(|b| format!("{b:02x}")).collect();
            let text = if *port < FIRST_PORT + STAGES { verdict(f) } else { "tuple".into() };
            let _ = write!(out, "\n          {port}: {text}: {hex}");
        }
        out
    }
}

/// See the module.
pub struct Player<'a> {
    sut: Sut<'a>,
    ask: Control,
    /// The stock switch answers that it received a packet before it looks at it, and asks its connections
    /// in the order in which they came, and then its ports. So this one is the second.
    receive: Control,
    captures: Vec<(u32, File)>,
    treatments: Vec<Treatment>,
}

impl<'a> Player<'a> {
    pub fn new(whose: Whose, ns: &'a Netns, treatments: &[Treatment]) -> Result<Player<'a>> {
        let n_ports = FIRST_PORT - 1 + 2 * STAGES;
        let sut = simulation_of(whose, ns, n_ports);
        // For the large segments that some have.
        let large = |n: u32| format!(" -- set Interface p{n} mtu_request=60000");
        let large: String = (1..=n_ports).map(large).collect();
        sut.ok(Whose::Stock, &format!("ovs-vsctl{}", &large[3..]))?;
        let (mut ask, mut receive) = (sut.control()?, sut.control()?);
        ask.call("time/stop", &[])?;
        receive.call("version", &[])?;
        let file = sut.file("flows");
        std::fs::write(&file, flows(treatments))?;
        sut.ok(Whose::Stock, &format!("ovs-ofctl add-flows br0 {file}"))?;
        let open = |n: u32| -> Result<(u32, File)> {
            let mut file = File::open(sut.file(&format!("p{n}.pcap")))?;
            file.seek(SeekFrom::Start(24))?;
            Ok((n, file))
        };
        let captures = (FIRST_PORT..=n_ports).map(open).collect::<Result<_>>()?;
        Ok(Player { sut, ask, receive, captures, treatments: treatments.to_vec() })
    }

    /// Forgets all connections.
    pub fn start_anew(&mut self) -> Result<()> {
        // Fragments that wait give up; the stock switch sends them along with the next packet.
        self.wait(20)?;
        self.packet(&Row::parse(DRAIN, false), false)?;
        let said = self.ask.call("dpctl/flush-conntrack", &[])?;
        ensure!(said.is_empty(), "dpctl/flush-conntrack: {said}");
        Ok(())
    }

    pub fn wait(&mut self, seconds: u32) -> Result<()> {
        let said = self.ask.call("time/warp", &[&(seconds * 1000).to_string()])?;
        ensure!(said.trim_end() == "warped", "time/warp: {said}");
        Ok(())
    }

    /// Connections, sorted, in one line.
    pub fn list(&mut self, options: &str) -> Result<String> {
        let options: Vec<&str> = options.split_whitespace().collect();
        let text = self.ask.call("dpctl/dump-conntrack", &options)?;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        Ok(if lines.is_empty() { "none".into() } else { lines.join(" ;; ") })
    }

    pub fn packet(&mut self, row: &Row, v6: bool) -> Result<Seen> {
        let t = Treatment::of(row, v6);
        let n = self.treatments.iter().position(|o| *o == t).context("no flows for that")?;
        let packets = row.packets();
        let sent = ends(&packets[0]);
        for packet in packets {
            let mut frame = vec![2, 0, 0, 0, 0, n as u8, 2, 0, 0, 0, 0, 0];
            frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
            frame.extend(packet);
            let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
            let port = if row.is_up() { "p1" } else { "p2" };
            let said = self.receive.call("netdev-dummy/receive", &[port, &hex])?;
            ensure!(said.is_empty(), "netdev-dummy/receive: {said}");
            // Answered when that has gone where it goes. Of several, the stock switch takes one at a time.
            self.ask.call("version", &[])?;
        }
        self.sut.check_alive()?;
        let mut frames = Vec::new();
        for (port, file) in &mut self.captures {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let mut rest = &bytes[..];
            while let Some((header, more)) = rest.split_at_checked(16) {
                let len = u32::from_ne_bytes(header[8..12].try_into()?) as usize;
                let (frame, more) = more.split_at_checked(len).context("half a frame")?;
                frames.push((*port, frame.to_vec()));
                rest = more;
            }
        }
        Ok(Seen::Frames(sent, frames))
    }
}
