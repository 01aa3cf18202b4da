//! The way of a control connection's packet through its helper.
//!
//! Up to three visits, never two shards at once: the connection's, where the message is judged and
//! becomes an expectation; the expectation's; and again the connection's, which remembers it and says
//! what to change in the packet.

use base::Instant;
use core::net::IpAddr;

use super::{Edit, ExpectId, Expectation, Helper, Invitation, TextEdit, Watch, ftp, tftp};
use crate::conn::Conn;
use crate::front::{Shards, visit};
use crate::nat::{NatKind, NatRequest};
use crate::parse::Body;
use crate::tracker::Passage;
use crate::tuple::{Dir, Key};
use crate::{ConnId, Conntrack, CtInfo, InvalidReason, shard_of};

/// Ports below can't be invited to: a data connection has no business with a service.
const UNPRIVILEGED: u16 = 1024;

/// A packet of a control connection.
struct Said<'a> {
    dir: Dir,
    seq: u32,
    payload: &'a [u8],
    message: Result<Message, InvalidReason>,
    /// The packet is translated, so what it says has to be as well.
    translate: bool,
}

#[derive(Copy, Clone)]
enum Message {
    /// None of interest.
    None,
    Invites(Invitation),
    /// For a file, to be sent from another port.
    Request,
}

/// What the connection makes of a packet.
enum Heard {
    /// Nothing is expected because of it.
    Nothing(Option<Edit>),
    Expect(Expectation, Option<TextEdit>),
}

/// Lets a helper look at a packet that was found fit, and gives the verdict after that. `edit` becomes
/// what is to be changed in the packet.
#[cold]
pub(crate) fn assist<S: Shards>(
    shards: &S,
    x: &Passage<'_>,
    helper: Helper,
    ip: &[u8],
    info: CtInfo,
    edit: &mut Option<Edit>,
) -> CtInfo {
    let Some(conn) = info.conn else { return info };
    let payload = x.p.payload(ip);
    let seq = match &x.p.body {
        Body::Tcp(s) => s.seq,
        Body::Error => return info,
        _ => 0,
    };
    let message = match helper {
        Helper::Ftp => ftp::read(payload).map(|m| m.map_or(Message::None, Message::Invites)),
        Helper::Tftp if tftp::is_request(payload) => Ok(Message::Request),
        Helper::Tftp => Ok(Message::None),
    };
    let said = Said { dir: info.dir, seq, payload, message, translate: info.nat.is_some() };
    match hear(shards, x.now, conn, &said) {
        Ok(change) => {
            *edit = change;
            info
        }
        Err(reason) => {
            let refused = shards.with(conn.shard.into(), |t| t.invalid(x.req.zone, reason));
            CtInfo { mark: info.mark, label: info.label, ..refused }
        }
    }
}

fn hear<S: Shards>(
    shards: &S,
    now: Instant,
    conn: ConnId,
    said: &Said<'_>,
) -> Result<Option<Edit>, InvalidReason> {
    let home = usize::from(conn.shard);
    let (expectation, text) = match visit(shards, home, |t| t.listen(conn, said))? {
        Heard::Nothing(edit) => return Ok(edit),
        Heard::Expect(expectation, text) => (expectation, text),
    };
    let place = shard_of(expectation.hash(), shards.n());
    let expect = |e| visit(shards, place, |t| t.expect(now, e));
    let id = match expect(expectation.clone()) {
        Ok(id) => id,
        Err(Err(reason)) => return Err(reason),
        // Who expects it may be a connection whose time has run out.
        Err(Ok(owner)) => {
            if !visit(shards, owner.shard.into(), |t| t.is_gone(now, owner)) {
                return Err(InvalidReason::AlgClash);
            }
            expect(expectation).map_err(|_| InvalidReason::AlgClash)?
        }
    };
    let settled = visit(shards, home, |t| t.settle_expected(conn, id, said, text));
    let (gone, edit) = match settled {
        Ok(Some((evicted, edit))) => (evicted, Ok(edit)),
        // The control connection went meanwhile.
        Ok(None) => (Some(id), Ok(None)),
        Err(reason) => (Some(id), Err(reason)),
    };
    if let Some(gone) = gone {
        shards.with(gone.shard.into(), |t| t.forget(gone, conn));
    }
    edit
}

