//! Reading actions.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use base::OfPort;
use flow::text::number;
use flow::text::parse::nearest;
use flow::text::scan::{Delim, Pair};
use flow::text::value;
use flow::text::{Mode, NameMap, Pairs, TextError, Tok, parse_port};
use flow::{Field, Match};
use packet::header::ethertype;

use super::args::*;
use super::encap::{decap, encap};
use super::table::NAMES;
use crate::action::verify::{Outer, verify};
use crate::action::*;
use crate::subfield::Subfield;
use crate::version::Version;

/// Deepest nesting of actions in actions.
const MAX_DEPTH: u8 = 100;

/// What reading an action needs to know.
pub(super) struct Parser<'p> {
    /// What is known of the packets; `None` for nothing, so that nothing is asked of them.
    m: Option<&'p Match>,
    pub(super) names: &'p dyn NameMap,
    pub(super) mode: Mode,
    depth: u8,
}

/// Reads a list of actions for packets of a match. `drop`, alone, and nothing are the empty list.
pub fn parse_actions(
    text: Tok<'_>,
    m: &Match,
    names: &dyn NameMap,
    mode: Mode,
) -> Result<Vec<Action>> {
    Parser::new(Some(m), names, mode).list(text, Outer::Flow)
}

fn not_alone(drop: Tok<'_>) -> TextError {
    let text = "\"drop\" must not be accompanied by any other action or instruction";
    TextError::new(drop, text).hint("drop is what a flow without other actions does")
}

/// What stands before and behind `->`.
pub(super) fn arrow(tok: Tok<'_>) -> Result<(Tok<'_>, Tok<'_>)> {
    match tok.split_once("->") {
        None => Err(TextError::new(tok, format!("{}: missing `->'", tok.text))),
        Some((_, name)) if name.text.is_empty() => {
            let text = format!("{}: missing field name following `->'", tok.text);
            Err(TextError::new(tok, text))
        }
        Some(parts) => Ok(parts),
    }
}

