//! The program of the packet sockets: it decides which packets the kernel forwards.
//!
//! Stages: read the headers of a plain packet (IPv4 without options or IPv6 without extension headers, no fragment; a whole
//! TCP or UDP header, or an ICMP echo); find the [`Entry`]; if it is of a connection, check the packet's sums, hold the
//! connection and [track] the packet; count; tell the [ingress] program where it goes. At any step that does not fit, the packet is the sockets'.
//!
//! Sums: a packet whose sender left the transport's sum to the device, or whose sum the device found right, is taken as it
//! is, as the kernel's own record of the packet says. Else it is summed, if it is short; a long one is for a worker.

use std::os::fd::{AsFd, AsRawFd};

use bpf::asm::{
    Alu, Asm, If, Label,
    Reg::{self, *},
    Size,
};
use bpf::{Arena, Bits, Map, Types};
use conntrack::{Rules, layout};
use packet::header::{ETH_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, ethertype, ipproto, tcp_flag};

use crate::entry::{Entry, Key};
use crate::table::{self, Hash};
use crate::{Control, ingress, track};

/// Fields of `struct __sk_buff`.
pub(crate) mod skb {
    pub(crate) const LEN: i16 = 0;
    pub(crate) const PKT_TYPE: i16 = 4;
    pub(crate) const PROTOCOL: i16 = 16;
    pub(crate) const VLAN_PRESENT: i16 = 20;
    pub(crate) const VLAN_TCI: i16 = 24;
    pub(crate) const VLAN_PROTO: i16 = 28;
    pub(crate) const IFINDEX: i16 = 40;
    pub(crate) const GSO_SIZE: i16 = 176;
}

const MAP_LOOKUP_ELEM: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const SKB_LOAD_BYTES: i32 = 26;
const PACKET_OUTGOING: i32 = 4;

// The stack, from its end.
pub(crate) const KEY: i16 = -64;
/// The IP header.
const IP: i16 = KEY - IPV6_LEN as i16;
/// The transport header, without options.
const L4: i16 = IP - 24;
/// Words of the program's own.
const fn word(n: i16) -> i16 {
    L4 - 8 * n
}
/// Bytes of the IP packet.
const TOTAL: i16 = word(1);
/// Those of the transport header and what follows, and where they begin in the frame.
const BODY_LEN: i16 = word(2);
const BODY_AT: i16 = word(3);
pub(crate) const PROTO: i16 = word(4);
/// Sum of the addresses.
const ADDRESS_SUM: i16 = word(5);
/// The transport's sum, as it says.
const SUM: i16 = word(20);
/// Bytes behind the transport header.
const PAYLOAD: i16 = word(21);
/// Of a SYN: how its end wants its windows scaled, as [`layout::PEER_SCALE`] has it.
pub(crate) const WSCALE: i16 = word(22);
/// Sum of the pseudo header.
const PSEUDO_SUM: i16 = word(6);
/// TOS and TTL, and TCP flags: as the entry has them.
const VARIES: i16 = word(7);
pub(crate) const FLAGS: i16 = word(8);
const FRAME_LEN: i16 = word(9);
pub(crate) const NOW: i16 = word(10);
pub(crate) const EXPIRES: i16 = word(11);
pub(crate) const SEQ: i16 = word(12);
pub(crate) const ACK: i16 = word(13);
pub(crate) const WINDOW: i16 = word(14);
/// Sequence numbers that it takes.
pub(crate) const SPACE: i16 = word(15);
const INDEX: i16 = word(16);
/// By how much the window is scaled.
pub(crate) const SHIFT: i16 = word(17);
/// What becomes of the end that sends, and of the one that receives.
pub(crate) const SENDER: i16 = word(18);
pub(crate) const RECEIVER: i16 = word(19);
/// The transport header and what follows, to be summed.
const BODY: i16 = WSCALE - MAX_SUMMED as i16;
/// An echo of the usual size.
const MAX_SUMMED: i32 = 64;

/// How often one looks whether a connection that somebody else holds is free again: some microseconds, which are more than
/// a packet of the other direction takes on another processor. Who gives up goes to a worker.
const TRIES: i32 = 128;
/// And between two looks it does so much that takes time: the kernel looks at each try before it believes in the program.
const PAUSE: i32 = 2;

