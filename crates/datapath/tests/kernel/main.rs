//! The kernel's program against the tracker: the same packets to both, and all that can be seen of the connections
//! compared after each.

#![allow(clippy::unwrap_used)] // a test's namespace is its own to break

mod rig;
mod shape;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use base::{HashKey, Instant};
use conntrack::tcp::PeerState;
use conntrack::{ConnFilter, ConnSnapshot, CtRequest, Dir, Shards};
use ebpf::{Entry, KernelPath, Retag, Target, Terms};
use flow::PacketKey;
use netdev::Port;
use packet::GsoType;
use packet::header::{ethertype, ipproto};
use testkit::process::eventually;

use rig::{End, PATIENCE, Rig, Tracker, Went, alike, enter, rig, wait_running};
use shape::{ACK, FIN, Odd, RST, SYN, Shape, Sum};

/// Numbers that look random; `seed` makes them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }

    /// Around a number, or far from it.
    fn near(&mut self, n: u32, by: u32) -> u32 {
        let off = self.of(&[0, 0, 0, 1, u32::MAX, 100, by, by.wrapping_neg(), by + 1, 1 << 31]);
        n.wrapping_add(off)
    }
}

/// How far a conversation has come when entries are made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// One end has spoken.
    Asked,
    /// The same, and nobody has seen it begin.
    Found,
    /// Answered.
    Answered,
    /// Both ends know that it stands.
    Standing,
    /// The same, and nobody has seen its handshake.
    PickedUp,
}

impl Stage {
    const ALL: [Stage; 5] =
        [Stage::Asked, Stage::Found, Stage::Answered, Stage::Standing, Stage::PickedUp];
}

/// Brings a connection of both trackers to where entries can be made.
fn converse(
    trackers: &mut [Tracker; 2],
    now: Instant,
    shape: &Shape,
    wscale: [Option<u8>; 2],
    stage: Stage,
) {
    let say = |trackers: &mut [Tracker; 2], dir, seq, ack, flags| {
        let wscale = wscale[dir as usize].filter(|_| flags & SYN != 0);
        let options = wscale.map(|shift| vec![3, 3, shift, 0]).unwrap_or_default();
        let s =
            Shape { dir, seq, ack, flags, options, payload: 0, sum: Sum::Whole, ..shape.clone() };
        trackers.iter_mut().for_each(|t| t.open(now, &s));
    };
    if shape.proto == ipproto::TCP {
        match stage {
            Stage::Found => say(trackers, Dir::Orig, 1000, 5001, ACK),
            Stage::PickedUp => {}
            _ => say(trackers, Dir::Orig, 1000, 0, SYN),
        }
        if matches!(stage, Stage::Answered | Stage::Standing) {
            say(trackers, Dir::Reply, 5000, 1001, SYN | ACK);
        }
        if matches!(stage, Stage::Standing | Stage::PickedUp) {
            say(trackers, Dir::Orig, 1001, 5001, ACK);
            say(trackers, Dir::Reply, 5001, 1001, ACK);
        }
    } else {
        say(trackers, Dir::Orig, 1, 0, 0);
        say(trackers, Dir::Reply, 1, 0, 0);
        say(trackers, Dir::Orig, 1, 0, 0);
    }
}

/// The options of a SYN+ACK, and whether the program reads so many.
const OPTIONS: [(&[u8], bool); 12] = [
    (&[], true),
    (&[3, 3, 7, 0], true),
    (&[1, 3, 3, 200], true),
    (&[2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 9], true),
    (&[2, 4, 5, 180, 1, 3, 3, 0, 4, 2, 0, 0], true),
    // Over before it comes, cut short, of no length, longer than all, and of another length.
    (&[0, 3, 3, 7], true),
    (&[1, 1, 3, 3], true),
    (&[5, 1, 3, 3, 3, 3, 7, 0], true),
    (&[5, 200, 3, 3, 3, 3, 7, 0], true),
    (&[3, 4, 7, 7, 3, 3, 2, 1], true),
    (&[1, 1, 1, 1, 1, 3, 3, 7], true),
    (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7], false),
];

