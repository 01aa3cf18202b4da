//! Writing actions, flow mods and flow statistics.

use core::fmt::{self, Write};
use core::net::Ipv6Addr;

use base::{OfPort, TableId};
use flow::text::value::{Value, hex, hex_bytes, write_ipv6_addr};
use flow::text::{MatchText, NameMap, PortText, TableText};

use crate::action::*;
use crate::flow_mod::{DEFAULT_PRIORITY, FlowMod, FlowModCommand, FlowModFlags, GROUP_ANY};
use crate::message::FlowStats;
use crate::print::Seconds;
use crate::subfield::Subfield;
use crate::version::Version;

/// Actions in text: `drop` for none.
#[derive(Copy, Clone)]
pub struct ActionsText<'a> {
    /// The actions.
    pub actions: &'a [Action],
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
    /// The version they were said in: 1.1+ says `pop_vlan` for `strip_vlan`.
    pub version: Version,
}

impl fmt::Debug for ActionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ActionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actions.is_empty() {
            return f.write_str("drop");
        }
        for (i, a) in self.actions.iter().enumerate() {
            if i > 0 {
                f.write_char(',')?;
            }
            self.one(f, a)?;
        }
        Ok(())
    }
}

/// A subfield: `NXM_NX_REG0[0..15]`, `[]` for the whole, `[5]` for a bit.
impl fmt::Display for Subfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row();
        f.write_str(crate::oxm::wire_type(row, None).map_or(row.name, |o| o.name))?;
        if self.is_whole() {
            f.write_str("[]")
        } else if self.n_bits == 1 {
            write!(f, "[{}]", self.ofs)
        } else {
            write!(f, "[{}..{}]", self.ofs, self.ofs + self.n_bits - 1)
        }
    }
}

/// Comma-separated items in parentheses.
struct Args<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    any: bool,
}

impl Args<'_, '_> {
    fn item(&mut self, item: fmt::Arguments<'_>) -> fmt::Result {
        if self.any {
            self.f.write_char(',')?;
        }
        self.any = true;
        self.f.write_fmt(item)
    }

    fn flag(&mut self, on: bool, name: &str) -> fmt::Result {
        if on { self.item(format_args!("{name}")) } else { Ok(()) }
    }

    fn number(&mut self, name: &str, v: u64) -> fmt::Result {
        if v != 0 { self.item(format_args!("{name}={v}")) } else { Ok(()) }
    }
}

fn bytes(f: &mut fmt::Formatter<'_>, b: &[u8]) -> fmt::Result {
    for (i, x) in b.iter().enumerate() {
        write!(f, "{}{x:02x}", if i > 0 { "." } else { "" })?;
    }
    Ok(())
}