/// Where a field of an entry is.
macro_rules! entry {
    ($field:ident) => {
        std::mem::offset_of!(Entry, $field) as i16
    };
}
pub(crate) use entry;

/// What the program is made for.
pub(crate) struct Parts<'a> {
    pub arena: &'a Arena,
    pub hash: &'a Hash,
    pub verdict: &'a Map,
    pub control: &'static Control,
    pub rules: &'static Rules,
    pub summed: Summed,
}

/// How the kernel tells whether a packet's sum is to be believed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Summed {
    /// Number of the function that gives the kernel's record of a packet.
    record: u32,
    /// `ip_summed` in it.
    at: Bits,
}

impl Summed {
    pub fn of_kernel() -> Option<Summed> {
        let types = Types::of_kernel()?;
        let record = types.function("bpf_cast_to_kern_ctx")?;
        let at = types.bits("sk_buff", "ip_summed").filter(|b| b.n == 2)?;
        Some(Summed { record, at })
    }
}

/// R6: the packet. R7: the entry. R8: the connection. R9: the verdict.
pub(crate) fn assemble(p: &Parts<'_>) -> Vec<u64> {
    let a = &mut Asm::new();
    // Where a packet may turn out to be for the sockets: without an entry, with one, and with its connection held.
    let (keep, late, release_late) = (a.label(), a.label(), a.label());
    let (drop, v6, read) = (a.label(), a.label(), a.label());
    a.mov(R6, R1);
    begin(a, p, keep, drop);
    a.load(Size::U32, R1, R6, skb::PROTOCOL);
    a.jump(If::Eq, R1, i32::from(ethertype::IPV6.to_be()), v6);
    a.jump(If::Ne, R1, i32::from(ethertype::IPV4.to_be()), keep);
    read_v4(a, keep);
    a.goto(read);
    a.put(v6);
    read_v6(a, keep);
    a.put(read);
    read_ports(a, keep);
    read_transport(a, keep);
    table::search(a, p.hash, p.control, keep);
    let (fit, untracked, counted) = (a.label(), a.label(), a.label());
    a.load(Size::U32, R8, R7, entry!(conn));
    a.jump(If::Ne, R8, 0, fit);
    // Workers hear of an address by what begins, and of what is not tracked nothing has to wait for that.
    a.load(Size::U64, R1, R10, FLAGS);
    a.jump(If::AnyBit, R1, i32::from(tcp_flag::SYN), keep);
    a.put(fit);
    check_entry(a, p, late);
    a.jump(If::Eq, R8, 0, untracked);
    a.in_arena(R8, R8);
    check_sum(a, p.summed, late);
    // Who waits in vain comes late alone: those that follow are many, and the next one may find it free.
    hold(a, keep);
    check_connection(a, release_late);
    track::track(a, p, release_late);
    count(a);
    release(a);
    a.goto(counted);
    a.put(untracked);
    count_untracked(a);
    a.put(counted);
    tell(a);
    a.put(drop);
    a.mov(R0, 0);
    a.exit();
    a.put(release_late);
    release(a);
    a.put(late);
    // What follows is not to overtake it, so a worker says when the entry serves again.
    a.store(Size::U64, R7, entry!(generation), 0);
    a.put(keep);
    a.mov(R0, -1);
    a.exit();
    std::mem::take(a).finish()
}

fn stack(a: &mut Asm, dst: Reg, at: i16) {
    a.mov(dst, R10);
    a.alu(Alu::Add, dst, i32::from(at));
}

/// `dst` points to what lies in the arena at a constant address.
pub(crate) fn fixed<T>(a: &mut Asm, dst: Reg, of: &'static T) {
    a.alu32(Alu::Mov, dst, Arena::address(of) as i32);
    a.in_arena(dst, dst);
}

/// Reads `n` bytes of the packet from `off` on to the stack.
fn load_bytes(a: &mut Asm, off: usize, to: i16, n: i32) {
    a.mov(R1, R6);
    a.mov(R2, off as i32);
    stack(a, R3, to);
    a.mov(R4, n);
    a.call(SKB_LOAD_BYTES);
}