/// What the tracker takes and the program leaves to workers, of connections whose ends are in these states.
fn is_left_to_workers(s: &Shape, max_len: usize, states: Option<[PeerState; 2]>) -> bool {
    let l4 = s.l4().0.len();
    let one_is_silent = states.is_some_and(|s| s.contains(&PeerState::Closed));
    let is_asking = states == Some([PeerState::SynSent, PeerState::Closed]);
    let answers =
        s.dir == Dir::Reply && s.payload == 0 && s.flags & (SYN | ACK | FIN | RST) == SYN | ACK;
    let is_read = OPTIONS.iter().any(|(o, is_read)| *is_read && s.options == *o);
    s.sum != Sum::Partial && s.sum != Sum::Zero && l4 > 64
        || s.odd == Odd::Transport && s.proto == ipproto::UDP && s.payload > 0
        || s.packet().len() > max_len
        || s.proto == ipproto::TCP && s.flags & RST != 0
        || s.proto == ipproto::TCP && s.flags & SYN != 0 && !(answers && is_asking && is_read)
        || s.proto == ipproto::TCP && s.flags & SYN == 0 && one_is_silent
        // Not plain.
        || matches!(s.odd, Odd::Fragment | Odd::Options | Odd::TooLong | Odd::HeaderSum)
}

/// Connections of the random test.
const ROUNDS: u32 = 400;