impl ActionsText<'_> {
    fn nested<'b>(&'b self, actions: &'b [Action]) -> ActionsText<'b> {
        ActionsText { actions, names: self.names, version: self.version }
    }

    fn port(&self, p: OfPort) -> PortText<'_> {
        PortText(p, self.names)
    }

    fn table(&self, t: TableId) -> TableText<'_> {
        TableText(t, self.names)
    }

    fn one(&self, f: &mut fmt::Formatter<'_>, a: &Action) -> fmt::Result {
        match a {
            Action::Output { port: OfPort::CONTROLLER, max_len } => {
                write!(f, "CONTROLLER:{max_len}")
            }
            Action::Output { port, .. } if port.0 < OfPort::UNSET.0 => {
                write!(f, "output:{}", self.port(*port))
            }
            Action::Output { port, .. } => write!(f, "{port}"),
            Action::OutputReg { src, .. } => write!(f, "output:{src}"),
            Action::OutputTrunc { port, max_len } => {
                write!(f, "output(port={},max_len={max_len})", self.port(*port))
            }
            Action::Controller(c) => self.controller(f, c),
            Action::Enqueue { port, queue } => {
                write!(f, "enqueue:{}:{queue}", self.port(*port))
            }
            Action::Group(id) => write!(f, "group:{id}"),
            Action::Bundle(b) => {
                f.write_str(if b.dst.is_some() { "bundle_load(" } else { "bundle(" })?;
                let alg = BUNDLE_ALGORITHMS.get(usize::from(b.algorithm)).unwrap_or(&"<unknown>");
                write!(f, "{},{},{alg},ofport", b.fields.name(), b.basis)?;
                if let Some(d) = b.dst {
                    write!(f, ",{d}")?;
                }
                f.write_str(",members:")?;
                for (i, m) in b.members.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { "," } else { "" }, self.port(*m))?;
                }
                f.write_char(')')
            }
            Action::SetVlanVid { vid, push } => {
                write!(f, "{}_vlan_vid:{vid}", if *push { "mod" } else { "set" })
            }
            Action::SetVlanPcp { pcp, push } => {
                write!(f, "{}_vlan_pcp:{pcp}", if *push { "mod" } else { "set" })
            }
            Action::StripVlan if self.version > Version::Of10 => f.write_str("pop_vlan"),
            Action::StripVlan => f.write_str("strip_vlan"),
            Action::PushVlan(t) => write!(f, "push_vlan:{t:#06x}"),
            Action::SetEthSrc(m) => write!(f, "mod_dl_src:{m}"),
            Action::SetEthDst(m) => write!(f, "mod_dl_dst:{m}"),
            Action::SetIpv4Src(x) => write!(f, "mod_nw_src:{x}"),
            Action::SetIpv4Dst(x) => write!(f, "mod_nw_dst:{x}"),
            Action::SetNwTos(x) => write!(f, "mod_nw_tos:{x}"),
            Action::SetNwEcn(x) => write!(f, "mod_nw_ecn:{x}"),
            Action::SetNwTtl(x) => write!(f, "mod_nw_ttl:{x}"),
            Action::SetL4Src(x) => write!(f, "mod_tp_src:{x}"),
            Action::SetL4Dst(x) => write!(f, "mod_tp_dst:{x}"),
            Action::SetField { field, value, mask } => {
                let field = field.row();
                let v = Value { field, value: *value, mask: *mask, names: self.names };
                write!(f, "set_field:{v}->{}", field.name)
            }
            Action::SetTunOption { index, option: o } => {
                f.write_str("set_field:")?;
                if o.masked && o.mask.iter().all(|&b| b == 0) {
                    f.write_str("ANY")?;
                } else {
                    hex_bytes(f, &o.value)?;
                    if o.masked {
                        f.write_char('/')?;
                        hex_bytes(f, &o.mask)?;
                    }
                }
                write!(f, "->tun_metadata{index}")
            }
            Action::Load { dst, value } => {
                f.write_str("load:")?;
                hex(f, *value)?;
                write!(f, "->{dst}")
            }
            Action::Move { src, dst } => write!(f, "move:{src}->{dst}"),
            Action::StackPush(sf) => write!(f, "push:{sf}"),
            Action::StackPop(sf) => write!(f, "pop:{sf}"),
            Action::DecTtl(ids) => {
                f.write_str("dec_ttl")?;
                for (i, id) in ids.iter().enumerate() {
                    write!(f, "{}{id}", if i > 0 { "," } else { "(" })?;
                }
                f.write_str(if ids.is_empty() { "" } else { ")" })
            }
            Action::SetMplsLabel(x) => write!(f, "set_mpls_label({x})"),
            Action::SetMplsTc(x) => write!(f, "set_mpls_tc({x})"),
            Action::SetMplsTtl(x) => write!(f, "set_mpls_ttl({x})"),
            Action::DecMplsTtl => f.write_str("dec_mpls_ttl"),
            Action::PushMpls(t) => write!(f, "push_mpls:{t:#06x}"),
            Action::PopMpls(t) => write!(f, "pop_mpls:{t:#06x}"),
            Action::Encap(e) => self.encap(f, e),
            Action::Decap(None) => f.write_str("decap()"),
            Action::Decap(Some(t)) => {
                f.write_str("decap(packet_type(ns=")?;
                write!(f, "{},type=", t >> 16)?;
                hex(f, (t & 0xffff).into())?;
                f.write_str("))")
            }
            Action::DecNshTtl => f.write_str("dec_nsh_ttl"),
            Action::SetTunnel { id, wide } => {
                f.write_str(if *wide || *id > u64::from(u32::MAX) {
                    "set_tunnel64:"
                } else {
                    "set_tunnel:"
                })?;
                hex(f, (*id).into())
            }
            Action::SetQueue(q) => write!(f, "set_queue:{q}"),
            Action::PopQueue => f.write_str("pop_queue"),
            Action::CheckPktLarger { len, dst } => write!(f, "check_pkt_larger({len})->{dst}"),
            Action::DeleteField(id) => write!(f, "delete_field:{}", id.row().name),
            Action::Resubmit { port, table, with_ct } => self.resubmit(f, *port, *table, *with_ct),
            Action::Ct(c) => self.ct(f, c),
            Action::CtClear => f.write_str("ct_clear"),
            Action::Nat(n) => nat(f, n),
            Action::Learn(l) => self.learn(f, l),
            Action::Conjunction { id, clause, n_clauses } => {
                write!(f, "conjunction({id},{}/{n_clauses})", clause + 1)
            }
            Action::Multipath(m) => {
                let alg =
                    MULTIPATH_ALGORITHMS.get(usize::from(m.algorithm)).unwrap_or(&"<unknown>");
                let n = u32::from(m.max_link) + 1;
                let fields = m.fields.name();
                write!(f, "multipath({fields},{},{alg},{n},{},{})", m.basis, m.arg, m.dst)
            }
            Action::Note(b) => {
                f.write_str("note:")?;
                bytes(f, b)
            }
            Action::Exit => f.write_str("exit"),
            Action::Clone(list) => write!(f, "clone({})", self.nested(list)),
            Action::Sample(s) => {
                write!(f, "sample(probability={}", s.probability)?;
                write!(f, ",collector_set_id={}", s.collector_set_id)?;
                for (name, src, n) in [
                    ("obs_domain_id", s.obs_domain_src, s.obs_domain_id),
                    ("obs_point_id", s.obs_point_src, s.obs_point_id),
                ] {
                    match src {
                        Some(sf) => write!(f, ",{name}={sf}")?,
                        None => write!(f, ",{name}={n}")?,
                    }
                }
                if s.sampling_port != OfPort::NONE {
                    write!(f, ",sampling_port={}", self.port(s.sampling_port))?;
                }
                f.write_str(["", ",ingress", ",egress"][usize::from(s.direction.min(2))])?;
                f.write_char(')')
            }
            Action::FinTimeout { idle, hard } => {
                f.write_str("fin_timeout(")?;
                let mut args = Args { f, any: false };
                args.number("idle_timeout", (*idle).into())?;
                args.number("hard_timeout", (*hard).into())?;
                f.write_char(')')
            }
            Action::DebugRecirc => f.write_str("debug_recirc"),
            Action::DebugSlow => f.write_str("debug_slow"),
            Action::UnrollXlate { table, cookie } => {
                write!(f, "unroll_xlate(table={}, cookie={cookie})", self.table(*table))
            }
            Action::Meter(id) => write!(f, "meter:{id}"),
            Action::ClearActions => f.write_str("clear_actions"),
            Action::WriteActions(list) => write!(f, "write_actions({})", self.nested(list)),
            Action::WriteMetadata { value, mask } => {
                f.write_str("write_metadata:")?;
                hex(f, (*value).into())?;
                if *mask != u64::MAX {
                    f.write_char('/')?;
                    hex(f, (*mask).into())?;
                }
                Ok(())
            }
            Action::GotoTable(t) => write!(f, "goto_table:{}", self.table(*t)),
        }
    }

    fn controller(&self, f: &mut fmt::Formatter<'_>, c: &ControllerAction) -> fmt::Result {
        if c.is_plain() {
            return write!(f, "CONTROLLER:{}", c.max_len);
        }
        f.write_str("controller(")?;
        let mut args = Args { f, any: false };
        if c.reason != PacketInReason::Action {
            args.item(format_args!("reason={}", c.reason.name()))?;
        }
        if c.max_len != u16::MAX {
            args.item(format_args!("max_len={}", c.max_len))?;
        }
        args.number("id", c.controller_id.into())?;
        if !c.userdata.is_empty() {
            args.item(format_args!("userdata="))?;
            bytes(args.f, &c.userdata)?;
        }
        args.flag(c.pause, "pause")?;
        if let Some(m) = c.meter {
            args.item(format_args!("meter_id={m}"))?;
        }
        f.write_char(')')
    }

    fn resubmit(
        &self,
        f: &mut fmt::Formatter<'_>,
        port: Option<OfPort>,
        table: Option<TableId>,
        with_ct: bool,
    ) -> fmt::Result {
        if table.is_none() && !with_ct {
            return write!(f, "resubmit:{}", self.port(port.unwrap_or(OfPort::IN_PORT)));
        }
        f.write_str("resubmit(")?;
        if let Some(p) = port {
            write!(f, "{}", self.port(p))?;
        }
        f.write_char(',')?;
        if let Some(t) = table {
            write!(f, "{}", self.table(t))?;
        }
        f.write_str(if with_ct { ",ct)" } else { ")" })
    }

    fn ct(&self, f: &mut fmt::Formatter<'_>, c: &CtAction) -> fmt::Result {
        f.write_str("ct(")?;
        let mut args = Args { f, any: false };
        args.flag(c.commit, "commit")?;
        args.flag(c.force, "force")?;
        if let Some(t) = c.recirc_table {
            args.item(format_args!("table={}", self.table(t)))?;
        }
        match c.zone {
            CtZone::Imm(z) => args.number("zone", z.into())?,
            CtZone::Field(sf) => args.item(format_args!("zone={sf}"))?,
        }
        if let Some(n) = &c.nat
            && c.nat_at == 0
        {
            args.item(format_args!(""))?;
            nat(args.f, n)?;
        }
        if !c.exec.is_empty() {
            let (before, after) = c.exec.split_at(c.exec.len().min(c.nat_at.into()));
            args.item(format_args!("exec("))?;
            let mut inner = Args { f: &mut *args.f, any: false };
            if !before.is_empty() {
                inner.item(format_args!("{}", self.nested(before)))?;
                if let Some(n) = &c.nat {
                    inner.item(format_args!(""))?;
                    nat(inner.f, n)?;
                }
            }
            if !after.is_empty() {
                inner.item(format_args!("{}", self.nested(after)))?;
            }
            args.f.write_char(')')?;
        }
        match c.alg {
            Some(CtAlg::Ftp) => args.item(format_args!("alg=ftp"))?,
            Some(CtAlg::Tftp) => args.item(format_args!("alg=tftp"))?,
            None => {}
        }
        f.write_char(')')
    }

    fn learn(&self, f: &mut fmt::Formatter<'_>, l: &LearnAction) -> fmt::Result {
        write!(f, "learn(table={}", self.table(l.table))?;
        let mut args = Args { f, any: true };
        args.number("idle_timeout", l.idle_timeout.into())?;
        args.number("hard_timeout", l.hard_timeout.into())?;
        args.number("fin_idle_timeout", l.fin_idle_timeout.into())?;
        args.number("fin_hard_timeout", l.fin_hard_timeout.into())?;
        if l.priority != DEFAULT_PRIORITY {
            args.item(format_args!("priority={}", l.priority))?;
        }
        args.flag(l.send_flow_rem, "send_flow_rem")?;
        args.flag(l.delete_learned, "delete_learned")?;
        if l.cookie != 0 {
            args.item(format_args!("cookie={:#x}", l.cookie))?;
        }
        args.number("limit", l.limit.into())?;
        if let Some(d) = l.result_dst {
            args.item(format_args!("result_dst={d}"))?;
        }
        for s in &l.specs {
            args.item(format_args!(""))?;
            match (s.src, s.dst) {
                (LearnSrc::Value(value), LearnDst::Match(d)) if d.is_whole() => {
                    let field = d.row();
                    let v = Value { field, value, mask: field.wire_ones(), names: self.names };
                    write!(args.f, "{}={v}", field.name)?;
                }
                (LearnSrc::Value(v), LearnDst::Match(d)) => {
                    write!(args.f, "{d}=")?;
                    hex(args.f, v)?;
                }
                (LearnSrc::Field(a), LearnDst::Match(d)) if a == d => write!(args.f, "{d}")?,
                (LearnSrc::Field(a), LearnDst::Match(d)) => write!(args.f, "{d}={a}")?,
                (LearnSrc::Value(v), LearnDst::Load(d)) => {
                    args.f.write_str("load:")?;
                    hex(args.f, v)?;
                    write!(args.f, "->{d}")?;
                }
                (LearnSrc::Field(a), LearnDst::Load(d)) => write!(args.f, "load:{a}->{d}")?,
                (LearnSrc::Field(a), LearnDst::Output) => write!(args.f, "output:{a}")?,
                (LearnSrc::Value(v), LearnDst::Output) => write!(args.f, "output:{v:#x}")?,
            }
        }
        f.write_char(')')
    }

    fn encap(&self, f: &mut fmt::Formatter<'_>, e: &EncapAction) -> fmt::Result {
        let Some((name, _)) = ENCAP_HEADERS.iter().find(|h| h.1 == e.packet_type) else {
            return write!(f, "encap({:#x})", e.packet_type);
        };
        write!(f, "encap({name}")?;
        if !e.props.is_empty() {
            f.write_char('(')?;
            for (i, p) in e.props.iter().enumerate() {
                f.write_str(if i > 0 { "," } else { "" })?;
                match p {
                    EncapProp::NshMdType(t) => write!(f, "md_type={t}")?,
                    EncapProp::NshTlv { class, kind, data } => {
                        write!(f, "tlv({class:#06x},{kind},0x")?;
                        data.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
                        f.write_char(')')?;
                    }
                }
            }
            f.write_char(')')?;
        }
        f.write_char(')')
    }
}

