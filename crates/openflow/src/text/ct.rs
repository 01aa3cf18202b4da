//! Reading `ct` and its `nat`.

use alloc::boxed::Box;
use alloc::format;
use core::net::{Ipv4Addr, Ipv6Addr};

use flow::text::{Mode, Pairs, TextError, Tok};

use super::actions::Parser;
use super::args::{Result, parse_subfield, table_or_any, u16_arg};
use crate::action::verify::Outer;
use crate::action::*;

impl Parser<'_> {
    pub(super) fn ct(&self, v: Tok<'_>) -> Result<Action> {
        let mut c = CtAction::default();
        for p in Pairs::new(v) {
            match p.key.text {
                "commit" => c.commit = true,
                "force" => c.force = true,
                "table" => {
                    let text = format!("unknown table {}", p.value.text);
                    c.recirc_table = table_or_any(p.value, text, self.names, self.mode)?;
                    if c.recirc_table.is_none() {
                        return Err(TextError::new(p.value, "invalid table 0xff"));
                    }
                }
                "zone" => {
                    c.zone = match u16_arg(p.value, "zone") {
                        Ok(z) => CtZone::Imm(z),
                        Err(_) => self.zone_field(p.value)?,
                    };
                }
                "alg" => {
                    c.alg = Some(match p.value.text {
                        "ftp" => CtAlg::Ftp,
                        "tftp" => CtAlg::Tftp,
                        x => {
                            let text = format!("invalid conntrack helper \"{x}\"");
                            return Err(TextError::new(p.value, text).hint("ftp or tftp"));
                        }
                    });
                }
                "nat" => {
                    c.nat = Some(self.nat(p.value)?);
                    c.nat_at = c.exec.len() as u16;
                }
                "exec" => c.exec.extend(self.nested(p.value, Outer::Ct)?),
                k => {
                    let text = format!("invalid argument to \"ct\" action: `{k}'");
                    return Err(TextError::new(p.key, text)
                        .hint("commit, force, table=N, zone=N, nat(...), exec(...) or alg=NAME"));
                }
            }
        }
        if c.force && !c.commit {
            let text = "\"force\" flag requires \"commit\" flag.";
            return Err(TextError::new(v, text));
        }
        // An `exec` may hold it as well.
        if let Some(i) = c.exec.iter().position(|a| matches!(a, Action::Nat(_)))
            && c.nat.is_none()
            && let Action::Nat(n) = c.exec.remove(i)
        {
            (c.nat, c.nat_at) = (Some(*n), i as u16);
        }
        let plain_nat = c.nat.as_ref().is_none_or(|n| n.kind.is_none());
        if self.mode == Mode::Strict && !c.commit && (!c.exec.is_empty() || !plain_nat) {
            return Err(TextError::new(v, "CT action requires commit flag if actions other than NAT without arguments are specified.")
                .hint("add commit"));
        }
        Ok(Action::Ct(Box::new(c)))
    }

    fn zone_field(&self, v: Tok<'_>) -> Result<CtZone> {
        let sf = parse_subfield(v)?;
        if sf.n_bits != 16 && self.mode == Mode::Strict {
            let text = format!("{}: not 16 bits wide", v.text);
            return Err(TextError::new(v, text).hint(
                "a zone is a number from 0 to 65535 or a field of 16 bits, like NXM_NX_REG0[0..15]",
            ));
        }
        Ok(CtZone::Field(sf))
    }

    pub(super) fn nat(&self, v: Tok<'_>) -> Result<NatAction> {
        let mut n = NatAction::default();
        let mut kinds = (false, false);
        for p in Pairs::new(v) {
            match p.key.text {
                "src" | "dst" => {
                    let src = p.key.text == "src";
                    kinds = (kinds.0 | src, kinds.1 | !src);
                    n.kind = Some(if src { NatKind::Src } else { NatKind::Dst });
                    (n.addr, n.ports) = nat_range(p.value)?;
                }
                "persistent" => n.persistent = true,
                "hash" => n.hash = true,
                "random" => n.random = true,
                k => {
                    let text = format!("invalid key \"{k}\" in \"nat\" argument");
                    return Err(
                        TextError::new(p.key, text).hint("src, dst, persistent, hash or random")
                    );
                }
            }
        }
        let why = if kinds == (true, true) {
            "May only specify one of \"src\" or \"dst\"."
        } else if n.kind.is_none() && (n.persistent || n.hash || n.random) {
            "Flags allowed only with \"src\" or \"dst\"."
        } else if n.hash && n.random {
            "Both \"hash\" and \"random\" are not allowed."
        } else {
            return Ok(n);
        };
        Err(TextError::new(v, why))
    }
}

