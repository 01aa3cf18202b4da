//! Reading `learn`.

use alloc::boxed::Box;
use alloc::format;

use flow::text::number::parse_number;
use flow::text::scan::Pair;
use flow::text::value;
use flow::text::{Pairs, TextError, Tok};

use super::actions::{Parser, Result, arrow, number, parse_subfield};
use crate::action::*;
use crate::subfield::Subfield;

impl Parser<'_> {
    pub(super) fn learn(&self, v: Tok<'_>) -> Result<Action> {
        let mut l = LearnAction::default();
        for p in Pairs::new(v) {
            let x = p.value;
            let small = || Ok(number(x, p.key.text, 0xffff)? as u16);
            match p.key.text {
                "table" => l.table = self.table(x, format!("unknown table \"{}\"", x.text))?,
                "priority" => l.priority = small()?,
                "idle_timeout" => l.idle_timeout = small()?,
                "hard_timeout" => l.hard_timeout = small()?,
                "fin_idle_timeout" => l.fin_idle_timeout = small()?,
                "fin_hard_timeout" => l.fin_hard_timeout = small()?,
                "cookie" => l.cookie = number(x, "cookie", u64::MAX)?,
                "send_flow_rem" => l.send_flow_rem = true,
                "delete_learned" => l.delete_learned = true,
                "limit" => l.limit = number(x, "limit", u32::MAX.into())? as u32,
                "result_dst" => l.result_dst = Some(parse_subfield(x)?),
                "load" => {
                    let (a, b) = arrow(x, "value")?;
                    let dst = parse_subfield(b)?;
                    let src = match parse_number(a.text).flatten() {
                        Some(n) => LearnSrc::Value(n),
                        None => LearnSrc::Field(same_width(parse_subfield(a)?, dst, a)?),
                    };
                    let n_bits = dst.n_bits;
                    l.specs.push(LearnSpec { n_bits, src, dst: LearnDst::Load(dst) });
                }
                "output" => {
                    let src = parse_subfield(x)?;
                    l.specs.push(LearnSpec {
                        n_bits: src.n_bits,
                        src: LearnSrc::Field(src),
                        dst: LearnDst::Output,
                    });
                }
                _ => l.specs.push(self.learn_match(&p)?),
            }
        }
        Ok(Action::Learn(Box::new(l)))
    }

    fn learn_match(&self, p: &Pair<'_>) -> Result<LearnSpec> {
        let dst = parse_subfield(p.key)?;
        let n_bits = dst.n_bits;
        let spec = |src| LearnSpec { n_bits, src, dst: LearnDst::Match(dst) };
        if p.value.text.is_empty() {
            return Ok(spec(LearnSrc::Field(dst)));
        }
        if !p.key.text.contains('[')
            && let Ok((v, m)) = value::parse(dst.row(), p.value, self.ports, self.mode)
            && m & dst.row().all_ones() == dst.row().all_ones()
        {
            return Ok(spec(LearnSrc::Value(v)));
        }
        if let Some(n) = parse_number(p.value.text).flatten() {
            return Ok(spec(LearnSrc::Value(n & dst.max())));
        }
        let src = same_width(parse_subfield(p.value)?, dst, p.value)?;
        Ok(spec(LearnSrc::Field(src)))
    }
}

fn same_width(src: Subfield, dst: Subfield, at: Tok<'_>) -> Result<Subfield> {
    if src.n_bits == dst.n_bits {
        return Ok(src);
    }
    let text = format!(
        "{}: bit widths of source ({}) and destination ({}) differ",
        at.text, src.n_bits, dst.n_bits
    );
    Err(TextError::new(at, text))
}