impl<'p> Parser<'p> {
    pub(super) fn new(m: Option<&'p Match>, names: &'p dyn NameMap, mode: Mode) -> Parser<'p> {
        Parser { m, names, mode, depth: 0 }
    }

    /// Reads actions that stand in several pieces of a line. Instructions are none.
    pub(super) fn pieces(&self, pieces: &[Tok<'_>]) -> Result<Vec<Action>> {
        let all = pieces.iter().try_fold(Vec::new(), |mut all, piece| {
            all.extend(self.list(*piece, Outer::List)?);
            Ok(all)
        })?;
        match pieces.iter().find(|p| p.text == "drop" && pieces.len() > 1) {
            Some(at) => Err(not_alone(*at)),
            None => Ok(all),
        }
    }

    /// Reads the actions inside another.
    pub(super) fn nested(&self, text: Tok<'_>, outer: Outer) -> Result<Vec<Action>> {
        if self.depth + 1 >= MAX_DEPTH {
            return Err(TextError::new(text, "Action nested too deeply"));
        }
        Parser { depth: self.depth + 1, ..*self }.list(text, outer)
    }

    pub(super) fn list(&self, text: Tok<'_>, outer: Outer) -> Result<Vec<Action>> {
        let mut out: Vec<Action> = Vec::new();
        let mut keys: Vec<Tok<'_>> = Vec::new();
        let (mut drop_at, mut m) = (None, self.m);
        for pair in Pairs::new(text) {
            if pair.key.text.eq_ignore_ascii_case("drop") {
                drop_at = Some(pair.key);
                continue;
            }
            if self.mode == Mode::Strict && !pair.closed {
                let whole = pair.whole(text);
                return Err(TextError::new(whole, format!("{}: missing ')'", whole.text))
                    .hint("close the parenthesis"));
            }
            let action = Parser { m, ..*self }.one(&pair)?;
            // Headers come and go: what the match knows of them holds no more.
            use Action::{Decap, Encap, PopMpls, PushMpls, PushVlan, StripVlan};
            if matches!(
                action,
                Decap(_) | Encap(_) | PopMpls(_) | PushMpls(_) | PushVlan(_) | StripVlan
            ) {
                m = None;
            }
            out.push(action);
            keys.push(pair.key);
        }
        if let Some(at) = drop_at
            && !out.is_empty()
        {
            return Err(not_alone(at));
        }
        // Texts are those of 1.1, whichever version the flow is for.
        verify(&out, Version::Of11, outer).map_err(|e| TextError::new(keys[e.at], e.text))?;
        Ok(out)
    }

    pub(super) fn port(&self, tok: Tok<'_>, error: &str) -> Result<OfPort> {
        port_arg(tok, format!("{}: {error}", tok.text), self.names)
    }

    /// Strict: refuses to write a field that may not be written or that packets of the match do not have.
    fn check_write(&self, tok: Tok<'_>, f: &'static Field) -> Result<()> {
        if self.mode == Mode::Ovs {
            return Ok(());
        }
        if !f.writable {
            return Err(TextError::new(tok, format!("{} is read-only", tok.text)));
        }
        let vlan = f.prereq == flow::field::Prereq::Vlan;
        if !vlan && self.m.is_some_and(|m| !m.has_prereq(f.prereq)) {
            return Err(TextError::new(
                tok,
                "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
            )
            .hint(format!("the match does not make sure that packets have {}", f.name)));
        }
        Ok(())
    }

    fn one(&self, pair: &Pair<'_>) -> Result<Action> {
        let v = pair.value;
        let key = pair.key.text.to_ascii_lowercase();
        let invalid =
            |t: Tok<'_>, what: &str| TextError::new(t, format!("{}: not a valid {what}", t.text));
        Ok(match key.as_str() {
            "output" | "output_reg" => return self.output(v),
            "output_trunc" => return Err(self.unknown(v)),
            "group" => Action::Group(u32_arg(v)?),
            "controller" => return self.controller(v),
            "enqueue" => return self.enqueue(v),
            "bundle" => return self.bundle(v, false),
            "bundle_load" => return self.bundle(v, true),
            "set_field" => return self.set_field(v),
            "load" => return self.load(v),
            "mod_vlan_vid" | "set_vlan_vid" => match u16_arg(v, "VLAN VID")? {
                vid @ 0..=0xfff => Action::SetVlanVid { vid, push: key == "mod_vlan_vid" },
                _ => return Err(invalid(v, "VLAN VID")),
            },
            "mod_vlan_pcp" | "set_vlan_pcp" => match u8_arg(v, "VLAN PCP")? {
                pcp @ 0..=7 => Action::SetVlanPcp { pcp, push: key == "mod_vlan_pcp" },
                _ => return Err(invalid(v, "VLAN PCP")),
            },
            "strip_vlan" | "pop_vlan" => Action::StripVlan,
            "push_vlan" => match u16_arg(v, "ethertype")? {
                t @ (ethertype::VLAN | ethertype::QINQ) => Action::PushVlan(t),
                _ => return Err(invalid(v, "VLAN ethertype").hint("0x8100 or 0x88a8")),
            },
            "mod_dl_src" => Action::SetEthSrc(mac_arg(v, self.mode)?),
            "mod_dl_dst" => Action::SetEthDst(mac_arg(v, self.mode)?),
            "mod_nw_src" => Action::SetIpv4Src(ip_arg(v)?),
            "mod_nw_dst" => Action::SetIpv4Dst(ip_arg(v)?),
            "mod_nw_tos" => match u8_arg(v, "TOS")? {
                t if t & 3 == 0 => Action::SetNwTos(t),
                _ => {
                    let hint = "the low two bits of mod_nw_tos are ECN and must be zero";
                    return Err(invalid(v, "TOS").hint(hint));
                }
            },
            "mod_nw_ecn" => match u8_arg(v, "ECN")? {
                t @ 0..=3 => Action::SetNwEcn(t),
                _ => return Err(invalid(v, "ECN")),
            },
            "mod_nw_ttl" | "set_nw_ttl" => Action::SetNwTtl(u8_arg(v, "TTL")?),
            "mod_tp_src" => Action::SetL4Src(u16_arg(v, "source port")?),
            "mod_tp_dst" => Action::SetL4Dst(u16_arg(v, "destination port")?),
            "move" => {
                let (src, dst) = self.move_(v)?;
                Action::Move { src, dst }
            }
            "push" | "pop" => {
                let (sf, rest) = subfield_prefix(v)?;
                if !rest.text.is_empty() {
                    let text = format!("{}: trailing garbage following push or pop", rest.text);
                    return Err(TextError::new(rest, text));
                }
                if key == "push" { Action::StackPush(sf) } else { Action::StackPop(sf) }
            }
            "dec_ttl" => return self.dec_ttl(v),
            "set_mpls_label" => match u32_arg(expected(v, &key, "label")?)? {
                l @ 0..=0xf_ffff => Action::SetMplsLabel(l),
                _ => return Err(invalid(v, "MPLS label")),
            },
            "set_mpls_tc" => match u8_arg(expected(v, &key, "tc")?, "MPLS TC")? {
                t @ 0..=7 => Action::SetMplsTc(t),
                _ => return Err(invalid(v, "MPLS TC")),
            },
            "set_mpls_ttl" => Action::SetMplsTtl(u8_arg(expected(v, &key, "ttl")?, "MPLS TTL")?),
            "dec_mpls_ttl" => Action::DecMplsTtl,
            "push_mpls" => match u16_arg(v, "push_mpls")? {
                t if self.mode == Mode::Ovs
                    || t == ethertype::MPLS
                    || t == ethertype::MPLS_MCAST =>
                {
                    Action::PushMpls(t)
                }
                _ => return Err(invalid(v, "MPLS ethertype").hint("0x8847 or 0x8848")),
            },
            "pop_mpls" => Action::PopMpls(u16_arg(v, "pop_mpls")?),
            "dec_nsh_ttl" => Action::DecNshTtl,
            "delete_field" => {
                let by_oxm = Field::by_oxm_name(v.text).map(|x| x.0);
                let f = by_oxm.or_else(|| Field::by_name(v.text)).ok_or_else(|| {
                    TextError::new(v, format!("unknown field `{}'", v.text))
                        .hint("one of tun_metadata0 to tun_metadata63")
                })?;
                Action::DeleteField(f.id)
            }
            "encap" => return encap(v),
            "decap" => return decap(v),
            "set_tunnel" | "set_tunnel64" => {
                let id = u64_arg(v)?;
                let wide = key == "set_tunnel64" || id > u32::MAX.into();
                Action::SetTunnel { id, wide }
            }
            "set_queue" => Action::SetQueue(u32_arg(v)?),
            "pop_queue" => Action::PopQueue,
            "fin_timeout" => return self.fin_timeout(v),
            "resubmit" => return self.resubmit(v),
            "learn" => return self.learn(v),
            "conjunction" => return conjunction(v),
            "multipath" => return self.multipath(v),
            "note" => {
                let mut b = hex_bytes(v, "bad hex digit in `note' argument")?;
                // Fills the action up to a multiple of 8 bytes, as it will come back.
                b.resize((b.len() + 10).next_multiple_of(8) - 10, 0);
                Action::Note(b)
            }
            "exit" => Action::Exit,
            "sample" => return self.sample(v),
            "unroll_xlate" => {
                let text = "UNROLL is an internal action that shouldn't be used via OpenFlow";
                return Err(TextError::new(pair.key, text));
            }
            "ct" => return self.ct(v),
            "ct_clear" => Action::CtClear,
            "nat" => Action::Nat(Box::new(self.nat(v)?)),
            "clone" => Action::Clone(self.nested(v, Outer::Clone)?),
            "check_pkt_larger" => return check_pkt_larger(v),
            "debug_recirc" => Action::DebugRecirc,
            "debug_slow" => Action::DebugSlow,
            "meter" => Action::Meter(u32_arg(v)?),
            "clear_actions" => Action::ClearActions,
            "write_actions" => Action::WriteActions(self.nested(v, Outer::WriteActions)?),
            "write_metadata" => {
                let (value, mask) = match v.split_once("/") {
                    Some((v, m)) => (v, u64_arg(m)?),
                    None => (v, u64::MAX),
                };
                Action::WriteMetadata { value: u64_arg(value)?, mask }
            }
            "goto_table" => {
                let text = format!("unknown table \"{}\"", v.text);
                let t = table_or_any(v, text, self.names, self.mode)?;
                Action::GotoTable(t.unwrap_or(base::TableId::ALL))
            }
            "apply_actions" => {
                let text = "apply_actions is the default instruction";
                return Err(TextError::new(pair.key, text));
            }
            _ => match parse_port(pair.key.text, self.names) {
                Some(port) if pair.delim == Delim::None || self.mode == Mode::Ovs => {
                    Action::Output { port, max_len: 0 }
                }
                _ => return Err(self.unknown(pair.key)),
            },
        })
    }

    fn unknown(&self, key: Tok<'_>) -> TextError {
        let e = TextError::new(key, format!("unknown action {}", key.text));
        match nearest(key.text, NAMES.iter().copied()) {
            Some(w) => e.hint(format!("did you mean {w}?")),
            None => e,
        }
    }

    fn output(&self, v: Tok<'_>) -> Result<Action> {
        if v.text.contains("port") && v.text.contains("max_len") {
            return self.output_trunc(v);
        }
        if let Some(port) = parse_port(v.text, self.names) {
            let max_len = if port == OfPort::CONTROLLER { u16::MAX } else { 0 };
            return Ok(Action::Output { port, max_len });
        }
        match parse_subfield(v) {
            Ok(src) => Ok(Action::OutputReg { src, max_len: u16::MAX }),
            Err(e) if v.text.contains('[') && self.mode == Mode::Strict => Err(e),
            Err(_) => Err(self.port(v, "output to unknown port").err().unwrap_or_else(|| {
                TextError::new(v, format!("{}: output to unknown port", v.text))
            })),
        }
    }

    fn output_trunc(&self, v: Tok<'_>) -> Result<Action> {
        let (mut port, mut max_len) = (OfPort(0), 0);
        for p in Pairs::new(v) {
            match p.key.text {
                "port" => {
                    let text = format!("output to unknown truncate port: {}", p.value.text);
                    port = port_arg(p.value, text, self.names)?;
                    let physical = port <= OfPort::MAX;
                    if !physical && port != OfPort::LOCAL && port != OfPort::IN_PORT {
                        let text = format!("output to unsupported truncate port: {}", p.value.text);
                        return Err(TextError::new(p.value, text));
                    }
                }
                "max_len" => {
                    max_len = u32_arg(p.value)?;
                    if max_len < 14 {
                        let text = format!("max_len {max_len} is less than the minimum value 14");
                        return Err(TextError::new(p.value, text));
                    }
                }
                k => {
                    let text = format!("invalid key '{k}' in output_trunc argument");
                    return Err(TextError::new(p.key, text));
                }
            }
        }
        Ok(Action::OutputTrunc { port, max_len })
    }

    fn controller(&self, v: Tok<'_>) -> Result<Action> {
        let mut c = ControllerAction::default();
        let mut userdata = false;
        if !v.text.is_empty() && v.text.bytes().all(|c| c.is_ascii_digit()) {
            c.max_len = u16_arg(v, "max_len")?;
        } else {
            for p in Pairs::new(v) {
                match p.key.text {
                    "max_len" => c.max_len = u16_arg(p.value, "max_len")?,
                    "id" => c.controller_id = u16_arg(p.value, "id")?,
                    "reason" => {
                        c.reason = PacketInReason::from_name(p.value.text).ok_or_else(|| {
                            let text = format!("unknown reason \"{}\"", p.value.text);
                            TextError::new(p.value, text)
                                .hint(format!("one of {}", PacketInReason::NAMES.join(", ")))
                        })?;
                    }
                    "userdata" => {
                        userdata = true;
                        let text = "bad hex digit in `controller' action `userdata'";
                        c.userdata = hex_bytes(p.value, text)?;
                    }
                    "pause" => c.pause = true,
                    "meter_id" => c.meter = Some(u32_arg(p.value)?),
                    k => {
                        let text = format!("unknown key \"{k}\" parsing controller action");
                        return Err(TextError::new(p.key, text));
                    }
                }
            }
        }
        if c.is_plain() && !userdata {
            return Ok(Action::Output { port: OfPort::CONTROLLER, max_len: c.max_len });
        }
        Ok(Action::Controller(Box::new(c)))
    }

    fn enqueue(&self, v: Tok<'_>) -> Result<Action> {
        let parts = v.text.trim_start_matches([':', 'q', ',']);
        let start = v.text.len() - parts.len();
        let split = parts.find([':', 'q', ',']).filter(|&at| at + 1 < parts.len());
        let Some(at) = split else {
            let text = "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"";
            return Err(TextError::new(v, text));
        };
        let port = self.port(v.slice(start..start + at), "enqueue to unknown port")?;
        Ok(Action::Enqueue { port, queue: u32_arg(v.slice(start + at + 1..v.text.len()))? })
    }

    fn set_field(&self, v: Tok<'_>) -> Result<Action> {
        let (val, name) = arrow(v)?;
        let f = Field::by_name(name.text).ok_or_else(|| {
            let e = TextError::new(name, format!("{} is not a valid OXM field name", name.text));
            let known = flow::field::FIELDS.iter().map(|f| f.name);
            match nearest(name.text, known) {
                Some(w) => e.hint(format!("did you mean {w}?")),
                None => e,
            }
        })?;
        if !f.writable {
            return Err(TextError::new(name, format!("{} is read-only", name.text)));
        }
        // What sets no bit at all is printed so.
        let nothing = self.mode == Mode::Strict && val.text == "ANY";
        if let Some(i) = f.tun_option() {
            let val = if nothing { Tok::line("0/0") } else { val };
            let option = Box::new(value::parse_option(f, val, self.mode)?);
            return Ok(Action::SetTunOption { index: i as u8, option });
        }
        let (raw, mask) = match value::parse_raw(f, val, self.names, self.mode) {
            _ if nothing => (0, 0),
            Ok(parsed) => parsed,
            Err(e) => self.part_of(f, val).ok_or(e)?,
        };
        if !f.is_valid(raw) {
            let text = format!("{} is not a valid value for field {}", val.text, name.text);
            return Err(TextError::new(val, text));
        }
        self.check_write(name, f)?;
        Ok(Action::SetField { field: f.id, value: raw & mask, mask })
    }

    /// `VALUE/MASK` of a field that no match has a mask for. 1.5 sets parts of these, too, and is printed so;
    /// OVS does not read that again.
    fn part_of(&self, f: &'static Field, val: Tok<'_>) -> Option<(u128, u128)> {
        let (value, mask) = val.split_once("/").filter(|_| self.mode == Mode::Strict)?;
        let (value, _) = value::parse_raw(f, value, self.names, self.mode).ok()?;
        let mask = number::parse_number(mask.text)??;
        let inside = mask & !f.all_ones() == 0 && value & !mask == 0;
        inside.then_some((value, mask))
    }

    fn load(&self, v: Tok<'_>) -> Result<Action> {
        let (val, name) = arrow(v)?;
        let dst = parse_subfield(name)?;
        // OVS does not look at what follows the number.
        let end = match self.mode {
            Mode::Ovs => val.text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-'),
            Mode::Strict => None,
        };
        let value = value_for(dst, val.slice(0..end.unwrap_or(val.text.len())), v)?;
        self.check_write(name, dst.row())?;
        Ok(Action::Load { dst, value })
    }

    /// Source and destination of a move.
    pub(super) fn move_(&self, v: Tok<'_>) -> Result<(Subfield, Subfield)> {
        let (src, rest) = subfield_prefix(v)?;
        let Some(behind) = rest.text.strip_prefix("->") else {
            let text = format!("{}: missing `->' following source", v.text);
            return Err(TextError::new(v, text));
        };
        let name = rest.slice(rest.text.len() - behind.len()..rest.text.len());
        let dst = parse_subfield(name)?;
        if src.n_bits != dst.n_bits {
            let text = format!(
                "{}: source field is {} bits wide but destination is {} bits wide",
                v.text, src.n_bits, dst.n_bits
            );
            return Err(TextError::new(v, text));
        }
        self.check_write(name, dst.row())?;
        Ok((src, dst))
    }

    fn dec_ttl(&self, v: Tok<'_>) -> Result<Action> {
        if v.text.is_empty() {
            return Ok(Action::DecTtl(Vec::new()));
        }
        let ids = v.split(',').flat_map(|t| t.split(' ')).filter(|t| !t.text.is_empty());
        let ids: Result<Vec<u16>> =
            ids.map(|t| Ok(loose(t, "controller id", 0xffff, self.mode)? as u16)).collect();
        match ids? {
            ids if ids.is_empty() => {
                let text = "dec_ttl_cnt_ids: expected at least one controller id.";
                Err(TextError::new(v, text))
            }
            ids => Ok(Action::DecTtl(ids)),
        }
    }

    fn fin_timeout(&self, v: Tok<'_>) -> Result<Action> {
        let (mut idle, mut hard) = (0, 0);
        for p in Pairs::new(v) {
            match p.key.text {
                "idle_timeout" => idle = u16_arg(p.value, p.key.text)?,
                "hard_timeout" => hard = u16_arg(p.value, p.key.text)?,
                k => {
                    let text = format!("invalid key '{k}' in 'fin_timeout' argument");
                    return Err(TextError::new(p.key, text));
                }
            }
        }
        Ok(Action::FinTimeout { idle, hard })
    }

    fn resubmit(&self, v: Tok<'_>) -> Result<Action> {
        let mut parts = v.split(',').map(|t| if self.mode == Mode::Ovs { t } else { t.trim() });
        let mut part = || parts.next().filter(|t| !t.text.is_empty());
        let port = part().map(|t| self.port(t, "resubmit to unknown port")).transpose()?;
        let port = port.filter(|p| *p != OfPort::IN_PORT);
        let table = match part() {
            Some(t) => table_or_any(
                t,
                format!("{}: resubmit to unknown table", t.text),
                self.names,
                self.mode,
            )?,
            None => None,
        };
        let with_ct = match part() {
            Some(t) if t.text == "ct" => true,
            Some(t) => return Err(TextError::new(t, format!("{}: unknown parameter", t.text))),
            None => false,
        };
        if port.is_none() && table.is_none() {
            let text = "at least one \"in_port\" or \"table\" must be specified on resubmit";
            return Err(TextError::new(v, text));
        }
        Ok(Action::Resubmit { port, table, with_ct })
    }

    fn sample(&self, v: Tok<'_>) -> Result<Action> {
        let mut s = SampleAction { sampling_port: OfPort::NONE, ..Default::default() };
        // A number, or a field of at most 32 bits.
        let id = |p: &Pair<'_>| match u32_arg(p.value) {
            Ok(n) => Ok((n, None)),
            Err(_) => match parse_subfield(p.value)? {
                sf if sf.n_bits > 32 => {
                    let (n, key) = (sf.n_bits, p.key.text);
                    let text = format!("size of {key} field ({n}) exceeds maximum (32)");
                    Err(TextError::new(p.value, text))
                }
                sf => Ok((0, Some(sf))),
            },
        };
        for p in Pairs::new(v) {
            match p.key.text {
                "probability" => match u16_arg(p.value, "probability")? {
                    0 => {
                        let text = format!("invalid probability value \"{}\"", p.value.text);
                        return Err(TextError::new(p.value, text).hint("1 to 65535"));
                    }
                    n => s.probability = n,
                },
                "collector_set_id" => s.collector_set_id = u32_arg(p.value)?,
                "obs_domain_id" => (s.obs_domain_id, s.obs_domain_src) = id(&p)?,
                "obs_point_id" => (s.obs_point_id, s.obs_point_src) = id(&p)?,
                "sampling_port" => s.sampling_port = self.port(p.value, "unknown port")?,
                "ingress" => s.direction = 1,
                "egress" => s.direction = 2,
                k => {
                    let text = format!("invalid key \"{k}\" in \"sample\" argument");
                    return Err(TextError::new(p.key, text));
                }
            }
        }
        if s.probability == 0 {
            let text = "non-zero \"probability\" must be specified on sample";
            return Err(TextError::new(v, text));
        }
        Ok(Action::Sample(Box::new(s)))
    }
}

