//! What all passes of a packet come to.
//!
//! While a packet goes the long way its [`Trail`] notes the flows that it hit and the verdicts that it
//! got. [`compose`] then goes through the flows' actions again and makes a [`Path`] of them: the `ct`
//! actions, each with what the flows behind it looked at in its verdict, and all other actions in their
//! order. Another packet with the same words goes the same way as long as the flows are right and
//! its verdicts are, where they were looked at, the same.
//!
//! Actions whose effect is not the same for the next packet (a meter, a sample, a packet to the
//! controller, a branch by length) make no path.

use std::sync::Arc;

use arrayvec::ArrayVec;
use base::DpPort;
use conntrack::{ConnId, CtInfo, CtRequest, CtState, Dir, Known, Outcome, Standing};
use dpif::{DpAction, Megaflow};
use ebpf::Retag;

use super::head::{FLAGS, Head, TOS_SHIFT, TTL_SHIFT};
use super::table::MAX_CONNS;
use crate::cache::Local;

/// Flows that a packet may hit.
pub(crate) const MAX_FLOWS: usize = 8;
/// `ct` actions that it may go through.
pub(crate) const MAX_STEPS: usize = 4;

/// One verdict on the long way.
#[derive(Clone, Debug)]
struct Verdict {
    conn: Option<ConnId>,
    dir: Dir,
    translated: bool,
}

/// What a packet met on the long way.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    pub head: Head,
    flows: ArrayVec<Arc<Local>, MAX_FLOWS>,
    verdicts: ArrayVec<Verdict, MAX_STEPS>,
    /// More than fits.
    lost: bool,
}

impl Default for Trail {
    fn default() -> Trail {
        Trail {
            head: Head::NOTHING,
            flows: ArrayVec::new(),
            verdicts: ArrayVec::new(),
            lost: false,
        }
    }
}

impl Trail {
    pub fn begin(&mut self, head: &Head) {
        self.head = *head;
        self.flows.clear();
        self.verdicts.clear();
        self.lost = false;
    }

    /// What was hit, in its order.
    pub fn flows(&self) -> &[Arc<Local>] {
        &self.flows
    }

    /// Lets go of what was noted.
    pub fn end(&mut self) {
        self.flows.clear();
    }

    /// The next packet does not go this way: this one had no connection yet.
    pub fn is_fleeting(&self) -> bool {
        self.verdicts.iter().any(|v| v.conn.is_none())
    }

    pub fn hit(&mut self, flow: &Arc<Local>) {
        self.lost |= self.flows.try_push(Arc::clone(flow)).is_err();
    }

    pub fn tracked(&mut self, info: &CtInfo) {
        // A connection that this packet made or changed is another one for the next.
        let conn = info.conn.filter(|_| info.outcome == Outcome::None);
        let verdict = Verdict { conn, dir: info.dir, translated: info.nat.is_some() };
        self.lost |= self.verdicts.try_push(verdict).is_err();
    }
}

/// What flows look at in a verdict: bits that count, and what they are.
#[derive(Copy, Clone, Debug, Default)]
struct Wants {
    state: (u8, u8),
    mark: (u32, u32),
    label: (u128, u128),
}

impl Wants {
    fn add(&mut self, flow: &Megaflow) {
        let (k, m) = (&flow.key, &flow.mask);
        self.state.0 |= m.ct_state;
        self.state.1 |= k.ct_state & m.ct_state;
        self.mark.0 |= m.ct_mark;
        self.mark.1 |= k.ct_mark & m.ct_mark;
        let mask = u128::from_be_bytes(m.ct_label);
        self.label.0 |= mask;
        self.label.1 |= u128::from_be_bytes(k.ct_label) & mask;
    }

    #[inline]
    fn are_met(&self, s: &Standing) -> bool {
        s.state.bits() & self.state.0 == self.state.1
            && s.mark & self.mark.0 == self.mark.1
            && s.label & self.label.0 == self.label.1
    }
}

/// One `ct` action.
#[derive(Clone, Debug)]
pub(crate) struct CtStep {
    pub request: CtRequest,
    /// Which of the entry's connections.
    pub conn: usize,
    dir: Dir,
    translated: bool,
    /// The verdict of the step before is [`CtRequest::prior`].
    pub has_prior: bool,
    wants: Wants,
}

impl CtStep {
    pub fn known(&self, conns: &[ConnId; MAX_CONNS]) -> Known {
        Known { conn: conns[self.conn], dir: self.dir, translated: self.translated }
    }

    /// Whether the packet goes on as the one that made the path did.
    #[inline]
    pub fn accepts(&self, s: &Standing, translated: bool) -> bool {
        self.wants.are_met(s) && translated == self.translated
    }
}

/// What is done to the packets, besides tracking them.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Translate as this step's verdict says.
    Translate(usize),
    /// Actions of one flow, none of which is `ct` or `recirc`.
    Do(Box<[DpAction]>),
}

