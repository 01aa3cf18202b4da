//! Reading what chooses by hash: `multipath`, `bundle`, `bundle_load`.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use flow::FieldId;
use flow::text::{Mode, TextError, Tok};

use super::actions::Parser;
use super::args::{Result, loose, nicira_subfield, port_arg};
use crate::action::*;
use crate::subfield::Subfield;

/// Most members of a bundle.
const MAX_MEMBERS: usize = 2048;

/// The pieces between commas and blanks.
fn words(v: Tok<'_>) -> Vec<Tok<'_>> {
    v.split(',').flat_map(|t| t.split(' ')).filter(|t| !t.text.is_empty()).collect()
}

fn hash_fields(t: Tok<'_>, whole: Tok<'_>) -> Result<HashFields> {
    let found = HashFields::ALL.into_iter().find(|h| h.name().eq_ignore_ascii_case(t.text));
    found.ok_or_else(|| {
        let names = HashFields::ALL.map(HashFields::name).join(", ");
        TextError::new(t, format!("{}: unknown fields `{}'", whole.text, t.text))
            .hint(format!("one of {names}"))
    })
}

fn algorithm(t: Tok<'_>, whole: Tok<'_>, names: &[&str]) -> Result<u16> {
    let found = names.iter().position(|a| a.eq_ignore_ascii_case(t.text));
    found.map(|i| i as u16).ok_or_else(|| {
        TextError::new(t, format!("{}: unknown algorithm `{}'", whole.text, t.text))
            .hint(format!("one of {}", names.join(", ")))
    })
}

impl Parser<'_> {
    /// `FIELDS,BASIS,ALGORITHM,N_LINKS,ARG,DST`
    pub(super) fn multipath(&self, v: Tok<'_>) -> Result<Action> {
        let parts = words(v);
        let [fields, basis, alg, n, arg, dst, rest @ ..] = parts.as_slice() else {
            let text = format!("{}: not enough arguments to multipath action", v.text);
            return Err(TextError::new(v, text));
        };
        if self.mode == Mode::Strict
            && let Some(more) = rest.first()
        {
            return Err(TextError::new(*more, "too many arguments to multipath action"));
        }
        let mut m = MultipathAction {
            fields: hash_fields(*fields, v)?,
            basis: loose(*basis, "basis", 0xffff, self.mode)? as u16,
            algorithm: algorithm(*alg, v, &MULTIPATH_ALGORITHMS)?,
            max_link: 0,
            arg: 0,
            dst: Subfield::whole(FieldId::Reg0),
        };
        let links = loose(*n, "number of links", 65536, self.mode)? as i32;
        if !(1..=65536).contains(&links) {
            let text = format!("{}: n_links {links} is not in valid range 1 to 65536", v.text);
            return Err(TextError::new(*n, text));
        }
        m.max_link = (links - 1) as u16;
        m.arg = loose(*arg, "argument", u32::MAX, self.mode)?;
        m.dst = nicira_subfield(*dst, v)?;
        let bits = m.dst.n_bits;
        if bits < 16 && links > 1 << bits {
            let values = 1 << bits;
            let text = format!(
                "{}: {bits}-bit destination field has {values} possible values, less than specified n_links {links}",
                v.text
            );
            return Err(TextError::new(*dst, text));
        }
        Ok(Action::Multipath(Box::new(m)))
    }

    /// `FIELDS,BASIS,ALGORITHM,ofport[,DST],members:PORT[,PORT...]`
    pub(super) fn bundle(&self, v: Tok<'_>, load: bool) -> Result<Action> {
        let short = || {
            TextError::new(v, format!("{}: not enough arguments to bundle action", v.text))
                .hint("FIELDS,BASIS,ALGORITHM,ofport,members:PORT[,PORT...]")
        };
        let n = if load { 5 } else { 4 };
        let parts = words(v);
        let (Some(&[fields, basis, alg, kind]), Some(&next)) =
            (parts.first_chunk::<4>(), parts.get(n))
        else {
            return Err(short());
        };
        let end = next.text.find(':').unwrap_or(next.text.len());
        let delim = next.slice(0..end);
        if !["members", "slaves"].iter().any(|d| d.eq_ignore_ascii_case(delim.text)) {
            let text = format!(
                "{}: missing member delimiter, expected `members', got `{}'",
                v.text, delim.text
            );
            return Err(TextError::new(delim, text));
        }
        let start = (next.at - v.at + end + 1).min(v.text.len());
        let list = v.slice(start..v.text.len());
        let separators = [',', ' ', '[', ']'];
        let mut members = Vec::new();
        let mut at = 0;
        for piece in list.text.split(separators) {
            let t = list.slice(at..at + piece.len());
            at += piece.len() + 1;
            if !piece.is_empty() && members.len() < MAX_MEMBERS {
                members.push(port_arg(t, format!("{piece}: bad port number"), self.names)?);
            }
        }
        let mut b = BundleAction {
            fields: HashFields::EthSrc,
            basis: loose(basis, "basis", 0xffff, self.mode)? as u16,
            algorithm: 0,
            members,
            dst: None,
        };
        b.fields = hash_fields(fields, v)?;
        b.algorithm = algorithm(alg, v, &BUNDLE_ALGORITHMS)?;
        if !kind.text.eq_ignore_ascii_case("ofport") {
            let text = format!("{}: unknown member_type `{}'", v.text, kind.text);
            return Err(TextError::new(kind, text));
        }
        if load {
            let dst = nicira_subfield(parts[4], v)?;
            if dst.n_bits < 16 && self.mode == Mode::Strict {
                let text = format!("{}: the number of a port needs 16 bits", parts[4].text);
                return Err(TextError::new(parts[4], text).hint("NXM_NX_REG0[0..15], for example"));
            }
            b.dst = Some(dst);
        }
        Ok(Action::Bundle(Box::new(b)))
    }
}
