//! What a `ct` action does to a packet that is part of a known connection, besides moving its state:
//! mark, label and translation.

use crate::conn::Via;
use crate::event::EventKind;
use crate::nat::Translation;
use crate::parse::Body;
use crate::tracker::{Passage, Then};
use crate::{Conntrack, CtInfo, CtRequest, CtState, Dir, Outcome};
use base::Instant;

/// What was done for an action.
pub(crate) struct Settled {
    pub nat: Option<Translation>,
    /// Mark or label are others now.
    pub changed: bool,
}

impl Conntrack {
    /// The verdict of a packet of a known connection, after a commit has set mark and label.
    #[inline]
    pub(crate) fn labelled(
        &mut self,
        x: Passage<'_>,
        slot: u32,
        (dir, via): (Dir, Via),
        mut state: CtState,
        then: &mut Then,
    ) -> CtInfo {
        let quoted = matches!(x.p.body, Body::Error);
        let Settled { nat, changed } =
            self.settle(x.now, slot, (dir, via), quoted, x.req, &mut state);
        let c = self.slab.get(slot);
        let mut parent = None;
        if c.has_alg() {
            let helper;
            (helper, parent) = c.relations((dir, via), nat.is_some(), &mut state);
            *then = helper.map_or(Then::Done, Then::Help);
        }
        CtInfo {
            state,
            zone: x.req.zone,
            mark: c.mark(),
            label: c.label(),
            orig: Some(parent.map_or_else(|| c.orig(), |p| *p)),
            dir,
            conn: Some(c.id(self.number, slot)),
            invalid: None,
            outcome: if changed { Outcome::Updated } else { Outcome::None },
            nat,
        }
    }

    /// What an action asks for a packet that is part of its connection: the translation, and with a
    /// commit mark and label. Adds to `state` that it is translated.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        slot: u32,
        (dir, via): (Dir, Via),
        quoted: bool,
        req: &CtRequest,
        state: &mut CtState,
    ) -> Settled {
        let c = self.slab.get_mut(slot);
        let mut nat = None;
        if req.nat.is_some()
            && let Some(n) = c.nat()
            && c.is_raw(dir, via)
            && !state.intersects(CtState::SNAT | CtState::DNAT)
        {
            *state |= n.state(dir);
            nat = Some(n.translation(&c.orig(), dir, quoted));
        }
        let mut changed = false;
        if req.commit && !c.is_related() {
            if let Some(mark) = req.mark {
                changed |= c.set_mark(mark);
            }
            if let Some(label) = req.label {
                changed |= c.set_label(label);
            }
        }
        if changed && self.events.enabled() {
            self.event(now, slot, EventKind::Update);
        }
        Settled { nat, changed }
    }
}
