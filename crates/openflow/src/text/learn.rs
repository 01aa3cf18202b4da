//! Reading `learn`.

use alloc::boxed::Box;
use alloc::format;

use base::TableId;
use flow::text::number;
use flow::text::scan::Pair;
use flow::text::value;
use flow::text::{Mode, Pairs, TextError, Tok};

use super::actions::Parser;
use super::args::{Result, loose, nicira_subfield, parse_subfield, table_arg, u64_arg, value_for};
use crate::action::*;
use crate::subfield::Subfield;

impl Parser<'_> {
    pub(super) fn learn(&self, v: Tok<'_>) -> Result<Action> {
        let mut l = LearnAction::default();
        for p in Pairs::new(v) {
            let x = p.value;
            let small = || Ok(loose(x, p.key.text, 0xffff, self.mode)? as u16);
            match p.key.text {
                "table" => {
                    let t = table_arg(x, format!("unknown table \"{}\"", x.text), self.names)?;
                    if t == TableId::ALL {
                        let why = "table id 255 not valid for `learn' action";
                        return Err(TextError::new(x, format!("{}: {why}", v.text)));
                    }
                    l.table = t;
                }
                "priority" => l.priority = small()?,
                "idle_timeout" => l.idle_timeout = small()?,
                "hard_timeout" => l.hard_timeout = small()?,
                "fin_idle_timeout" => l.fin_idle_timeout = small()?,
                "fin_hard_timeout" => l.fin_hard_timeout = small()?,
                "cookie" => {
                    l.cookie = match self.mode {
                        Mode::Strict => u64_arg(x)?,
                        // As much of it as is a number.
                        Mode::Ovs => number::strtoull(x.text).map_or(0, |n| n.0),
                    };
                }
                "send_flow_rem" => l.send_flow_rem = true,
                "delete_learned" => l.delete_learned = true,
                "limit" => l.limit = loose(x, "limit", u32::MAX, self.mode)?,
                "result_dst" => {
                    let dst = parse_subfield(x)?;
                    if !dst.row().writable {
                        return Err(TextError::new(x, format!("{} is read-only", x.text)));
                    }
                    if dst.n_bits != 1 {
                        let text = "result_dst in 'learn' action must be a single bit";
                        return Err(TextError::new(x, text));
                    }
                    l.result_dst = Some(dst);
                }
                _ => l.specs.push(self.learn_spec(&p, v)?),
            }
        }
        Ok(Action::Learn(Box::new(l)))
    }

    fn learn_spec(&self, p: &Pair<'_>, whole: Tok<'_>) -> Result<LearnSpec> {
        match (parse_subfield(p.key), p.key.text) {
            (Ok(_), _) => self.learn_match(p, whole),
            (Err(_), "load") => self.learn_load(p.value),
            (Err(_), "output") => {
                let src = parse_subfield(p.value)?;
                let dst = LearnDst::Output;
                Ok(LearnSpec { n_bits: src.n_bits, src: LearnSrc::Field(src), dst })
            }
            (Err(e), k) => {
                Err(TextError { message: format!("{}: unknown keyword {k}", whole.text), ..e })
            }
        }
    }

    fn learn_match(&self, p: &Pair<'_>, whole: Tok<'_>) -> Result<LearnSpec> {
        let (dst, x) = (nicira_subfield(p.key, whole)?, p.value);
        let spec = |src| LearnSpec { n_bits: dst.n_bits, src, dst: LearnDst::Match(dst) };
        if x.text.is_empty() {
            return Ok(spec(LearnSrc::Field(dst)));
        }
        let no_field = match parse_subfield(x) {
            Ok(src) if src.n_bits == dst.n_bits => return Ok(spec(LearnSrc::Field(src))),
            Ok(src) => {
                let text = format!(
                    "{}: bit widths of {} ({}) and {} ({}) differ",
                    whole.text, p.key.text, src.n_bits, x.text, dst.n_bits
                );
                return Err(TextError::new(x, text));
            }
            Err(e) => e,
        };
        let no_value = match self.immediate(dst, x, whole) {
            Ok(n) => return Ok(spec(LearnSrc::Value(n))),
            Err(e) => e,
        };
        let text = format!(
            "{}: {} value {} cannot be parsed as a subfield ({no_field}) or an immediate value ({no_value})",
            whole.text, p.key.text, x.text
        );
        Err(TextError { message: text, hint: no_value.hint, ..no_field })
    }

    /// A constant: of a whole field in its own form, of a part a number.
    fn immediate(&self, dst: Subfield, x: Tok<'_>, whole: Tok<'_>) -> Result<u128> {
        let f = dst.row();
        if !dst.is_whole() {
            return value_for(dst, x, whole);
        }
        let wild = || TextError::new(x, format!("{}: wildcards not allowed here", x.text));
        if f.tun_option().is_some() {
            let o = value::parse_option(f, x, self.mode)?;
            return match o.masked {
                true => Err(wild()),
                false if o.len <= MAX_IMMEDIATE => Ok(number::low(&o.value)),
                false => Err(TextError::new(x, "a constant has at most 128 bits")),
            };
        }
        let (v, m) = value::parse_raw(f, x, self.names, self.mode)?;
        if m == f.wire_ones() { Ok(v) } else { Err(wild()) }
    }

    fn learn_load(&self, v: Tok<'_>) -> Result<LearnSpec> {
        let Some(at) = v.text.find("->") else {
            return Err(TextError::new(v, format!("load: missing `->' in `{}'", v.text)));
        };
        if at == 0 {
            let text = format!("load: missing source before `->' in `{}'", v.text);
            return Err(TextError::new(v, text));
        }
        let Ok((n, end)) = number::wide(v.text, MAX_IMMEDIATE) else {
            let (src, dst) = self.move_(v)?;
            let (src, dst, n_bits) = (LearnSrc::Field(src), LearnDst::Load(dst), src.n_bits);
            return Ok(LearnSpec { n_bits, src, dst });
        };
        if end != at {
            let text = format!("load: garbage before `->' in `{}'", v.text);
            return Err(TextError::new(v.slice(end.min(at)..at), text));
        }
        let name = v.slice(at + 2..v.text.len());
        let dst = nicira_subfield(name, v)?;
        let n = number::low(&n);
        if n > dst.max() {
            let text = format!("{}: value does not fit into {} bits", v.text, dst.n_bits);
            return Err(TextError::new(v.slice(0..at), text));
        }
        let (src, n_bits) = (LearnSrc::Value(n), dst.n_bits);
        Ok(LearnSpec { n_bits, src, dst: LearnDst::Load(dst) })
    }
}

/// Bytes of the longest constant that `learn` takes here.
const MAX_IMMEDIATE: usize = 16;