impl Conntrack {
    /// What the connection makes of a packet of its own.
    fn listen(&mut self, id: ConnId, said: &Said<'_>) -> Result<Heard, InvalidReason> {
        if self.conn(id).is_none() {
            return Ok(Heard::Nothing(None));
        }
        let c = self.slab.get(id.slot);
        let mut message = said.message;
        if !said.payload.is_empty() {
            c.with_watch(|w| {
                if w.helper != Helper::Ftp {
                    return;
                }
                let lines = &mut w.lines[said.dir as usize];
                if !lines.begins_at(said.seq) {
                    message = Ok(Message::None);
                }
                lines.note(said.seq, said.payload);
            });
        }
        let (to, nat, text) = match message? {
            Message::Request if said.dir == Dir::Orig => {
                let to = (c.reply().dst, c.reply().dst_id);
                let mut nat = data_translation(c, said.dir);
                if nat.kind == Some(NatKind::Dst) && to.1 != c.orig().src_id {
                    nat.ports = Some((c.orig().src_id, c.orig().src_id));
                }
                (to, nat, None)
            }
            Message::Invites(i) => {
                let (own, known_as) = addresses(c, said.dir);
                if i.addr.is_some_and(|n| n.addr != own && n.addr != known_as) {
                    return Err(InvalidReason::AlgForeign);
                }
                if i.port < UNPRIVILEGED {
                    return Err(InvalidReason::AlgPort);
                }
                let named = i.addr.filter(|n| n.addr != known_as);
                let text = named.map(|n| n.replace(known_as));
                ((known_as, i.port), data_translation(c, said.dir), text)
            }
            Message::None | Message::Request => {
                return self.edit(id.slot, said, None).map(Heard::Nothing);
            }
        };
        let from = match said.dir {
            Dir::Orig => c.reply().src,
            Dir::Reply => c.orig().src,
        };
        let key = Key::to_port(from, to.0, c.key().proto(), to.1, c.key().zone());
        let hash = key.hash(self.secret);
        let parent = (id, c.orig());
        let e = Expectation::new(key, hash, parent, nat, (c.mark(), c.label()));
        Ok(Heard::Expect(e, text))
    }

    /// Remembers what a connection expects, and what that evicts; `None` if the connection is gone.
    #[expect(clippy::type_complexity, reason = "each part is said above")]
    fn settle_expected(
        &mut self,
        conn: ConnId,
        id: ExpectId,
        said: &Said<'_>,
        text: Option<TextEdit>,
    ) -> Result<Option<(Option<ExpectId>, Option<Edit>)>, InvalidReason> {
        if self.conn(conn).is_none() {
            return Ok(None);
        }
        let edit = self.edit(conn.slot, said, text)?;
        let evicted = self.slab.get(conn.slot).with_watch(|w| {
            let known = w.expected.contains(&id);
            let evicted = if !known && w.expected.is_full() { w.expected.pop_at(0) } else { None };
            if !known {
                w.expected.push(id);
            }
            evicted
        });
        Ok(evicted.map(|evicted| (evicted, edit)))
    }

    /// What is to be changed in a packet.
    fn edit(
        &mut self,
        slot: u32,
        said: &Said<'_>,
        text: Option<TextEdit>,
    ) -> Result<Option<Edit>, InvalidReason> {
        if !said.translate {
            return Ok(None);
        }
        let edit = self.slab.get(slot).with_watch(|w| edit(w, said, text));
        edit.unwrap_or(Ok(None))
    }
}

/// What is to be changed in a packet of a connection that remembers this.
fn edit(
    w: &mut Watch,
    said: &Said<'_>,
    text: Option<TextEdit>,
) -> Result<Option<Edit>, InvalidReason> {
    let acked = w.shifts[said.dir.flip() as usize];
    let shifts = &mut w.shifts[said.dir as usize];
    let end = said.seq.wrapping_add(said.payload.len() as u32);
    let mut rest = said.seq;
    if let Some(t) = &text {
        // What may not fit into an IP packet any more.
        if said.payload.len() > i16::MAX as usize {
            return Err(InvalidReason::AlgSyntax);
        }
        let start = said.seq.wrapping_add(t.at.into());
        if !shifts.note(start, t.len, t.text.len() as u16) {
            return Err(InvalidReason::AlgSplit);
        }
        rest = start.wrapping_add(t.len.into());
    }
    // A segment can't be changed as it was if it is cut another way than then.
    let seen = shifts.seen(said.seq).filter(|_| !shifts.overlap(rest, end.wrapping_sub(rest)));
    let seq = seen.ok_or(InvalidReason::AlgSplit)?.wrapping_sub(said.seq);
    shifts.age(said.seq);
    let changes = seq != 0 || text.is_some() || !acked.is_none();
    Ok(changes.then_some(Edit { seq, text, acked }))
}

/// The address of the sender of a packet, and as its receiver knows it.
fn addresses(c: &Conn, dir: Dir) -> (IpAddr, IpAddr) {
    match dir {
        Dir::Orig => (c.orig().src, c.reply().dst),
        Dir::Reply => (c.reply().src, c.orig().dst),
    }
}

/// How a connection is translated that the sender of a packet of direction `dir` invites to: so that
/// both ends know each other by the same addresses as in the control connection.
fn data_translation(c: &Conn, dir: Dir) -> NatRequest {
    let control = c.nat().map_or(NatKind::Src, |n| n.kind);
    let kind = control.in_dir(dir.flip());
    let (own, _) = addresses(c, dir);
    let (_, guest) = addresses(c, dir.flip());
    let addr = if kind == NatKind::Dst { own } else { guest };
    NatRequest { kind: Some(kind), addrs: Some((addr, addr)), ..NatRequest::default() }
}