/// The argument of an action that has one.
fn expected<'a>(v: Tok<'a>, action: &str, what: &str) -> Result<Tok<'a>> {
    match v.text.is_empty() {
        true => Err(TextError::new(v, format!("{action}: expected {what}."))),
        false => Ok(v),
    }
}

fn check_pkt_larger(v: Tok<'_>) -> Result<Action> {
    let (len, name) = arrow(v)?;
    let dst = parse_subfield(name)?;
    if dst.n_bits != 1 {
        return Err(TextError::new(name, "Only 1-bit destination field is allowed")
            .hint("the result is one bit, like NXM_NX_REG0[0]"));
    }
    let len = len.slice(0..len.text.strip_suffix(')').unwrap_or(len.text).len());
    Ok(Action::CheckPktLarger { len: u16_arg(len, "(null)")?, dst })
}

/// `ID,K/N`
fn conjunction(v: Tok<'_>) -> Result<Action> {
    let syntax = || TextError::new(v, "\"conjunction\" syntax is \"conjunction(id,i/n)\"");
    let (id, kn) = v.split_once(",").ok_or_else(syntax)?;
    let (k, n) = kn.split_once("/").ok_or_else(syntax)?;
    let id = flow::text::number::signed(id.text.trim()).ok_or_else(syntax)? as u32;
    let small = |t: Tok<'_>| t.text.trim().parse::<u64>().map_err(|_| syntax());
    let (k, n) = (small(k)?, small(n)?);
    let why = if n < 2 {
        "conjunction must have at least 2 clauses"
    } else if n > 64 {
        "conjunction must have at most 64 clauses"
    } else if k < 1 {
        "clause index must be positive"
    } else if k > n {
        "clause index must be less than or equal to number of clauses"
    } else {
        return Ok(Action::Conjunction { id, clause: k as u8 - 1, n_clauses: n as u8 });
    };
    Err(TextError::new(v, why).hint("k is 1 to n, n is 2 to 64"))
}
