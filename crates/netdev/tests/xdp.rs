//! AF_XDP ports on veth pairs, in a namespace of each test's own.

#![allow(clippy::unwrap_used)] // a test's namespace is its own to break

mod common;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use common::{End, inside, large, small, wait_running};
use netdev::af_xdp::{AfXdp, Mode, Options, Step};
use netdev::link::Links;
use netdev::{Error, Port, RxDrop, TxDrop, Warning};
use packet::PacketBuf;
use packet::segment::finish_checksum;
use testkit::netns::Netns;

/// A pair p1 and q1 with so many queues each way.
fn veth(ns: &Netns, queues: u32, mtu: u32) {
    let end = |name: &str| format!("{name} mtu {mtu} numrxqueues {queues} numtxqueues {queues}");
    let line = format!("link add {} type veth peer name {}", end("p1"), end("q1"));
    ns.ip(&line).unwrap();
    ns.ip("link set p1 up").unwrap();
    ns.ip("link set q1 up").unwrap();
    wait_running(&["p1", "q1"]);
}

/// Opens p1, or says why this kernel cannot.
fn open(options: &Options) -> Option<AfXdp> {
    match open_free(options) {
        Ok(port) => Some(port),
        Err(e @ Error::Xdp { step: Step::Socket | Step::Map | Step::Load, .. }) => {
            testkit::need::absent(&e.to_string()).unwrap();
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// Opens p1 when nobody has it: other tests' threads start processes, which have all descriptors for a
/// moment, also those that were just closed here.
fn open_free(options: &Options) -> Result<AfXdp, Error> {
    testkit::process::eventually("p1 to be free", Duration::from_secs(5), || {
        let opened = AfXdp::open("p1", options);
        Ok((!matches!(opened, Err(Error::Busy { .. }))).then_some(opened))
    })
    .unwrap()
}

fn in_mode(mode: Mode) -> Options {
    Options { mode: Some(mode), ..Options::default() }
}

/// Whether an XDP program is attached to p1.
fn has_program(ns: &Netns) -> bool {
    ns.ip("-d link show p1").unwrap().contains("xdp")
}

/// Waits until none is.
fn loses_program(ns: &Netns) {
    let gone = || Ok((!has_program(ns)).then_some(()));
    testkit::process::eventually("no XDP program", Duration::from_secs(5), gone).unwrap();
}

#[test]
fn the_best_mode_is_found_and_nothing_remains() {
    let ns = inside("mode");
    veth(&ns, 1, 1500);
    let Some(port) = open(&Options::default()) else { return };
    // A veth has a native mode, without zero-copy.
    assert_eq!(port.mode(), Mode::Native);
    assert_eq!(port.status(), [("xdp-mode", "native".to_owned())]);
    assert!(has_program(&ns));
    let e = AfXdp::open("p1", &Options::default()).unwrap_err();
    assert!(matches!(e, Error::Busy { .. }), "{e}");
    drop(port);
    loses_program(&ns);
    let e = open_free(&in_mode(Mode::NativeZerocopy)).unwrap_err().to_string();
    assert!(
        e.contains("p1")
            && e.contains("native-with-zerocopy mode")
            && e.contains("xdp-mode=native"),
        "{e}"
    );
    loses_program(&ns);
    assert_eq!(open(&in_mode(Mode::Generic)).unwrap().mode(), Mode::Generic);
    let options = Options { queues: Some(2), ..Options::default() };
    let e = open_free(&options).unwrap_err().to_string();
    assert!(e.contains("queue 1") && e.contains("no such queue"), "{e}");
    loses_program(&ns);
    let e = AfXdp::open("none", &Options::default()).unwrap_err().to_string();
    assert_eq!(e, "could not open network device none (No such device)");
}

#[test]
fn frames_pass_both_ways_with_their_checksums_finished() {
    let ns = inside("ways");
    veth(&ns, 1, 1500);
    for mode in [Mode::Native, Mode::Generic] {
        for need_wakeup in [true, false] {
            let options = Options { need_wakeup, ..in_mode(mode) };
            let Some(port) = open(&options) else { return };
            let (mut p, mut q) = (End::of(port), End::shared("q1"));
            q.send(&small(&[]));
            assert!(p.marked().frame() == small(&[]).frame(), "{mode:?}");
            // Partial when it leaves, partial by its look when it comes.
            let mut sent = large(700, 0, &[]);
            sent.offload.gso_type = packet::GsoType::None;
            q.send(&sent);
            let mut got = p.marked();
            assert!(got.offload.needs_csum);
            assert!(got.frame() == sent.frame());
            assert_eq!(p.send(&got), 1);
            let mut back = q.marked();
            for done in [&mut got, &mut back, &mut sent] {
                finish_checksum(done).unwrap();
            }
            assert!(got.frame() == sent.frame() && back.frame() == sent.frame());
            // A large packet is cut.
            assert_eq!(p.send(&large(10_000, 1448, &[])), 7);
            let mut payload = 0;
            while payload < 10_000 {
                payload += q.marked().len() - 54;
            }
            assert_eq!(payload, 10_000);
            let c = p.port.counters();
            assert_eq!((c.tx_packets, c.tx_segmented), (8, 1));
            assert_eq!(c.tx_drops, [0; TxDrop::ALL.len()]);
            assert_eq!(c.rx_drops, [0; RxDrop::ALL.len()]);
        }
    }
}

#[test]
fn vlan_tags_stay_in_the_frame_and_return_to_it() {
    let ns = inside("tags");
    veth(&ns, 1, 1500);
    let Some(port) = open(&in_mode(Mode::Native)) else { return };
    // The kernel may not tell.
    let told = !port.warnings().iter().any(|w| matches!(w, Warning::TagsLost { .. }));
    let (mut p, mut q) = (End::of(port), End::shared("q1"));
    let customer = [0x81, 0, 0x60, 100];
    let service = [0x88, 0xa8, 0, 7];
    for tags in [&[customer][..], &[service], &[service, customer]] {
        let sent = small(tags);
        q.send(&sent);
        assert!(p.marked().frame() == sent.frame());
        p.send(&sent);
        assert!(q.marked().frame() == sent.frame());
    }
    if told {
        // As a VLAN device does that leaves the tag to the device below.
        let _tagging = tag_beside_frames("q1", 100);
        for payload in [18, 1400] {
            let mut sent = large(payload, 0, &[]);
            sent.offload.gso_type = packet::GsoType::None;
            q.send(&sent);
            let got = p.marked();
            assert_eq!(got.frame()[..12], sent.frame()[..12]);
            assert_eq!(got.frame()[12..16], [0x81, 0, 0, 100]);
            assert!(got.frame()[16..] == sent.frame()[12..]);
            assert_eq!((got.offload.needs_csum, got.offload.csum_start), (true, 38));
        }
    }
}

/// Has every frame that leaves a device get a VLAN tag beside it, as long as the result is held.
fn tag_beside_frames(device: &str, vid: i32) -> OwnedFd {
    let insn = |opcode: u8, dst: u8, imm: i32| {
        let i = imm.to_ne_bytes();
        u64::from_ne_bytes([opcode, dst, 0, 0, i[0], i[1], i[2], i[3]])
    };
    // bpf_skb_vlan_push(ctx, 802.1Q in network byte order, vid); pass.
    let (mov, call, exit) = (0xb7, 0x85, 0x95);
    let tag = i32::from(0x8100_u16.to_be());
    let program = [
        insn(mov, 2, tag),
        insn(mov, 3, vid),
        insn(call, 0, 18),
        insn(mov, 0, 0),
        insn(exit, 0, 0),
    ];
    let ifindex = Links::open().unwrap().by_name(device).unwrap().unwrap().ifindex;
    // `union bpf_attr`, for a load (sched_cls) and for a link (tcx egress).
    let mut load = [0u64; 16];
    load[0] = 3 | (program.len() as u64) << 32;
    load[1] = program.as_ptr() as u64;
    load[2] = c"GPL".as_ptr() as u64;
    let program = bpf(5, &load);
    let mut link = [0u64; 16];
    link[0] = program.as_raw_fd() as u64 | u64::from(ifindex) << 32;
    link[1] = 47;
    bpf(28, &link)
}

fn bpf(command: libc::c_long, attr: &[u64; 16]) -> OwnedFd {
    #[allow(unsafe_code)] // no crate has it
    // SAFETY: the attributes are larger than what the kernel reads of them, and their pointers to what
    // the caller holds.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), std::mem::size_of_val(attr));
        assert!(fd >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

#[test]
fn frames_of_a_large_mtu_come_and_go_in_pieces() {
    let ns = inside("pieces");
    veth(&ns, 1, 9000);
    let Some(port) = open(&in_mode(Mode::Native)) else { return };
    let (mut p, mut q) = (End::of(port), End::shared("q1"));
    for len in [4000, 4096, 8000, 9014] {
        let mut bytes = small(&[]).frame().to_vec();
        bytes.extend((bytes.len()..len).map(|i| (i % 251) as u8));
        let sent = PacketBuf::from_frame(&bytes);
        assert_eq!(q.send(&sent), 1);
        let got = p.marked();
        assert!(got.frame() == sent.frame(), "{len}: {}", got.len());
        assert_eq!(p.send(&sent), 1, "{:?}", p.port.counters());
        assert!(q.marked().frame() == sent.frame(), "{len}");
    }
    let long = PacketBuf::from_frame(&[small(&[]).frame(), &[0; 9000]].concat());
    assert_eq!(p.send(&long), 0);
    assert_eq!(p.port.counters().tx_drop(TxDrop::TooBig), 1);
}

#[test]
fn each_queue_has_its_socket() {
    let ns = inside("queues");
    veth(&ns, 2, 1500);
    let one = Options { queues: Some(1), ..Options::default() };
    let Some(port) = open(&one) else { return };
    assert_eq!(
        port.warnings().first(),
        Some(&Warning::FewQueues { device: "p1".to_owned(), read: 1, has: 2 })
    );
    drop(port);
    let mut port = open(&Options::default()).unwrap();
    assert_eq!(port.n_queues(), 2);
    let mut queues: Vec<_> = std::iter::from_fn(|| port.take_rx()).collect();
    let mut tx: Vec<_> = (0..3).map(|_| port.open_tx().unwrap()).collect();
    let mut q = End::shared("q1");
    let mut bufs = netdev::new_batch();
    // The queue is the sender's, by the flow's hash.
    let mut got = [0; 2];
    for port_number in 0..64u8 {
        let mut p = large(100, 0, &[]);
        p.offload.gso_type = packet::GsoType::None;
        p.frame_mut()[35] = port_number;
        finish_checksum(&mut p).unwrap();
        q.send(&p);
        testkit::process::eventually("a frame", Duration::from_secs(5), || {
            for (n, queue) in got.iter_mut().zip(&mut queues) {
                let r = queue.recv(&mut bufs);
                let ours = bufs[..r.n].iter().filter(|b| b.frame()[6..12] == common::MARK).count();
                *n += ours;
                if ours > 0 {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .unwrap();
    }
    assert!(got[0] > 0 && got[1] > 0 && got[0] + got[1] == 64, "{got:?}");
    for tx in &mut tx {
        assert_eq!(tx.send(&[&small(&[])]), 1);
        assert!(q.marked().frame() == small(&[]).frame());
    }
    let names: Vec<String> = port.custom_counters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 10);
    assert!(names.contains(&"xsk_queue_1_rx_dropped".to_owned()), "{names:?}");
}

#[test]
fn a_full_ring_loses_frames_and_counts_them() {
    let ns = inside("full");
    veth(&ns, 1, 1500);
    let Some(port) = open(&Options::default()) else { return };
    let (mut p, mut q) = (End::of(port), End::shared("q1"));
    let frame = small(&[]);
    let batch: Vec<&PacketBuf> = std::iter::repeat_n(&frame, 32).collect();
    let sent: usize = (0..100).map(|_| q.tx.send(&batch)).sum();
    let mut got = 0;
    let is_ours = |p: &PacketBuf| p.frame()[6..12] == common::MARK;
    let wait = Duration::from_millis(500);
    while p.next(wait, is_ours).is_some() {
        got += 1;
    }
    let c = p.port.counters();
    assert!(got >= 1000 && got < sent, "{got} of {sent}");
    let lost = c.rx_drop(RxDrop::Overrun);
    assert!(
        lost > 0
            && lost as usize >= sent - got
            && lost == p.port.counters().rx_drop(RxDrop::Overrun)
    );
    // And it goes on.
    q.send(&frame);
    p.marked();

    // Thousands of frames out, more than there are chunks.
    for _ in 0..200 {
        assert_eq!(p.tx.send(&batch), 32, "{:?}", p.port.counters());
    }
}

#[test]
fn a_device_goes_down_comes_back_and_vanishes() {
    let ns = inside("gone");
    veth(&ns, 1, 1500);
    let Some(port) = open(&Options::default()) else { return };
    let (mut p, mut q) = (End::of(port), End::shared("q1"));
    let frame = small(&[]);
    ns.ip("link set p1 down").unwrap();
    let mut bufs = netdev::new_batch();
    let r = p.rx.recv(&mut bufs);
    assert!(!r.gone, "{r:?}");
    for _ in 0..2000 {
        p.send(&frame);
    }
    let c = p.port.counters();
    assert!(c.tx_drop(TxDrop::Down) >= 1900, "{c:?}");
    ns.ip("link set p1 up").unwrap();
    wait_running(&["p1", "q1"]);
    p.send(&frame);
    q.marked();
    q.send(&frame);
    p.marked();
    // Nobody at the other end: the kernel takes frames and drops them.
    let before = p.port.counters();
    ns.ip("link set q1 down").unwrap();
    for _ in 0..10 {
        assert_eq!(p.send(&frame), 0);
    }
    let c = p.port.counters();
    assert_eq!(c.tx_drop(TxDrop::QueueFull), before.tx_drop(TxDrop::QueueFull) + 10, "{c:?}");
    assert_eq!((c.tx_packets, c.tx_bytes), (before.tx_packets, before.tx_bytes));
    ns.ip("link set q1 up").unwrap();
    wait_running(&["p1", "q1"]);
    assert_eq!(p.send(&frame), 1);
    ns.ip("link del p1").unwrap();
    testkit::process::eventually("gone", Duration::from_secs(5), || {
        Ok(p.rx.recv(&mut bufs).gone.then_some(()))
    })
    .unwrap();
    for _ in 0..3 {
        p.send(&frame);
    }
    // Each frame was sent or dropped, also those that waited for the device.
    let End { port, tx, .. } = p;
    drop(tx);
    let c = port.counters();
    assert!(c.tx_drop(TxDrop::Gone) >= 2, "{c:?}");
    assert_eq!(c.tx_packets + c.tx_drops.iter().sum::<u64>(), 2000 + 1 + 10 + 1 + 3, "{c:?}");
    assert_eq!(c.tx_bytes, c.tx_packets * frame.len() as u64);
}
