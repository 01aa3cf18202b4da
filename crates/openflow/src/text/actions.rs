//! Reading actions.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use base::{MacAddr, OfPort, TableId};
use flow::text::number::parse_number;
use flow::text::parse::nearest;
use flow::text::scan::Pair;
use flow::text::value;
use flow::text::{Mode, NoPorts, Pairs, PortMap, TextError, Tok, parse_port};
use flow::{Field, FieldId, Match};

use super::encap::{decap, encap};
use super::table::NAMES;
use crate::action::*;
use crate::subfield::Subfield;

pub(super) type Result<T> = core::result::Result<T, TextError>;

/// What reading an action needs to know.
pub(super) struct Parser<'p> {
    /// What is known of the packets; `None` for nothing, so that nothing is asked of them.
    m: Option<&'p Match>,
    pub(super) ports: &'p dyn PortMap,
    pub(super) mode: Mode,
}

/// Reads a list of actions for packets of a match. `drop`, alone, and nothing are the empty list.
pub fn parse_actions(
    text: Tok<'_>,
    m: &Match,
    ports: &dyn PortMap,
    mode: Mode,
) -> Result<Vec<Action>> {
    Parser::new(Some(m), ports, mode).list(text, None)
}

/// Place of an instruction in the order that 1.1+ fixes; `None` for an action.
fn rank(a: &Action) -> Option<(u8, &'static str)> {
    Some(match a {
        Action::Meter(_) => (0, "meter"),
        Action::ClearActions => (2, "clear_actions"),
        Action::WriteActions(_) => (3, "write_actions"),
        Action::WriteMetadata { .. } => (4, "write_metadata"),
        Action::GotoTable(_) => (5, "goto_table"),
        _ => return None,
    })
}

/// What the lists of a group stand in.
const BUCKET: &str = "bucket";

/// Place of all actions.
const APPLY: (u8, &str) = (1, "apply_actions");

pub(super) fn number(tok: Tok<'_>, what: &str, max: u64) -> Result<u64> {
    let n = parse_number(tok.text).flatten().and_then(|n| u64::try_from(n).ok());
    n.filter(|n| *n <= max).ok_or_else(|| {
        TextError::new(tok, format!("invalid {what} \"{}\"", tok.text))
            .hint(format!("a number from 0 to {max}"))
    })
}

/// Reads `NAME[]`, `NAME[5]`, `NAME[0..15]`; `NAME` alone is the whole.
pub fn parse_subfield(tok: Tok<'_>) -> Result<Subfield> {
    let name_end = tok.text.find('[').unwrap_or(tok.text.len());
    let name = tok.slice(0..name_end);
    let row = Field::by_oxm_name(name.text).map(|x| x.0).or_else(|| Field::by_name(name.text));
    let row = row.ok_or_else(|| {
        let e = TextError::new(name, format!("{}: unknown field `{}'", tok.text, name.text));
        let known = flow::field::FIELDS.iter().flat_map(|f| f.oxms.iter().map(|o| o.name));
        match nearest(name.text, known) {
            Some(w) => e.hint(format!("did you mean {w}?")),
            None => e,
        }
    })?;
    if name_end == tok.text.len() {
        return Ok(Subfield::whole(row.id));
    }
    let bad = |why: &str| TextError::new(tok, format!("{}: {why}", tok.text));
    let inner = tok.text[name_end..].strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let inner = inner.ok_or_else(|| bad("missing ']' following field name"))?;
    if inner.is_empty() {
        return Ok(Subfield::whole(row.id));
    }
    let (a, b) = inner.split_once("..").unwrap_or((inner, inner));
    let bits = (a.trim().parse::<u16>(), b.trim().parse::<u16>());
    let (Ok(a), Ok(b)) = bits else {
        return Err(bad("syntax error expecting [] or [<bit>] or [<start>..<end>]"));
    };
    if a > b {
        return Err(bad(&format!("starting bit {a} is after ending bit {b}")));
    }
    if b >= row.bits {
        let (w, n) = if a >= row.bits { ("starting", a) } else { ("ending", b) };
        let why = format!("{w} bit {n} is not valid because field is only {} bits wide", row.bits);
        return Err(bad(&why));
    }
    Ok(Subfield { field: row.id, ofs: a, n_bits: b - a + 1 })
}

