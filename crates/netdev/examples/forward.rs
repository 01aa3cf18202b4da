//! Copies frames between two devices: the ceiling of what a switch on these backends can do.
//!
//! `forward PORT1 PORT2 [SPIN_US]`; a port is a device name, or `tap:NAME` for a new tap.

use std::time::Duration;

use netdev::af_packet::{AfPacket, Options};
use netdev::poll::{Poller, Spin};
use netdev::tap::Tap;
use netdev::{BATCH, Port, new_batch};
use packet::PacketBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, rest @ ..] = &args[..] else { return Err("usage: forward A B [SPIN_US]".into()) };
    let mut spin = Spin::new(Duration::from_micros(rest.first().map_or(Ok(40), |s| s.parse())?));
    let open = |name: &str| -> Result<Box<dyn Port>, netdev::Error> {
        Ok(match name.strip_prefix("tap:") {
            Some(tap) => Box::new(Tap::open(tap)?),
            None => Box::new(AfPacket::open(name, Options::default())?),
        })
    };
    let mut ports = [open(a)?, open(b)?];
    let mut poller = Poller::new()?;
    let (mut rx, mut tx) = (Vec::new(), Vec::new());
    for (i, port) in ports.iter_mut().enumerate() {
        port.warnings().iter().for_each(|w| eprintln!("{w}"));
        rx.push(port.take_rx().ok_or("receive queue taken")?);
        tx.push(port.open_tx()?);
        poller.add(rx[i].fd().ok_or("no descriptor")?, i as u64)?;
    }
    let (mut bufs, mut ready) = (new_batch(), Vec::new());
    loop {
        poller.wait_spinning(&mut spin, None, &mut ready, |_| false)?;
        for &i in &ready {
            let i = i as usize;
            let n = rx[i].recv(&mut bufs).n;
            let out: [&PacketBuf; BATCH] = std::array::from_fn(|k| &bufs[k]);
            tx[1 - i].send(&out[..n]);
        }
    }
}
