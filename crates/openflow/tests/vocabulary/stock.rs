//! Stock `ovs-ofctl` as the one who knows: what it takes, how it writes it, what it sends.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory for files and sockets, removed at the end.
pub struct Stock {
    dir: PathBuf,
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What `parse-flow` and `parse-flows` say of flows that they take.
pub struct Taken {
    /// The list of flow formats, e.g. `NXM,OXM`.
    pub usable: String,
}

fn lines_of(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The text behind `OFPT_FLOW_MOD (OF1.3) (xid=0x2): `.
fn body(line: &str) -> Option<String> {
    let kind = line.starts_with("OFPT_FLOW_MOD") || line.starts_with("NXT_FLOW_MOD");
    let (_, text) = line.split_once("): ").filter(|_| kind)?;
    Some(text.to_owned())
}

impl Stock {
    /// `None` where Open vSwitch 3.1 is not installed.
    pub fn find() -> Option<Stock> {
        let version = Command::new("ovs-ofctl").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains(" 3.1.") {
            return None;
        }
        let dir = std::env::temp_dir().join(format!("sekisho-vocabulary-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok()?;
        Some(Stock { dir })
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, bytes).expect("a file for ovs-ofctl");
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut c = Command::new("ovs-ofctl");
        const ALL: &str = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";
        c.args(["-vconsole:off", "-vsyslog:off", "-O", ALL])
            .args(args)
            .output()
            .expect("ovs-ofctl runs")
    }

    fn taken(output: &Output) -> Result<Taken, String> {
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Err(text.strip_prefix("ovs-ofctl: ").unwrap_or(&text).to_owned());
        }
        let lines = lines_of(output);
        let usable = lines.iter().find_map(|l| l.strip_prefix("usable protocols: "));
        Ok(Taken { usable: usable.unwrap_or_default().to_owned() })
    }

    /// One flow.
    pub fn parse_flow(&self, line: &str) -> Result<Taken, String> {
        Stock::taken(&self.run(&["parse-flow", line]))
    }

    /// Many flows that some format has in common.
    pub fn parse_flows(&self, lines: &[&str]) -> Result<Taken, String> {
        let file = self.file("flows", lines.join("\n").as_bytes());
        Stock::taken(&self.run(&["parse-flows", &file.display().to_string()]))
    }

    /// The flow mods that `add-flows` sends for lines, in a version and format.
    pub fn sent(&self, lines: &[&str], version: u8, format: &str) -> Result<Vec<Vec<u8>>, String> {
        let file = self.file("flows", lines.join("\n").as_bytes());
        let socket = self.dir.join("switch");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        let switch = std::thread::spawn(move || {
            let mut mods = Vec::new();
            // The command connects once, or not at all; a later connection ends the wait.
            if let Ok((stream, _)) = listener.accept() {
                let _ = serve(stream, version, &mut mods);
            }
            mods
        });
        let target = format!("unix:{}", socket.display());
        let names =
            ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];
        let o = names[usize::from(version) - 1];
        let path = file.display().to_string();
        let output = self.run(&["--no-names", "-O", o, "-F", format, "add-flows", &target, &path]);
        drop(UnixStream::connect(&socket));
        let mods = switch.join().expect("the switch's thread");
        if output.status.success() {
            Ok(mods)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// How `ofp-parse` prints messages.
    pub fn printed(&self, messages: &[Vec<u8>]) -> Vec<String> {
        let file = self.file("messages", &messages.concat());
        let output = self.run(&["ofp-parse", &file.display().to_string()]);
        lines_of(&output).iter().filter_map(|l| body(l)).collect()
    }
}

/// A switch that agrees to everything and keeps the flow mods.
fn serve(mut s: UnixStream, version: u8, mods: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    loop {
        let mut m = vec![0; 8];
        s.read_exact(&mut m)?;
        let len = usize::from(u16::from_be_bytes([m[2], m[3]]));
        m.resize(len.max(8), 0);
        s.read_exact(&mut m[8..])?;
        let mut reply = |kind: u8, body: &[u8]| {
            let mut r = vec![version, kind, 0, 8 + body.len() as u8];
            r.extend_from_slice(&m[4..8]);
            r.extend_from_slice(body);
            s.write_all(&r)
        };
        match (m[1], version) {
            (0, _) => reply(0, &[])?,
            (2, _) => reply(3, &m[8..])?,
            (18, 1) => reply(19, &[])?,
            (20, 2..) => reply(21, &[])?,
            (14, _) => mods.push(m),
            // NXT_FLOW_MOD
            (4, 1) if m.len() > 16 && m[8..16] == [0, 0, 0x23, 0x20, 0, 0, 0, 13] => mods.push(m),
            _ => {}
        }
    }
}