/// What does not need the packet's bytes, and its tag.
fn begin(a: &mut Asm, p: &Parts<'_>, keep: Label, drop: Label) {
    a.store(Size::U32, R10, INDEX, 0);
    stack(a, R2, INDEX);
    a.load_map(R1, p.verdict.as_fd().as_raw_fd());
    a.call(MAP_LOOKUP_ELEM);
    a.jump(If::Eq, R0, 0, keep);
    a.mov(R9, R0);
    a.store(Size::U32, R9, ingress::TARGET, 0);
    // What leaves by the device is nobody's.
    a.load(Size::U32, R1, R6, skb::PKT_TYPE);
    a.jump(If::Eq, R1, PACKET_OUTGOING, drop);
    // The program has to name the arena once.
    a.load_map(R1, p.arena.as_fd().as_raw_fd());
    fixed(a, R1, p.control);
    a.load(Size::U64, R1, R1, std::mem::offset_of!(Control, off) as i16);
    a.jump(If::Ne, R1, 0, keep);
    fixed(a, R1, p.rules);
    a.load(Size::U8, R1, R1, layout::RULES_FLAGS);
    a.jump(If::AnyBit, R1, i32::from(layout::EVENTS), keep);
    let untagged = a.label();
    a.mov(R2, 0);
    a.load(Size::U32, R7, R6, skb::LEN);
    a.load(Size::U32, R1, R6, skb::VLAN_PRESENT);
    a.jump(If::Eq, R1, 0, untagged);
    a.load(Size::U32, R1, R6, skb::VLAN_PROTO);
    a.jump(If::Ne, R1, i32::from(ethertype::VLAN.to_be()), keep);
    a.load(Size::U32, R2, R6, skb::VLAN_TCI);
    a.alu(Alu::Or, R2, i32::from(Key::TAGGED));
    a.alu(Alu::Add, R7, 4);
    a.put(untagged);
    a.store(Size::U16, R10, KEY + Key::TCI as i16, R2);
    a.store(Size::U64, R10, FRAME_LEN, R7);
}

/// Adds the upper half to the lower one until there is none, for a sum of 16-bit words.
fn fold(a: &mut Asm, sum: Reg, spare: Reg) {
    for (bits, mask) in [(32, None), (16, Some(0xffff)), (16, Some(0xffff)), (16, Some(0xffff))] {
        a.mov(spare, sum);
        a.alu(Alu::Shr, spare, bits);
        match mask {
            Some(mask) => a.alu(Alu::And, sum, mask),
            None => a.alu32(Alu::Mov, sum, sum),
        }
        a.alu(Alu::Add, sum, spare);
    }
}

/// Ethernet addresses and where the packet came by, into the key.
fn read_origin(a: &mut Asm, keep: Label) {
    load_bytes(a, 0, KEY + Key::ETH as i16, 12);
    a.jump(If::Ne, R0, 0, keep);
    a.load(Size::U32, R1, R6, skb::IFINDEX);
    a.store(Size::U32, R10, KEY + Key::IFINDEX as i16, R1);
}

/// Adds up the words of the stack from `at` on in `sum`.
fn sum_up(a: &mut Asm, sum: Reg, spare: Reg, at: i16, n_bytes: i16) {
    for at in (at..at + n_bytes).step_by(4) {
        a.load(Size::U32, spare, R10, at);
        a.alu(Alu::Add, sum, spare);
    }
}

/// Version and addresses from the header into the key, and their sum.
fn read_addresses(a: &mut Asm, version: i32, at: i16, n_bytes: i16) {
    a.store(Size::U8, R10, KEY + Key::VERSION as i16, version);
    for i in (Key::ADDRESSES as i16 + n_bytes..8 * Key::WORDS as i16).step_by(8) {
        a.store(Size::U64, R10, KEY + i, 0);
    }
    a.mov(R2, 0);
    for i in (0..n_bytes).step_by(4) {
        a.load(Size::U32, R1, R10, IP + at + i);
        a.store(Size::U32, R10, KEY + Key::ADDRESSES as i16 + i, R1);
        a.alu(Alu::Add, R2, R1);
    }
    a.store(Size::U64, R10, ADDRESS_SUM, R2);
}

