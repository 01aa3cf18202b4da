//! Choosing by hash: `multipath` a link number, `bundle` a port (`ovs-actions(7)`).

use base::OfPort;
use flow::hash::hash_2words;
use openflow::action::{BundleAction, MultipathAction};
use openflow::message::{port_config, port_state};

use super::Ctx;
use crate::bridge::Bridge;
use crate::hash::{hash_fields, mask_hash_fields};

impl Ctx<'_> {
    pub(super) fn multipath(&mut self, a: &MultipathAction) {
        let hash = hash_fields(&self.flow.pkt, a.fields, a.basis.into());
        mask_hash_fields(&self.flow.pkt, &mut self.wc.pkt, a.fields);
        let link = link(hash, a.algorithm, u32::from(a.max_link) + 1, a.arg);
        self.load(a.dst, link.into());
        self.report_subfield(a.dst);
    }

    pub(super) fn bundle(&mut self, a: &BundleAction, last: bool) {
        const HRW: u16 = 1;
        let br = self.br;
        let enabled = |port: &OfPort| is_enabled(br, *port);
        let chosen = if a.algorithm == HRW {
            if a.members.len() > 1 {
                mask_hash_fields(&self.flow.pkt, &mut self.wc.pkt, a.fields);
            }
            let hash = hash_fields(&self.flow.pkt, a.fields, a.basis.into());
            let weigh = |(i, port)| (hash_2words(i as u32, hash), core::cmp::Reverse(i), port);
            let members = a.members.iter().enumerate().filter(|(_, p)| enabled(p));
            members.map(weigh).max_by_key(|(weight, i, _)| (*weight, *i)).map(|m| m.2)
        } else {
            a.members.iter().find(|p| enabled(p))
        };
        let port = chosen.copied().unwrap_or(OfPort::NONE);
        match a.dst {
            Some(dst) => {
                self.load(dst, port.0.into());
                self.report_subfield(dst);
            }
            None => self.output(port, 0, last),
        }
    }
}

/// Whether a member of a bundle can take packets.
fn is_enabled(br: &Bridge, port: OfPort) -> bool {
    match port {
        OfPort::IN_PORT | OfPort::TABLE | OfPort::NORMAL | OfPort::FLOOD | OfPort::ALL => true,
        OfPort::NONE => true,
        OfPort::CONTROLLER => false,
        port => br.port(port).is_some_and(|p| {
            p.config & port_config::PORT_DOWN == 0 && p.desc().state & port_state::LINK_DOWN == 0
        }),
    }
}

/// The link that an algorithm of `multipath` chooses out of `n`.
fn link(hash: u32, algorithm: u16, n: u32, arg: u32) -> u32 {
    match algorithm {
        0 => hash % n,
        1 if n == 1 => 0,
        1 => hash / (u32::MAX / n + 1),
        2 if n <= 64 => {
            // The first of those with the highest weight.
            (0..n).rev().max_by_key(|&i| hash_2words(hash, i)).unwrap_or(0)
        }
        2 => iter_hash(hash, n, 0),
        _ => iter_hash(hash, n, arg),
    }
}

/// Hashes anew until the result is a link.
fn iter_hash(hash: u32, n: u32, modulo: u32) -> u32 {
    let usable = modulo >= n && modulo / 2 <= n;
    let modulo = if usable { modulo } else { n.next_power_of_two() };
    (0..).map(|i| hash_2words(hash, i) % modulo).find(|&link| link < n).unwrap_or(0)
}
