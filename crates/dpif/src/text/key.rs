//! Writing keys.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use base::{DpPort, MacAddr};
use flow::{CT_STATE_FLAGS, PacketKey};

use super::table::{self, FRAGS, Group, Item, Style, TCP_FLAGS};
use super::{CHex, PortNames, write_port};

/// A key to be written.
#[derive(Copy, Clone)]
pub struct KeyText<'a> {
    key: &'a PacketKey,
    mask: Option<&'a PacketKey>,
    verbose: bool,
    names: PortNames<'a>,
}

impl fmt::Debug for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key and its mask as text. Without a mask all bits count; with `verbose` (`-m`) the bits that
/// do not count are written too.
pub fn format_key<'a>(
    key: &'a PacketKey,
    mask: Option<&'a PacketKey>,
    verbose: bool,
    names: PortNames<'a>,
) -> KeyText<'a> {
    KeyText { key, mask, verbose, names }
}

/// All bits.
pub(super) fn exact() -> PacketKey {
    PacketKey::from_words([u64::MAX; flow::PACKET_WORDS])
}

/// Writes a group if any of its bits count or `verbose` is set. Returns whether it did.
pub(super) fn write_group(
    f: &mut fmt::Formatter<'_>,
    group: &Group,
    key: &PacketKey,
    mask: &PacketKey,
    verbose: bool,
    sep: &str,
) -> Result<bool, fmt::Error> {
    if !verbose && group.items.iter().all(|i| (i.get)(mask) == 0) {
        return Ok(false);
    }
    write!(f, "{sep}{}(", group.name)?;
    let mut first = true;
    for item in group.items {
        let m = (item.get)(mask) & item.all_ones();
        // OVS writes the reserved bits of neighbour discovery in any case.
        if m == 0 && !verbose && item.name != "nd_reserved" {
            continue;
        }
        if !core::mem::take(&mut first) {
            f.write_char(',')?;
        }
        if !item.name.is_empty() {
            write!(f, "{}=", item.name)?;
        }
        write_item(f, item, (item.get)(key), m)?;
    }
    f.write_char(')')?;
    Ok(true)
}

fn write_item(f: &mut fmt::Formatter<'_>, item: &Item, v: u128, m: u128) -> fmt::Result {
    let full = m == item.all_ones();
    match item.style {
        Style::Dec | Style::Dec0x | Style::DecX => write!(f, "{v}")?,
        Style::Hex => write!(f, "{}", CHex(v))?,
        Style::Dec2x if full => write!(f, "{v}")?,
        Style::Dec2x => return write!(f, "{v:#04x}/{m:#04x}"),
        Style::Hex8x if full => write!(f, "{v:#x}")?,
        Style::Hex8x => return write!(f, "{v:#x}/{m:#010x}"),
        Style::Frag => {
            let word = FRAGS.iter().find(|(_, bits)| u128::from(*bits) == v);
            return f.write_str(word.map_or("<error>", |(w, _)| w));
        }
        Style::Mac | Style::Ip4 | Style::Ip6 => write_address(f, item.style, v)?,
    }
    if full {
        return Ok(());
    }
    f.write_char('/')?;
    match item.style {
        Style::Dec | Style::Hex => write!(f, "{}", CHex(m)),
        Style::Dec0x | Style::Dec2x | Style::Hex8x => write!(f, "{m:#x}"),
        Style::DecX => write!(f, "{m:x}"),
        Style::Mac | Style::Ip4 | Style::Ip6 | Style::Frag => write_address(f, item.style, m),
    }
}

fn write_address(f: &mut fmt::Formatter<'_>, style: Style, v: u128) -> fmt::Result {
    match style {
        Style::Mac => write!(f, "{}", MacAddr::from_u64(v as u64)),
        Style::Ip4 => write!(f, "{}", Ipv4Addr::from(v as u32)),
        _ => flow::text::value::write_ipv6_addr(f, v),
    }
}