/// Lengths, where the IP packet has `R1` bytes, `header` of them its header: they fit into the frame and have a
/// transport header.
fn read_lengths(a: &mut Asm, header: usize, keep: Label) {
    a.store(Size::U64, R10, TOTAL, R1);
    a.jump(If::Lt, R1, (header + UDP_LEN) as i32, keep);
    a.mov(R2, R1);
    a.alu(Alu::Add, R2, ETH_LEN as i32);
    a.load(Size::U32, R3, R6, skb::LEN);
    a.jump(If::Gt, R2, R3, keep);
    a.alu(Alu::Sub, R1, header as i32);
    a.store(Size::U64, R10, BODY_LEN, R1);
    a.store(Size::U64, R10, BODY_AT, (ETH_LEN + header) as i32);
}

fn read_v4(a: &mut Asm, keep: Label) {
    const MORE_OR_OFFSET: u16 = 0x3fff;
    read_origin(a, keep);
    load_bytes(a, ETH_LEN, IP, IPV4_LEN as i32);
    a.jump(If::Ne, R0, 0, keep);
    a.load(Size::U8, R1, R10, IP);
    a.jump(If::Ne, R1, 0x45, keep);
    a.load(Size::U16, R1, R10, IP + 6);
    a.jump(If::AnyBit, R1, i32::from(MORE_OR_OFFSET.to_be()), keep);
    a.mov(R1, 0);
    sum_up(a, R1, R2, IP, IPV4_LEN as i16);
    fold(a, R1, R2);
    a.jump(If::Ne, R1, 0xffff, keep);
    a.load(Size::U16, R1, R10, IP + 2);
    a.swap(R1, Size::U16);
    read_lengths(a, IPV4_LEN, keep);
    a.load(Size::U8, R1, R10, IP + 9);
    a.jump(If::Eq, R1, i32::from(ipproto::ICMPV6), keep);
    a.store(Size::U64, R10, PROTO, R1);
    a.load(Size::U8, R1, R10, IP + 1);
    a.alu(Alu::Shl, R1, 8);
    a.load(Size::U8, R2, R10, IP + 8);
    a.alu(Alu::Or, R1, R2);
    a.alu(Alu::Shl, R1, 16);
    a.store(Size::U64, R10, VARIES, R1);
    read_addresses(a, 4, 12, 8);
}

fn read_v6(a: &mut Asm, keep: Label) {
    read_origin(a, keep);
    load_bytes(a, ETH_LEN, IP, IPV6_LEN as i32);
    a.jump(If::Ne, R0, 0, keep);
    a.load(Size::U16, R2, R10, IP);
    a.swap(R2, Size::U16);
    a.mov(R1, R2);
    a.alu(Alu::Shr, R1, 12);
    a.jump(If::Ne, R1, 6, keep);
    // The class, in the place of the TOS, and the hop limit.
    a.alu(Alu::Shr, R2, 4);
    a.alu(Alu::And, R2, 0xff);
    a.alu(Alu::Shl, R2, 8);
    a.load(Size::U8, R1, R10, IP + 7);
    a.alu(Alu::Or, R2, R1);
    a.alu(Alu::Shl, R2, 16);
    a.store(Size::U64, R10, VARIES, R2);
    a.load(Size::U16, R1, R10, IP + 4);
    a.swap(R1, Size::U16);
    a.alu(Alu::Add, R1, IPV6_LEN as i32);
    read_lengths(a, IPV6_LEN, keep);
    a.load(Size::U8, R1, R10, IP + 6);
    a.jump(If::Eq, R1, i32::from(ipproto::ICMP), keep);
    a.store(Size::U64, R10, PROTO, R1);
    read_addresses(a, 6, 8, 32);
}

