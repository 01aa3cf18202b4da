//! The file of a database: the format of ovsdb(5), "Standalone Database Format".
//!
//! The file is a sequence of records `OVSDB JSON <length> <sha1>\n<json>\n`; the first holds the
//! schema, each other one a transaction. A transaction is written with one `write` before it is
//! acknowledged, so it survives the death of the process at any instant, and with `fsync` too if
//! the client asked for `durable`, so it survives that of the machine.
//!
//! Opening a file drops a last record that was not written whole and says so. If whole records
//! stand behind the damage, the disk lost something in the middle: what is cut off is kept in
//! `<file>.damaged`.
//!
//! When the log has grown much larger than its contents it is rewritten as a snapshot and renamed
//! into place. A lock on `.<file>.~lock~`, the one `ovsdb-server` and `ovsdb-tool` take, keeps a
//! second server away.

mod record;
mod sha1;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::data::Data;
use crate::engine::Commit;
use crate::error::{Error, Result};
use crate::schema::DbSchema;

/// The log is not compacted below this size.
const MIN_COMPACT: u64 = 1 << 20;
/// The log is compacted when it is this many times as long as its last snapshot.
const COMPACT_FACTOR: u64 = 4;

/// The open file of a database.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    /// Length after the last compaction, or when opened, of schema and contents.
    snapshot_len: u64,
    failed: bool,
    _lock: File,
}

/// What [`Log::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The file, ready for more.
    pub log: Log,
    /// Its contents.
    pub data: Data,
    /// What was wrong with the end of the file and had to be cut off, for the daemon's log.
    pub recovered: Option<String>,
}

impl Opened {
    /// Rewrites a file whose schema differs from `schema` (it was made by another version of Open
    /// vSwitch), as `ovs-ctl` does with `ovsdb-tool convert`. The old file is kept beside it as
    /// `<file>.backup<version>-<checksum>`, whose path is returned; `None` if nothing differs.
    ///
    /// # Errors
    /// `I/O error`, or that of [`Data::convert`]; the file is as before.
    pub fn convert(&mut self, schema: DbSchema, date_ms: u64) -> Result<Option<PathBuf>> {
        let old = self.data.schema();
        if old.same_tables(&schema) {
            return Ok(None);
        }
        let data = self.data.convert(Arc::new(schema))?;
        let cksum = old.cksum.split(' ').next().unwrap_or_default();
        let mut name = self.log.path.clone().into_os_string();
        name.push(format!(".backup{}-{cksum}", old.version));
        let backup = PathBuf::from(name);
        std::fs::copy(&self.log.path, &backup).map_err(|e| io(&backup, "copy", &e))?;
        self.log.compact(&data, date_ms)?;
        self.data = data;
        Ok(Some(backup))
    }
}

fn io(path: &Path, what: &str, e: &std::io::Error) -> Error {
    Error::io(format!("{}: {what} failed ({e})", path.display()))
}

impl Log {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `I/O error` if it cannot be read, or is locked by another server; `ovsdb error` if it is no
    /// database of this format. A damaged end is no error.
    pub fn open(path: &Path) -> Result<Opened> {
        let path = path.canonicalize().map_err(|e| io(path, "open", &e))?;
        let lock = lock(&path)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| io(&path, "open", &e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| io(&path, "read", &e))?;
        let read = record::read_all(&bytes)
            .map_err(|e| Error::new("ovsdb error", format!("{}: {e}", path.display())))?;
        let mut recovered = None;
        if let Some(damage) = read.damage {
            let tail = &bytes[read.good_len..];
            let mut text = format!(
                "{}: {damage} at offset {}: {} bytes cut off",
                path.display(),
                read.good_len,
                tail.len()
            );
            if record::contains_record(tail) {
                let mut name = path.clone().into_os_string();
                name.push(".damaged");
                let copy = PathBuf::from(name);
                std::fs::write(&copy, tail).map_err(|e| io(&copy, "write", &e))?;
                text += &format!(" and kept in {}", copy.display());
            }
            file.set_len(read.good_len as u64)
                .and_then(|()| file.sync_data())
                .map_err(|e| io(&path, "truncate", &e))?;
            recovered = Some(text);
        }
        let len = read.good_len as u64;
        file.seek(SeekFrom::Start(len)).map_err(|e| io(&path, "seek", &e))?;
        let snapshot_len = record::snapshot(&read.data, 0).len() as u64;
        let log = Log { path, file, len, snapshot_len, failed: false, _lock: lock };
        Ok(Opened { log, data: read.data, recovered })
    }