impl KeyText<'_> {
    fn ct_state(
        &self,
        f: &mut fmt::Formatter<'_>,
        mask: u8,
        sep: &str,
    ) -> Result<bool, fmt::Error> {
        let state = self.key.ct_state;
        if mask == 0 && !self.verbose {
            return Ok(false);
        }
        write!(f, "{sep}ct_state(")?;
        if self.verbose {
            write!(f, "{}", CHex(state.into()))?;
            // It is a 32-bit field there, so no mask of its eight bits is all ones.
            if self.mask.is_some() {
                write!(f, "/{}", CHex(mask.into()))?;
            }
        } else {
            for (name, bit) in CT_STATE_FLAGS {
                if mask & bit != 0 {
                    write!(f, "{}{name}", if state & bit != 0 { '+' } else { '-' })?;
                }
            }
        }
        f.write_char(')')?;
        Ok(true)
    }

    fn tcp_flags(&self, f: &mut fmt::Formatter<'_>, mask: u16) -> fmt::Result {
        const ALL: u16 = 0xfff;
        let (flags, mask) = (self.key.tcp_flags & ALL, mask & ALL);
        if mask == 0 && !self.verbose {
            return Ok(());
        }
        f.write_str(",tcp_flags(")?;
        if mask == 0 {
            f.write_str("0/0")?;
        } else if mask == ALL {
            write_flag_names(f, flags)?;
        } else {
            for (name, bit, _) in by_bit() {
                if mask & bit != 0 {
                    write!(f, "{}{name}", if flags & bit != 0 { '+' } else { '-' })?;
                }
            }
        }
        f.write_char(')')
    }

    /// A tag: what of it counts, and what of it is not zero.
    fn vlan(&self, f: &mut fmt::Formatter<'_>, tci: u16, mask: u16) -> fmt::Result {
        f.write_str(",vlan(")?;
        let mut comma = "";
        for (name, shift, ones) in [("vid", 0, 0xfff), ("pcp", 13, 7)] {
            let (v, m) = (tci >> shift & ones, mask >> shift & ones);
            if v != 0 || m != 0 || self.verbose {
                write!(f, "{comma}{name}={v}")?;
                if m != ones {
                    write!(f, "/{m:#x}")?;
                }
                comma = ",";
            }
        }
        if tci & flow::VLAN_PRESENT == 0 {
            write!(f, "{comma}cfi=0")?;
        }
        f.write_char(')')
    }

    /// The labels, all of them whole as soon as any bit counts.
    fn mpls(&self, f: &mut fmt::Formatter<'_>, mask: &PacketKey) -> fmt::Result {
        const BOS: u32 = 0x100;
        let labels = &self.key.mpls_lse;
        let bottom = labels.iter().position(|l| l & BOS != 0);
        let seen = || labels.iter().filter(|l| **l != 0).count();
        let n = bottom.map_or_else(seen, |b| b + 1).max(1);
        let masks = &mask.mpls_lse[..n];
        if !self.verbose && masks.iter().all(|m| *m == 0) {
            return Ok(());
        }
        let exact = masks.iter().all(|m| *m == u32::MAX);
        let part = |lse: u32| (lse >> 12, lse >> 9 & 7, lse & 0xff, lse >> 8 & 1);
        f.write_str(",mpls(")?;
        for (i, (lse, m)) in labels.iter().zip(masks).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let ((label, tc, ttl, bos), (ml, mc, mt, mb)) = (part(*lse), part(*m));
            if exact {
                write!(f, "{comma}label={label},tc={tc},ttl={ttl},bos={bos}")?;
            } else {
                write!(f, "{comma}label={label}/{ml:#x},tc={tc}/{mc:x}")?;
                write!(f, ",ttl={ttl}/{mt:#x},bos={bos}/{mb:x}")?;
            }
        }
        f.write_char(')')
    }

    /// `eth_type(…)`, the tags around it and the headers behind it.
    fn frame(&self, f: &mut fmt::Formatter<'_>, mask: &PacketKey) -> fmt::Result {
        let mut open = 0;
        for (tag, m) in self.key.vlans.iter().zip(&mask.vlans) {
            if tag.tpid == 0 || (m.tci == 0 && m.tpid == 0 && !self.verbose) {
                break;
            }
            write!(f, ",eth_type({:#06x})", tag.tpid)?;
            self.vlan(f, tag.tci, m.tci)?;
            f.write_str(",encap(")?;
            open += 1;
        }
        if self.key.dl_type != packet::header::ethertype::NOT_ETH_TYPE {
            let sep = if open > 0 { "" } else { "," };
            write!(f, "{sep}eth_type({:#06x})", self.key.dl_type)?;
        }
        for group in table::HEADERS {
            if core::ptr::eq(*group, &table::MPLS) && (group.exists)(self.key) {
                self.mpls(f, mask)?;
            } else if (group.exists)(self.key) {
                write_group(f, group, self.key, mask, self.verbose, ",")?;
                if core::ptr::eq(*group, &table::TCP) {
                    self.tcp_flags(f, mask.tcp_flags)?;
                }
            }
        }
        (0..open).try_for_each(|_| f.write_char(')'))
    }
}