/// The transport header, and the rest of the key.
fn read_ports(a: &mut Asm, keep: Label) {
    let (read, with_ports, have_ports) = (a.label(), a.label(), a.label());
    for n in [TCP_LEN, UDP_LEN] {
        a.mov(R1, R6);
        a.load(Size::U64, R2, R10, BODY_AT);
        stack(a, R3, L4);
        a.mov(R4, n as i32);
        a.call(SKB_LOAD_BYTES);
        // What is too short for the one may be the other.
        a.jump(If::Eq, R0, 0, read);
    }
    a.goto(keep);
    a.put(read);
    a.load(Size::U64, R1, R10, PROTO);
    a.store(Size::U8, R10, KEY + Key::PROTO as i16, R1);
    let to = KEY + Key::PORTS as i16;
    a.load(Size::U32, R2, R10, L4);
    a.jump(If::Eq, R1, i32::from(ipproto::TCP), with_ports);
    a.jump(If::Eq, R1, i32::from(ipproto::UDP), with_ports);
    // Type and code, and the identifier: of echoes, or there is no such entry.
    a.store(Size::U16, R10, to, R2);
    a.load(Size::U16, R2, R10, L4 + 4);
    a.store(Size::U16, R10, to + 2, R2);
    a.goto(have_ports);
    a.put(with_ports);
    a.store(Size::U32, R10, to, R2);
    a.put(have_ports);
}

/// What TCP says, and the transport's sum.
fn read_transport(a: &mut Asm, keep: Label) {
    let (udp, icmp, done) = (a.label(), a.label(), a.label());
    a.store(Size::U64, R10, FLAGS, 0);
    a.store(Size::U64, R10, WSCALE, i32::from(layout::OFF));
    a.store(Size::U64, R10, PAYLOAD, 0);
    a.load(Size::U64, R1, R10, PROTO);
    a.load(Size::U64, R2, R10, BODY_LEN);
    a.jump(If::Eq, R1, i32::from(ipproto::UDP), udp);
    a.jump(If::Ne, R1, i32::from(ipproto::TCP), icmp);
    a.jump(If::Lt, R2, TCP_LEN as i32, keep);
    a.load(Size::U16, R1, R10, L4 + 12);
    a.swap(R1, Size::U16);
    a.mov(R3, R1);
    a.alu(Alu::And, R1, 0xfff);
    a.jump(If::AnyBit, R1, i32::from(tcp_flag::RST), keep);
    let acknowledges = a.label();
    a.jump(If::AnyBit, R1, i32::from(tcp_flag::ACK), acknowledges);
    a.goto(keep);
    a.put(acknowledges);
    a.store(Size::U64, R10, FLAGS, R1);
    // Bytes of the header.
    a.alu(Alu::Shr, R3, 12);
    a.alu(Alu::Shl, R3, 2);
    a.jump(If::Lt, R3, TCP_LEN as i32, keep);
    a.jump(If::Gt, R3, R2, keep);
    a.alu(Alu::Sub, R2, R3);
    a.store(Size::U64, R10, PAYLOAD, R2);
    const { assert!(tcp_flag::FIN == 1) };
    a.alu(Alu::And, R1, i32::from(tcp_flag::FIN));
    a.alu(Alu::Add, R2, R1);
    a.store(Size::U64, R10, SPACE, R2);
    for (at, to) in [(L4 + 4, SEQ), (L4 + 8, ACK)] {
        a.load(Size::U32, R1, R10, at);
        a.swap(R1, Size::U32);
        a.store(Size::U64, R10, to, R1);
    }
    a.load(Size::U16, R1, R10, L4 + 14);
    a.swap(R1, Size::U16);
    a.store(Size::U64, R10, WINDOW, R1);
    read_answer(a, keep);
    a.load(Size::U16, R3, R10, L4 + 16);
    a.goto(done);
    a.put(udp);
    // A datagram shorter than its packet is for a worker.
    a.load(Size::U16, R1, R10, L4 + 4);
    a.swap(R1, Size::U16);
    a.jump(If::Ne, R1, R2, keep);
    a.alu(Alu::Sub, R2, UDP_LEN as i32);
    a.store(Size::U64, R10, PAYLOAD, R2);
    a.load(Size::U16, R3, R10, L4 + 6);
    a.goto(done);
    a.put(icmp);
    a.load(Size::U16, R3, R10, L4 + 2);
    a.put(done);
    a.store(Size::U64, R10, SUM, R3);
}

