//! What a test needs of the machine.
//!
//! Where something is missing a test says so and is skipped, unless `SEKISHO_TESTS=all` is set
//! (`make test` and CI set it): then it fails. So a bare machine can run what it can, and CI can
//! never pass by skipping. Heavy tests take turns through [`turn`].

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Looks for `program` in `PATH` and in the system directories.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Whether all programs are there. If not: `Ok(false)` with a note, or an error under
/// `SEKISHO_TESTS=all`.
pub fn programs(programs: &[&str]) -> Result<bool> {
    let missing: Vec<_> = programs.iter().copied().filter(|p| find(p).is_none()).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    absent(&format!("{} (`make deps` installs them)", missing.join(", ")))
}

/// Reports that `what` is missing: `Ok(false)`, or an error under `SEKISHO_TESTS=all`.
pub fn absent(what: &str) -> Result<bool> {
    if std::env::var_os("SEKISHO_TESTS").is_some_and(|v| v == "all") {
        bail!("this machine lacks {what}");
    }
    eprintln!("SKIPPED: this machine lacks {what}");
    Ok(false)
}

/// Waits for this test's turn among those that share `resource` (for instance `"cpu"`), across
/// processes; the turn ends when the value is dropped.
pub fn turn(resource: &str) -> Result<File> {
    let path = std::env::temp_dir().join(format!("sekisho-turn-{resource}"));
    // Another user may own it already: reading is enough for a lock.
    let file = File::open(&path)
        .or_else(|_| File::create(&path))
        .context("cannot make the file that gives turns")?;
    // Best effort: it may belong to somebody else, who did the same.
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o644));
    file.lock().context("cannot wait for a turn")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_named() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-at-all").is_none());
        assert!(programs(&["sh", "cat"]).unwrap());
    }
}
