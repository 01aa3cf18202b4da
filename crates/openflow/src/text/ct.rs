//! Reading `ct` and its `nat`.

use alloc::boxed::Box;
use alloc::format;
use core::net::{Ipv4Addr, Ipv6Addr};

use flow::FieldId;
use flow::text::number::parse_number;
use flow::text::{Mode, Pairs, TextError, Tok};

use super::actions::{Parser, Result, parse_subfield};
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
                    c.recirc_table = Some(self.table(p.value, text)?);
                }
                "zone" => {
                    c.zone = match parse_number(p.value.text).flatten() {
                        Some(z) if z <= 0xffff => CtZone::Imm(z as u16),
                        _ => {
                            let sf = parse_subfield(p.value)?;
                            if sf.n_bits != 16 {
                                let text = format!("{}: not 16 bits wide", p.value.text);
                                return Err(TextError::new(p.value, text)
                                    .hint("a zone is a number from 0 to 65535 or a field of 16 bits, like NXM_NX_REG0[0..15]"));
                            }
                            CtZone::Field(sf)
                        }
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
                "nat" => c.nat = Some(self.nat(p.value)?),
                "exec" => {
                    for a in self.list(p.value, Some("ct"))? {
                        let ok = match &a {
                            Action::SetField { field, .. } => ct_field(*field),
                            Action::Load { dst, .. } | Action::Move { dst, .. } => {
                                ct_field(dst.field)
                            }
                            _ => false,
                        };
                        if !ok {
                            let text = "ct action doesn't support nested actions that set other fields than ct_mark and ct_label";
                            return Err(TextError::new(p.value, text));
                        }
                        c.exec.push(a);
                    }
                }
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
        let plain_nat = c.nat.as_ref().is_none_or(|n| n.kind.is_none());
        if self.mode == Mode::Strict && !c.commit && (!c.exec.is_empty() || !plain_nat) {
            return Err(TextError::new(v, "CT action requires commit flag if actions other than NAT without arguments are specified.")
                .hint("add commit"));
        }
        Ok(Action::Ct(Box::new(c)))
    }

    fn nat(&self, v: Tok<'_>) -> Result<NatAction> {
        let mut n = NatAction::default();
        for p in Pairs::new(v) {
            match p.key.text {
                "src" | "dst" => {
                    if n.kind.is_some() {
                        return Err(TextError::new(
                            p.key,
                            "May only specify one of \"src\" or \"dst\".",
                        ));
                    }
                    n.kind = Some(if p.key.text == "src" { NatKind::Src } else { NatKind::Dst });
                    if !p.value.text.is_empty() {
                        nat_range(p.value, &mut n)?;
                    }
                }
                "persistent" => n.persistent = true,
                "hash" => n.hash = true,
                "random" => n.random = true,
                k => {
                    let text = format!("invalid key \"{k}\" in \"nat\" argument");
                    return Err(TextError::new(p.key, text));
                }
            }
        }
        if n.kind.is_none() && (n.persistent || n.hash || n.random) {
            return Err(TextError::new(v, "Flags allowed only with \"src\" or \"dst\"."));
        }
        if n.hash && n.random {
            let text = "Both \"hash\" and \"random\" are not allowed.";
            return Err(TextError::new(v, text));
        }
        Ok(n)
    }
}

fn ct_field(id: FieldId) -> bool {
    matches!(id, FieldId::CtMark | FieldId::CtLabel)
}

/// Reads `ADDR[-ADDR][:PORT[-PORT]]`; IPv6 addresses with ports stand in brackets.
fn nat_range(v: Tok<'_>, n: &mut NatAction) -> Result<()> {
    let bad = || {
        TextError::new(v, format!("garbage ({}) in NAT range", v.text))
            .hint("ADDR[-ADDR][:PORT[-PORT]], like 10.0.0.1-10.0.0.9:1000-2000 or [fe80::1]:80")
    };
    let mut rest = v.text;
    let v6 =
        rest.starts_with('[') || rest.split('-').next().is_some_and(|a| a.matches(':').count() > 1);
    let first = take_addr(&mut rest, !v6).ok_or_else(bad)?;
    let second = if rest_starts(&mut rest, '-') {
        Some(take_addr(&mut rest, !v6).ok_or_else(bad)?)
    } else {
        None
    };
    if v6 {
        let p = |s: &str| s.parse::<Ipv6Addr>().map_err(|_| bad());
        n.addr = NatAddr::V6(p(first)?, second.map(p).transpose()?);
    } else {
        let p = |s: &str| s.parse::<Ipv4Addr>().map_err(|_| bad());
        n.addr = NatAddr::V4(p(first)?, second.map(p).transpose()?);
    }
    if rest_starts(&mut rest, ':') {
        let (a, b) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
        let p = |s: &str| s.parse::<u16>().map_err(|_| bad());
        n.ports = Some((p(a)?, b.map(p).transpose()?));
        rest = "";
    }
    if rest.is_empty() { Ok(()) } else { Err(bad()) }
}

fn rest_starts(rest: &mut &str, c: char) -> bool {
    match rest.strip_prefix(c) {
        Some(r) => {
            *rest = r;
            true
        }
        None => false,
    }
}

fn take_addr<'a>(rest: &mut &'a str, stop_at_colon: bool) -> Option<&'a str> {
    if let Some(inner) = rest.strip_prefix('[') {
        let (a, r) = inner.split_once(']')?;
        *rest = r;
        return Some(a);
    }
    let end = rest.find(|c: char| c == '-' || stop_at_colon && c == ':').unwrap_or(rest.len());
    let (a, r) = rest.split_at(end);
    *rest = r;
    Some(a)
}
