//! `sekisho install-links DIR`: the names other programs know, as symbolic links to this binary.
//!
//! The names are the aliases of [`crate::applet::APPLETS`]. A link that already points here is left
//! alone; anything else in the way is refused (a distribution's real `ovs-vsctl` is never replaced)
//! unless `--force` is given, which replaces symbolic links but still no regular file.

use crate::applet::{APPLETS, Failure, Outcome, Session};
use crate::getopt::{Arg, Opt, Order, parse};
use std::path::Path;

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "force", short: Some('f'), arg: Arg::None, id: 'f' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
];

/// Makes the links.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = parse(session, OPTIONS, Order::Permute, args)?;
    let usage = "usage: sekisho install-links [--force] DIR";
    if parsed.has('h') {
        writeln!(session.out, "{usage}")?;
        return Ok(0);
    }
    let [dir] = parsed.rest.as_slice() else { return Err(Failure::fatal(usage)) };
    let dir = Path::new(dir);
    if !dir.is_dir() {
        return Err(Failure::fatal(format!("{}: not a directory", dir.display())));
    }
    let target = std::env::current_exe()?;
    // What only this program itself calls by name is not for a PATH.
    let names = APPLETS.iter().flat_map(|a| a.aliases).filter(|n| !n.starts_with("sekisho"));
    for name in names {
        let link = dir.join(name);
        match std::fs::symlink_metadata(&link) {
            Ok(_) if std::fs::read_link(&link).is_ok_and(|t| t == target) => continue,
            Ok(meta) if parsed.has('f') && meta.is_symlink() => std::fs::remove_file(&link)?,
            Ok(_) => {
                let text = format!("{}: exists and is not a link to this program", link.display());
                return Err(Failure::fatal(text));
            }
            Err(_) => {}
        }
        std::os::unix::fs::symlink(&target, &link)
            .map_err(|e| Failure::fatal(format!("{}: {e}", link.display())))?;
        writeln!(session.out, "{} -> {}", link.display(), target.display())?;
    }
    Ok(0)
}
