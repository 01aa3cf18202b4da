//! What a test needs of the machine.
//!
//! Where something is missing a test says so and is skipped, unless `SEKISHO_TESTS=all` is set
//! (`make test` and CI set it): then it fails. So a bare machine can run what it can, and CI can
//! never pass by skipping. Heavy tests take turns through [`turn`].

use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

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

/// A turn among those that share something; ends when dropped, and its file goes.
#[derive(Debug)]
pub struct Turn {
    /// Holds the lock.
    _file: File,
    path: PathBuf,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock goes: whoever waits for it sees that it is of a file that is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits for this test's turn among those that share `resource` (for instance `"cpu"`), across
/// processes.
pub fn turn(resource: &str) -> Result<Turn> {
    let path = std::env::temp_dir().join(format!("sekisho-turn-{resource}"));
    let mut told = false;
    loop {
        // Another user may own it already: reading is enough for a lock.
        let file = File::open(&path)
            .or_else(|_| File::create(&path))
            .with_context(|| format!("cannot make {}, which gives turns", path.display()))?;
        // Best effort: it may belong to somebody else, who did the same.
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o644));
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        eprintln!("waiting for the turn that {} gives", path.display());
                    }
                    process::pause(Duration::from_millis(50))?;
                }
                Err(TryLockError::Error(e)) => return Err(e).context("cannot wait for a turn"),
            }
        }
        let inode = |m: std::io::Result<Metadata>| m.map(|m| (m.dev(), m.ino())).ok();
        if inode(file.metadata()) == inode(path.metadata()) {
            return Ok(Turn { _file: file, path });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_and_leave_nothing() {
        let resource = format!("test-{}", std::process::id());
        let path = std::env::temp_dir().join(format!("sekisho-turn-{resource}"));
        let at = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let _turn = turn(&resource).unwrap();
                        let before = at.load(std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(1));
                        at.store(before + 1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(at.into_inner(), 20, "two had their turn at once");
        assert!(!path.exists());
    }

    #[test]
    fn programs_are_found_or_named() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-at-all").is_none());
        assert!(programs(&["sh", "cat"]).unwrap());
    }
}
