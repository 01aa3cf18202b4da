//! A generator of connections: TCP SYNs, each of another connection, sent on a device as raw frames.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netdev::af_packet::{AfPacket, Options};
use netdev::{BATCH, Port};
use packet::{PacketBuf, checksum};

/// Whom the frames are from, and to: a machine beyond the switch that is none of the story's.
pub const FROM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 3];
/// Where the frames go.
pub const TO: [u8; 6] = [0x52, 0x54, 0, 0, 0, 4];

/// The address of the machine there.
const DST: u32 = 0xc0a8_0004;

/// Where in a frame what is.
const SRC: usize = 26;
const SPORT: usize = 34;
const TCP_CSUM: usize = 50;

/// The first packet of connection `n`: 60,000 of them for each address from 10.0.0.1 on, to
/// 192.168.0.4, port 80.
fn syn(n: u32) -> [u8; 60] {
    let src = 0x0a00_0001 + n / 60_000;
    let mut f = [0; 60];
    f[..6].copy_from_slice(&TO);
    f[6..12].copy_from_slice(&FROM);
    f[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    f[SRC..SRC + 4].copy_from_slice(&src.to_be_bytes());
    f[30..34].copy_from_slice(&DST.to_be_bytes());
    f[SPORT..SPORT + 2].copy_from_slice(&(1024 + (n % 60_000) as u16).to_be_bytes());
    f[36..38].copy_from_slice(&80_u16.to_be_bytes());
    f[38..42].copy_from_slice(&n.to_be_bytes());
    (f[46], f[47]) = (0x50, 2);
    f[48..50].copy_from_slice(&0xffff_u16.to_be_bytes());
    let ip = checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&ip.to_be_bytes());
    let pseudo = checksum::pseudo_v4(src, DST, 6, 20);
    let tcp = checksum::finish(checksum::add(pseudo, &f[34..54]));
    f[TCP_CSUM..TCP_CSUM + 2].copy_from_slice(&tcp.to_be_bytes());
    f
}

/// The answer that nobody gives: a frame that tells a switch where [`TO`] is.
fn announcement() -> [u8; 60] {
    let mut f = [0; 60];
    f[..6].fill(0xff);
    f[6..12].copy_from_slice(&TO);
    // An ARP announcement (RFC 5227).
    f[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    f[22..28].copy_from_slice(&TO);
    f[28..32].copy_from_slice(&DST.to_be_bytes());
    f[38..42].copy_from_slice(&DST.to_be_bytes());
    f
}

fn open(device: &str) -> Result<Box<dyn netdev::TxQueue>> {
    let options = Options { exclusive: &[], ring: 0, promiscuous: false, ..Options::default() };
    Ok(AfPacket::open(device, options)?.open_tx()?)
}

/// Tells the switch where [`TO`] is.
pub fn announce(device: &str) -> Result<()> {
    let sent = open(device)?.send(&[&PacketBuf::from_frame(&announcement())]);
    ensure!(sent == 1, "{device} did not take the frame");
    Ok(())
}

/// Sends the SYNs of `n` connections from number `first` on, no more than `rate` a second (0: as
/// fast as can be). Prints how many were sent and in what time in seconds.
pub fn send(device: &str, first: u32, n: u32, rate: u32) -> Result<()> {
    let mut queue = open(device)?;
    let began = Instant::now();
    let end = first.checked_add(n).context("so many connections cannot be numbered")?;
    let mut at = first;
    let mut bufs = vec![PacketBuf::from_frame(&syn(0)); BATCH];
    while at < end {
        let batch = &mut bufs[..BATCH.min((end - at) as usize)];
        for buf in &mut *batch {
            buf.frame_mut().copy_from_slice(&syn(at));
            at += 1;
        }
        queue.send(&batch.iter().collect::<Vec<_>>());
        if rate > 0 {
            let due = Duration::from_secs_f64(f64::from(at - first) / f64::from(rate));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    println!("{n} {:.3}", began.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_a_tracker_takes() {
        let f = syn(123_456);
        assert_eq!(checksum::checksum(&f[14..34]), 0, "a right header sums up to nothing");
        let sum = checksum::pseudo_v4(0x0a00_0003, 0xc0a8_0004, 6, 20);
        assert_eq!(checksum::finish(checksum::add(sum, &f[34..54])), 0);
        assert_ne!(syn(60_000)[SRC..SPORT + 2], syn(0)[SRC..SPORT + 2]);
        assert_eq!(u16::from_be_bytes([f[SPORT], f[SPORT + 1]]), 1024 + 3456);
    }
}
