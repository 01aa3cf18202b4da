//! Reading what chooses by hash: `multipath`, `bundle`, `bundle_load`.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use flow::text::{TextError, Tok};

use super::actions::{Parser, Result, number, parse_subfield};
use crate::action::*;

impl Parser<'_> {
    pub(super) fn multipath(&self, v: Tok<'_>) -> Result<Action> {
        let parts: Vec<Tok<'_>> = v.split(',').map(Tok::trim).collect();
        let [fields, basis, alg, n, arg, dst] = parts.as_slice() else {
            return Err(TextError::new(
                v,
                format!("{}: not enough arguments to multipath action", v.text),
            ));
        };
        let algs = ["modulo_n", "hash_threshold", "hrw", "iter_hash"];
        let hash = HashFields::ALL.into_iter().find(|h| h.name() == fields.text);
        let links = number(*n, "number of links", 65536)?;
        Ok(Action::Multipath(Box::new(MultipathAction {
            fields: hash.ok_or_else(|| {
                TextError::new(*fields, format!("{}: unknown fields `{}'", v.text, fields.text))
            })?,
            basis: number(*basis, "basis", 0xffff)? as u16,
            algorithm: algs.iter().position(|a| *a == alg.text).ok_or_else(|| {
                TextError::new(*alg, format!("{}: unknown algorithm `{}'", v.text, alg.text))
            })? as u16,
            max_link: links.checked_sub(1).ok_or_else(|| {
                TextError::new(
                    *n,
                    format!("{}: n_links {links} is not in valid range 1 to 65536", v.text),
                )
            })? as u16,
            arg: number(*arg, "argument", u32::MAX.into())? as u32,
            dst: parse_subfield(*dst)?,
        })))
    }

    /// `FIELDS,BASIS,ALGORITHM,ofport[,DST],members:PORT[,PORT...]`
    pub(super) fn bundle(&self, v: Tok<'_>, load: bool) -> Result<Action> {
        let short = || {
            TextError::new(v, format!("{}: not enough arguments to bundle action", v.text))
                .hint("FIELDS,BASIS,ALGORITHM,ofport,members:PORT[,PORT...]")
        };
        let (head, members) =
            v.split_once("members:").or_else(|| v.split_once("slaves:")).ok_or_else(short)?;
        let parts: Vec<Tok<'_>> =
            head.split(',').map(Tok::trim).filter(|t| !t.text.is_empty()).collect();
        let (fields, basis, alg, kind, dst) = match parts.as_slice() {
            [f, b, a, k] if !load => (f, b, a, k, None),
            [f, b, a, k, d] if load => (f, b, a, k, Some(d)),
            _ => return Err(short()),
        };
        let unknown = |t: &Tok<'_>, what: &str| {
            TextError::new(*t, format!("{}: unknown {what} `{}'", v.text, t.text))
        };
        if kind.text != "ofport" {
            return Err(unknown(kind, "member_type"));
        }
        let hash = HashFields::ALL.into_iter().find(|h| h.name() == fields.text);
        let algs = ["active_backup", "hrw"];
        let ports = members.split(',').map(Tok::trim).filter(|t| !t.text.is_empty());
        let dst = dst.map(|d| parse_subfield(*d)).transpose()?;
        Ok(Action::Bundle(Box::new(BundleAction {
            fields: hash.ok_or_else(|| unknown(fields, "fields"))?,
            basis: number(*basis, "basis", 0xffff)? as u16,
            algorithm: algs
                .iter()
                .position(|a| *a == alg.text)
                .ok_or_else(|| unknown(alg, "algorithm"))? as u16,
            members: ports.map(|t| self.port(t)).collect::<Result<Vec<_>>>()?,
            dst,
        })))
    }
}