fn nat(f: &mut fmt::Formatter<'_>, n: &NatAction) -> fmt::Result {
    let Some(kind) = n.kind else { return f.write_str("nat") };
    f.write_str("nat(")?;
    f.write_str(if kind == NatKind::Src { "src" } else { "dst" })?;
    let v6 = |f: &mut fmt::Formatter<'_>, a: Ipv6Addr| {
        if n.ports.is_some() {
            f.write_char('[')?;
        }
        write_ipv6_addr(f, a.into())?;
        f.write_str(if n.ports.is_some() { "]" } else { "" })
    };
    match n.addr {
        NatAddr::Unspec => {}
        NatAddr::V4(min, max) => {
            write!(f, "={min}")?;
            if let Some(max) = max.filter(|m| *m != min) {
                write!(f, "-{max}")?;
            }
        }
        NatAddr::V6(min, max) => {
            f.write_char('=')?;
            v6(f, min)?;
            if let Some(max) = max.filter(|m| *m != min) {
                f.write_char('-')?;
                v6(f, max)?;
            }
        }
    }
    if let Some((min, max)) = n.ports {
        write!(f, ":{min}")?;
        if let Some(max) = max.filter(|m| *m != min) {
            write!(f, "-{max}")?;
        }
    }
    for (on, name) in [(n.persistent, "persistent"), (n.hash, "hash"), (n.random, "random")] {
        if on {
            write!(f, ",{name}")?;
        }
    }
    f.write_char(')')
}

