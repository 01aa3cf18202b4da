//! `monitor` and `snoop`: messages printed as they come, in the foreground or as a daemon.
//!
//! As OVS's do, they print on standard error, which `ofctl/set-output-file` puts into a file, and
//! listen on a control socket (`RUNDIR/ovs-ofctl.PID.ctl`) for the words of [`COMMANDS`].
//! One thread does both: it waits for the switch and for the socket.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use flow::text::Mode;
use openflow::message::{Body, Kind, Message, PacketInFormat, SwitchConfig};
use openflow::version::Version;
use switchd::control::{self, Answer, Command};
use switchd::pidfile::PidFile;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::conn::{Conn, Socket};
use super::names::Names;
use super::ports::parse_packet_out;
use super::query::hex_bytes;
use super::{Tool, flow_monitor, query};
use crate::applet::{Failure, Outcome};
use crate::control::{rundir, strerror, utc};
use crate::daemonize::{self, Fork, How};

/// How a monitor runs.
#[derive(Clone, Debug, Default)]
pub struct Background {
    /// In the background.
    pub how: How,
    /// Pid file to write.
    pub pidfile: Option<PathBuf>,
    /// Even if another live process holds it.
    pub overwrite: bool,
    /// Control socket in place of the usual one.
    pub unixctl: Option<PathBuf>,
}

/// What the words of the control socket do something to.
struct Watcher {
    /// Messages for the switch.
    to_send: Vec<Vec<u8>>,
    /// Who waits for the reply to a barrier.
    barrier: Option<oneshot::Sender<control::Text>>,
    blocked: bool,
    exiting: bool,
    /// Wakes the loop when one of these changed.
    changed: Rc<Notify>,
    names: Names,
    version: Version,
    mode: Mode,
    /// Prints a message.
    print: Printer,
    next_xid: u32,
}

/// How messages are printed.
#[derive(Clone)]
struct Printer {
    names: Option<Names>,
    verbosity: u8,
    agreed: openflow::message::Session,
}

impl Printer {
    /// Prints a message on standard error, with `more` verbosity than the options say.
    fn print(&self, before: &str, bytes: &[u8], more: u8) {
        let names = Names::or_none(self.names.as_ref());
        let verbosity = self.verbosity + more;
        let style = openflow::print::Style { names, verbosity, session: self.agreed };
        eprint!("{before}{}", openflow::print::BytesText { bytes, style });
    }
}

/// The words of a monitor.
const COMMANDS: &[Command<Watcher>] = &[
    Command { name: "exit", usage: "", arity: (0, 0), run: |w, _| w.exit() },
    Command {
        name: "ofctl/send",
        usage: "OFMSG...",
        arity: (1, usize::MAX),
        run: |w, args| w.send(args).into(),
    },
    Command {
        name: "ofctl/packet-out",
        usage: "\"in_port=<port> packet=<hex data> actions=...\"",
        arity: (1, 1),
        run: |w, args| w.packet_out(&args[0]).into(),
    },
    Command { name: "ofctl/barrier", usage: "", arity: (0, 0), run: |w, _| w.barrier() },
    Command {
        name: "ofctl/set-output-file",
        usage: "FILE",
        arity: (1, 1),
        run: |_, args| set_output_file(&args[0]).map_err(|e| strerror(&e)).into(),
    },
    Command { name: "ofctl/block", usage: "", arity: (0, 0), run: |w, _| w.block(true) },
    Command { name: "ofctl/unblock", usage: "", arity: (0, 0), run: |w, _| w.block(false) },
    Command {
        name: "version",
        usage: "",
        arity: (0, 0),
        run: |_, _| Ok(crate::applet::version_of("ovs-ofctl")).into(),
    },
];

/// Reads a message in hexadecimal.
fn message(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = hex_bytes(text).ok_or("Trailing garbage in hex data")?;
    let Some(&[_, _, high, low]) = bytes.first_chunk().filter(|_| bytes.len() >= 8) else {
        return Err("Message too short for OpenFlow");
    };
    match usize::from(u16::from_be_bytes([high, low])) == bytes.len() {
        true => Ok(bytes),
        false => Err("Message size does not match length in OpenFlow header"),
    }
}

/// Puts standard error into a file.
fn set_output_file(name: &str) -> io::Result<String> {
    let file = std::fs::File::create(name)?;
    rustix::stdio::dup2_stderr(&file)?;
    Ok(String::new())
}

impl Watcher {
    fn exit(&mut self) -> Answer {
        self.exiting = true;
        self.changed.notify_one();
        Ok(String::new()).into()
    }

    fn send(&mut self, args: &[String]) -> control::Text {
        let (mut reply, mut is_ok) = (String::new(), true);
        for arg in args {
            match message(arg) {
                Ok(bytes) => {
                    self.print.print("send: ", &bytes, 0);
                    self.to_send.push(bytes);
                    reply += "sent\n";
                }
                Err(e) => {
                    reply += e;
                    reply.push('\n');
                    is_ok = false;
                }
            }
        }
        self.changed.notify_one();
        if is_ok { Ok(reply) } else { Err(reply) }
    }