#[test]
fn the_program_does_what_the_tracker_does() {
    let Some(mut rig) = rig("kp-diff") else { return };
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    let mut dice = Dice(seed);
    let (mut n_through, mut n_answered, mut n_closed) = (0, 0, 0);
    for round in 0..ROUNDS {
        let protos =
            [ipproto::TCP, ipproto::TCP, ipproto::UDP, if round % 2 == 0 { 1 } else { 58 }];
        let mut base = Shape::new(round % 2 == 1, dice.of(&protos), Dir::Orig);
        base.tci = dice.of(&[None, None, Some(7)]);
        let max_len = dice.of(&[1514, 1514, 90]);
        let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
        let wscale = [dice.of(&[None, Some(7)]), dice.of(&[None, Some(2)])];
        let stage = dice.of(&Stage::ALL);
        converse(&mut trackers, (rig.clock)(), &base, wscale, stage);
        if dice.roll(3) == 0 {
            // By now the wheel looks at standing ones in some hours.
            rig.wait(Duration::from_secs(31));
            trackers.iter().for_each(|t| assert!(!t.table.expire((rig.clock)(), usize::MAX)));
            if trackers[1].snapshot().is_none() {
                continue;
            }
        }
        let entries = rig.serve(&trackers[0], &base, max_len as u32);
        for _ in 0..60 {
            let tcp = trackers[1].snapshot().and_then(|s| s.tcp);
            let states = tcp.map(|t| t.states);
            // What an end that has not spoken would say, and sometimes another.
            let one_is_silent = states.is_some_and(|s| s.contains(&PeerState::Closed));
            let answers = if one_is_silent { dice.roll(4) > 0 } else { dice.roll(40) == 0 };
            let dir = if answers { Dir::Reply } else { dice.of(&[Dir::Orig, Dir::Reply]) };
            let closes = dice.roll(6) == 0;
            let before = trackers.each_ref().map(Tracker::snapshot);
            let (wide, narrow) = (67035 << dice.of(&[0, 0, 2, 7]), 1000 << dice.of(&[0, 7]));
            let (seq, ack) = match dir {
                Dir::Orig if closes => (1001, 5001),
                Dir::Orig => (dice.near(1001, 1000), dice.near(5001, wide)),
                Dir::Reply if closes => (5001, 1001),
                Dir::Reply => (dice.near(5001, narrow), dice.near(1001, 67035)),
            };
            let shape = Shape {
                dir,
                seq,
                ack,
                window: dice.of(&[0, 1, 1000, 65535]),
                flags: match dice.roll(30) {
                    _ if answers => SYN | ACK | dice.of(&[0, 0, 0, 0x40, 8, FIN]),
                    _ if closes => ACK | FIN,
                    0 => dice.of(&[FIN, RST | ACK, SYN, ACK | FIN | 8]),
                    _ => dice.of(&[ACK, ACK, ACK, ACK | 8, ACK | 8, ACK | 0x20, ACK | 0xc0, 0, 8]),
                },
                payload: match answers {
                    true => dice.of(&[0, 0, 0, 0, 1]),
                    false => dice.of(&[0, 0, 1, 10, 40, 44, 45, 56, 57, 400]),
                },
                options: if answers { dice.of(&OPTIONS).0.to_vec() } else { Vec::new() },
                sum: dice.of(&[
                    Sum::Whole,
                    Sum::Whole,
                    Sum::Partial,
                    Sum::Partial,
                    Sum::Wrong,
                    Sum::Pretended,
                    Sum::Zero,
                ]),
                tos: dice.of(&[0, 2, 0xb8]),
                ttl: dice.of(&[64, 1, 255]),
                odd: dice.of(&[
                    Odd::No,
                    Odd::No,
                    Odd::No,
                    Odd::No,
                    Odd::Padded,
                    Odd::Fragment,
                    Odd::HeaderSum,
                    Odd::Options,
                    Odd::TooLong,
                    Odd::Transport,
                ]),
                ..base.clone()
            };
            let said = || format!("seed {seed}: {shape:?} after {before:?} ({tcp:?})");
            // What is not of IPv6, and sums that ICMP has not: no pseudo header, none at all.
            let is_echo = ![ipproto::TCP, ipproto::UDP].contains(&shape.proto);
            let is_no_shape = shape.v6
                && matches!(shape.odd, Odd::Fragment | Odd::HeaderSum | Odd::Options)
                || is_echo
                    && (matches!(shape.sum, Sum::Partial | Sum::Pretended | Sum::Zero)
                        || shape.odd == Odd::Transport)
                || shape.proto == ipproto::TCP && shape.sum == Sum::Zero;
            if is_no_shape {
                continue;
            }
            let plain = !matches!(shape.odd, Odd::Fragment | Odd::Options | Odd::TooLong);
            let now = (rig.clock)();
            entries.iter().for_each(|e| e.serve(1));
            let counted = entries.map(Entry::counted);
            let fits = plain && trackers[1].known(now, &shape);
            let went = rig.send(&shape);
            let frame = shape.packet();
            let is_through = fits && !is_left_to_workers(&shape, max_len, states);
            // Of a connection that is over the tracker tolerates what is not quite inside the window.
            let is_over = states.is_some_and(|s| s.iter().any(|s| *s >= PeerState::FinWait2));
            match &went {
                Went::Through(f, offload) => {
                    assert!(is_through, "forwarded: {}", said());
                    assert_eq!(f, frame.frame(), "{}", said());
                    assert_eq!(offload.needs_csum, frame.offload.needs_csum, "{}", said());
                    let after = entries[dir as usize].counted();
                    let old = counted[dir as usize];
                    assert_eq!(after.packets, old.packets + 1, "{}", said());
                    assert_eq!(after.bytes, old.bytes + frame.len() as u64, "{}", said());
                    n_through += 1;
                    let is_tcp_with = |flag| shape.proto == ipproto::TCP && shape.flags & flag != 0;
                    n_answered += u32::from(is_tcp_with(SYN));
                    n_closed += u32::from(is_tcp_with(FIN));
                }
                Went::Up(f, _) => {
                    assert!(!is_through || is_over, "left to workers: {}", said());
                    assert_eq!(f, frame.frame(), "{}", said());
                    assert_eq!(entries.map(Entry::counted), counted, "{}", said());
                    let untouched = trackers[0].snapshot().zip(before[0]);
                    assert!(untouched.is_some_and(|(a, b)| alike(&a, &b)), "{}", said());
                    // The worker that gets it does this.
                    assert_eq!(plain && trackers[0].known(now, &shape), fits, "{}", said());
                }
            }
            let [ours, twin] = trackers.each_ref().map(|t| t.snapshot().unwrap());
            let twin = ConnSnapshot { id: ours.id, start: ours.start, ..twin };
            assert!(alike(&ours, &twin), "{ours:?}\n{twin:?}\n{}", said());
        }
        for entry in entries {
            entry.retire();
            rig.path.take(entry);
        }
    }
    assert!(n_through > 200, "{n_through} packets stayed in the kernel; seed {seed}");
    assert!(n_answered > 8, "{n_answered} answers stayed in the kernel; seed {seed}");
    assert!(n_closed > 8, "{n_closed} connections were closed there; seed {seed}");
}

