//! What may be set while a tracker runs.

use crate::{Conntrack, PolicyId, TimeoutPolicy};

/// Settings that may change while the tracker runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CtConfig {
    /// Most connections at a time, of all shards together.
    pub max_conns: usize,
    /// Refuse TCP segments outside the window (`dpctl/ct-enable-tcp-seq-chk`).
    pub tcp_seq_chk: bool,
    /// A TCP segment without SYN may open a connection.
    pub tcp_pick_up: bool,
}

impl Default for CtConfig {
    fn default() -> Self {
        CtConfig { max_conns: 3_000_000, tcp_seq_chk: true, tcp_pick_up: true }
    }
}

impl Conntrack {
    /// The settings.
    pub fn config(&self) -> &CtConfig {
        &self.config
    }

    /// Changes the settings; of a sharded tracker, those of all shards must be. A lower `max_conns`
    /// keeps what is there.
    pub fn set_config(&mut self, config: CtConfig) {
        self.config = config;
        self.ceiling.rules.set_tcp_seq_chk(config.tcp_seq_chk);
        self.ceiling.set_max(config.max_conns);
        self.quota.give_back(&self.ceiling, self.slab.len());
    }

    /// Sets a timeout policy; connections that have it take it up with their next packet.
    pub fn set_policy(&mut self, id: PolicyId, policy: TimeoutPolicy) {
        let i = usize::from(id.0);
        if i >= self.policies.len() {
            self.policies.resize(i + 1, TimeoutPolicy::DEFAULT);
        }
        self.policies[i] = policy;
        if i == 0 {
            self.ceiling.rules.set_timeouts(&policy);
        }
    }

    /// Queues up to `capacity` events from now on; 0 turns them off.
    pub fn set_events(&mut self, capacity: usize) {
        self.events.set_capacity(capacity);
        self.ceiling.rules.set_events(self.events.enabled());
    }

    /// Sets what is called again and again, with the number of times so far, by who has the shard and waits until a
    /// packet without it has moved its connection: less than a microsecond if that packet's thread is not interrupted.
    pub fn set_pause(&mut self, pause: fn(u32)) {
        self.pause = pause;
    }
}
