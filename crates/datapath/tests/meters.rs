//! Meters in the datapath, on a simulated clock.

mod common;

use std::sync::Arc;

use base::Duration;
use common::{Net, Policy, out, udp};
use datapath::{Config, Meters};
use dpif::{BandKind, BandSpec, DpAction, DropReason, MeterSpec, MeterStore};
use flow::PacketKey;
use packet::PacketBuf;

/// Port 1 leads to port 2 through meter 0.
fn metered(bands: &[BandSpec], actions: Vec<DpAction>) -> (Net, Arc<Meters>) {
    let meters: Arc<Meters> = Arc::default();
    let config = Config { n_threads: 0, meters: Arc::clone(&meters), ..Config::default() };
    let net = Net::new(2, config, Policy::new(move |_| (PacketKey::ZERO, actions.clone())));
    let id = meters.add(&MeterSpec { by_packet: true, bands: bands.into() }, net.now);
    assert_eq!(id, Some(0));
    (net, meters)
}

fn band(kind: BandKind, rate: u32, burst: u32) -> BandSpec {
    BandSpec { kind, rate, burst }
}

fn frame(tos: u8) -> PacketBuf {
    let mut p = udp([10, 0, 0, 1], [10, 0, 0, 2], 1, 2, b"x");
    p.frame_mut()[15] = tos;
    // The header's checksum again.
    p.frame_mut()[24..26].fill(0);
    let sum = packet::checksum::checksum(&p.frame()[14..34]);
    p.frame_mut()[24..26].copy_from_slice(&sum.to_be_bytes());
    p
}

#[test]
fn what_exceeds_the_rate_is_dropped_and_counted() {
    let (mut net, meters) =
        metered(&[band(BandKind::Drop, 10, 5)], vec![DpAction::Meter(0), out(2)]);
    let p = frame(0);
    let mut passed = 0;
    for _ in 0..20 {
        net.inject(1, &vec![p.clone(); 8]);
        net.run();
        passed += net.outputs()[1].len();
        net.now += Duration::from_millis(100);
    }
    // The burst, and one in each tenth of a second afterwards.
    assert_eq!(passed, 5 + 19);
    let dropped = 20 * 8 - 24;
    assert_eq!(net.dp.stats().drops[DropReason::Meter as usize], dropped);
    let c = meters.counters(0);
    assert_eq!((c.n_packets, c.bands[0].0), (160, dropped));
    assert_eq!(c.bands[0].1, dropped * p.len() as u64);
}

#[test]
fn a_copy_may_be_metered_alone() {
    let copy =
        DpAction::Sample { probability: u32::MAX, actions: [DpAction::Meter(0), out(1)].into() };
    let (net, _) = metered(&[band(BandKind::Drop, 1, 1)], vec![copy, out(2)]);
    net.inject(1, &vec![frame(0); 4]);
    net.run();
    let outputs = net.outputs();
    assert_eq!((outputs[0].len(), outputs[1].len()), (1, 4));
}

#[test]
fn a_remarked_packet_goes_on_with_another_dscp() {
    const AF11: u8 = 10 << 2;
    const AF12: u8 = 12 << 2;
    let (net, _) =
        metered(&[band(BandKind::DscpRemark(1), 1, 1)], vec![out(1), DpAction::Meter(0), out(2)]);
    net.inject(1, &[frame(AF11), frame(AF11), frame(46 << 2)]);
    net.run();
    let outputs = net.outputs();
    let tos = |list: &[PacketBuf]| list.iter().map(|p| p.frame()[15]).collect::<Vec<_>>();
    assert_eq!(tos(&outputs[0]), [AF11, AF11, 46 << 2], "sent before the meter");
    assert_eq!(tos(&outputs[1]), [AF11, AF12, 46 << 2]);
    for p in &outputs[1] {
        assert_eq!(packet::checksum::checksum(&p.frame()[14..34]), 0, "the checksum follows");
    }
}