/// A flow on the way.
#[derive(Debug)]
pub(crate) struct PathFlow {
    pub local: Arc<Local>,
    /// How much longer the frame is by then than it came.
    pub longer: i64,
}

/// What the kernel does with the packets of a path.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Errand {
    /// Where to they are sent.
    pub port: DpPort,
    /// What becomes of their tag.
    pub tag: Retag,
    /// Bits of their connection's mark that must stay.
    pub mark_mask: u32,
}

/// A composed way.
#[derive(Debug)]
pub(crate) struct Path {
    pub flows: Box<[PathFlow]>,
    pub steps: Box<[CtStep]>,
    /// What comes before the last flow, and that flow's.
    pub stages: Box<[Stage]>,
    /// The first stage of the last flow: if that does nothing, the packet is dropped there.
    pub last: usize,
    /// All that is done is to send to one port.
    pub output: Option<DpPort>,
    /// Connections of an entry.
    pub n_conns: usize,
    /// Bits of a head's third and last word that count besides [`super::head::HARD`].
    pub varies: (u64, u64),
    /// No packet of these words can be kept a path.
    pub never: bool,
}

impl Path {
    /// Goes nowhere: says that there is no path to be had while these flows are right.
    fn never(flows: &[Arc<Local>]) -> Path {
        Path {
            flows: flows.iter().map(|l| PathFlow { local: Arc::clone(l), longer: 0 }).collect(),
            steps: Box::default(),
            stages: Box::default(),
            last: 0,
            output: None,
            n_conns: 0,
            varies: flows.iter().fold((0, 0), |v, l| with_varying(v, &l.flow)),
            never: true,
        }
    }

    /// The connections of a packet whose trail would come to this path: flows and the pattern of the
    /// verdicts are all that a path is made of.
    pub fn conns_of(&self, trail: &Trail) -> Option<Conns> {
        let flows = self.flows.iter().map(|f| &f.local);
        let same = !trail.lost
            && self.flows.len() == trail.flows.len()
            && self.steps.len() == trail.verdicts.len()
            && flows.zip(&trail.flows).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            return None;
        }
        let mut conns = Conns::new();
        for (step, v) in self.steps.iter().zip(&trail.verdicts) {
            let conn = v.conn?;
            let at = place(&mut conns, conn)?;
            if (step.conn, step.dir, step.translated) != (at, v.dir, v.translated) {
                return None;
            }
        }
        Some(conns)
    }

    /// What the kernel is to do, if it can do the whole: at most one connection is tracked, and nothing of it set; and all is
    /// sent to one port, perhaps after a tag was put on or taken off.
    pub fn for_kernel(&self) -> Option<Errand> {
        let [Stage::Do(actions)] = &*self.stages else { return None };
        let (port, tag) = match **actions {
            [DpAction::Output(port)] => (port, Retag::Keep),
            [DpAction::PushVlan { tpid, tci }, DpAction::Output(port)] => {
                (port, Retag::Push { tpid, tci })
            }
            [DpAction::PopVlan, DpAction::Output(port)] => (port, Retag::Pop),
            _ => return None,
        };
        if self.last > 0 || self.n_conns > 1 || self.never {
            return None;
        }
        let sets = |r: &CtRequest| r.commit && (r.force || r.mark.is_some() || r.label.is_some());
        let fits = |s: &CtStep| !s.translated && !sets(&s.request) && s.wants.label.0 == 0;
        let first_of_all = |(i, s): (usize, &CtStep)| fits(s) && s.has_prior == (i > 0);
        let all = self.steps.iter().enumerate().all(first_of_all) && self.varies.1 == 0;
        let mark_mask = self.steps.iter().fold(0, |bits, s| bits | s.wants.mark.0);
        all.then_some(Errand { port, tag, mark_mask })
    }

    /// Whether all flows are alive and of this generation.
    pub fn is_right(&self, generation: u64) -> bool {
        self.flows.iter().all(|f| {
            let flow = &f.local.flow;
            flow.generation() >= generation && !flow.is_dead()
        })
    }

    pub fn is_dead(&self) -> bool {
        self.flows.iter().any(|f| f.local.flow.is_dead())
    }
}

/// Connections of an entry.
pub(crate) type Conns = ArrayVec<ConnId, MAX_CONNS>;

/// The place of a connection among those of a packet; a new one is added, if there is room.
fn place(conns: &mut Conns, conn: ConnId) -> Option<usize> {
    if let Some(at) = conns.iter().position(|c| *c == conn) {
        return Some(at);
    }
    conns.try_push(conn).ok()?;
    Some(conns.len() - 1)
}