fn by_bit() -> [(&'static str, u16, char); 9] {
    let mut flags = TCP_FLAGS;
    flags.sort_unstable_by_key(|(_, bit, _)| *bit);
    flags
}

fn write_flag_names(f: &mut fmt::Formatter<'_>, flags: u16) -> fmt::Result {
    if flags == 0 {
        return f.write_char('0');
    }
    let mut first = true;
    for (name, bit, _) in by_bit() {
        if flags & bit != 0 {
            write!(f, "{}{name}", if core::mem::take(&mut first) { "" } else { "|" })?;
        }
    }
    Ok(())
}

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = exact();
        let mask = self.mask.unwrap_or(&all);
        let mut sep = "";
        let groups = |f: &mut fmt::Formatter<'_>, groups: &[&Group], sep: &mut &str| {
            for group in groups.iter().filter(|g| (g.exists)(self.key)) {
                if write_group(f, group, self.key, mask, self.verbose, sep)? {
                    *sep = ",";
                }
            }
            Ok(())
        };
        groups(f, table::BEFORE_PORT, &mut sep)?;
        if self.key.in_port != DpPort::NONE.0 {
            write!(f, "{sep}in_port(")?;
            write_port(f, DpPort(self.key.in_port), self.names)?;
            f.write_char(')')?;
            sep = ",";
        }
        groups(f, table::MARK, &mut sep)?;
        if self.ct_state(f, mask.ct_state, sep)? {
            sep = ",";
        }
        groups(f, table::BEFORE_TYPE, &mut sep)?;
        self.frame(f, mask)
    }
}

/// How many 64-bit words of the two halves of OVS 3.1's flow structure the mask touches, which
/// `dump-flows -m` shows: metadata to L2, and L3 to L4. A tuple names the fields of one word.
pub(super) fn miniflow_bits(m: &PacketKey) -> (u32, u32) {
    let any = |words: &[u64]| u32::from(words.iter().any(|w| *w != 0));
    let halves =
        |a: &[u8; 16]| a.chunks(8).map(|c| u32::from(c.iter().any(|b| *b != 0))).sum::<u32>();
    let (dst, src) = (MacAddr(m.dl_dst).to_u64(), MacAddr(m.dl_src).to_u64());
    let low = any(&[m.skb_priority.into(), m.pkt_mark.into()])
        + any(&[m.dp_hash.into(), m.in_port.into()])
        + any(&[m.recirc_id.into(), m.ct_state.into(), m.ct_nw_proto.into(), m.ct_zone.into()])
        + any(&[m.ct_mark.into(), m.packet_type.into()])
        + halves(&m.ct_label)
        + any(&[dst, src >> 32])
        + any(&[src & 0xffff_ffff, m.dl_type.into()])
        + any(&[m.vlans[0].tpid.into(), (m.vlans[0].tci | m.vlans[1].tci).into()])
        + any(&[m.mpls_lse[0].into(), m.mpls_lse[1].into()]);
    let [sha, tha] = [MacAddr(m.arp_sha).to_u64(), MacAddr(m.arp_tha).to_u64()];
    let high = any(&[m.nw_src.into(), m.nw_dst.into()])
        + any(&[m.ct_nw_src.into(), m.ct_nw_dst.into()])
        + halves(&m.ipv6_src)
        + halves(&m.ipv6_dst)
        + halves(&m.ct_ipv6_src)
        + halves(&m.ct_ipv6_dst)
        + any(&[
            m.ipv6_label.into(),
            m.nw_frag.into(),
            m.nw_tos.into(),
            m.nw_ttl.into(),
            m.nw_proto.into(),
        ])
        + halves(&m.nd_target)
        + any(&[sha, tha >> 32])
        + any(&[tha & 0xffff_ffff, m.tcp_flags.into()])
        + any(&[m.tp_src.into(), m.tp_dst.into(), m.ct_tp_src.into(), m.ct_tp_dst.into()])
        + any(&[m.nd_reserved.into()]);
    (low, high)
}