/// Flags of a flow, each followed by a space.
fn flags(f: &mut fmt::Formatter<'_>, x: FlowModFlags) -> fmt::Result {
    for (flag, name) in [
        (FlowModFlags::SEND_FLOW_REM, "send_flow_rem"),
        (FlowModFlags::CHECK_OVERLAP, "check_overlap"),
        (FlowModFlags::RESET_COUNTS, "reset_counts"),
        (FlowModFlags::NO_PKT_COUNTS, "no_packet_counts"),
        (FlowModFlags::NO_BYT_COUNTS, "no_byte_counts"),
    ] {
        if x.contains(flag) {
            write!(f, "{name} ")?;
        }
    }
    Ok(())
}

/// A flow mod in text, as in logs and errors: `ADD table:1 ip actions=drop`.
#[derive(Copy, Clone)]
pub struct FlowModText<'a> {
    /// The flow mod.
    pub f: &'a FlowMod,
    /// The version it was said in.
    pub version: Version,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
    /// How the match was said, to be written in its place.
    pub raw_match: Option<&'a dyn fmt::Display>,
}

impl fmt::Debug for FlowModText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FlowModText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = self.f;
        out.write_str(match f.command {
            FlowModCommand::Add => "ADD",
            FlowModCommand::Modify => "MOD",
            FlowModCommand::ModifyStrict => "MOD_STRICT",
            FlowModCommand::Delete => "DEL",
            FlowModCommand::DeleteStrict => "DEL_STRICT",
        })?;
        // 1.0 has no number for "any table".
        let any = if self.version > Version::Of10 { TableId::ALL } else { TableId(0) };
        let table = f.table.unwrap_or(any);
        if table.0 != 0 || self.names.table_name(table).is_some() {
            write!(out, " table:{}", TableText(table, self.names))?;
        }
        out.write_char(' ')?;
        let m = MatchText { m: &f.match_, priority: Some(f.priority.into()), names: self.names };
        let before = match self.raw_match {
            Some(raw) => alloc::format!("{raw}"),
            None => alloc::format!("{m}"),
        };
        if !before.is_empty() {
            write!(out, "{before} ")?;
        }
        if let Some(c) = f.new_cookie
            && c != 0
            && c != u64::MAX
        {
            write!(out, "cookie:{c:#x} ")?;
        }
        if f.cookie_mask != 0 {
            write!(out, "cookie:{:#x}/{:#x} ", f.cookie, f.cookie_mask)?;
        }
        if f.idle_timeout != 0 {
            write!(out, "idle:{} ", f.idle_timeout)?;
        }
        if f.hard_timeout != 0 {
            write!(out, "hard:{} ", f.hard_timeout)?;
        }
        if f.importance != 0 {
            write!(out, "importance:{} ", f.importance)?;
        }
        if self.raw_match.is_some() && f.priority != DEFAULT_PRIORITY {
            write!(out, "pri:{} ", f.priority)?;
        }
        if let Some(b) = f.buffer_id {
            write!(out, "buf:{b:#x} ")?;
        }
        if f.out_port != OfPort::NONE {
            write!(out, "out_port:{} ", PortText(f.out_port, self.names))?;
        }
        if f.out_group != GROUP_ANY && f.out_group != 0 {
            write!(out, "out_group:{} ", f.out_group)?;
        }
        let mut x = f.flags;
        if self.version <= Version::Of11 {
            // Implied there.
            x.remove(FlowModFlags::RESET_COUNTS);
        }
        flags(out, x)?;
        let a = ActionsText { actions: &f.actions, names: self.names, version: self.version };
        write!(out, "actions={a}")
    }
}

