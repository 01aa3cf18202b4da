//! Small UDP packets of one established connection, as fast as one thread sends them, and how many arrive.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netdev::af_packet::{AfPacket, Options};
use netdev::{BATCH, Port};
use packet::{PacketBuf, checksum};
use testkit::netns::Netns;
use testkit::story::{Story, Vm};

use crate::say;
use crate::stage::Stage;

const FROM_PORT: u16 = 4000;
const TO_PORT: u16 = 9;
/// Drops the packets where they arrive, so that their receiver costs nothing.
const DROP: &str = "table netdev bench { chain c { type filter hook ingress device eth0 priority 0; \
                    udp dport 9 drop; }; }";

/// Thousands of packets a second that arrive at vm2.
pub fn measure(stage: &Stage<'_>, story: &Story, seconds: u64) -> Result<f64> {
    let (one, two) = (story.vm(Vm::One), story.vm(Vm::Two));
    let (to, within) = (Vm::Two.ip(), Duration::from_secs(seconds + 30));
    let mut answerer = two.spawn(&stage.end(&["answer-udp", to]))?;
    answerer.wait_for("listens", |out| out.contains("listening"))?;
    one.run_within(&stage.end(&["ask-udp", to]), within)?.ok()?;
    answerer.finish(within)?.ok()?;
    two.ok(&["nft", DROP])?;
    let before = received(two)?;
    let seconds = seconds.to_string();
    let sent = one.run_within(&stage.end(&["send-udp", "eth0", &seconds]), within);
    let after = received(two)?;
    two.ok(&["nft", "delete", "table", "netdev", "bench"])?;
    let sent = sent?.ok()?;
    let (n, took) = sent.trim().split_once(' ').context("no figures")?;
    let took = took.parse::<f64>()?;
    let offered = n.parse::<f64>()? / took / 1e3;
    say(format_args!("  {offered:.0} thousand UDP packets a second were sent"));
    Ok((after - before) as f64 / took / 1e3)
}

/// Packets that a machine's device has received.
fn received(at: &Netns) -> Result<u64> {
    let links: serde_json::Value =
        serde_json::from_str(&at.ip("-s -j link show eth0")?).context("ip -j")?;
    links[0]["stats64"]["rx"]["packets"].as_u64().context("no counter of received packets")
}

/// Answers one datagram and ends.
pub fn answer(ip: &str) -> Result<()> {
    let socket = UdpSocket::bind((ip, TO_PORT))?;
    println!("listening");
    let (n, from) = socket.recv_from(&mut [0; 16])?;
    socket.send_to(&[0; 16][..n], from)?;
    Ok(())
}

/// Asks for the answer, so that the connection of the flood is an established one.
pub fn ask(ip: &str) -> Result<()> {
    let socket = UdpSocket::bind((Vm::One.ip(), FROM_PORT))?;
    socket.connect((ip, TO_PORT))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send(&[1])?;
    socket.recv(&mut [0; 16]).context("no answer")?;
    Ok(())
}

/// Sends for so many seconds. Prints how many packets in what time.
pub fn send(device: &str, seconds: u64) -> Result<()> {
    let options = Options { exclusive: &[], ring: 0, promiscuous: false, ..Options::default() };
    let mut queue = AfPacket::open(device, options)?.open_tx()?;
    let buf = PacketBuf::from_frame(&frame()?);
    let batch = [&buf; BATCH];
    let (began, time) = (Instant::now(), Duration::from_secs(seconds));
    let mut n = 0;
    while began.elapsed() < time {
        n += queue.send(&batch);
    }
    ensure!(n > 0, "{device} took nothing");
    println!("{n} {:.3}", began.elapsed().as_secs_f64());
    Ok(())
}

/// The packet: 60 bytes, 64 with the checksum of the wire.
fn frame() -> Result<[u8; 60]> {
    let mac = |vm: Vm| {
        let octets = vm.mac().split(':').map(|o| u8::from_str_radix(o, 16));
        octets.collect::<Result<Vec<u8>, _>>()
    };
    let ip = |vm: Vm| vm.ip().parse::<std::net::Ipv4Addr>();
    let mut f = [0; 60];
    f[..6].copy_from_slice(&mac(Vm::Two)?);
    f[6..12].copy_from_slice(&mac(Vm::One)?);
    f[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
    f[26..30].copy_from_slice(&ip(Vm::One)?.octets());
    f[30..34].copy_from_slice(&ip(Vm::Two)?.octets());
    let sum = checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[34..36].copy_from_slice(&FROM_PORT.to_be_bytes());
    f[36..38].copy_from_slice(&TO_PORT.to_be_bytes());
    f[39] = 26;
    Ok(f)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_packet_has_a_right_header() {
        let f = super::frame().unwrap();
        assert_eq!(packet::checksum::checksum(&f[14..34]), 0);
        assert_eq!(&f[26..34], [192, 168, 0, 1, 192, 168, 0, 2]);
    }
}
