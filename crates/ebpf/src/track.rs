//! What the program of the packet sockets does with a connection that it holds: what [`conntrack::tcp`] and `Conn::advance`
//! would, for the SYN+ACK that answers a SYN, and for segments without SYN and RST, datagrams and echoes of connections that
//! both ends have spoken on.
//!
//! First all is looked at and then all is written, so that a packet that does not fit has moved nothing.

use bpf::asm::{
    Alu, Asm, If, Label,
    Reg::{self, *},
    Size,
};
use conntrack::layout;
use packet::header::{ipproto, tcp_flag};

use crate::entry::Entry;
use crate::filter::{
    ACK, EXPIRES, FLAGS, NOW, PROTO, Parts, RECEIVER, SENDER, SEQ, SHIFT, SPACE, WINDOW, WSCALE,
    entry, fixed,
};

/// Jumps if `x` is after `y` in sequence space; `x` is lost.
fn if_after(a: &mut Asm, y: Reg, x: Reg, to: Label) {
    // y - x < 0
    let spare = if y == R0 || x == R0 { R1 } else { R0 };
    debug_assert!(spare != x && spare != y);
    a.mov(spare, y);
    a.alu32(Alu::Sub, spare, x);
    a.jump32(If::SLt, spare, 0, to);
}

/// Moves the connection, if the packet fits.
pub(crate) fn track(a: &mut Asm, p: &Parts<'_>, unfit: Label) {
    let (talk, answers, done) = (a.label(), a.label(), a.label());
    a.load(Size::U64, R1, R10, PROTO);
    a.jump(If::Ne, R1, i32::from(ipproto::TCP), talk);
    find_ends(a);
    a.load(Size::U64, R1, R10, FLAGS);
    a.jump(If::AnyBit, R1, i32::from(tcp_flag::SYN), answers);
    have_spoken(a, unfit);
    scale(a);
    let in_window = a.label();
    fixed(a, R1, p.rules);
    a.load(Size::U8, R1, R1, layout::RULES_FLAGS);
    a.alu(Alu::And, R1, i32::from(layout::TCP_SEQ_CHK));
    a.jump(If::Eq, R1, 0, in_window);
    judge(a, unfit);
    a.put(in_window);
    turn(a, p);
    last(a, unfit);
    advance(a);
    a.goto(done);
    a.put(answers);
    answer(a, p, unfit);
    a.goto(done);
    a.put(talk);
    datagram(a, p, unfit);
    a.put(done);
}

/// `R4`: the end that sends, `R5`: the one that receives.
fn find_ends(a: &mut Asm) {
    a.load(Size::U8, R3, R7, entry!(dir));
    const { assert!(layout::PEER_SIZE == 16) };
    a.alu(Alu::Shl, R3, 4);
    a.mov(R4, R8);
    a.alu(Alu::Add, R4, i32::from(layout::PEERS));
    a.mov(R5, R4);
    a.alu(Alu::Add, R4, R3);
    a.alu(Alu::Add, R5, i32::from(layout::PEER_SIZE));
    a.alu(Alu::Sub, R5, R3);
}

/// Both ends have spoken, and neither was reset.
fn have_spoken(a: &mut Asm, unfit: Label) {
    for end in [R4, R5] {
        a.load(Size::U8, R1, end, layout::PEER_STATE);
        a.alu(Alu::Sub, R1, i32::from(layout::SYN_SENT));
        a.jump(If::Gt, R1, i32::from(layout::FIN_WAIT_2 - layout::SYN_SENT), unfit);
    }
}

