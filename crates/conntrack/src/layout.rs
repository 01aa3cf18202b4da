//! How a connection lies in memory, for a program of the kernel that tracks packets as the [open way](crate::open) does.
//!
//! Such a program is given connections that [were lent](crate::Lookahead::lend) to it. It holds one as long as it moves
//! it (the byte [`LOCK`] goes from [`OPEN`] to [`HELD`] and back), and does with it what [`crate::tcp`] and
//! `Conn::advance` would, in all that it does at all; any other packet is for us, and nothing has changed then.
//! The tests of the program compare the two.
//!
//! Numbers are offsets in bytes, unless they say otherwise.

use crate::conn::Conn;
use crate::open::Rules;
use crate::tcp::PeerState;
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
/// Bits, of one byte.
pub const FLAGS: i16 = at(Conn::FLAGS_AT);
/// Of [`FLAGS`]: not to be dropped early.
pub const ASSURED: u8 = Conn::ASSURED;
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
/// Bytes of an end: `end`, `max_end` and `max_win` of four each, and the state of one.
pub const PEER_SIZE: i16 = 16;
/// Within an end: the sequence number after its last byte.
pub const PEER_END: i16 = 0;
/// Within an end: the sequence number that it may send up to.
pub const PEER_MAX_END: i16 = 4;
/// Within an end: the largest window that it announced.
pub const PEER_MAX_WIN: i16 = 8;
/// Within an end: how far it has come.
pub const PEER_STATE: i16 = 12;
/// Of [`PEER_STATE`].
pub const ESTABLISHED: u8 = PeerState::Established as u8;
/// Packets and bytes of each direction, of eight bytes each.
pub const TRAFFIC: i16 = at(Conn::TRAFFIC_AT);

/// Within the rules: bits, of one byte.
pub const RULES_FLAGS: i16 = at(Rules::FLAGS_AT);
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
