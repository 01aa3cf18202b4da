//! What a datapath asks of the slow path.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::AtomicU64;

use base::Instant;
use flow::PacketKey;
use packet::PacketBuf;

use crate::{DpAction, MegaflowSpec, UserspaceCookie};

/// Where the slow path's [generation](SlowPath::generation) is: in a place of its own, or in one that programs see which
/// forward packets beside the datapath.
#[derive(Clone, Debug)]
pub enum Generation {
    /// On the heap.
    Own(Arc<AtomicU64>),
    /// Somebody else's, for this alone.
    Lent(&'static AtomicU64),
}

impl Default for Generation {
    fn default() -> Generation {
        Generation::Own(Arc::default())
    }
}

impl Deref for Generation {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        match self {
            Generation::Own(word) => word,
            Generation::Lent(word) => word,
        }
    }
}

/// The slow path's answer to a packet that no cache knows.
#[derive(Clone, Debug, Default)]
pub struct Upcall {
    /// What to cache for packets like this one; `None`: the next one asks again.
    pub flow: Option<MegaflowSpec>,
    /// What to do with this packet; `None`: the actions of `flow`. Without either it is dropped.
    pub execute: Option<Arc<[DpAction]>>,
}

/// The slow path's answer to whether a cached flow is still right.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nobody keeps one")]
pub enum Revalidation {
    /// What the flow has to be now.
    Flow(MegaflowSpec),
    /// The flow is to be removed, so that the next packet is an upcall. That is also the answer
    /// when a packet's passage would change something that no [`crate::Credit`] does, such as
    /// learning its source address anew after it moved: a flow that took its place would keep
    /// such packets from the slow path.
    Gone,
    /// The tables are being changed and it cannot be told before they are: until then the flow is
    /// as right as it was.
    Later,
}

/// The slow path as a datapath sees it. Called by all workers at once.
///
/// The `in_port` of keys is a datapath port number.
pub trait SlowPath: Send + Sync + fmt::Debug {
    /// Changes whenever a translation made before may be wrong now. Only grows. One atomic load.
    fn generation(&self) -> u64;

    /// Translates a packet and does what else its passage does (learning, counting this packet
    /// for the rules it meets). The packet's layers are set.
    fn upcall(&self, now: Instant, pkt: &PacketBuf, key: &PacketKey) -> Upcall;

    /// Translates without a packet and without side effects, to see whether a cached flow is
    /// still right. Asked by workers when a packet hits a flow of an old generation (if the flow
    /// is right, the packet counts as any other that hits), and by the control thread for the
    /// flows that nobody hit.
    fn revalidate(&self, now: Instant, key: &PacketKey) -> Revalidation;

    /// Takes a packet that a userspace action sends, and says what to do with it now, if
    /// anything.
    fn userspace(
        &self,
        now: Instant,
        pkt: &PacketBuf,
        key: &PacketKey,
        cookie: &UserspaceCookie,
    ) -> Option<Arc<[DpAction]>>;
}