    /// Creates a file without rows at `path`, which must not exist.
    ///
    /// # Errors
    /// `I/O error`.
    pub fn create(path: &Path, schema: DbSchema) -> Result<Opened> {
        if path.exists() {
            return Err(Error::io(format!("{}: file exists", path.display())));
        }
        let lock = lock(path)?;
        let data = Data::new(Arc::new(schema));
        let bytes = record::schema(data.schema());
        let file = replace(path, &bytes)?;
        let path = path.canonicalize().map_err(|e| io(path, "open", &e))?;
        let len = bytes.len() as u64;
        let log = Log { path, file, len, snapshot_len: len, failed: false, _lock: lock };
        Ok(Opened { log, data, recovered: None })
    }

    /// Opens the file at `path`, or creates it with `schema` if there is none.
    ///
    /// # Errors
    /// As [`Log::open`] and [`Log::create`].
    pub fn open_or_create(path: &Path, schema: DbSchema) -> Result<Opened> {
        if path.exists() { Log::open(path) } else { Log::create(path, schema) }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty, which it never is: the schema is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes a transaction; one that changes nothing on the disk writes nothing.
    ///
    /// `date_ms` is milliseconds since 1970.
    ///
    /// # Errors
    /// `I/O error`; then the file is as before. If even that cannot be had, every later call fails.
    pub fn append(&mut self, schema: &DbSchema, commit: &Commit, date_ms: u64) -> Result<()> {
        if self.failed {
            return Err(Error::io(format!(
                "{}: an earlier write failed and could not be undone",
                self.path.display()
            )));
        }
        if let Some(bytes) = record::transaction(schema, commit, date_ms) {
            if let Err(e) = self.file.write_all(&bytes) {
                let undone = self
                    .file
                    .set_len(self.len)
                    .and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
                self.failed = undone.is_err();
                return Err(io(&self.path, "write", &e));
            }
            self.len += bytes.len() as u64;
        }
        if commit.durable {
            self.file.sync_data().map_err(|e| io(&self.path, "fsync", &e))?;
        }
        Ok(())
    }

    /// Makes writes go to `file`, for instance one that cannot be written.
    #[cfg(test)]
    pub(crate) fn use_file_for_test(&mut self, file: File) {
        self.file = file;
    }

    /// Whether the log is long enough to be rewritten.
    pub fn wants_compaction(&self) -> bool {
        self.len > MIN_COMPACT.max(self.snapshot_len.saturating_mul(COMPACT_FACTOR))
    }

    /// Rewrites the file as the schema and one transaction that inserts `data`.
    ///
    /// # Errors
    /// `I/O error`; then the old file stays in use.
    pub fn compact(&mut self, data: &Data, date_ms: u64) -> Result<()> {
        let bytes = record::snapshot(data, date_ms);
        // Not again at once if the disk is full: only when the log has grown by as much again.
        self.snapshot_len = self.snapshot_len.max(self.len);
        self.file = replace(&self.path, &bytes)?;
        self.len = bytes.len() as u64;
        self.snapshot_len = self.len;
        self.failed = false;
        Ok(())
    }
}

/// Writes `bytes` beside `path`, to the disk, and renames the file into place.
fn replace(path: &Path, bytes: &[u8]) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let tmp = PathBuf::from(name);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&tmp)
        .map_err(|e| io(&tmp, "create", &e))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| io(&tmp, "write", &e))?;
    std::fs::rename(&tmp, path).map_err(|e| io(path, "rename", &e))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io(dir, "fsync", &e))?;
    Ok(file)
}

/// Takes the lock of a database file, which lasts as long as the returned file is open.
///
/// It is taken twice: as a record lock of `fcntl`, which OVS uses and which knows processes only,
/// and as `flock`, which keeps this process from opening the file a second time.
fn lock(path: &Path) -> Result<File> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lock_path = path.with_file_name(format!(".{name}.~lock~"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(|e| io(&lock_path, "create", &e))?;
    let taken = file.try_lock().is_ok()
        && rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if taken {
        Ok(file)
    } else {
        Err(Error::io(format!(
            "{}: failed to lock lockfile (another server uses the database)",
            lock_path.display()
        )))
    }
}