/// A flow with its counters, as a line of `dump-flows` without the leading space.
#[derive(Copy, Clone)]
pub struct FlowStatsText<'a> {
    /// The flow.
    pub f: &'a FlowStats,
    /// Print cookie, duration and counters.
    pub stats: bool,
    /// The version it was said in.
    pub version: Version,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
}

impl fmt::Debug for FlowStatsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FlowStatsText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = self.f;
        if self.stats || f.cookie != 0 {
            write!(out, "cookie={}, ", HexText(f.cookie))?;
        }
        if self.stats {
            write!(out, "duration={}, ", Seconds(f.duration))?;
        }
        if self.stats || f.table.0 != 0 || self.names.table_name(f.table).is_some() {
            write!(out, "table={}, ", TableText(f.table, self.names))?;
        }
        if self.stats {
            if f.n_packets != u64::MAX {
                write!(out, "n_packets={}, ", f.n_packets)?;
            }
            if f.n_bytes != u64::MAX {
                write!(out, "n_bytes={}, ", f.n_bytes)?;
            }
        }
        if f.idle_timeout != 0 {
            write!(out, "idle_timeout={}, ", f.idle_timeout)?;
        }
        if f.hard_timeout != 0 {
            write!(out, "hard_timeout={}, ", f.hard_timeout)?;
        }
        flags(out, f.flags)?;
        if f.importance != 0 {
            write!(out, "importance={}, ", f.importance)?;
        }
        if self.stats {
            if let Some(a) = f.idle_age {
                write!(out, "idle_age={a}, ")?;
            }
            if let Some(a) = f.hard_age
                && u64::from(a) != f.duration.as_secs()
            {
                write!(out, "hard_age={a}, ")?;
            }
        }
        let m = MatchText { m: &f.match_, priority: Some(f.priority.into()), names: self.names };
        let text = alloc::format!("{m}");
        let space = if text.is_empty() { "" } else { " " };
        let a = ActionsText { actions: &f.actions, names: self.names, version: self.version };
        write!(out, "{text}{space}actions={a}")
    }
}

/// Always with 0x.
struct HexText(u64);

impl fmt::Display for HexText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
