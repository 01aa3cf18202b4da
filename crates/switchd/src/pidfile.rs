//! Pid files: who runs, and a guarantee that only one does.
//!
//! The file is written under a temporary name, locked, and moved into place, so that a reader never
//! sees half a number; the lock lives as long as the process and is what tells a live daemon from the
//! leftovers of a killed one. It is a record lock (`fcntl`), which is what the stock tools look for
//! when they read the number. The kernel lets go of such a lock when the process closes *any*
//! descriptor of the file, so nothing here opens it again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

/// A pid file held by this process; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _lock: File,
}

/// Why a pid file could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A live process holds it.
    #[error("{path}: already running as pid {pid}, aborting")]
    Running {
        /// The file.
        path: String,
        /// Who holds it, as the file says.
        pid: String,
    },
    /// The file system refused.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// Whether a live process other than this one holds the file.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::options().write(true).open(path) else { return false };
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

impl PidFile {
    /// Writes this process's id into `path`, with `overwrite` even if another one's is there.
    ///
    /// # Errors
    /// Another live process holds the file, or it cannot be written.
    pub fn create(path: &Path, overwrite: bool) -> Result<PidFile, Error> {
        let io = |e| Error::Io(path.display().to_string(), e);
        if !overwrite && is_held(path) {
            let pid = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            return Err(Error::Running { path: path.display().to_string(), pid });
        }
        let tmp = path.with_extension(format!("pid.tmp{}", std::process::id()));
        let mut file = File::create(&tmp).map_err(io)?;
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| io(e.into()))?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        fs::rename(&tmp, path).map_err(io)?;
        Ok(PidFile { path: path.to_owned(), _lock: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_leftovers_are_not_in_the_way() {
        let dir = std::env::temp_dir().join(format!("pidfile-test-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.pid");
        fs::write(&path, "99999\n").unwrap();
        let held = PidFile::create(&path, false).unwrap();
        // A process cannot meet its own record locks, but the kernel lists them.
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let ours = |l: &&str| l.contains("POSIX") && l.contains(&format!(":{inode} "));
        let line = locks.lines().find(ours).expect("a record lock on the file");
        assert!(line.contains(&format!(" {} ", std::process::id())), "{line}");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(held);
        assert!(!path.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
