//! Where actions and instructions may stand: their order, and what may be inside what.

use alloc::format;
use alloc::string::String;

use super::*;
use crate::error::OfError;
use crate::version::Version;

/// Whose actions a list is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outer {
    /// A flow: instructions are allowed.
    Flow,
    /// A packet-out or a bucket.
    List,
    /// `clone`
    Clone,
    /// `ct(exec())`
    Ct,
    /// `write_actions`
    WriteActions,
}

/// An action that must not stand where it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misplaced {
    /// The OpenFlow error.
    pub error: OfError,
    /// Which action of the list.
    pub at: usize,
    /// Why, in OVS's words.
    pub text: String,
}

/// Place of an instruction in the order that 1.1+ fixes; of all actions for an action.
fn rank(a: &Action, v: Version) -> (u8, &'static str) {
    match a {
        Action::Meter(_) if v < Version::Of15 => (0, "meter"),
        Action::ClearActions => (2, "clear_actions"),
        Action::WriteActions(_) => (3, "write_actions"),
        Action::WriteMetadata { .. } => (4, "write_metadata"),
        Action::GotoTable(_) => (5, "goto_table"),
        _ => APPLY,
    }
}

const APPLY: (u8, &str) = (1, "apply_actions");
const METER: u8 = 0;

/// The field that an action writes by its name.
fn written(a: &Action) -> Option<FieldId> {
    match a {
        Action::SetField { field, .. } => Some(*field),
        Action::Load { dst, .. } | Action::Move { dst, .. } => Some(dst.field),
        Action::SetTunOption { index, .. } => {
            Some(flow::field::FIELDS[FieldId::TunMetadata0 as usize + usize::from(*index)].id)
        }
        _ => None,
    }
}

/// Checks the places of the actions in a list, as a version of OpenFlow has them.
///
/// # Errors
/// The first action that must not stand where it does.
pub fn verify(list: &[Action], v: Version, outer: Outer) -> Result<(), Misplaced> {
    let mut last: Option<(u8, &str)> = None;
    for (at, a) in list.iter().enumerate() {
        let fail = |error, text: String| Err(Misplaced { error, at, text });
        if matches!(a, Action::Conjunction { .. }) {
            return conjunctions(list);
        }
        if let Some((error, text)) = nested(a, outer) {
            return fail(error, text);
        }
        let next = rank(a, v);
        if let Some(last) = last {
            if next.0 < last.0 {
                return fail(
                    OfError::OFPBAC_UNSUPPORTED_ORDER,
                    format!(
                        "invalid instruction ordering: {} must appear before {}, for OpenFlow 1.1+ compatibility",
                        next.1, last.1
                    ),
                );
            }
            if next.0 == last.0 && next != APPLY {
                return fail(
                    OfError::OFPBAC_UNSUPPORTED_ORDER,
                    format!(
                        "duplicate {} instruction not allowed, for OpenFlow 1.1+ compatibility",
                        next.1
                    ),
                );
            }
        }
        // A meter is an action in 1.5, so it may be among others.
        if outer != Outer::Flow && next != APPLY && next.0 != METER {
            return fail(
                OfError::OFPBIC_UNSUP_INST,
                format!("{} instruction not allowed here", next.1),
            );
        }
        last = Some(next);
    }
    Ok(())
}

/// With a conjunction there may only be notes.
fn conjunctions(list: &[Action]) -> Result<(), Misplaced> {
    let other = |a: &&Action| !matches!(a, Action::Conjunction { .. } | Action::Note(_));
    match list.iter().enumerate().find(|(_, a)| other(a)) {
        None => Ok(()),
        Some((at, a)) => Err(Misplaced {
            error: OfError::NXBAC_BAD_CONJUNCTION,
            at,
            text: format!(
                "\"conjunction\" actions may be used along with \"note\" but not any other kind of action (such as the \"{}\" action used here)",
                a.name()
            ),
        }),
    }
}

fn nested(a: &Action, outer: Outer) -> Option<(OfError, String)> {
    let field = written(a);
    let of_ct = |f: FieldId| matches!(f, FieldId::CtMark | FieldId::CtLabel);
    let unsupported = |name: &str| {
        let text = format!("{name} action doesn't support nested action {}", a.name());
        Some((OfError::OFPBAC_BAD_ARGUMENT, text))
    };
    if field.is_some_and(of_ct) && outer != Outer::Ct {
        let text = "cannot set CT fields outside of ct action";
        return Some((OfError::OFPBAC_BAD_SET_ARGUMENT, text.into()));
    }
    if matches!(a, Action::Nat(_)) {
        let text = "Cannot have NAT action outside of \"ct\" action";
        return (outer != Outer::Ct).then(|| (OfError::OFPBAC_BAD_SET_ARGUMENT, text.into()));
    }
    let name = match outer {
        Outer::Flow | Outer::List => return None,
        Outer::Clone => "clone",
        Outer::Ct => "ct",
        Outer::WriteActions => "write_actions",
    };
    match field {
        None if outer == Outer::Ct => unsupported(name),
        Some(f) if outer == Outer::Ct && !of_ct(f) => {
            let f = f.row().name;
            let text = format!("{name} action doesn't support nested modification of {f}");
            Some((OfError::OFPBAC_BAD_ARGUMENT, text))
        }
        _ if matches!(a, Action::Meter(_)) => unsupported(name),
        _ => None,
    }
}