fn not_alone(drop: Tok<'_>) -> TextError {
    let text = "\"drop\" must not be accompanied by any other action or instruction";
    TextError::new(drop, text).hint("drop is what a flow without other actions does")
}

pub(super) fn arrow<'a>(tok: Tok<'a>, what: &str) -> Result<(Tok<'a>, Tok<'a>)> {
    let parts = tok.split_once("->");
    parts
        .map(|(a, b)| (a.trim(), b.trim()))
        .ok_or_else(|| TextError::new(tok, format!("{}: missing `->' following {what}", tok.text)))
}

impl<'p> Parser<'p> {
    pub(super) fn new(m: Option<&'p Match>, ports: &'p dyn PortMap, mode: Mode) -> Parser<'p> {
        Parser { m, ports, mode }
    }

    /// Reads actions that stand in several pieces of a line. Instructions are none.
    pub(super) fn pieces(&self, pieces: &[Tok<'_>]) -> Result<Vec<Action>> {
        let all = pieces.iter().try_fold(Vec::new(), |mut all, piece| {
            all.extend(self.list(*piece, Some(BUCKET))?);
            Ok(all)
        })?;
        match pieces.iter().find(|p| p.text == "drop" && pieces.len() > 1) {
            Some(at) => Err(not_alone(*at)),
            None => Ok(all),
        }
    }

    /// Reads a list of actions, `within` which action if any. Instructions are none there.
    pub(super) fn list(&self, text: Tok<'_>, within: Option<&str>) -> Result<Vec<Action>> {
        let mut out: Vec<Action> = Vec::new();
        let mut drop_at = None;
        let mut last = None;
        let mut lonely: Option<Tok<'_>> = None;
        for pair in Pairs::new(text) {
            let whole = pair.whole(text);
            if pair.key.text == "drop" {
                drop_at = Some(pair.key);
                continue;
            }
            if self.mode == Mode::Strict && !pair.closed {
                return Err(TextError::new(whole, format!("{}: missing ')'", whole.text))
                    .hint("close the parenthesis"));
            }
            let a = self.one(&pair, whole)?;
            if let (Some(outer), Some((_, name))) = (within, rank(&a)) {
                let text = match a {
                    Action::Meter(_) if outer != BUCKET => {
                        format!("{outer} action doesn't support nested action meter")
                    }
                    _ => format!("{name} instruction not allowed here"),
                };
                return Err(TextError::new(pair.key, text));
            }
            let next = rank(&a).unwrap_or(APPLY);
            if let Some(last) = last.replace(next) {
                if next.0 < last.0 {
                    return Err(self.order(pair.key, next.1, last.1));
                }
                if next.0 == last.0 && next != APPLY {
                    let text = format!(
                        "duplicate {} instruction not allowed, for OpenFlow 1.1+ compatibility",
                        next.1
                    );
                    return Err(TextError::new(pair.key, text));
                }
            }
            if !a.goes_with_conjunction() {
                lonely = lonely.or(Some(pair.key));
            }
            out.push(a);
        }
        if let Some(at) = lonely
            && out.iter().any(|a| matches!(a, Action::Conjunction { .. }))
        {
            let name = NAMES.iter().find(|n| n.0 == at.text).map_or("output", |n| n.0);
            let text = format!(
                "\"conjunction\" actions may be used along with \"note\" but not any other kind of action (such as the \"{name}\" action used here)"
            );
            return Err(TextError::new(at, text));
        }
        match drop_at {
            Some(at) if !out.is_empty() => Err(not_alone(at)),
            _ => Ok(out),
        }
    }

    fn order(&self, at: Tok<'_>, first: &str, second: &str) -> TextError {
        TextError::new(
            at,
            format!(
                "invalid instruction ordering: {first} must appear before {second}, for OpenFlow 1.1+ compatibility"
            ),
        )
    }

    pub(super) fn port(&self, tok: Tok<'_>) -> Result<OfPort> {
        parse_port(tok.text, self.ports).ok_or_else(|| {
            TextError::new(tok, format!("{}: output to unknown port", tok.text)).hint(
                "a port's number or name, or one of in_port, normal, flood, all, local, controller",
            )
        })
    }

    pub(super) fn table(&self, tok: Tok<'_>, text: String) -> Result<TableId> {
        match number(tok, "table", 255) {
            Ok(255) | Err(_) => Err(TextError::new(tok, text).hint("tables are numbered 0 to 254")),
            Ok(t) => Ok(TableId(t as u8)),
        }
    }

    /// Refuses to write a field that packets of the match do not have.
    fn check_write(&self, what: &str, tok: Tok<'_>, f: &'static Field) -> Result<()> {
        if !f.writable {
            let text = format!("{}: read-only field for {what}", f.name);
            return Err(TextError::new(tok, text));
        }
        let vlan = f.prereq == flow::field::Prereq::Vlan;
        if self.mode == Mode::Strict && !vlan && self.m.is_some_and(|m| !m.has_prereq(f.prereq)) {
            return Err(TextError::new(
                tok,
                "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
            )
            .hint(format!("the match does not make sure that packets have {}", f.name)));
        }
        Ok(())
    }

    fn one(&self, pair: &Pair<'_>, whole: Tok<'_>) -> Result<Action> {
        let v = pair.value;
        let name = pair.key.text;
        let num = |max: u64| number(v, name, max);
        let bad = |t: Tok<'_>| TextError::new(t, format!("{}: bad argument to {name}", t.text));
        Ok(match name {
            "output" => return self.output(v),
            "controller" | "CONTROLLER" => return self.controller(v),
            "enqueue" => {
                let (p, q) = v.split_once(":").or_else(|| v.split_once(",")).ok_or_else(|| {
                    TextError::new(
                        v,
                        "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"",
                    )
                })?;
                let port = parse_port(p.text, self.ports).ok_or_else(|| {
                    TextError::new(p, format!("{}: enqueue to unknown port", p.text))
                })?;
                Action::Enqueue { port, queue: number(q, "queue", u32::MAX.into())? as u32 }
            }
            "group" => Action::Group(num(u32::MAX.into())? as u32),
            "mod_vlan_vid" | "set_vlan_vid" => {
                let vid = num(0xffff)?;
                if vid > 0xfff {
                    return Err(TextError::new(v, format!("{}: not a valid VLAN VID", v.text)));
                }
                Action::SetVlanVid { vid: vid as u16, push: name == "mod_vlan_vid" }
            }
            "mod_vlan_pcp" | "set_vlan_pcp" => {
                let pcp = num(0xff)?;
                if pcp > 7 {
                    return Err(TextError::new(v, format!("{}: not a valid VLAN PCP", v.text)));
                }
                Action::SetVlanPcp { pcp: pcp as u8, push: name == "mod_vlan_pcp" }
            }
            "strip_vlan" | "pop_vlan" => Action::StripVlan,
            "push_vlan" => match num(0xffff)? {
                t @ (0x8100 | 0x88a8) => Action::PushVlan(t as u16),
                _ => {
                    return Err(TextError::new(
                        v,
                        format!("{}: not a valid VLAN ethertype", v.text),
                    )
                    .hint("0x8100 or 0x88a8"));
                }
            },
            "mod_dl_src" | "mod_dl_dst" => {
                let m: MacAddr = v.text.parse().map_err(|_| {
                    TextError::new(v, format!("{}: invalid Ethernet address", v.text))
                })?;
                if name == "mod_dl_src" { Action::SetEthSrc(m) } else { Action::SetEthDst(m) }
            }
            "mod_nw_src" | "mod_nw_dst" => {
                let f = FieldId::IpSrc.row();
                let (ip, _) = value::parse(f, v, &NoPorts, self.mode)?;
                let ip = Ipv4Addr::from(ip as u32);
                if name == "mod_nw_src" { Action::SetIpv4Src(ip) } else { Action::SetIpv4Dst(ip) }
            }
            "mod_nw_tos" => {
                let t = num(0xff)? as u8;
                if t & 3 != 0 {
                    return Err(TextError::new(v, format!("{}: not a valid TOS", v.text))
                        .hint("the low two bits of mod_nw_tos are ECN and must be zero"));
                }
                Action::SetNwTos(t)
            }
            "mod_nw_ecn" => {
                let t = num(0xff)? as u8;
                if t > 3 {
                    return Err(TextError::new(v, format!("{}: not a valid ECN", v.text)));
                }
                Action::SetNwEcn(t)
            }
            "mod_nw_ttl" => Action::SetNwTtl(num(0xff)? as u8),
            "mod_tp_src" => Action::SetL4Src(num(0xffff)? as u16),
            "mod_tp_dst" => Action::SetL4Dst(num(0xffff)? as u16),
            "set_field" => return self.set_field(v),
            "load" => return self.load(v),
            "move" => {
                let (a, b) = arrow(v, "source")?;
                let (src, dst) = (parse_subfield(a)?, parse_subfield(b)?);
                if src.n_bits != dst.n_bits {
                    let text = format!(
                        "{}: source field is {} bits wide but destination is {} bits wide",
                        v.text, src.n_bits, dst.n_bits
                    );
                    return Err(TextError::new(v, text));
                }
                self.check_write("move", b, dst.row())?;
                Action::Move { src, dst }
            }
            "push" => Action::StackPush(parse_subfield(v)?),
            "pop" => Action::StackPop(parse_subfield(v)?),
            "dec_ttl" => {
                let ids: Result<Vec<u16>> = Pairs::new(v)
                    .map(|p| Ok(number(p.key, "controller id", 0xffff)? as u16))
                    .collect();
                Action::DecTtl(ids?)
            }
            "set_mpls_label" => Action::SetMplsLabel(num(0xfffff)? as u32),
            "set_mpls_tc" => Action::SetMplsTc(num(7)? as u8),
            "set_mpls_ttl" => Action::SetMplsTtl(num(0xff)? as u8),
            "dec_mpls_ttl" => Action::DecMplsTtl,
            "push_mpls" => match num(0xffff)? {
                t @ (0x8847 | 0x8848) => Action::PushMpls(t as u16),
                _ => return Err(bad(v).hint("0x8847 or 0x8848")),
            },
            "pop_mpls" => Action::PopMpls(num(0xffff)? as u16),
            "set_tunnel" | "set_tunnel64" => {
                let id = num(u64::MAX)?;
                let wide = name == "set_tunnel64" || id > u32::MAX.into();
                Action::SetTunnel { id, wide }
            }
            "set_queue" => Action::SetQueue(num(u32::MAX.into())? as u32),
            "pop_queue" => Action::PopQueue,
            "dec_nsh_ttl" => Action::DecNshTtl,
            "debug_recirc" => Action::DebugRecirc,
            "debug_slow" => Action::DebugSlow,
            "check_pkt_larger" => {
                let (len, dst) = v.split_once(")->").ok_or_else(|| bad(v))?;
                let sf = parse_subfield(dst)?;
                if sf.n_bits != 1 {
                    return Err(bad(dst).hint("the result is one bit, like NXM_NX_REG0[0]"));
                }
                let len = number(len, "length", 0xffff)? as u16;
                Action::CheckPktLarger { len, dst: sf }
            }
            "delete_field" => {
                let f = Field::by_name(v.text).ok_or_else(|| bad(v))?;
                Action::DeleteField(f.id)
            }
            "resubmit" => return self.resubmit(v),
            "ct" => return self.ct(v),
            "ct_clear" => Action::CtClear,
            "learn" => return self.learn(v),
            "conjunction" => {
                let parts = v.split_once(",").and_then(|(id, kn)| Some((id, kn.split_once("/")?)));
                let (id, (k, n)) = parts.ok_or_else(|| {
                    TextError::new(whole, "\"conjunction\" syntax is \"conjunction(id,i/n)\"")
                })?;
                let (k, n) = (k.trim(), n.trim());
                let (ck, cn) = (number(k, "clause", 255)?, number(n, "clauses", 255)?);
                let wrong = match () {
                    () if cn < 2 => Some("conjunction must have at least 2 clauses"),
                    () if cn > 64 => Some("conjunction must have at most 64 clauses"),
                    () if ck < 1 => Some("clause index must be positive"),
                    () if ck > cn => {
                        Some("clause index must be less than or equal to number of clauses")
                    }
                    () => None,
                };
                if let Some(text) = wrong {
                    return Err(TextError::new(v, text).hint("k is 1 to n, n is 2 to 64"));
                }
                Action::Conjunction {
                    id: number(id.trim(), "conjunction id", u32::MAX.into())? as u32,
                    clause: ck as u8 - 1,
                    n_clauses: cn as u8,
                }
            }
            "multipath" => return self.multipath(v),
            "note" => {
                let mut b = hex_bytes(v)?;
                // Fills the action up to a multiple of 8 bytes, as it will come back.
                b.resize((b.len() + 10).next_multiple_of(8) - 10, 0);
                Action::Note(b)
            }
            "exit" => Action::Exit,
            "clone" => Action::Clone(self.list(v, Some("clone"))?),
            "sample" => return self.sample(v),
            "fin_timeout" => {
                let (mut idle, mut hard) = (0, 0);
                for p in Pairs::new(v) {
                    let n = number(p.value, p.key.text, 0xffff)? as u16;
                    match p.key.text {
                        "idle_timeout" => idle = n,
                        "hard_timeout" => hard = n,
                        k => {
                            let text = format!("invalid key '{k}' in 'fin_timeout' argument");
                            return Err(TextError::new(p.key, text));
                        }
                    }
                }
                Action::FinTimeout { idle, hard }
            }
            "meter" => Action::Meter(num(u32::MAX.into())? as u32),
            "clear_actions" => Action::ClearActions,
            "write_actions" => Action::WriteActions(self.list(v, Some("write_actions"))?),
            "write_metadata" => {
                let f = FieldId::Metadata.row();
                let (x, m) = value::parse(f, v, &NoPorts, self.mode)?;
                Action::WriteMetadata { value: x as u64, mask: m as u64 }
            }
            "goto_table" => {
                Action::GotoTable(self.table(v, format!("unknown table \"{}\"", v.text))?)
            }
            "bundle" => return self.bundle(v, false),
            "bundle_load" => return self.bundle(v, true),
            "encap" => return encap(v),
            "decap" => return decap(v),
            _ => match parse_port(name, self.ports) {
                Some(OfPort::CONTROLLER) => {
                    Action::Output { port: OfPort::CONTROLLER, max_len: u16::MAX }
                }
                Some(port) => Action::Output { port, max_len: 0 },
                None => {
                    let e = TextError::new(pair.key, format!("unknown action {name}"));
                    return Err(match nearest(name, NAMES.iter().map(|n| n.0)) {
                        Some(w) => e.hint(format!("did you mean {w}?")),
                        None => e,
                    });
                }
            },
        })
    }

    fn output(&self, v: Tok<'_>) -> Result<Action> {
        if v.text.contains('=') {
            let (mut port, mut max_len) = (None, 0);
            for p in Pairs::new(v) {
                match p.key.text {
                    "port" => port = Some(self.port(p.value)?),
                    "max_len" => max_len = number(p.value, "max_len", u32::MAX.into())? as u32,
                    k => {
                        let text = format!("invalid key '{k}' in output_trunc argument");
                        return Err(TextError::new(p.key, text));
                    }
                }
            }
            let port = port.ok_or_else(|| TextError::new(v, "output: missing port"))?;
            if max_len < 14 {
                let text = format!("max_len {max_len} is less than the minimum value 14");
                return Err(TextError::new(v, text));
            }
            return Ok(Action::OutputTrunc { port, max_len });
        }
        if let Some(port) = parse_port(v.text, self.ports) {
            let max_len = if port == OfPort::CONTROLLER { u16::MAX } else { 0 };
            return Ok(Action::Output { port, max_len });
        }
        if v.text.contains('[') {
            return Ok(Action::OutputReg { src: parse_subfield(v)?, max_len: u16::MAX });
        }
        self.port(v)?;
        Err(TextError::new(v, format!("{}: output to unknown port", v.text)))
    }

    fn controller(&self, v: Tok<'_>) -> Result<Action> {
        let plain = |max_len| Action::Output { port: OfPort::CONTROLLER, max_len };
        if v.text.is_empty() {
            return Ok(plain(u16::MAX));
        }
        if v.text.bytes().all(|c| c.is_ascii_digit()) {
            return Ok(plain(number(v, "max_len", 0xffff)? as u16));
        }
        let mut c = ControllerAction::default();
        for p in Pairs::new(v) {
            match p.key.text {
                "max_len" => c.max_len = number(p.value, "max_len", 0xffff)? as u16,
                "id" => c.controller_id = number(p.value, "id", 0xffff)? as u16,
                "reason" => {
                    c.reason = PacketInReason::from_name(p.value.text).ok_or_else(|| {
                        let text = format!("unknown reason \"{}\"", p.value.text);
                        TextError::new(p.value, text)
                            .hint(format!("one of {}", PacketInReason::NAMES.join(", ")))
                    })?;
                }
                "userdata" => c.userdata = hex_bytes(p.value)?,
                "pause" => c.pause = true,
                "meter_id" => {
                    c.meter = Some(number(p.value, "meter_id", u32::MAX.into())? as u32);
                }
                k => {
                    let text = format!("unknown key \"{k}\" parsing controller action");
                    return Err(TextError::new(p.key, text));
                }
            }
        }
        Ok(Action::Controller(Box::new(c)))
    }

    fn set_field(&self, v: Tok<'_>) -> Result<Action> {
        let (val, name) = arrow(v, "value")?;
        let f = Field::by_name(name.text).ok_or_else(|| {
            let e = TextError::new(name, format!("{} is not a valid OXM field name", name.text));
            let known = flow::field::FIELDS.iter().map(|f| f.name);
            match nearest(name.text, known) {
                Some(w) => e.hint(format!("did you mean {w}?")),
                None => e,
            }
        })?;
        if let Some(i) = f.tun_option() {
            let option = Box::new(value::parse_option(f, val, self.mode)?);
            return Ok(Action::SetTunOption { index: i as u8, option });
        }
        let (value, mask) = value::parse(f, val, self.ports, self.mode)?;
        self.check_write("set_field", name, f)?;
        Ok(Action::SetField { field: f.id, value: value & mask, mask })
    }

    fn load(&self, v: Tok<'_>) -> Result<Action> {
        let (val, dst) = arrow(v, "value")?;
        let sf = parse_subfield(dst)?;
        let n = parse_number(val.text)
            .flatten()
            .ok_or_else(|| TextError::new(val, format!("{}: bad syntax for value", val.text)))?;
        if n > sf.max() {
            let text =
                format!("{}: value {} does not fit into {} bits", v.text, val.text, sf.n_bits);
            return Err(TextError::new(val, text));
        }
        self.check_write("load", dst, sf.row())?;
        Ok(Action::Load { dst: sf, value: n })
    }

    fn resubmit(&self, v: Tok<'_>) -> Result<Action> {
        let mut parts = v.split(',').map(Tok::trim);
        let port = match parts.next() {
            Some(t) if !t.text.is_empty() => {
                Some(parse_port(t.text, self.ports).ok_or_else(|| {
                    TextError::new(t, format!("{}: resubmit to unknown port", t.text))
                })?)
            }
            _ => None,
        };
        let table = match parts.next() {
            Some(t) if !t.text.is_empty() => {
                Some(self.table(t, format!("{}: resubmit to unknown table", t.text))?)
            }
            _ => None,
        };
        let with_ct = match parts.next() {
            Some(t) if t.text == "ct" => true,
            Some(t) if !t.text.is_empty() => {
                let text = format!("{}: unknown parameter in resubmit", t.text);
                return Err(TextError::new(t, text));
            }
            _ => false,
        };
        if matches!(port, None | Some(OfPort::IN_PORT)) && table.is_none() {
            let text = "at least one \"in_port\" or \"table\" must be specified on resubmit";
            return Err(TextError::new(v, text));
        }
        Ok(Action::Resubmit { port: port.filter(|p| *p != OfPort::IN_PORT), table, with_ct })
    }

    fn sample(&self, v: Tok<'_>) -> Result<Action> {
        let mut s = SampleAction { sampling_port: OfPort::NONE, ..Default::default() };
        let all = u64::from(u32::MAX);
        for p in Pairs::new(v) {
            match p.key.text {
                "probability" => s.probability = number(p.value, "probability", 0xffff)? as u16,
                "collector_set_id" => s.collector_set_id = number(p.value, "id", all)? as u32,
                "obs_domain_id" => s.obs_domain_id = number(p.value, "id", all)? as u32,
                "obs_point_id" => s.obs_point_id = number(p.value, "id", all)? as u32,
                "sampling_port" => s.sampling_port = self.port(p.value)?,
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

pub(super) fn hex_bytes(v: Tok<'_>) -> Result<Vec<u8>> {
    let digits: String = v.text.chars().filter(|c| *c != '.').collect();
    let ok = digits.len().is_multiple_of(2) && digits.bytes().all(|c| c.is_ascii_hexdigit());
    if !ok {
        return Err(TextError::new(v, "bad hex digit in `note' argument")
            .hint("pairs of hex digits, like 01.ab"));
    }
    Ok((0..digits.len() / 2)
        .filter_map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok())
        .collect())
}
