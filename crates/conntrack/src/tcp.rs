//! TCP as seen from the middle: two peers, one transition table, the window test.
//!
//! Each end of a connection has a [`PeerState`] of its own, because a middlebox sees two half
//! connections: what an end sends moves that end ([`SENT`]), what it acknowledges moves the other
//! ([`HEARD`]). The connection's state in the vocabulary of OVS or of the Linux kernel is derived
//! from the pair.
//!
//! The window test is Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2000):
//! for a segment `[seq, end)` acknowledging `ack`, with `s` the sender's and `r` the receiver's
//! record,
//!
//! ```text
//! I    end <= s.max_end                 data the receiver opened its window for
//! II   seq >= s.end - r.max_win         not more than one window back (retransmission)
//! III  ack <= r.end + AHEAD             acknowledges what was sent (some of it perhaps unseen)
//! IV   ack >= r.end - AHEAD << scale    not an acknowledgment from long ago
//! ```
//!
//! All sequence arithmetic is modulo 2³² (RFC 9293 §3.4); windows are scaled (RFC 7323 §2.3) when
//! both SYNs offered it, and taken as scaled by 14 when the SYNs were not seen. What is accepted
//! around the edges (a peer that has not spoken, a connection just closed) is what OVS's
//! userspace tracker accepts, observed on the wire; the tests have the rows.

use crate::tuple::Dir;
use crate::{InvalidReason, TimeoutClass};
use packet::header::tcp_flag;

/// How far an acknowledgment may be off: one unscaled window and a packet (Rooij §5.3).
pub(crate) const AHEAD: u32 = 0xffff + 1500;
/// Largest shift of RFC 7323 §2.3.
pub(crate) const MAX_SHIFT: u8 = 14;

const FIN: u8 = tcp_flag::FIN as u8;
const SYN: u8 = tcp_flag::SYN as u8;
const RST: u8 = tcp_flag::RST as u8;
const PSH: u8 = tcp_flag::PSH as u8;
const ACK: u8 = tcp_flag::ACK as u8;
const URG: u8 = tcp_flag::URG as u8;

/// What the tracker reads of a TCP segment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub flags: u8,
    /// Data bytes.
    pub payload: u32,
    /// Window scale option of a SYN.
    pub wscale: Option<u8>,
}

impl Segment {
    fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence number after the segment; SYN and FIN take one each (RFC 9293 §3.4).
    fn end(&self) -> u32 {
        let control = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(self.payload).wrapping_add(control)
    }

    /// The flags are a combination that TCP sends: not SYN with FIN or RST; without SYN either
    /// ACK or RST; FIN, PSH and URG only with ACK.
    fn flags_ok(&self) -> bool {
        let f = self.flags;
        let opening_and_closing = f & SYN != 0 && f & (FIN | RST) != 0;
        let nothing = f & (SYN | ACK | RST) == 0;
        let needs_ack = f & ACK == 0 && f & (FIN | PSH | URG) != 0;
        !(opening_and_closing || nothing || needs_ack)
    }
}

/// How far one end of a connection has come. Names and order are OVS's.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PeerState {
    /// Has sent nothing.
    Closed,
    /// Has sent a SYN (or anything, if the connection was picked up) that is not acknowledged.
    SynSent,
    /// Was acknowledged.
    Established,
    /// Has sent FIN.
    Closing,
    /// Its FIN was acknowledged.
    FinWait2,
    /// The connection was reset.
    TimeWait,
}

impl PeerState {
    /// All states in their order.
    pub const ALL: [PeerState; 6] = [
        PeerState::Closed,
        PeerState::SynSent,
        PeerState::Established,
        PeerState::Closing,
        PeerState::FinWait2,
        PeerState::TimeWait,
    ];

    /// The reverse of `as u8`.
    const fn from_u8(n: u8) -> PeerState {
        match n {
            1 => PeerState::SynSent,
            2 => PeerState::Established,
            3 => PeerState::Closing,
            4 => PeerState::FinWait2,
            5 => PeerState::TimeWait,
            _ => PeerState::Closed,
        }
    }