/// The window in bytes.
fn scale(a: &mut Asm) {
    let (one, unknown, known) = (a.label(), a.label(), a.label());
    a.load(Size::U8, R1, R4, layout::PEER_SCALE);
    a.load(Size::U8, R2, R5, layout::PEER_SCALE);
    a.mov(R3, R1);
    a.alu(Alu::Sub, R3, i32::from(layout::OFFERED));
    a.jump(If::Lt, R1, i32::from(layout::OFFERED), one);
    a.jump(If::Ge, R2, i32::from(layout::OFFERED), known);
    a.put(one);
    a.mov(R3, 0);
    a.jump(If::Eq, R1, i32::from(layout::UNKNOWN), unknown);
    a.jump(If::Ne, R2, i32::from(layout::UNKNOWN), known);
    a.put(unknown);
    a.mov(R3, i32::from(layout::MAX_SHIFT));
    a.put(known);
    a.store(Size::U64, R10, SHIFT, R3);
    a.load(Size::U64, R1, R10, WINDOW);
    a.alu(Alu::Shl, R1, R3);
    a.store(Size::U64, R10, WINDOW, R1);
}

/// The window test.
fn judge(a: &mut Asm, outside: Label) {
    // `R2`: its first number, `R3`: the one after its last.
    a.load(Size::U32, R2, R4, layout::PEER_END);
    a.mov(R3, R2);
    a.load(Size::U64, R1, R10, SPACE);
    let nothing = a.label();
    a.jump(If::Eq, R1, 0, nothing);
    a.load(Size::U64, R2, R10, SEQ);
    a.mov(R3, R2);
    a.alu32(Alu::Add, R3, R1);
    a.put(nothing);
    a.load(Size::U32, R1, R4, layout::PEER_MAX_END);
    if_after(a, R1, R3, outside);
    a.load(Size::U32, R3, R4, layout::PEER_END);
    a.load(Size::U32, R1, R5, layout::PEER_MAX_WIN);
    a.alu32(Alu::Sub, R3, R1);
    if_after(a, R2, R3, outside);
    // By how much it acknowledges less than was sent.
    a.load(Size::U32, R1, R5, layout::PEER_END);
    a.load(Size::U64, R2, R10, ACK);
    a.alu32(Alu::Sub, R1, R2);
    a.alu(Alu::Shl, R1, 32);
    a.alu(Alu::Sar, R1, 32);
    a.jump(If::SLt, R1, -(layout::AHEAD as i32), outside);
    a.mov(R2, layout::AHEAD as i32);
    a.load(Size::U64, R3, R10, SHIFT);
    a.alu(Alu::Shl, R2, R3);
    a.jump(If::SGt, R1, R2, outside);
}

/// What becomes of both ends, and `R3`, how long they wait then.
fn turn(a: &mut Asm, p: &Parts<'_>) {
    a.load(Size::U64, R1, R10, FLAGS);
    a.alu(Alu::And, R1, i32::from(tcp_flag::FIN));
    let ends = [
        (R4, layout::ACK_SENT, layout::FIN_SENT, SENDER),
        (R5, layout::ACK_HEARD, layout::FIN_HEARD, RECEIVER),
    ];
    for (end, by_ack, by_fin, to) in ends {
        let acknowledges = a.label();
        a.mov(R0, by_ack);
        a.jump(If::Eq, R1, 0, acknowledges);
        a.mov(R0, by_fin);
        a.put(acknowledges);
        a.load(Size::U8, R2, end, layout::PEER_STATE);
        a.alu(Alu::Mul, R2, layout::STATE_BITS as i32);
        a.alu(Alu::Shr, R0, R2);
        a.alu(Alu::And, R0, (1 << layout::STATE_BITS) - 1);
        a.store(Size::U64, R10, to, R0);
    }
    a.load(Size::U64, R1, R10, SENDER);
    a.alu(Alu::Shl, R1, layout::STATE_BITS as i32);
    a.alu(Alu::Or, R1, R0);
    fixed(a, R2, p.rules);
    a.mov(R3, R2);
    a.alu(Alu::Add, R2, R1);
    a.load(Size::U8, R1, R2, layout::RULES_CLASSES);
    a.alu(Alu::Shl, R1, 3);
    a.alu(Alu::Add, R3, R1);
    a.load(Size::U64, R3, R3, layout::RULES_TIMEOUTS);
}

