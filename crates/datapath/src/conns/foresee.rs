//! What will become of the packets that follow one of a TCP connection's handshake.
//!
//! Most connections are short: a dozen packets, of which a worker has seen the greater part before it knows enough of
//! them to let the kernel have the rest. But what follows on a SYN looks like what followed on those before, and nothing of it
//! is under way yet. So the worker goes the way that a bare acknowledgment of either direction would go once the SYN is
//! answered, through the flows that it has cached and with the verdict that the tracker will give, moves nothing, and
//! [offers](crate::kernel::Kernel::offer) what it finds. It does the same when a SYN+ACK comes to it. If a flow is not there
//! yet, the connection goes by the workers, whose packets bring the flow; the next one will find it.
//!
//! Of SYNs that nobody answers few are offered ([`may_ask`](crate::kernel::Offers::may_ask)), so a flood of them takes few entries.

use std::sync::Arc;

use base::{DpPort, HashKey};
use conntrack::{ConnId, CtState, Dir, Known, Shards};
use dpif::DpAction;
use ebpf::{Key, Retag};
use flow::PacketKey;
use packet::PacketBuf;
use packet::header::{
    ETH_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, VLAN_LEN, ethertype, ipproto, tcp_flag,
};

use super::path::{Path, Trail};
use super::{ConnCache, Head};
use crate::ct;
use crate::engine::{Engine, MAX_RECIRCULATIONS, Meta};
use crate::kernel::Candidate;

/// Bytes of the longest acknowledgment here.
const MAX_LEN: usize = ETH_LEN + VLAN_LEN + IPV6_LEN + TCP_LEN;

/// A packet with SYN as it came, as far as those that follow have the same: what it meets may change it.
#[derive(Debug)]
pub(super) struct Syn {
    pub slot: usize,
    len: usize,
    bytes: [u8; MAX_LEN],
}

impl Syn {
    pub fn new(slot: usize, frame: &[u8]) -> Syn {
        let mut syn = Syn { slot, len: frame.len().min(MAX_LEN), bytes: [0; MAX_LEN] };
        syn.bytes[..syn.len].copy_from_slice(&frame[..syn.len]);
        syn
    }

    fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A packet that is not there yet, and what it would meet.
#[derive(Debug)]
pub(super) struct Foreseen {
    packet: PacketBuf,
    trail: Trail,
}

impl Default for Foreseen {
    fn default() -> Foreseen {
        Foreseen { packet: PacketBuf::with_capacity(MAX_LEN), trail: Trail::default() }
    }
}

/// The connection that a SYN began, or of which a SYN+ACK is the answer, and which of the two.
pub(super) fn handshake(meta: &Meta) -> Option<(ConnId, Dir)> {
    const ANSWER: u16 = tcp_flag::SYN | tcp_flag::ACK;
    let (conn, state) = meta.prior.filter(|_| meta.key.nw_proto == ipproto::TCP)?;
    let dir = match meta.key.tcp_flags & (ANSWER | tcp_flag::FIN | tcp_flag::RST) {
        tcp_flag::SYN if state.contains(CtState::NEW) => Dir::Orig,
        ANSWER if state.contains(CtState::EST | CtState::RPL) => Dir::Reply,
        _ => return None,
    };
    Some((conn, dir))
}

impl Engine {
    /// Lets the kernel have both directions of a connection of whose handshake this is a packet, which must not have been
    /// sent and came by a port whose packets the kernel can have.
    pub(super) fn foresee(
        &mut self,
        cache: &mut ConnCache,
        syn: &Syn,
        port: DpPort,
        (conn, dir): (ConnId, Dir),
    ) {
        let (ct, now) = (&self.shared.ct, self.now);
        let is_asking = |c: ConnId| ct.lookahead(c.shard()).is_some_and(|a| a.is_asking(c));
        let asks = dir == Dir::Orig;
        if asks && !self.offers.may_ask(now, is_asking) {
            return;
        }
        // What follows, and what comes back.
        let here = (port, Retag::Keep);
        let follows = self.foresee_one(cache, syn, here, (conn, dir), false);
        let Some(errand) = follows.and_then(|path| path.for_kernel()) else { return };
        let back = (errand.port, errand.tag);
        if !self.shared.kernel.as_ref().is_some_and(|k| k.comes_by(errand.port)) {
            return;
        }
        if self.foresee_one(cache, syn, back, (conn, dir.flip()), true).is_some() && asks {
            self.offers.ask(conn, now);
        }
    }