/// Of a SYN+ACK without data, how its end wants its windows scaled: as the tracker reads it, up to so many options.
fn read_answer(a: &mut Asm, keep: Label) {
    const MAX_OPTIONS: usize = 8;
    const END: i32 = 0;
    const NOTHING: i32 = 1;
    const WINDOW_SCALE: i32 = 3;
    const OPTION: i16 = L4 + TCP_LEN as i16;
    let (done, scaled, small) = (a.label(), a.label(), a.label());
    a.load(Size::U64, R1, R10, FLAGS);
    a.alu(Alu::And, R1, i32::from(tcp_flag::SYN | tcp_flag::FIN));
    a.jump(If::Le, R1, i32::from(tcp_flag::FIN), done);
    a.jump(If::Ne, R1, i32::from(tcp_flag::SYN), keep);
    a.load(Size::U64, R1, R10, PAYLOAD);
    a.jump(If::Ne, R1, 0, keep);
    // `R7`: where the next option is, `R8`: where the last one ends.
    a.load(Size::U64, R7, R10, BODY_AT);
    a.load(Size::U64, R8, R10, BODY_LEN);
    a.alu(Alu::Add, R8, R7);
    a.alu(Alu::Add, R7, TCP_LEN as i32);
    for _ in 0..MAX_OPTIONS {
        let (next, known) = (a.label(), a.label());
        // What is shorter scales nothing.
        a.mov(R1, R7);
        a.alu(Alu::Add, R1, 3);
        a.jump(If::Gt, R1, R8, done);
        a.mov(R1, R6);
        a.mov(R2, R7);
        stack(a, R3, OPTION);
        a.mov(R4, 3);
        a.call(SKB_LOAD_BYTES);
        a.jump(If::Ne, R0, 0, keep);
        a.load(Size::U8, R1, R10, OPTION);
        a.jump(If::Eq, R1, END, done);
        a.load(Size::U8, R2, R10, OPTION + 1);
        a.jump(If::Ne, R1, NOTHING, known);
        a.mov(R2, 1);
        a.goto(next);
        a.put(known);
        a.jump(If::Lt, R2, 2, done);
        a.jump(If::Ne, R1, WINDOW_SCALE, next);
        a.jump(If::Eq, R2, 3, scaled);
        a.put(next);
        a.alu(Alu::Add, R7, R2);
    }
    a.goto(keep);
    a.put(scaled);
    a.load(Size::U8, R1, R10, OPTION + 2);
    a.jump(If::Le, R1, i32::from(layout::MAX_SHIFT), small);
    a.mov(R1, i32::from(layout::MAX_SHIFT));
    a.put(small);
    a.alu(Alu::Add, R1, i32::from(layout::OFFERED));
    a.store(Size::U64, R10, WSCALE, R1);
    a.put(done);
}

/// Whether the transport's sum is right.
fn check_sum(a: &mut Asm, summed: Summed, keep: Label) {
    const UNNECESSARY: i32 = 1;
    const PARTIAL: i32 = 3;
    let (has_sum, has_pseudo, right) = (a.label(), a.label(), a.label());
    a.mov(R1, R6);
    a.call_kernel(summed.record);
    a.load(Size::U8, R0, R0, summed.at.byte as i16);
    a.alu(Alu::Shr, R0, summed.at.first as i32);
    a.alu(Alu::And, R0, 3);
    a.jump(If::Eq, R0, PARTIAL, right);
    a.jump(If::Eq, R0, UNNECESSARY, right);
    a.load(Size::U64, R3, R10, SUM);
    a.load(Size::U64, R5, R10, PROTO);
    a.jump(If::Ne, R5, i32::from(ipproto::UDP), has_sum);
    a.jump(If::Ne, R3, 0, has_sum);
    // None at all, as IPv4 allows.
    a.load(Size::U32, R1, R6, skb::PROTOCOL);
    a.jump(If::Eq, R1, i32::from(ethertype::IPV4.to_be()), right);
    a.goto(keep);
    a.put(has_sum);
    // ICMP has no pseudo header; no other protocol is without.
    a.mov(R4, 0);
    a.jump(If::Eq, R5, i32::from(ipproto::ICMP), has_pseudo);
    a.load(Size::U64, R4, R10, ADDRESS_SUM);
    a.swap(R5, Size::U16);
    a.alu(Alu::Add, R4, R5);
    a.load(Size::U64, R1, R10, BODY_LEN);
    a.swap(R1, Size::U16);
    a.alu(Alu::Add, R4, R1);
    fold(a, R4, R1);
    a.put(has_pseudo);
    a.store(Size::U64, R10, PSEUDO_SUM, R4);
    for at in (0..MAX_SUMMED as i16).step_by(8) {
        a.store(Size::U64, R10, BODY + at, 0);
    }
    a.load(Size::U64, R4, R10, BODY_LEN);
    a.jump(If::Gt, R4, MAX_SUMMED, keep);
    a.jump(If::Lt, R4, UDP_LEN as i32, keep);
    a.mov(R1, R6);
    a.load(Size::U64, R2, R10, BODY_AT);
    stack(a, R3, BODY);
    a.call(SKB_LOAD_BYTES);
    a.jump(If::Ne, R0, 0, keep);
    a.load(Size::U64, R1, R10, PSEUDO_SUM);
    sum_up(a, R1, R2, BODY, MAX_SUMMED as i16);
    fold(a, R1, R2);
    a.jump(If::Ne, R1, 0xffff, keep);
    a.put(right);
}