/// Until when the connection lasts if that is `R3` from now, unless that is sooner than the wheel looks at it.
fn last(a: &mut Asm, unfit: Label) {
    let (sooner, known) = (a.label(), a.label());
    a.load(Size::U64, R2, R10, NOW);
    a.alu(Alu::Add, R2, R3);
    a.load(Size::U64, R1, R8, layout::EXPIRES);
    a.jump(If::Ge, R2, R1, known);
    a.mov(R0, R1);
    a.alu(Alu::Sub, R0, R2);
    a.jump(If::Ge, R0, layout::SKEW.as_nanos() as i32, sooner);
    a.mov(R2, R1);
    a.goto(known);
    a.put(sooner);
    a.load(Size::U8, R0, R8, layout::TIMER_SLOT);
    a.mov(R1, R0);
    a.alu(Alu::Shr, R1, layout::WHEEL_BITS as i32);
    a.alu(Alu::Mul, R1, layout::WHEEL_BITS as i32);
    a.alu(Alu::Add, R1, layout::TICK_BITS as i32);
    a.load(Size::U64, R3, R10, NOW);
    a.alu(Alu::Shr, R3, R1);
    // The next time that the place comes round.
    a.alu(Alu::Add, R3, 1);
    a.alu(Alu::Sub, R0, R3);
    a.alu(Alu::And, R0, (1 << layout::WHEEL_BITS) - 1);
    a.alu(Alu::Add, R3, R0);
    a.alu(Alu::Shl, R3, R1);
    a.jump(If::Gt, R3, R2, unfit);
    a.put(known);
    a.store(Size::U64, R10, EXPIRES, R2);
}

/// A number of an end becomes `R3`, unless it is after that.
fn raise(a: &mut Asm, end: Reg, at: i16) {
    let less = a.label();
    a.load(Size::U32, R1, end, at);
    if_after(a, R3, R1, less);
    a.store(Size::U32, end, at, R3);
    a.put(less);
}

/// The window of `R2` bytes, or of one, opens behind what is acknowledged.
fn open(a: &mut Asm) {
    let some = a.label();
    a.jump(If::Ne, R2, 0, some);
    a.mov(R2, 1);
    a.put(some);
    a.load(Size::U64, R3, R10, ACK);
    a.alu32(Alu::Add, R3, R2);
    raise(a, R5, layout::PEER_MAX_END);
}

/// Sets one of [`layout::FLAGS`].
fn flag(a: &mut Asm, bit: u8) {
    a.load(Size::U8, R1, R8, layout::FLAGS);
    a.alu(Alu::Or, R1, i32::from(bit));
    a.store(Size::U8, R8, layout::FLAGS, R1);
}

/// Takes over what the segment says of both ends.
fn advance(a: &mut Asm) {
    let narrower = a.label();
    a.load(Size::U64, R2, R10, WINDOW);
    a.load(Size::U32, R1, R4, layout::PEER_MAX_WIN);
    a.jump(If::Le, R2, R1, narrower);
    a.store(Size::U32, R4, layout::PEER_MAX_WIN, R2);
    a.put(narrower);
    let again = a.label();
    a.load(Size::U64, R1, R10, SPACE);
    a.jump(If::Eq, R1, 0, again);
    a.load(Size::U64, R3, R10, SEQ);
    a.alu32(Alu::Add, R3, R1);
    raise(a, R4, layout::PEER_END);
    a.put(again);
    open(a);
    let done = a.label();
    a.load(Size::U64, R1, R10, SENDER);
    a.load(Size::U64, R2, R10, RECEIVER);
    a.store(Size::U8, R4, layout::PEER_STATE, R1);
    a.store(Size::U8, R5, layout::PEER_STATE, R2);
    a.jump(If::Ne, R1, i32::from(layout::ESTABLISHED), done);
    a.jump(If::Ne, R2, i32::from(layout::ESTABLISHED), done);
    flag(a, layout::ASSURED);
    a.put(done);
}

