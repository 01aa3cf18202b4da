//! How a connection lies in memory, for a program of the kernel that tracks packets as the [open way](crate::open) does.
//!
//! Such a program is given connections that [were lent](crate::Lookahead::lend) to it. It holds one as long as it moves
//! it (the byte [`LOCK`] goes from [`OPEN`] to [`HELD`] and back), and does with it what [`crate::tcp`] and
//! `Conn::advance` would, in all that it does at all; any other packet is for us, and nothing has changed then.
//! The tests of the program compare the two.
//!
//! Numbers are offsets in bytes, unless they say otherwise.

use crate::TimeoutClass;
use crate::conn::Conn;
use crate::open::Rules;
use crate::tcp::{self, Event, PeerState, Scale};
use crate::wheel;
use base::Duration;
use core::mem::offset_of;

const fn at(offset: usize) -> i16 {
    assert!(offset <= i16::MAX as usize);
    offset as i16
}

/// When its time runs out, of eight bytes, in nanoseconds.
pub const EXPIRES: i16 = at(offset_of!(Conn, expires));
/// Which of those that had its place, of four bytes.
pub const GENERATION: i16 = at(offset_of!(Conn, generation));
/// Its timeout policy, of two bytes: 0 is the default.
pub const POLICY: i16 = at(offset_of!(Conn, policy));
/// Where in the wheel it sits, of one byte: the level from bit [`WHEEL_BITS`] on, and which place of it.
pub const TIMER_SLOT: i16 = at(offset_of!(Conn, timer_slot));
/// Of a number of ticks, the bits that a level of the wheel counts.
pub const WHEEL_BITS: u32 = wheel::LEVEL_BITS;
/// Of a time in nanoseconds, the bits below a tick.
pub const TICK_BITS: u32 = wheel::TICK_BITS;
/// Bits, of one byte.
pub const FLAGS: i16 = at(Conn::FLAGS_AT);
/// Of [`FLAGS`]: not to be dropped early.
pub const ASSURED: u8 = Conn::ASSURED;
/// Of [`FLAGS`]: it was answered.
pub const SEEN_REPLY: u8 = Conn::SEEN_REPLY;
/// How far one without a handshake has come, of one byte.
pub const TALK: i16 = at(Conn::TALK_AT);
/// Of [`TALK`]: both ends have sent.
pub const BOTH_WAYS: u8 = Conn::BOTH_WAYS;
/// Bits, of one byte.
pub const RARE: i16 = at(Conn::RARE_AT);
/// Of [`RARE`]: it may have a mark.
pub const MARKED: u8 = Conn::MARKED;
/// Its mark, of four bytes.
pub const MARK: i16 = at(Conn::MARK_AT);
/// Who may move it, of one byte. Compared and exchanged with all of its [`LOCK_WORD`].
pub const LOCK: i16 = at(Conn::LOCK_AT);
/// The four bytes that [`LOCK`] is one of, at a multiple of four.
pub const LOCK_WORD: i16 = LOCK & !3;
/// Packets may come without the shard.
pub const OPEN: u8 = Conn::OPEN;
/// One is there.
pub const HELD: u8 = Conn::HELD;
/// When it began, of eight bytes, in nanoseconds.
pub const START: i16 = at(Conn::START_AT);
/// The two ends, in the order of [`crate::Dir`], of [`PEER_SIZE`] bytes each.
pub const PEERS: i16 = at(Conn::PEERS_AT);
/// Bytes of an end: `end`, `max_end` and `max_win` of four each, state and scale of one.
pub const PEER_SIZE: i16 = 16;
/// Within an end: the sequence number after its last byte.
pub const PEER_END: i16 = 0;
/// Within an end: the sequence number that it may send up to.
pub const PEER_MAX_END: i16 = 4;
/// Within an end: the largest window that it announced.
pub const PEER_MAX_WIN: i16 = 8;
/// Within an end: how far it has come.
pub const PEER_STATE: i16 = 12;
/// Within an end: how its window is scaled.
pub const PEER_SCALE: i16 = 13;
/// Of [`PEER_STATE`]: has sent nothing.
pub const CLOSED: u8 = PeerState::Closed as u8;
/// Of [`PEER_STATE`]: has sent nothing that was acknowledged.
pub const SYN_SENT: u8 = PeerState::SynSent as u8;
/// Of [`PEER_STATE`].
pub const ESTABLISHED: u8 = PeerState::Established as u8;
/// Of [`PEER_STATE`]: the last one of a connection that was not reset.
pub const FIN_WAIT_2: u8 = PeerState::FinWait2 as u8;
/// Of [`PEER_SCALE`]: as much as the rest, if both ends have that; else none.
pub const OFFERED: u8 = Scale::OFFERED;
/// Of [`PEER_SCALE`]: not at all.
pub const OFF: u8 = Scale::OFF.0;
/// Of [`PEER_SCALE`]: not known; if it is that of either end, windows are taken as scaled by [`MAX_SHIFT`].
pub const UNKNOWN: u8 = Scale::UNKNOWN.0;
/// Largest shift of a window.
pub const MAX_SHIFT: u8 = tcp::MAX_SHIFT;