    /// OVS's name.
    pub const fn name(self) -> &'static str {
        match self {
            PeerState::Closed => "CLOSED",
            PeerState::SynSent => "SYN_SENT",
            PeerState::Established => "ESTABLISHED",
            PeerState::Closing => "CLOSING",
            PeerState::FinWait2 => "FIN_WAIT_2",
            PeerState::TimeWait => "TIME_WAIT",
        }
    }
}

/// What kind of segment it is to the machine; the first that fits, in this order: RST, FIN,
/// SYN+ACK, SYN, else ACK.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// SYN alone.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// ACK with or without data.
    Ack,
    /// FIN (always with ACK).
    Fin,
    /// RST.
    Rst,
}

impl Event {
    /// All events in their order.
    pub const ALL: [Event; 5] = [Event::Syn, Event::SynAck, Event::Ack, Event::Fin, Event::Rst];

    fn of(s: &Segment) -> Event {
        match s.flags {
            f if f & RST != 0 => Event::Rst,
            f if f & FIN != 0 => Event::Fin,
            f if f & (SYN | ACK) == SYN | ACK => Event::SynAck,
            f if f & SYN != 0 => Event::Syn,
            _ => Event::Ack,
        }
    }
}

/// One line of the transition table: in `state`, for each event in the order of [`Event`].
type Row = [PeerState; 5];

use PeerState::{
    Closed as CLO, Closing as CLG, Established as EST, FinWait2 as FW2, SynSent as SYS,
    TimeWait as TMW,
};

/// What a segment does to the end that **sends** it.
#[rustfmt::skip]
pub const SENT: [Row; 6] = [
    //            Syn  SynAck Ack  Fin  Rst
    /* Closed */ [SYS, SYS,   SYS, CLG, TMW],
    //  Syn     the active open (RFC 9293 §3.5), or the second SYN of a simultaneous one (fig. 7)
    //  SynAck  the answer of a listener; acknowledged only by the third segment
    //  Ack     a running connection was picked up: one direction is known now
    //  Fin     picked up at its very end
    //  Rst     "nobody listens here" (§3.5.3)
    /* SynSent */ [SYS, SYS, SYS, CLG, TMW],
    //  Syn     retransmission;  SynAck retransmission, or simultaneous open
    //  Ack     the third segment before the SYN+ACK was seen, or data that follows a pick-up
    //  Fin     closes before the handshake was seen to end (§3.10.4 CLOSE in SYN-RECEIVED)
    //  Rst     gives up
    /* Established */ [EST, EST, EST, CLG, TMW],
    //  Syn     in the window: the receiver will challenge it (RFC 5961 §4), nothing changes
    //  SynAck  retransmission whose ACK was lost
    //  Fin     no more data from here, the other end may go on (half-close, §3.6)
    //  Rst     abort; its sequence number was tested (RFC 5961 §3)
    /* Closing */ [CLG, CLG, CLG, CLG, TMW],
    //  Ack     acknowledges the other half;  Fin retransmission
    /* FinWait2 */ [FW2, FW2, FW2, FW2, TMW],
    //  Ack     acknowledges the other half;  Fin retransmission whose ACK was lost
    //  Rst     a late abort
    /* TimeWait */ [TMW, TMW, TMW, TMW, TMW],
    //  nothing brings a reset connection back but a SYN, which makes a new one (see `update`)
];

/// What a segment does to the end that **receives** it: an acknowledgment confirms it.
#[rustfmt::skip]
pub const HEARD: [Row; 6] = [
    //            Syn  SynAck Ack  Fin  Rst
    /* Closed */ [CLO, CLO,   CLO, CLO, TMW],
    //  has not spoken, so nothing of it can be acknowledged
    /* SynSent */ [SYS, EST, EST, EST, TMW],
    //  Syn     simultaneous open: carries no acknowledgment
    //  SynAck, Ack, Fin  the SYN is acknowledged (§3.10.7.3)
    /* Established */ [EST, EST, EST, EST, TMW],
    /* Closing */ [CLG, FW2, FW2, FW2, TMW],
    //  Ack, Fin  the FIN is acknowledged (§3.6); as OVS and Linux do, any ACK is taken for that
    /* FinWait2 */ [FW2, FW2, FW2, FW2, TMW],
    /* TimeWait */ [TMW, TMW, TMW, TMW, TMW],
];