/// Whether the entry is to serve this packet; and the time.
fn check_entry(a: &mut Asm, p: &Parts<'_>, keep: Label) {
    a.load(Size::U64, R1, R7, entry!(generation));
    a.jump(If::Eq, R1, 0, keep);
    fixed(a, R2, p.control);
    a.load(Size::U64, R2, R2, std::mem::offset_of!(Control, generation) as i16);
    a.jump(If::Gt, R2, R1, keep);
    a.load(Size::U64, R1, R10, VARIES);
    a.load(Size::U64, R2, R10, FLAGS);
    a.alu(Alu::Or, R1, R2);
    a.load(Size::U32, R2, R7, entry!(varies_mask));
    a.alu(Alu::And, R1, R2);
    a.load(Size::U32, R2, R7, entry!(varies));
    a.jump(If::Ne, R1, R2, keep);
    let whole = a.label();
    a.load(Size::U64, R1, R10, FRAME_LEN);
    a.load(Size::U32, R3, R6, skb::GSO_SIZE);
    a.jump(If::Eq, R3, 0, whole);
    // It is the frames that count which a device will make of it.
    a.load(Size::U64, R2, R10, PAYLOAD);
    a.alu(Alu::Sub, R1, R2);
    a.alu(Alu::Add, R1, R3);
    a.put(whole);
    a.load(Size::U32, R2, R7, entry!(max_len));
    a.jump(If::Gt, R1, R2, keep);
    a.call(KTIME_GET_NS);
    fixed(a, R1, p.control);
    a.load(Size::U64, R1, R1, std::mem::offset_of!(Control, clock) as i16);
    a.alu(Alu::Add, R0, R1);
    a.store(Size::U64, R10, NOW, R0);
}

const LOCK_SHIFT: i32 = (layout::LOCK - layout::LOCK_WORD) as i32 * 8;

/// Holds the connection.
fn hold(a: &mut Asm, keep: Label) {
    let (look, again, attempt, held) = (a.label(), a.label(), a.label(), a.label());
    a.mov(R3, TRIES);
    a.put(look);
    a.load(Size::U32, R0, R8, layout::LOCK_WORD);
    a.mov(R1, R0);
    a.alu(Alu::Shr, R1, LOCK_SHIFT);
    a.alu(Alu::And, R1, 0xff);
    a.jump(If::Eq, R1, i32::from(layout::OPEN), attempt);
    a.jump(If::Ne, R1, i32::from(layout::HELD), keep);
    a.put(again);
    for _ in 0..PAUSE {
        a.mov(R1, 0);
        a.fetch_add(R10, INDEX, R1);
    }
    a.alu(Alu::Sub, R3, 1);
    a.jump(If::Eq, R3, 0, keep);
    a.goto(look);
    a.put(attempt);
    a.mov(R2, R0);
    a.mov(R1, R0);
    a.alu32(Alu::Add, R1, i32::from(layout::HELD - layout::OPEN) << LOCK_SHIFT);
    a.compare_exchange(R8, layout::LOCK_WORD, R1);
    a.jump32(If::Eq, R0, R2, held);
    a.goto(again);
    a.put(held);
}

