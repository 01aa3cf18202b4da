//! A server on a Unix socket for tests: threads and locks around the sans-I/O `Server`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ovsdb::server::{Now, Server, SessionId};
use ovsdb::{Database, DbSchema, Log, UuidGen};

/// A directory that is removed at the end.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("ovsdb-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Shared {
    server: Server,
    streams: HashMap<SessionId, UnixStream>,
    epoch: Instant,
}

impl Shared {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Now {
            monotonic: base::Instant::from_nanos(self.epoch.elapsed().as_nanos() as u64),
            wall_ms: wall.as_millis() as u64,
        }
    }

    fn flush(&mut self) {
        for id in self.server.take_ready() {
            let bytes = self.server.output(id);
            if let Some(stream) = self.streams.get_mut(&id) {
                let _ = stream.write_all(&bytes);
                if self.server.is_closed(id).is_some() {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
        }
    }
}

/// A running server; its threads end with the test process.
pub struct Serving {
    shared: Arc<Mutex<Shared>>,
    pub socket: PathBuf,
}

impl Serving {
    /// Serves `Open_vSwitch` from `file` on `socket`.
    pub fn open_vswitch(socket: &Path, file: &Path) -> Serving {
        Serving::new(socket, vec![(DbSchema::open_vswitch(), file)])
    }

    /// Serves databases, each from its file.
    pub fn new(socket: &Path, dbs: Vec<(DbSchema, &Path)>) -> Serving {
        let mut server = Server::new(UuidGen::from_system().unwrap());
        for (schema, file) in dbs {
            let opened = Log::open_or_create(file, schema).unwrap();
            server.add_db(Database::from_data(opened.data), Some(opened.log)).unwrap();
        }
        let shared = Shared { server, streams: HashMap::new(), epoch: Instant::now() };
        let shared = Arc::new(Mutex::new(shared));
        let listener = UnixListener::bind(socket).unwrap();
        let timing = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            while let Some(shared) = timing.upgrade() {
                let mut locked = shared.lock().unwrap();
                let now = locked.now();
                if locked.server.next_timeout().is_some_and(|at| at <= now.monotonic) {
                    locked.server.poll(now);
                    locked.flush();
                }
                drop(locked);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = accepting.clone();
                std::thread::spawn(move || session(&shared, stream));
            }
        });
        Serving { shared, socket: socket.to_owned() }
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Server, Now) -> T) -> T {
        let mut shared = self.shared.lock().unwrap();
        let now = shared.now();
        let result = f(&mut shared.server, now);
        shared.flush();
        result
    }

    /// Runs a stock tool with our socket as its database.
    pub fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.socket.display());
        stdout(tool("ovs-vsctl").args(["--no-wait", "--timeout=10", &db]).args(args))
    }
}

fn session(shared: &Mutex<Shared>, mut stream: UnixStream) {
    let id = {
        let mut shared = shared.lock().unwrap();
        let id = shared.server.open_session();
        shared.streams.insert(id, stream.try_clone().unwrap());
        id
    };
    let mut buf = [0u8; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buf) {
        let mut shared = shared.lock().unwrap();
        let now = shared.now();
        shared.server.input(id, now, &buf[..n]);
        shared.flush();
    }
    let mut shared = shared.lock().unwrap();
    shared.server.close_session(id);
    shared.streams.remove(&id);
    shared.flush();
}

/// A stock OVS tool, which must be installed.
pub fn tool(name: &str) -> Command {
    let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} not found: install openvswitch-switch")))
}

/// Runs a command that must succeed and returns what it printed.
pub fn stdout(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}