/// The first SYN+ACK, of an end that was silent to one that sent a SYN. Whatever it says fits.
fn answer(a: &mut Asm, p: &Parts<'_>, unfit: Label) {
    for (end, state) in [(R4, layout::CLOSED), (R5, layout::SYN_SENT)] {
        a.load(Size::U8, R1, end, layout::PEER_STATE);
        a.jump(If::Ne, R1, i32::from(state), unfit);
    }
    fixed(a, R1, p.rules);
    a.load(Size::U64, R3, R1, layout::ANSWER_TIMEOUT);
    last(a, unfit);
    // Windows are scaled if both want it.
    let (both, known) = (a.label(), a.label());
    a.load(Size::U64, R1, R10, WSCALE);
    a.load(Size::U8, R2, R5, layout::PEER_SCALE);
    a.jump(If::Ge, R2, i32::from(layout::OFFERED), both);
    a.mov(R1, i32::from(layout::OFF));
    a.put(both);
    a.store(Size::U8, R4, layout::PEER_SCALE, R1);
    a.jump(If::Ne, R1, i32::from(layout::OFF), known);
    a.jump(If::Eq, R2, i32::from(layout::UNKNOWN), known);
    a.store(Size::U8, R5, layout::PEER_SCALE, i32::from(layout::OFF));
    a.put(known);
    a.load(Size::U64, R2, R10, WINDOW);
    open(a);
    a.store(Size::U32, R4, layout::PEER_MAX_WIN, R2);
    a.load(Size::U64, R3, R10, SEQ);
    a.alu32(Alu::Add, R3, 1);
    a.store(Size::U32, R4, layout::PEER_END, R3);
    a.load(Size::U32, R1, R5, layout::PEER_MAX_WIN);
    a.alu32(Alu::Add, R3, R1);
    a.store(Size::U32, R4, layout::PEER_MAX_END, R3);
    a.store(Size::U8, R4, layout::PEER_STATE, i32::from(layout::ANSWER_SENT));
    a.store(Size::U8, R5, layout::PEER_STATE, i32::from(layout::ANSWER_HEARD));
    flag(a, layout::SEEN_REPLY);
}

/// A datagram or an echo of a talk of both ends.
fn datagram(a: &mut Asm, p: &Parts<'_>, unfit: Label) {
    let (echo, done) = (a.label(), a.label());
    a.load(Size::U8, R1, R8, layout::TALK);
    a.jump(If::Ne, R1, i32::from(layout::BOTH_WAYS), unfit);
    fixed(a, R1, p.rules);
    a.load(Size::U64, R2, R10, PROTO);
    a.jump(If::Ne, R2, i32::from(ipproto::UDP), echo);
    a.load(Size::U64, R3, R1, layout::DATAGRAM_TIMEOUT);
    last(a, unfit);
    a.load(Size::U8, R1, R8, layout::FLAGS);
    a.jump(If::AnyBit, R1, i32::from(layout::ASSURED), done);
    a.load(Size::U8, R2, R7, entry!(dir));
    a.jump(If::Ne, R2, conntrack::Dir::Orig as i32, done);
    a.load(Size::U64, R2, R10, NOW);
    a.load(Size::U64, R3, R8, layout::START);
    a.alu(Alu::Sub, R2, R3);
    a.load_imm64(R3, layout::STREAM.as_nanos() as u64);
    a.jump(If::Le, R2, R3, done);
    a.alu(Alu::Or, R1, i32::from(layout::ASSURED));
    a.store(Size::U8, R8, layout::FLAGS, R1);
    a.goto(done);
    a.put(echo);
    // It is never assured.
    a.load(Size::U64, R3, R1, layout::ECHO_TIMEOUT);
    last(a, unfit);
    a.put(done);
}