    fn packet_out(&mut self, text: &str) -> control::Text {
        let out = parse_packet_out(text, &self.names, self.mode)
            .map_err(|e| format!("{}\n", e.message))?;
        let incompatible =
            "PACKET_OUT actions are incompatible with the OpenFlow connection.\n".to_owned();
        self.next_xid += 1;
        let message = Message::new(self.version, self.next_xid, Body::PacketOut(Box::new(out)));
        let bytes = message.encode(self.print.agreed).map_err(|_| incompatible)?;
        self.print.print("", &bytes, 0);
        self.to_send.push(bytes);
        self.changed.notify_one();
        Ok(String::new())
    }

    fn barrier(&mut self) -> Answer {
        if self.barrier.is_some() {
            return Err("already waiting for barrier reply".to_owned()).into();
        }
        self.next_xid += 1;
        let request = Message::new(self.version, self.next_xid, Body::BarrierRequest);
        match request.encode(self.print.agreed) {
            Ok(bytes) => self.to_send.push(bytes),
            Err(e) => return Err(e.to_string()).into(),
        }
        let (sender, receiver) = oneshot::channel();
        self.barrier = Some(sender);
        self.changed.notify_one();
        Answer::Later(receiver)
    }

    fn block(&mut self, block: bool) -> Answer {
        let already = self.blocked == block;
        self.blocked = block;
        self.changed.notify_one();
        let text = match (already, block) {
            (false, _) => "",
            (true, true) => "already blocking",
            (true, false) => "already unblocked",
        };
        Ok(text.to_owned()).into()
    }
}

/// What is done with what comes.
#[derive(Copy, Clone, Debug, Default)]
struct Habits {
    /// Answer questions whether we are there.
    answer: bool,
    /// Send paused packets on.
    resume: bool,
}

/// Prints what comes until the other end is gone or `exit` is said.
fn watch(tool: &mut Tool<'_, '_>, mut conn: Conn, habits: Habits, names: Option<Names>) -> Outcome {
    let background = tool.settings.background.clone();
    let served = match daemonize::start(background.how, &tool.session.argv0)? {
        Fork::Parent(status) => return Ok(status),
        Fork::Daemon(served) => served,
    };
    tool.session.out.flush()?;
    let _pidfile = background
        .pidfile
        .map(|path: PathBuf| PidFile::create(&path, background.overwrite))
        .transpose()
        .map_err(|e| Failure::fatal(e.to_string()))?;
    let print =
        Printer { names: names.clone(), verbosity: tool.settings.verbosity, agreed: conn.agreed };
    let changed = Rc::new(Notify::new());
    let watcher = Rc::new(RefCell::new(Watcher {
        to_send: Vec::new(),
        barrier: None,
        blocked: false,
        exiting: false,
        changed: Rc::clone(&changed),
        names: names.unwrap_or_default(),
        version: conn.version,
        mode: tool.settings.mode,
        print: print.clone(),
        next_xid: tool.xid,
    }));
    let path = background.unixctl.unwrap_or_else(|| {
        rundir().join(format!("{}.{}.ctl", tool.session.program, std::process::id()))
    });
    let timestamp = tool.settings.timestamp;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        // Without a run directory there is only nobody to say words.
        match control::listen(&path) {
            Ok(listener) => {
                let commands: &'static [&'static [Command<Watcher>]] = &[COMMANDS];
                tokio::task::spawn_local(control::serve(listener, watcher.clone(), commands));
            }
            Err(_) if background.how == How::default() => {}
            Err(e) => {
                let text = format!("{}: {}", path.display(), strerror(&e));
                return Err(Failure::fatal(text));
            }
        }
        conn.set_nonblocking(true)?;
        #[expect(deprecated, reason = "its successor is unsafe; this descriptor is ours alone")]
        let ready = AsyncFd::new(conn.as_fd().try_clone_to_owned()?)?;
        served.ready_keeping_stderr();
        loop {
            let (to_send, exiting, blocked) = {
                let mut w = watcher.borrow_mut();
                (std::mem::take(&mut w.to_send), w.exiting, w.blocked)
            };
            for bytes in to_send {
                conn.send_bytes(&bytes)?;
            }
            if exiting {
                // The answer to who said it is on its way.
                tokio::task::yield_now().await;
                return Ok(0);
            }
            while let Some(bytes) = if blocked { None } else { conn.try_next()? } {
                if timestamp {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let date = utc(now.as_secs()).replace('T', " ").replace('Z', "");
                    eprint!("{date}.{:03}: ", now.subsec_millis());
                }
                print.print("", &bytes, 2);
                react(&mut conn, &bytes, habits, &watcher, &print)?;
            }
            tokio::select! {
                () = changed.notified() => {}
                guard = ready.readable(), if !blocked => guard?.clear_ready(),
            }
        }
    });
    let _ = std::fs::remove_file(&path);
    outcome
}