/// One end of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Sequence number after the last byte it sent.
    pub(crate) end: u32,
    /// Sequence number it may send up to.
    pub(crate) max_end: u32,
    /// Largest window it announced, in bytes.
    pub(crate) max_win: u32,
    /// How far it has come.
    pub(crate) state: PeerState,
    /// Its window shift, if it is known.
    pub(crate) scale: Scale,
}

/// What is known of the window scaling of one end: 2 and the shift that its SYN offered, or less.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Scale(pub u8);

impl Scale {
    /// What is added to a shift that was offered.
    pub const OFFERED: u8 = 2;
    /// Its SYN had no such option, or the other end's had none.
    pub const OFF: Scale = Scale(0);
    /// Its SYN was not seen.
    pub const UNKNOWN: Scale = Scale(1);

    /// Its SYN offered this shift, or none.
    fn offering(shift: Option<u8>) -> Scale {
        shift.map_or(Scale::OFF, |n| Scale(n.min(MAX_SHIFT) + Scale::OFFERED))
    }

    /// The shift that its SYN offered.
    pub const fn offered(self) -> Option<u8> {
        self.0.checked_sub(Scale::OFFERED)
    }
}

impl Peer {
    /// An end that has not spoken.
    pub(crate) const SILENT: Peer =
        Peer { end: 0, max_end: 0, max_win: 1, state: PeerState::Closed, scale: Scale::OFF };

    /// As two words, from the low bits on: `end`, `max_end`; `max_win`, state, scale.
    pub(crate) const fn to_words(self) -> [u64; 2] {
        [
            self.end as u64 | (self.max_end as u64) << 32,
            self.max_win as u64 | (self.state as u64) << 32 | (self.scale.0 as u64) << 40,
        ]
    }

    /// The reverse of [`Peer::to_words`].
    pub(crate) fn from_words([ends, rest]: [u64; 2]) -> Peer {
        Peer {
            end: ends as u32,
            max_end: (ends >> 32) as u32,
            max_win: rest as u32,
            state: PeerState::from_u8((rest >> 32) as u8),
            scale: Scale((rest >> 40) as u8),
        }
    }

    /// Shift of the announced window, for a segment that is not a SYN.
    pub(crate) fn shift(&self, other: &Peer) -> u8 {
        match (self.scale.offered(), other.scale.offered()) {
            (Some(shift), Some(_)) => shift,
            _ if self.scale == Scale::UNKNOWN || other.scale == Scale::UNKNOWN => MAX_SHIFT,
            _ => 0,
        }
    }
}

/// Whether `a <= b` modulo 2³².
#[inline]
fn le(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) >= 0
}

/// What a segment was to its connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Fits, and the connection waits for this class of timeout now.
    Fits(TimeoutClass),
    /// Outside the window but not worth refusing; the clock goes on as it was.
    Tolerated,
    /// A SYN (again) of a connection that was not answered: still new.
    Opening,
    /// A SYN on a closed connection: it is over, this is another one.
    Reopen,
}

/// Whether a segment may open a connection, or why not.
pub(crate) fn may_open(s: &Segment, pick_up: bool) -> Result<(), InvalidReason> {
    if !s.flags_ok() {
        return Err(InvalidReason::TcpFlags);
    }
    if s.has(SYN | ACK) {
        return Err(InvalidReason::TcpSynAck);
    }
    if !s.has(SYN) && !pick_up {
        return Err(InvalidReason::TcpNoSyn);
    }
    Ok(())
}

/// The records of a new connection whose first segment is `s`.
pub(crate) fn opened_by(s: &Segment) -> [Peer; 2] {
    let mut a = Peer::SILENT;
    let mut b = Peer::SILENT;
    a.state = PeerState::SynSent;
    a.end = s.end();
    a.max_end = a.end;
    a.max_win = u32::from(s.window).max(1);
    if s.has(SYN) {
        a.scale = Scale::offering(s.wscale);
    } else {
        (a.scale, b.scale) = (Scale::UNKNOWN, Scale::UNKNOWN);
        a.max_win <<= MAX_SHIFT;
    }
    [a, b]
}