/// The bits of the head's third and last word that a flow looks at.
fn with_varying((third, last): (u64, u64), flow: &Megaflow) -> (u64, u64) {
    let m = &flow.mask;
    let third = third
        | u64::from(m.nw_tos) << TOS_SHIFT
        | u64::from(m.nw_ttl) << TTL_SHIFT
        | u64::from(m.tcp_flags) & FLAGS;
    (third, last | u64::from(m.ipv6_label))
}

/// Makes a path of what a packet met, and says of which connections it was. `None`: perhaps with
/// another packet.
pub(crate) fn compose(trail: &Trail) -> Option<(Path, Conns)> {
    match try_compose(trail) {
        Ok(composed) => Some(composed),
        // With another verdict it may be had.
        Err(No::Never) if trail.verdicts.is_empty() => {
            Some((Path::never(&trail.flows), Conns::new()))
        }
        Err(_) => None,
    }
}

/// Why there is no path.
enum No {
    /// The verdict was one that the next packet need not get.
    Now,
    /// The actions are of a kind that makes none.
    Never,
}

fn try_compose(trail: &Trail) -> Result<(Path, Conns), No> {
    let mut flows = Vec::with_capacity(trail.flows.len());
    let mut steps: Vec<CtStep> = Vec::new();
    let mut conns = Conns::new();
    let mut stages = Vec::new();
    let mut verdicts = trail.verdicts.iter();
    let mut varies = (0, 0);
    let mut longer = 0;
    let mut n_tags = usize::from(trail.head.is_tagged());
    let mut last = 0;
    // Whether the last verdict is still in the packet's metadata.
    let mut has_prior = false;
    let mut expected = 0;
    let mut n_used = 0;
    let mut more = true;
    for local in &trail.flows {
        let flow = &local.flow;
        if !more || flow.key.recirc_id != expected {
            return Err(No::Now);
        }
        more = false;
        n_used += 1;
        flows.push(PathFlow { local: Arc::clone(local), longer });
        varies = with_varying(varies, flow);
        if has_prior && let Some(step) = steps.last_mut() {
            step.wants.add(flow);
        }
        last = stages.len();
        let mut doing = Vec::new();
        for (i, action) in local.actions.iter().enumerate() {
            match action {
                DpAction::Ct(request) => {
                    let v = verdicts.next().ok_or(No::Now)?;
                    let conn = v.conn.ok_or(No::Now)?;
                    let at = place(&mut conns, conn).ok_or(No::Never)?;
                    let prior = has_prior && steps.last().is_some_and(|s| s.conn == at);
                    // Twice through the state machine: the second time it may be translated.
                    if !prior && steps.iter().any(|s| s.conn == at) {
                        return Err(No::Never);
                    }
                    finish(&mut stages, &mut doing);
                    if v.translated {
                        stages.push(Stage::Translate(steps.len()));
                    }
                    steps.push(CtStep {
                        request: CtRequest { prior: None, ..**request },
                        conn: at,
                        dir: v.dir,
                        translated: v.translated,
                        has_prior,
                        wants: Wants::default(),
                    });
                    has_prior = true;
                }
                DpAction::CtClear => has_prior = false,
                DpAction::Recirc(id) if i + 1 == local.actions.len() => {
                    (expected, more) = (id.0, true);
                }
                DpAction::PushVlan { .. } => {
                    longer += 4;
                    n_tags += 1;
                    doing.push(action.clone());
                }
                DpAction::PopVlan => {
                    if n_tags > 0 {
                        n_tags -= 1;
                        longer -= 4;
                    }
                    doing.push(action.clone());
                }
                DpAction::Output(_) | DpAction::Set(_) | DpAction::Drop(_) => {
                    doing.push(action.clone());
                    if let DpAction::Drop(_) = action {
                        break;
                    }
                }
                _ => return Err(No::Never),
            }
        }
        finish(&mut stages, &mut doing);
        if !more {
            break;
        }
    }
    let whole = !more && n_used == trail.flows.len() && verdicts.next().is_none();
    if !whole || trail.lost {
        return Err(if trail.lost { No::Never } else { No::Now });
    }
    let output = match &stages[..] {
        [Stage::Do(actions)] => match **actions {
            [DpAction::Output(port)] if last == 0 => Some(port),
            _ => None,
        },
        _ => None,
    };
    let path = Path {
        flows: flows.into(),
        steps: steps.into(),
        stages: stages.into(),
        last,
        output,
        n_conns: conns.len(),
        varies,
        never: false,
    };
    Ok((path, conns))
}

/// Ends a stage, if anything is done in it.
fn finish(stages: &mut Vec<Stage>, doing: &mut Vec<DpAction>) {
    if !doing.is_empty() {
        stages.push(Stage::Do(std::mem::take(doing).into()));
    }
}

/// Verdicts that a packet had before it had to go the long way.
pub(crate) type Replay = ArrayVec<(ConnId, CtState), MAX_STEPS>;
