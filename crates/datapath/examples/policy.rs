//! A stateful forwarder between two devices, without a control plane: the first may open
//! connections, the second may only answer; ARP passes both ways. For measuring and profiling.
//!
//! `cargo run --release -p sekisho-datapath --example policy -- DEVICE1 DEVICE2 [SPIN_MICROSECONDS [THREADS]]`

use std::sync::Arc;
use std::time::Duration;

use base::{DpPort, HashKey, Instant, RecircId};
use conntrack::CtRequest;
use datapath::{Config, Datapath};
use dpif::{DpAction, MegaflowSpec, Revalidation, SlowPath, Upcall, UserspaceCookie};
use flow::{PacketKey, ct_state};
use packet::PacketBuf;
use packet::header::ethertype;

#[derive(Debug)]
struct Policy;

impl Policy {
    fn spec(&self, k: &PacketKey) -> MegaflowSpec {
        let mut mask = PacketKey::ZERO;
        let ct = |commit| DpAction::Ct(Box::new(CtRequest { commit, ..CtRequest::default() }));
        let to = DpAction::Output(DpPort(3 - k.in_port));
        let ip = matches!(k.dl_type, ethertype::IPV4 | ethertype::IPV6);
        let actions = if !ip {
            vec![to]
        } else if k.recirc_id == 0 {
            vec![ct(false), DpAction::Recirc(RecircId(1))]
        } else {
            mask.ct_state = ct_state::NEW | ct_state::EST;
            match (k.in_port, k.ct_state & ct_state::NEW != 0, k.ct_state & ct_state::EST != 0) {
                (1, true, _) => vec![ct(true), to],
                (_, false, true) => vec![to],
                _ => vec![],
            }
        };
        MegaflowSpec { mask, actions: actions.into(), credit: None, generation: 1 }
    }
}

impl SlowPath for Policy {
    fn generation(&self) -> u64 {
        1
    }

    fn upcall(&self, _: Instant, _: &PacketBuf, key: &PacketKey) -> Upcall {
        Upcall { flow: Some(self.spec(key)), execute: None }
    }

    fn revalidate(&self, _: Instant, key: &PacketKey) -> Revalidation {
        Revalidation::Flow(self.spec(key))
    }

    fn userspace(
        &self,
        _: Instant,
        _: &PacketBuf,
        _: &PacketKey,
        _: &UserspaceCookie,
    ) -> Option<Arc<[DpAction]>> {
        None
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, rest @ ..] = &args[..] else {
        return Err("usage: policy DEVICE1 DEVICE2 [SPIN_MICROSECONDS [THREADS]]".into());
    };
    let mut config = Config { secret: HashKey([1, 2]), ..Config::default() };
    if let Some(spin) = rest.first() {
        config.spin = Duration::from_micros(spin.parse()?);
    }
    if let Some(threads) = rest.get(1) {
        config.n_threads = threads.parse()?;
    }
    let start = std::time::Instant::now();
    let clock: datapath::Clock =
        Arc::new(move || Instant::from_nanos(start.elapsed().as_nanos() as u64));
    let events: datapath::EventSink = Arc::new(|e| eprintln!("{e:?}"));
    let dp = Datapath::new(&config, Arc::new(Policy), Arc::clone(&clock), events)?;
    let mut ports = Vec::new();
    for (n, name) in [(1, first), (2, second)] {
        let mut port =
            netdev::af_packet::AfPacket::open(name, netdev::af_packet::Options::default())?;
        dp.add_port(DpPort(n), &mut port)?;
        ports.push(port);
    }
    loop {
        std::thread::sleep(Duration::from_millis(500));
        dp.expire(clock(), Duration::from_secs(10));
        dp.conntrack().expire(clock(), 10_000);
        let s = dp.stats();
        println!(
            "packets {} batches {} sleeps {} polls {} flows {} connections {} dropped {}",
            s.packets,
            s.batches,
            s.sleeps,
            s.idle_polls,
            dp.n_flows(),
            dp.conntrack().len(),
            s.drops.iter().sum::<u64>()
        );
    }
}