    fn foresee_one(
        &mut self,
        cache: &mut ConnCache,
        syn: &Syn,
        (in_port, tag): (DpPort, Retag),
        (conn, dir): (ConnId, Dir),
        answers: bool,
    ) -> Option<Arc<Path>> {
        let mut foreseen = cache.foreseen.take()?;
        let is_met = acknowledgment(syn.frame(), answers, tag, &mut foreseen.packet)
            .and_then(|()| self.walk(&mut foreseen, cache.secret, in_port, (conn, dir)));
        let path = is_met.and_then(|()| {
            let (at, _) = cache.path_of(&foreseen.trail)?;
            super::path_at(&cache.paths, at).cloned()
        });
        let head = foreseen.trail.head;
        foreseen.trail.end();
        cache.foreseen = Some(foreseen);
        let path = path?;
        let (generation, now) = (self.generation, self.now);
        let candidate = Candidate {
            head: &head,
            path: &path,
            conn: Some(conn),
            in_port,
            generation,
            now,
            follows: true,
        };
        self.shared.kernel.as_ref()?.offer(&self.shared.ct, &candidate, &mut self.offers);
        Some(path)
    }

    /// Notes what such a packet would meet. `None` if it would meet anything of which that cannot be said.
    fn walk(
        &mut self,
        Foreseen { packet, trail }: &mut Foreseen,
        secret: HashKey,
        in_port: DpPort,
        (conn, dir): (ConnId, Dir),
    ) -> Option<()> {
        let mut head = Head::NOTHING;
        if !head.read(packet.frame(), in_port, secret) {
            return None;
        }
        trail.begin(&head);
        let mut key = PacketKey { in_port: in_port.0, ..PacketKey::ZERO };
        flow::extract(packet, &mut key);
        for _ in 0..=MAX_RECIRCULATIONS {
            let local = self.cached(&key)?;
            trail.hit(&local);
            let mut next = None;
            for action in local.actions.iter() {
                match action {
                    DpAction::Ct(request) if request.nat.is_none() && request.helper.is_none() => {
                        let known = Known { conn, dir, translated: false };
                        let ahead = self.shared.ct.lookahead(conn.shard())?;
                        let info = ahead.foresee(known, request.zone)?;
                        trail.tracked(&info);
                        ct::store(&mut key, &info);
                    }
                    DpAction::CtClear => ct::clear(&mut key),
                    DpAction::Recirc(id) => next = Some(id.0),
                    DpAction::Output(_) => {}
                    // Nothing looks at the tag afterwards, or no path is made.
                    DpAction::PushVlan { .. } | DpAction::PopVlan => {}
                    _ => return None,
                }
            }
            match next {
                Some(id) => key.recirc_id = id,
                None => return Some(()),
            }
        }
        None
    }
}

/// Makes a packet the bare acknowledgment that follows one of a handshake, or that is answered by the other end, whose
/// frames come as such frames go out that were tagged so.
fn acknowledgment(frame: &[u8], answers: bool, tag: Retag, packet: &mut PacketBuf) -> Option<()> {
    let turn = |n: usize, pair: &mut [u8]| {
        if answers {
            pair.rotate_left(n);
        }
    };
    let is_tagged = frame.get(12..14)? == ethertype::VLAN.to_be_bytes();
    let end = if is_tagged { ETH_LEN + VLAN_LEN } else { ETH_LEN };
    let pushed: [u8; VLAN_LEN];
    let tags = match (tag, is_tagged) {
        (Retag::Keep, _) => frame.get(12..end - 2)?,
        (Retag::Pop, true) => &[],
        (Retag::Push { tpid, tci }, false) => {
            let tci = tci & !Key::TAGGED;
            pushed = *[tpid.to_be_bytes(), tci.to_be_bytes()].as_flattened().first_chunk()?;
            &pushed
        }
        _ => return None,
    };
    let l3 = ETH_LEN + tags.len();
    let (l4, addresses) = match u16::from_be_bytes(*frame.get(end - 2..)?.first_chunk()?) {
        ethertype::IPV4 => (l3 + IPV4_LEN, l3 + 12..l3 + 20),
        ethertype::IPV6 => (l3 + IPV6_LEN, l3 + 8..l3 + 40),
        _ => return None,
    };
    packet.set_len(l4 + TCP_LEN);
    let ack = packet.frame_mut();
    ack[..12].copy_from_slice(&frame[..12]);
    ack[12..l3 - 2].copy_from_slice(tags);
    ack[l3 - 2..].copy_from_slice(frame.get(end - 2..end + l4 - l3 + TCP_LEN)?);
    turn(6, &mut ack[..12]);
    let half = addresses.len() / 2;
    turn(half, &mut ack[addresses]);
    turn(2, &mut ack[l4..l4 + 4]);
    let (len_at, len) = match l4 - l3 {
        IPV4_LEN => (l3 + 2, IPV4_LEN + TCP_LEN),
        _ => (l3 + 4, TCP_LEN),
    };
    ack[len_at..len_at + 2].copy_from_slice(&(len as u16).to_be_bytes());
    (ack[l4 + 12], ack[l4 + 13]) = ((TCP_LEN as u8 / 4) << 4, tcp_flag::ACK as u8);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgment_is_turned_or_is_not() {
        let mut f: Vec<u8> = (1..=12).collect();
        f.extend([0x81, 0, 0, 5, 8, 0, 0x45, 7, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0]);
        f.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 4, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0x60, 0x12]);
        f.extend([1, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
        let key = |f: &[u8]| {
            let mut key = PacketKey::ZERO;
            flow::extract(&mut PacketBuf::from_frame(f), &mut key);
            key
        };
        let ack = |f: &[u8], answers, tag| {
            let mut packet = Foreseen::default().packet;
            acknowledgment(f, answers, tag, &mut packet).map(|()| key(packet.frame()))
        };
        let keep = Retag::Keep;
        let answer = key(&f);
        let follows = PacketKey { tcp_flags: tcp_flag::ACK, ..answer };
        assert_eq!(ack(&f, false, keep), Some(follows));
        let answers = PacketKey {
            dl_src: answer.dl_dst,
            dl_dst: answer.dl_src,
            nw_src: answer.nw_dst,
            nw_dst: answer.nw_src,
            tp_src: answer.tp_dst,
            tp_dst: answer.tp_src,
            ..follows
        };
        assert_eq!(ack(&f, true, keep), Some(answers));
        let untagged = PacketKey { vlans: [Default::default(); 2], ..answers };
        assert_eq!(ack(&f, true, Retag::Pop), Some(untagged));
        let push = Retag::Push { tpid: ethertype::VLAN, tci: 0x1005 };
        assert_eq!(ack(&f, true, push), None, "two tags");
        let plain = [&f[..12], &f[16..]].concat();
        assert_eq!(ack(&plain, true, push), Some(answers));
        assert_eq!(ack(&plain, true, Retag::Pop), None, "there is none");
        assert_eq!(ack(&f[..50], true, keep), None, "cut short");
        f[16..18].copy_from_slice(&ethertype::ARP.to_be_bytes());
        assert_eq!(ack(&f, true, keep), None);
    }
}