/// Moves a connection by one segment from the end `dir` names.
#[inline]
pub(crate) fn update(
    peers: &mut [Peer; 2],
    dir: Dir,
    s: &Segment,
    check_sequence: bool,
) -> Result<Step, InvalidReason> {
    const EVENT: u8 = SYN | ACK | FIN | RST;
    let goes_on = peers.iter().all(|p| p.state == PeerState::Established);
    let [orig, reply] = peers;
    let ends = match dir {
        Dir::Orig => (orig, reply),
        Dir::Reply => (reply, orig),
    };
    if goes_on && s.flags & EVENT == ACK {
        // Nearly all segments: what is known of them makes this copy half as long.
        return step(ends, &Segment { flags: ACK, wscale: None, ..*s }, check_sequence);
    }
    any_step(ends, s, check_sequence)
}

/// What is not known to go on: apart, so that the other copy stays short.
#[inline(never)]
fn any_step(
    ends: (&mut Peer, &mut Peer),
    s: &Segment,
    check_sequence: bool,
) -> Result<Step, InvalidReason> {
    step(ends, s, check_sequence)
}

#[inline(always)]
fn step(
    (src, dst): (&mut Peer, &mut Peer),
    s: &Segment,
    check_sequence: bool,
) -> Result<Step, InvalidReason> {
    if !s.flags_ok() {
        return Err(InvalidReason::TcpFlags);
    }
    if s.flags & (SYN | ACK) == SYN {
        if src.state >= PeerState::FinWait2 && dst.state >= PeerState::FinWait2 {
            return Ok(Step::Reopen);
        }
        if src.state <= PeerState::SynSent {
            reopen_half(src, dst, s);
            return Ok(Step::Opening);
        }
    }
    let mut heard = *src;
    let judged = judge(&mut heard, dst, s);
    let in_window = judged.is_ok() || !check_sequence;
    if let Err(reason) = judged
        && !in_window
        && !tolerated(&heard, dst, s)
    {
        return Err(reason);
    }
    *src = heard;
    advance(src, dst, s);
    let event = Event::of(s);
    if in_window || matches!(event, Event::Fin | Event::Rst) {
        src.state = SENT[src.state as usize][event as usize];
    }
    if in_window || event == Event::Rst {
        dst.state = HEARD[dst.state as usize][event as usize];
    }
    Ok(if in_window { Step::Fits(timeout_class(src.state, dst.state)) } else { Step::Tolerated })
}

/// A SYN from an end that is not established: its numbers replace what was known of it, for the
/// client may have started anew from the same port.
fn reopen_half(src: &mut Peer, dst: &mut Peer, s: &Segment) {
    src.state = PeerState::SynSent;
    src.end = s.end();
    src.max_end = src.end.wrapping_add(dst.max_win);
    src.max_win = u32::from(s.window).max(1);
    src.scale = Scale::offering(s.wscale);
    let open_to = dst.end.wrapping_add(src.max_win);
    if dst.state != PeerState::Closed && le(dst.max_end, open_to) {
        // Simultaneous open: the window it announces counts, though nothing is acknowledged.
        dst.max_end = open_to;
    }
}

/// The window test. Sets up the sender's record if this is the first the end says.
#[inline(always)]
fn judge(src: &mut Peer, dst: &Peer, s: &Segment) -> Result<(), InvalidReason> {
    let first = src.state == PeerState::Closed;
    if first {
        if s.has(SYN) {
            src.scale = Scale::offering(s.wscale.filter(|_| dst.scale.offered().is_some()));
        }
        src.end = s.end();
        src.max_end = src.end.wrapping_add(dst.max_win.max(1));
        src.max_win = 1;
    }
    let shift = if s.has(SYN) { 0 } else { src.shift(dst) };
    let (seq, end) = match s.end() {
        // Nothing that takes sequence space: a keep-alive or pure ACK, wherever it points.
        end if end == s.seq => (src.end, src.end),
        end => (s.seq, end),
    };
    if !le(end, src.max_end) {
        return Err(InvalidReason::TcpSeqHigh);
    }
    if !le(src.end.wrapping_sub(dst.max_win), seq) {
        return Err(InvalidReason::TcpSeqLow);
    }
    if s.has(ACK) && !first && !(s.ack == 0 && s.has(RST)) {
        let behind = dst.end.wrapping_sub(s.ack) as i32;
        if i64::from(behind) < -i64::from(AHEAD) {
            return Err(InvalidReason::TcpAckHigh);
        }
        if i64::from(behind) > i64::from(AHEAD) << shift {
            return Err(InvalidReason::TcpAckLow);
        }
    }
    if s.has(RST) && s.seq.wrapping_sub(src.end).wrapping_add(1) > 2 {
        return Err(InvalidReason::TcpRstSeq);
    }
    Ok(())
}