/// Does what a message asks for.
fn react(
    conn: &mut Conn,
    bytes: &[u8],
    habits: Habits,
    watcher: &Rc<RefCell<Watcher>>,
    print: &Printer,
) -> Result<(), Failure> {
    match Message::peek_kind(bytes).map(|k| k.0) {
        Some(Kind::BarrierReply) => {
            if let Some(sender) = watcher.borrow_mut().barrier.take() {
                let _ = sender.send(Ok(String::new()));
            }
        }
        Some(Kind::EchoRequest) if habits.answer => conn.answer_echo(bytes)?,
        Some(Kind::NxPacketIn2) if habits.resume => {
            let Ok(m) = Message::decode(bytes, conn.agreed) else { return Ok(()) };
            if let Body::PacketIn(p) = m.body
                && !p.continuation.is_empty()
            {
                let reply = Message::new(conn.version, 0, Body::Resume(p));
                let bytes = reply.encode(conn.agreed).map_err(|e| Failure::fatal(e.to_string()))?;
                print.print("send: ", &bytes, 2);
                conn.send_bytes(&bytes)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Asks for packet-ins in a form: the one of `-P`, which must be known, or the best that is.
fn set_packet_in(tool: &mut Tool<'_, '_>, conn: &mut Conn) -> Result<(), Failure> {
    if let Some(format) = tool.settings.packet_in {
        return tool.change(conn, Body::SetPacketInFormat(format), false);
    }
    let formats = match conn.version {
        Version::Of10 => &[PacketInFormat::Nxt2, PacketInFormat::Nxt][..],
        _ => &[PacketInFormat::Nxt2],
    };
    for &format in formats {
        let request = conn.message(tool.next_xid(), Body::SetPacketInFormat(format));
        let barrier = tool.next_xid();
        if conn.change(&request, barrier)?.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// Versions in whose configuration packets of an expired TTL may be asked for.
const INVALID_TTL_VERSIONS: [Version; 3] = [Version::Of10, Version::Of11, Version::Of12];

pub(super) fn monitor(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    if args[1..].iter().any(|a| a == "invalid_ttl") {
        let usable: u32 = INVALID_TTL_VERSIONS.iter().map(|v| v.bit()).sum();
        tool.settings.versions &= usable;
        if tool.settings.versions == 0 {
            let names: Vec<&str> = INVALID_TTL_VERSIONS.iter().map(|v| v.name()).collect();
            return Err(Failure::fatal(format!(
                "invalid_ttl requires one of the OpenFlow versions {} but none is enabled (use -O)",
                names.join(", ")
            )));
        }
    }
    let mut conn = tool.open(&args[0])?;
    let mut habits = Habits { answer: true, resume: false };
    let mut n_watches = 0;
    for arg in &args[1..] {
        let number: String = arg.chars().take_while(char::is_ascii_digit).collect();
        if !number.is_empty() {
            let miss_send_len = number.parse::<u64>().map_or(u16::MAX, |n| n as u16);
            configure(tool, &mut conn, |c| c.miss_send_len = miss_send_len)?;
        } else if arg == "invalid_ttl" {
            configure(tool, &mut conn, |c| c.invalid_ttl_to_controller = Some(true))?;
        } else if arg == "resume" {
            habits.resume = true;
            configure(tool, &mut conn, |c| c.miss_send_len = u16::MAX)?;
        } else if let Some(text) = arg.strip_prefix("watch:") {
            let names = tool.names_in(&args[0])?;
            let monitor = flow_monitor::parse(text, n_watches, &names, tool.settings.mode)
                .map_err(|e| tool.bad_text(None, text, &e))?;
            n_watches += 1;
            let body = Body::FlowMonitorRequest(vec![monitor]);
            let request = conn.message(tool.next_xid(), body);
            query::dump(tool, &mut conn, &request)?;
            tool.session.out.flush()?;
        } else {
            return Err(Failure::fatal(format!("{arg}: unsupported \"monitor\" argument")));
        }
    }
    set_packet_in(tool, &mut conn)?;
    let names = tool.names_out(&args[0])?;
    watch(tool, conn, habits, names)
}

/// Changes the switch's configuration.
fn configure(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    change: impl FnOnce(&mut SwitchConfig),
) -> Result<(), Failure> {
    let mut config = query::config(tool, conn)?;
    change(&mut config);
    tool.change(conn, Body::SetConfig(config), false)
}

pub(super) fn snoop(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let conn = Conn::open(tool, &args[0], Socket::Snoop)?;
    // Nobody answers on a snoop's connection what ports are called.
    watch(tool, conn, Habits::default(), None)
}