/// Of what nobody tracks sums, windows and states are its ends' own business.
#[test]
fn what_is_not_tracked_goes_on_as_it_is() {
    let Some(mut rig) = rig("kp-plain") else { return };
    let mut dice = Dice(7);
    for round in 0..8 {
        let v6 = round % 2 == 1;
        let proto = [ipproto::TCP, ipproto::UDP, if v6 { 58 } else { 1 }][round / 2 % 3];
        let base = Shape::new(v6, proto, Dir::Orig);
        let entry = rig.path.entry().unwrap();
        let target = Target::Device(Rig::ifindex(&rig.out));
        entry.set(&Terms {
            lent: None,
            mark_mask: 0,
            // As where a flow looks at the flag.
            varies: (u32::from(SYN), 0),
            max_len: 200,
            tag: Retag::Keep,
            target,
        });
        rig.path.put(&base.key(Rig::ifindex(&rig.came)), entry).unwrap();
        entry.serve(1);
        let (mut packets, mut bytes, mut flags) = (0, 0, 0);
        for _ in 0..60 {
            let shape = Shape {
                seq: dice.roll(1 << 32) as u32,
                flags: dice.of(&[ACK, ACK, ACK | FIN, ACK | 8, SYN, SYN | ACK, RST | ACK, 0, FIN]),
                payload: dice.of(&[0, 1, 56, 100, 180]),
                sum: dice.of(&[Sum::Whole, Sum::Wrong]),
                odd: dice.of(&[Odd::No, Odd::No, Odd::Padded, Odd::TooLong, Odd::Transport]),
                ..base.clone()
            };
            let is_icmp = proto != ipproto::TCP && proto != ipproto::UDP;
            if is_icmp && shape.odd == Odd::Transport {
                continue;
            }
            let turns = proto == ipproto::TCP && shape.flags & (SYN | RST | ACK) != ACK;
            let odd = match shape.odd {
                Odd::TooLong => true,
                // A header of sixty bytes may be there.
                Odd::Transport if proto == ipproto::TCP => shape.payload < 40,
                Odd::Transport => shape.payload > 0,
                _ => false,
            };
            entry.serve(1);
            let frame = shape.packet();
            let is_through = !turns && !odd && frame.len() <= 200;
            match rig.send(&shape) {
                Went::Through(f, _) => {
                    assert!(is_through, "{shape:?}");
                    assert_eq!(f, frame.frame());
                    packets += 1;
                    bytes += frame.len() as u64;
                    flags |= if proto == ipproto::TCP { u16::from(shape.flags) } else { 0 };
                }
                Went::Up(f, _) => {
                    assert!(!is_through, "{shape:?}");
                    assert_eq!(f, frame.frame());
                    // Those that follow have nothing to wait for.
                    assert!(!turns || entry.serves() == 1, "{shape:?}");
                }
            }
            let counted = entry.counted();
            let (n, sum) = (counted.packets, counted.bytes);
            assert_eq!((n, sum, counted.tcp_flags), (packets, bytes, flags), "{shape:?}");
        }
        assert!(packets > 5);
        entry.retire();
        assert!(matches!(rig.send(&base), Went::Up(..)));
        rig.path.take(entry);
    }
}