/// A segment outside the window is let through near its edges while a connection is half known:
/// the other end has not spoken, or the connection has just closed (stray ACK and FIN segments).
/// Of such a segment only FIN and RST move the states.
fn tolerated(src: &Peer, dst: &Peer, s: &Segment) -> bool {
    let half_known = dst.state < PeerState::SynSent
        || dst.state >= PeerState::FinWait2
        || src.state >= PeerState::FinWait2;
    let (seq, end) = match s.end() {
        end if end == s.seq => (src.end, src.end),
        end => (s.seq, end),
    };
    half_known && le(end, src.max_end.wrapping_add(AHEAD)) && le(src.end.wrapping_sub(AHEAD), seq)
}

/// Takes over what a fitting segment says about both ends.
#[inline(always)]
fn advance(src: &mut Peer, dst: &mut Peer, s: &Segment) {
    let shift = if s.has(SYN) { 0 } else { src.shift(dst) };
    let window = u32::from(s.window) << shift;
    src.max_win = src.max_win.max(window);
    let end = s.end();
    if end != s.seq && le(src.end, end) {
        src.end = end;
    }
    if s.has(SYN) && src.scale == Scale::OFF {
        // The answer declines scaling, so the opener's offer is void (RFC 7323 §2.2).
        if s.has(ACK) && dst.scale != Scale::UNKNOWN {
            dst.scale = Scale::OFF;
        }
    }
    if s.has(ACK) {
        let open_to = s.ack.wrapping_add(window.max(1));
        if dst.state == PeerState::Closed || le(dst.max_end, open_to) {
            dst.max_end = open_to;
        }
    }
}

/// What a connection with these ends waits for.
#[inline(always)]
pub(crate) const fn timeout_class(a: PeerState, b: PeerState) -> TimeoutClass {
    let (a, b) = (a as u8, b as u8);
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    if low >= PeerState::FinWait2 as u8 {
        TimeoutClass::TcpClose
    } else if low >= PeerState::Closing as u8 {
        TimeoutClass::TcpTimeWait
    } else if low < PeerState::Established as u8 {
        TimeoutClass::TcpSynRecv
    } else if high >= PeerState::Closing as u8 {
        TimeoutClass::TcpFinWait
    } else {
        TimeoutClass::TcpEstablished
    }
}

/// The state of a TCP connection in the vocabulary of the Linux kernel's tracker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KernelTcpState {
    /// SYN seen.
    SynSent,
    /// SYN and SYN+ACK seen.
    SynRecv,
    /// Handshake complete.
    Established,
    /// One FIN seen.
    FinWait,
    /// One FIN seen and acknowledged.
    CloseWait,
    /// Both FINs seen.
    LastAck,
    /// Both FINs acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// Two SYNs seen (simultaneous open).
    SynSent2,
}

impl KernelTcpState {
    /// From the two ends.
    pub fn of(orig: PeerState, reply: PeerState) -> KernelTcpState {
        use PeerState as P;
        match (orig.min(reply), orig.max(reply)) {
            (_, P::TimeWait) => KernelTcpState::Close,
            (P::FinWait2, _) => KernelTcpState::TimeWait,
            (P::Closing, _) => KernelTcpState::LastAck,
            (_, P::FinWait2) => KernelTcpState::CloseWait,
            (_, P::Closing) => KernelTcpState::FinWait,
            (P::Established, _) => KernelTcpState::Established,
            (P::SynSent, P::SynSent) => KernelTcpState::SynSent2,
            (P::SynSent, _) => KernelTcpState::SynRecv,
            _ => KernelTcpState::SynSent,
        }
    }