/// The connection is free again.
fn release(a: &mut Asm) {
    if cfg!(target_arch = "x86_64") {
        // Stores stay in their order.
        a.store(Size::U8, R8, layout::LOCK, i32::from(layout::OPEN));
    } else {
        a.mov(R1, -(i32::from(layout::HELD - layout::OPEN) << LOCK_SHIFT));
        a.fetch_add(R8, layout::LOCK_WORD, R1);
    }
}

/// Whether the connection is the one it was, and may be tracked here.
fn check_connection(a: &mut Asm, unfit: Label) {
    a.load(Size::U32, R1, R8, layout::GENERATION);
    a.load(Size::U32, R2, R7, entry!(conn_generation));
    a.jump(If::Ne, R1, R2, unfit);
    a.load(Size::U16, R1, R8, layout::POLICY);
    a.jump(If::Ne, R1, 0, unfit);
    a.load(Size::U64, R1, R8, layout::EXPIRES);
    a.load(Size::U64, R2, R10, NOW);
    a.jump(If::Le, R1, R2, unfit);
    let any_mark = a.label();
    let unmarked = a.label();
    a.load(Size::U32, R3, R7, entry!(mark_mask));
    a.jump(If::Eq, R3, 0, any_mark);
    a.mov(R2, 0);
    a.load(Size::U8, R1, R8, layout::RARE);
    a.alu(Alu::And, R1, i32::from(layout::MARKED));
    a.jump(If::Eq, R1, 0, unmarked);
    a.load(Size::U32, R2, R8, layout::MARK);
    a.put(unmarked);
    a.alu(Alu::And, R2, R3);
    a.load(Size::U32, R1, R7, entry!(mark));
    a.jump(If::Ne, R1, R2, unfit);
    a.put(any_mark);
}

/// Counts the packet where its connection is held.
fn count(a: &mut Asm) {
    a.load(Size::U64, R1, R10, EXPIRES);
    a.store(Size::U64, R8, layout::EXPIRES, R1);
    let add = |a: &mut Asm, base: Reg, at: i16, n: Reg| {
        a.load(Size::U64, R1, base, at);
        a.alu(Alu::Add, R1, n);
        a.store(Size::U64, base, at, R1);
    };
    a.load(Size::U8, R3, R7, entry!(dir));
    a.alu(Alu::Shl, R3, 4);
    a.alu(Alu::Add, R3, R8);
    a.mov(R2, 1);
    add(a, R3, layout::TRAFFIC, R2);
    add(a, R7, entry!(packets), R2);
    a.load(Size::U64, R2, R10, TOTAL);
    add(a, R3, layout::TRAFFIC + 8, R2);
    a.load(Size::U64, R2, R10, FRAME_LEN);
    add(a, R7, entry!(bytes), R2);
    note(a);
}

/// Counts a packet that is tracked by nobody, while others may be counted.
fn count_untracked(a: &mut Asm) {
    a.mov(R1, 1);
    a.add_at_once(R7, entry!(packets), R1);
    a.load(Size::U64, R1, R10, FRAME_LEN);
    a.add_at_once(R7, entry!(bytes), R1);
    note(a);
}

/// Notes when the entry was used, and the packet's flags: of two at the same time one may be lost.
fn note(a: &mut Asm) {
    a.load(Size::U64, R2, R10, NOW);
    a.store(Size::U64, R7, entry!(used), R2);
    a.load(Size::U64, R2, R10, FLAGS);
    a.load(Size::U16, R1, R7, entry!(flags));
    a.alu(Alu::Or, R1, R2);
    a.store(Size::U16, R7, entry!(flags), R1);
}

/// Tells the other program.
fn tell(a: &mut Asm) {
    let copy = |a: &mut Asm, to: i16, size: Size, base: Reg, from: i16| {
        a.load(size, R1, base, from);
        a.store(Size::U32, R9, to, R1);
    };
    copy(a, ingress::HOW, Size::U8, R7, entry!(how));
    copy(a, ingress::CAME_BY, Size::U32, R6, skb::IFINDEX);
    copy(a, ingress::LEN, Size::U32, R6, skb::LEN);
    copy(a, ingress::RETAG, Size::U32, R7, entry!(retag));
    copy(a, ingress::TARGET, Size::U32, R7, entry!(ifindex));
}