type Ports = Option<(u16, Option<u16>)>;

/// Reads `ADDR[-ADDR][:PORT[-PORT]]`; IPv6 addresses with ports stand in brackets.
fn nat_range(v: Tok<'_>) -> Result<(NatAddr, Ports)> {
    const HINT: &str =
        "ADDR[-ADDR][:PORT[-PORT]], like 10.0.0.1-10.0.0.9:1000-2000 or [fe80::1]:80";
    let s = v.text;
    let invalid = || TextError::new(v, format!("invalid nat range \"{s}\"")).hint(HINT);
    let mut at = 0;
    let mut addr = NatAddr::Unspec;
    let mut ports = None;
    if let Some((min, end)) = v4(s) {
        at = end;
        let mut max = None;
        if s[at..].starts_with('-') {
            let (m, end) = v4(&s[at + 1..]).filter(|m| m.0 >= min).ok_or_else(invalid)?;
            at += 1 + end;
            max = Some(m);
        }
        addr = NatAddr::V4(min, max);
    } else if let Some((min, end)) = v6(s) {
        at = end;
        let mut max = None;
        if s[at..].starts_with('-') {
            let (m, end) = v6(&s[at + 1..]).filter(|m| m.0 >= min).ok_or_else(invalid)?;
            at += 1 + end;
            max = Some(m);
        }
        addr = NatAddr::V6(min, max);
    }
    if addr != NatAddr::Unspec && s[at..].starts_with(':') {
        let (min, end) = port(&s[at + 1..]).ok_or_else(invalid)?;
        at += 1 + end;
        let mut max = None;
        if s[at..].starts_with('-') {
            let (m, end) = port(&s[at + 1..]).filter(|m| m.0 >= min).ok_or_else(invalid)?;
            at += 1 + end;
            max = Some(m);
        }
        ports = Some((min, max));
    }
    if at != s.len() {
        let text = format!("garbage ({}) after nat range \"{s}\" (pos: {at})", &s[at..]);
        return Err(TextError::new(v.slice(at..s.len()), text).hint(HINT));
    }
    // Zero is no port, and an end that is the start is none.
    let ports = ports.filter(|p| p.0 != 0);
    Ok((addr, ports))
}

/// An IPv4 address at the front, and its bytes of text.
fn v4(s: &str) -> Option<(Ipv4Addr, usize)> {
    let end = s.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(s.len());
    Some((s[..end].parse().ok()?, end))
}

/// An IPv6 address at the front, perhaps in brackets, and its bytes of text.
fn v6(s: &str) -> Option<(Ipv6Addr, usize)> {
    if let Some(inner) = s.strip_prefix('[') {
        let end = inner.find(']')?;
        return Some((inner[..end].parse().ok()?, end + 2));
    }
    let end = s.find(|c: char| c != ':' && c != '.' && !c.is_ascii_hexdigit()).unwrap_or(s.len());
    Some((s[..end].parse().ok()?, end))
}

/// A port at the front, and its bytes of text.
fn port(s: &str) -> Option<(u16, usize)> {
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    Some((s[..end].parse().ok()?, end))
}