/// Bits of a state, where there are several.
pub const STATE_BITS: u32 = Rules::STATE_BITS as u32;

/// What an event makes of each state, in [`STATE_BITS`] for each from the lowest on.
const fn row(table: &[[PeerState; 5]; 6], event: Event) -> i32 {
    let (mut row, mut state) = (0, 0);
    while state < table.len() {
        row |= (table[state][event as usize] as i32) << (state as u32 * STATE_BITS);
        state += 1;
    }
    row
}

/// What an acknowledgment makes of the end that sends it.
pub const ACK_SENT: i32 = row(&tcp::SENT, Event::Ack);
/// What an acknowledgment makes of the end that receives it.
pub const ACK_HEARD: i32 = row(&tcp::HEARD, Event::Ack);
/// What a FIN makes of the end that sends it.
pub const FIN_SENT: i32 = row(&tcp::SENT, Event::Fin);
/// What a FIN makes of the end that receives it.
pub const FIN_HEARD: i32 = row(&tcp::HEARD, Event::Fin);
/// What a SYN+ACK makes of the end that sends it, which was silent.
const ANSWERING: PeerState = tcp::SENT[PeerState::Closed as usize][Event::SynAck as usize];
/// What it makes of the end that it answers, which sent a SYN.
const ANSWERED: PeerState = tcp::HEARD[PeerState::SynSent as usize][Event::SynAck as usize];
/// What the first SYN+ACK makes of the end that sends it.
pub const ANSWER_SENT: u8 = ANSWERING as u8;
/// What the first SYN+ACK makes of the end that receives it.
pub const ANSWER_HEARD: u8 = ANSWERED as u8;
/// Packets and bytes of each direction, of eight bytes each.
pub const TRAFFIC: i16 = at(Conn::TRAFFIC_AT);

/// Within the rules: bits, of one byte.
pub const RULES_FLAGS: i16 = at(Rules::FLAGS_AT);
/// Within the rules: timeouts by class, of eight bytes each, in nanoseconds.
pub const RULES_TIMEOUTS: i16 = at(Rules::TIMEOUTS_AT);
/// Within the rules: the class of a connection of TCP, of one byte, by the states of both ends (of [`STATE_BITS`]
/// each).
pub const RULES_CLASSES: i16 = at(Rules::CLASSES_AT);
/// Within the rules: the timeout of a connection of TCP after its first SYN+ACK.
pub const ANSWER_TIMEOUT: i16 = RULES_TIMEOUTS + 8 * tcp::timeout_class(ANSWERING, ANSWERED) as i16;
/// Within the rules: the timeout of a datagram that was answered.
pub const DATAGRAM_TIMEOUT: i16 = RULES_TIMEOUTS + 8 * TimeoutClass::UdpMultiple as i16;
/// Within the rules: the timeout of an echo that was answered.
pub const ECHO_TIMEOUT: i16 = RULES_TIMEOUTS + 8 * TimeoutClass::IcmpReply as i16;
/// Of [`RULES_FLAGS`]: windows are checked.
pub const TCP_SEQ_CHK: u8 = Rules::TCP_SEQ_CHK;
/// Of [`RULES_FLAGS`]: somebody wants to hear of events, so that each packet is for who has the shard.
pub const EVENTS: u8 = Rules::EVENTS;

/// By so much less than before a packet may make a connection last without the wheel being told.
pub const SKEW: Duration = Conn::SKEW;
/// An end that sends first is assured after so long.
pub const STREAM: Duration = Conn::STREAM;
/// How far an acknowledgment may be off, before scaling.
pub const AHEAD: u32 = crate::tcp::AHEAD;