    /// The name that `conntrack -L` prints.
    pub const fn name(self) -> &'static str {
        match self {
            KernelTcpState::SynSent => "SYN_SENT",
            KernelTcpState::SynRecv => "SYN_RECV",
            KernelTcpState::Established => "ESTABLISHED",
            KernelTcpState::FinWait => "FIN_WAIT",
            KernelTcpState::CloseWait => "CLOSE_WAIT",
            KernelTcpState::LastAck => "LAST_ACK",
            KernelTcpState::TimeWait => "TIME_WAIT",
            KernelTcpState::Close => "CLOSE",
            KernelTcpState::SynSent2 => "SYN_SENT2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelTcpState;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// A segment of each kind that fits the windows.
    fn fitting(event: Event, src: &Peer, dst: &Peer) -> Segment {
        let flags = match event {
            Event::Syn => SYN,
            Event::SynAck => SYN | ACK,
            Event::Ack => ACK,
            Event::Fin => FIN | ACK,
            Event::Rst => RST,
        };
        // A SYN stands at the beginning: it can only be sent again.
        let again = flags & SYN != 0 && src.state != CLO;
        let (seq, ack) = (src.end.wrapping_sub(u32::from(again)), dst.end);
        Segment { seq, ack, window: 1000, flags, payload: 0, wscale: None }
    }

    #[test]
    fn no_event_moves_an_end_back_and_a_reset_ends_both() {
        for state in PeerState::ALL {
            for event in Event::ALL {
                let (s, h) =
                    (SENT[state as usize][event as usize], HEARD[state as usize][event as usize]);
                assert!(s >= state && h >= state, "{state:?} {event:?}");
                assert!(event != Event::Rst || (s, h) == (TMW, TMW));
            }
        }
    }

    /// Walks every conversation of fitting segments and checks each step against the tables.
    #[test]
    fn every_reachable_pair_moves_as_the_tables_say() {
        let syn = fitting(Event::Syn, &Peer::SILENT, &Peer::SILENT);
        let mut todo: Vec<[Peer; 2]> = std::vec![opened_by(&syn)];
        let mut seen = BTreeSet::new();
        let mut kernel = BTreeSet::new();
        while let Some(peers) = todo.pop() {
            let [a, b] = peers.map(|p| p.state);
            if !seen.insert((a, b)) {
                continue;
            }
            kernel.insert(KernelTcpState::of(a, b).name());
            for dir in [Dir::Orig, Dir::Reply] {
                let (s, d) = if dir == Dir::Orig { (0, 1) } else { (1, 0) };
                for event in Event::ALL {
                    let mut next = peers;
                    let segment = fitting(event, &peers[s], &peers[d]);
                    let step = update(&mut next, dir, &segment, true);
                    let (from, to) = (peers.map(|p| p.state), next.map(|p| p.state));
                    match step {
                        Ok(Step::Reopen) => {
                            assert!(event == Event::Syn && from.iter().min() >= Some(&FW2));
                        }
                        Ok(Step::Fits(_) | Step::Opening) => {
                            assert_eq!(to[s], SENT[from[s] as usize][event as usize]);
                            assert_eq!(to[d], HEARD[from[d] as usize][event as usize]);
                            todo.push(next);
                        }
                        // A SYN or FIN needs window; an end that is silent or gone opens none.
                        Ok(Step::Tolerated) => {
                            assert!(from[d] == CLO || from.iter().max() >= Some(&FW2));
                        }
                        Err(e) => panic!("{from:?} {dir:?} {event:?}: {e:?}"),
                    }
                }
            }
        }
        assert_eq!(kernel.len(), 9, "{kernel:?}");
    }

    #[test]
    fn window_scale_option_is_found_or_refused() {
        let s = |ws| Segment { wscale: ws, ..fitting(Event::Syn, &Peer::SILENT, &Peer::SILENT) };
        let [a, _] = opened_by(&s(Some(7)));
        assert_eq!(a.scale.offered(), Some(7));
        let [a, _] = opened_by(&s(None));
        assert_eq!(a.scale, Scale::OFF);
    }
}