#[test]
fn tags_are_put_on_and_taken_off() {
    let Some(mut rig) = rig("kp-tags") else { return };
    let tag = |tpid: u16, tci: u16| [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
    let (dot1q, dot1ad) = (ethertype::VLAN, ethertype::QINQ);
    for (tci, retag, after) in [
        (None, Retag::Push { tpid: dot1q, tci: 0x600a }, Some(tag(dot1q, 0x600a))),
        (None, Retag::Push { tpid: dot1q, tci: 0 }, Some(tag(dot1q, 0))),
        (None, Retag::Push { tpid: dot1ad, tci: 7 }, Some(tag(dot1ad, 7))),
        (Some(0x2005), Retag::Pop, None),
        (Some(0x2005), Retag::Keep, Some(tag(dot1q, 0x2005))),
    ] {
        for sum in [Sum::Whole, Sum::Partial] {
            let shape = Shape { tci, sum, ..Shape::new(sum == Sum::Whole, 17, Dir::Orig) };
            let entry = rig.path.entry().unwrap();
            let target = Target::Device(Rig::ifindex(&rig.out));
            let terms = Terms {
                lent: None,
                mark_mask: 0,
                varies: (0, 0),
                max_len: 200,
                tag: retag,
                target,
            };
            entry.set(&terms);
            rig.path.put(&shape.key(Rig::ifindex(&rig.came)), entry).unwrap();
            entry.serve(1);
            let Went::Through(frame, offload) = rig.send(&shape) else { panic!("{retag:?}") };
            let mut expected = shape.packet().frame().to_vec();
            if tci.is_some() {
                expected.drain(12..16);
            }
            expected.splice(12..12, after.iter().flatten().copied());
            assert_eq!(frame, expected, "{retag:?}");
            assert_eq!(offload.needs_csum, sum == Sum::Partial);
            rig.path.take(entry);
        }
    }
}

/// Everything that makes an entry wrong stops it at the next packet.
#[test]
fn an_entry_serves_only_while_all_is_as_it_was() {
    let Some(mut rig) = rig("kp-stops") else { return };
    let shape = Shape { payload: 0, seq: 1, ..Shape::new(false, ipproto::UDP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &shape, [None; 2], Stage::Standing);
    let [entry, reply] = rig.serve(&trackers[0], &shape, 1514);
    let served = std::cell::Cell::new(1);
    let passes = |rig: &mut Rig| {
        entry.serve(served.get());
        matches!(rig.send(&shape), Went::Through(..))
    };
    assert!(passes(&mut rig));
    rig.path.enable(false);
    assert!(!passes(&mut rig));
    rig.path.enable(true);
    assert!(passes(&mut rig));
    rig.path.generation().store(2, Relaxed);
    assert!(!passes(&mut rig));
    served.set(2);
    assert!(passes(&mut rig));
    // A packet of another TTL, where that counts.
    let known = trackers[0].of(Dir::Orig);
    let lent = trackers[0].table.lookahead(0).unwrap().lend(known).unwrap();
    let target = Target::Device(Rig::ifindex(&rig.out));
    let terms = Terms {
        lent: Some(lent),
        mark_mask: 0,
        varies: (0xff << 16, 63 << 16),
        max_len: 1514,
        tag: Retag::Keep,
        target,
    };
    entry.set(&terms);
    assert!(!passes(&mut rig));
    entry.set(&Terms { varies: (0xff << 16, 64 << 16), ..terms });
    assert!(passes(&mut rig));
    // A mark that a flow looks at, and that changes.
    entry.set(&Terms { mark_mask: 0xff, ..terms });
    entry.set(&Terms { mark_mask: 0xff, varies: (0, 0), ..terms });
    assert!(passes(&mut rig));
    let req = CtRequest { commit: true, mark: Some((5, 0xff)), ..CtRequest::LOOK };
    let mut p = shape.packet();
    let mut key = PacketKey::ZERO;
    flow::extract(&mut p, &mut key);
    trackers[0].table.process((rig.clock)(), &p, key.dl_type, &req, &mut None);
    assert!(!passes(&mut rig));
    entry.set(&Terms { varies: (0, 0), ..terms });
    assert!(passes(&mut rig));
    // Somebody wants to hear of events.
    trackers[0].table.set_events(10);
    assert!(!passes(&mut rig));
    trackers[0].table.set_events(0);
    assert!(passes(&mut rig));
    // The connection is gone, and another has its place.
    assert_eq!(trackers[0].table.delete((rig.clock)(), &ConnFilter::default()), 1);
    assert!(!passes(&mut rig));
    let old = trackers[0].conn.unwrap();
    let [ours, _] = &mut trackers;
    for dir in [Dir::Orig, Dir::Reply, Dir::Orig] {
        ours.open((rig.clock)(), &Shape { dir, ..shape.clone() });
    }
    assert_ne!(ours.conn.unwrap(), old);
    assert!(!passes(&mut rig));
    rig.path.take(entry);
    rig.path.take(reply);
    rig.serve(ours, &shape, 1514);
    assert!(matches!(rig.send(&Shape { dir: Dir::Reply, ..shape.clone() }), Went::Through(..)));
}

/// Who asks for the time may have to wait; that does not make it another time.
#[test]
fn time_is_told_apart_from_waiting() {
    let Ok((path, _)) = KernelPath::new(HashKey([5, 6]), 1) else { return };
    let began = std::time::Instant::now();
    let clock = || Instant::from_nanos(5_000_000_000 + began.elapsed().as_nanos() as u64);
    path.set_clock(clock);
    let wait = || std::thread::sleep(Duration::from_millis(150));
    let later = |seconds| clock() + Duration::from_secs(seconds);
    assert!(path.is_in_time(clock));
    assert!(!path.is_in_time(|| later(1)));
    let waits = || {
        wait();
        let now = clock();
        wait();
        now
    };
    assert!(path.is_in_time(waits));
    assert!(!path.is_in_time(|| waits() + Duration::from_secs(1)));
}

/// A packet that the sender's device would have cut goes on as it is, if what it is to be cut to is short enough.
#[test]
fn large_segments_go_out_whole() {
    let Some(mut rig) = rig("kp-large") else { return };
    let base = Shape { seq: 1001, ack: 5001, ..Shape::new(false, ipproto::TCP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &base, [Some(7); 2], Stage::Standing);
    let [orig, _] = rig.serve(&trackers[0], &base, 200);
    let shape = Shape { payload: 900, sum: Sum::Partial, ..base };
    assert!(matches!(rig.send(&shape), Went::Up(..)), "longer than a frame may be");
    orig.serve(1);
    let mut p = shape.packet();
    (p.offload.gso_type, p.offload.gso_size, p.offload.hdr_len) = (GsoType::TcpV4, 100, 54);
    let Went::Through(frame, offload) = rig.send_packet(&p) else { panic!("it went up") };
    assert_eq!(frame, p.frame());
    assert_eq!((offload.gso_type, offload.gso_size), (GsoType::TcpV4, 100));
    // Cut to frames that are too long for the way out: a worker cuts it shorter.
    for (size, goes_out) in [(146, true), (147, false)] {
        p.offload.gso_size = size;
        let went = rig.send_packet(&p);
        assert_eq!(matches!(went, Went::Through(..)), goes_out, "{size}");
    }
}

#[test]
fn packets_arrive_at_the_other_end_in_another_namespace() {
    let Some(mut rig) = rig("kp-peer") else { return };
    let other = rig.ns.sibling("other").unwrap();
    rig.ns.ip(&format!("link add p3 type veth peer name eth0 netns {}", other.pid())).unwrap();
    rig.ns.ip("link set p3 up").unwrap();
    other.ip("link set eth0 up").unwrap();
    enter(&other);
    wait_running(&["eth0"]);
    rig.far = End::open("eth0", None);
    enter(&rig.ns);
    let p3 = End::open("p3", Some(Arc::clone(&rig.bypass)));
    assert_eq!(p3.port.state().bypass(), Some(netdev::Way::Peer));
    let shape = Shape { payload: 20, seq: 1, ..Shape::new(true, ipproto::UDP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &shape, [None; 2], Stage::Standing);
    for entry in rig.serve(&trackers[0], &shape, 1514) {
        entry.lead(Target::Peer(Rig::ifindex(&p3)), 1514);
        assert!(!entry.leads_out());
    }
    for dir in [Dir::Orig, Dir::Reply] {
        for sum in [Sum::Whole, Sum::Partial] {
            let shape = Shape { dir, sum, ..shape.clone() };
            assert!(matches!(rig.send(&shape), Went::Through(..)), "{shape:?}");
        }
    }
}

/// A packet that a worker gets is not overtaken by those behind it.
#[test]
fn what_follows_a_packet_that_went_up_goes_up_too() {
    let Some(mut rig) = rig("kp-order") else { return };
    let short = Shape { seq: 1001, ack: 5001, ..Shape::new(false, ipproto::TCP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &short, [Some(7); 2], Stage::Standing);
    let [orig, reply] = rig.serve(&trackers[0], &short, 1514);
    // Too long to be summed; a number of another connection.
    let long = Shape { payload: 400, ..short.clone() };
    let stray = Shape { seq: 1 << 31, ..short.clone() };
    for first in [long, stray] {
        assert!(matches!(rig.send(&short), Went::Through(..)));
        assert!(matches!(rig.send(&first), Went::Up(..)), "{first:?}");
        assert_eq!((orig.serves(), reply.serves()), (0, 1));
        assert!(matches!(rig.send(&short), Went::Up(..)), "after {first:?}");
        orig.serve(1);
    }
    assert!(matches!(rig.send(&short), Went::Through(..)));
}

/// What was taken has one copy, and what was not has one, too.
#[test]
fn no_packet_goes_both_ways() {
    let Some(mut rig) = rig("kp-once") else { return };
    let shape = Shape { payload: 20, seq: 1, ..Shape::new(false, ipproto::UDP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &shape, [None; 2], Stage::Standing);
    let [entry, _] = rig.serve(&trackers[0], &shape, 1514);
    for i in 0..100 {
        if i % 3 == 0 {
            entry.retire()
        } else {
            entry.serve(1)
        };
        assert_eq!(matches!(rig.send(&shape), Went::Through(..)), i % 3 != 0);
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(rig.far.get().is_none() && rig.came.get().is_none());
    // What leaves by the device does not come back.
    assert_eq!(rig.came.tx.send(&[&shape.packet()]), 1);
    eventually("it arrives", PATIENCE, || Ok(rig.sender.get())).unwrap();
    assert!(rig.came.get().is_none() && rig.far.get().is_none());
}
