//! The program behind the sockets: it sends what the [filter](crate::filter) took, and drops the rest.
//!
//! The filter has run just before, for the same packet on the same processor: the kernel serves a device's packet
//! sockets and then its ingress. Should it once not have, the packet is another one than the verdict names, and dropped.

use std::os::fd::{AsFd, AsRawFd};

use bpf::Map;
use bpf::asm::{Alu, Asm, If, Reg::*, Size};

use crate::entry::{POP, TO_PEER};
use crate::filter::skb;

/// What the filter says of a packet, in bytes: where to (0: nowhere) and how, the device it came by, its length, and what
/// becomes of its tag ([`Retag`](crate::Retag)).
pub(crate) const VERDICT_SIZE: u32 = 20;
pub(crate) const TARGET: i16 = 0;
pub(crate) const HOW: i16 = 4;
pub(crate) const CAME_BY: i16 = 8;
pub(crate) const LEN: i16 = 12;
pub(crate) const RETAG: i16 = 16;

const MAP_LOOKUP_ELEM: i32 = 1;
const VLAN_PUSH: i32 = 18;
const VLAN_POP: i32 = 19;
const REDIRECT: i32 = 23;
const SKB_CHANGE_TYPE: i32 = 32;
const PACKET_HOST: i32 = 0;
const REDIRECT_PEER: i32 = 155;
const TC_ACT_SHOT: i32 = 2;

pub(crate) fn assemble(verdict: &Map) -> Vec<u64> {
    let mut a = Asm::new();
    let (drop, peer) = (a.label(), a.label());
    let (pop, retagged, send) = (a.label(), a.label(), a.label());
    a.mov(R6, R1);
    a.store(Size::U32, R10, -4, 0);
    a.mov(R2, R10);
    a.alu(Alu::Add, R2, -4);
    a.load_map(R1, verdict.as_fd().as_raw_fd());
    a.call(MAP_LOOKUP_ELEM);
    a.jump(If::Eq, R0, 0, drop);
    a.mov(R7, R0);
    a.load(Size::U32, R8, R7, TARGET);
    a.jump(If::Eq, R8, 0, drop);
    // It counts for one packet.
    a.store(Size::U32, R7, TARGET, 0);
    for (said, is) in [(CAME_BY, skb::IFINDEX), (LEN, skb::LEN)] {
        a.load(Size::U32, R2, R7, said);
        a.load(Size::U32, R3, R6, is);
        a.jump(If::Ne, R2, R3, drop);
    }
    a.load(Size::U32, R3, R7, RETAG);
    a.jump(If::Eq, R3, 0, send);
    a.mov(R1, R6);
    a.jump(If::Eq, R3, POP as i32, pop);
    a.mov(R2, R3);
    a.alu(Alu::Shr, R2, 16);
    a.swap(R2, Size::U16);
    a.alu(Alu::And, R3, 0xffff);
    a.call(VLAN_PUSH);
    a.goto(retagged);
    a.put(pop);
    a.call(VLAN_POP);
    a.put(retagged);
    a.jump(If::Ne, R0, 0, drop);
    a.put(send);
    a.load(Size::U32, R3, R7, HOW);
    a.mov(R1, R8);
    a.mov(R2, 0);
    a.jump(If::Eq, R3, i32::from(TO_PEER), peer);
    a.call(REDIRECT);
    a.exit();
    a.put(peer);
    // It was for somebody else where it came by, and is for who gets it; older kernels do not see to that.
    a.mov(R1, R6);
    a.mov(R2, PACKET_HOST);
    a.call(SKB_CHANGE_TYPE);
    a.mov(R1, R8);
    a.mov(R2, 0);
    a.call(REDIRECT_PEER);
    a.exit();
    a.put(drop);
    a.mov(R0, TC_ACT_SHOT);
    a.exit();
    a.finish()
}
