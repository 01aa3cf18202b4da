//! Snooping: copies of what is said between a bridge and one of its controllers.
//!
//! Who connects to `BRIDGE.snoop` exchanges hellos and then hears the messages of the controller
//! that is chosen at that moment: a master rather than another, another rather than a slave
//! (`ovs-ofctl(8)`, `snoop`). If there is none yet, the first that says something is chosen.
//! Hellos of the controller's own connection are not copied. A snooper that does not read misses
//! messages, whole ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use openflow::Version;
use openflow::message::frame_len;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::daemon::Daemon;
use crate::log;
use crate::remote::{Listener, Stream};

/// Bytes that may wait for a snooper.
const MAX_BACKLOG: usize = 1 << 20;
/// Message type of hello, the same in all versions.
const HELLO: u8 = 0;

/// Who listens.
#[derive(Debug)]
pub(super) struct Snooper {
    /// The controller it hears, once one is chosen.
    target: Option<String>,
    output: Vec<u8>,
    wake: Rc<Notify>,
}

/// Copies whole messages of the controller `target` to those who hear it.
pub(super) fn copy(snoopers: &mut BTreeMap<u64, Snooper>, target: &str, messages: &[u8]) {
    if messages.is_empty() {
        return;
    }
    for s in snoopers.values_mut() {
        let heard = s.target.get_or_insert_with(|| target.to_owned());
        if heard != target {
            continue;
        }
        let mut rest = messages;
        while let Ok(Some(n)) = frame_len(rest) {
            let Some((message, tail)) = rest.split_at_checked(n) else { break };
            rest = tail;
            if message[1] != HELLO && s.output.len() + n <= MAX_BACKLOG {
                s.output.extend_from_slice(message);
            }
        }
        if !s.output.is_empty() {
            s.wake.notify_one();
        }
    }
}

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The beginning of a message.
    partial: Vec<u8>,
    /// What came is no OpenFlow; the session ends itself.
    lost: bool,
}

impl Cutter {
    /// Takes bytes, gives the messages that are complete now.
    pub(super) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        if self.lost {
            return;
        }
        self.partial.extend_from_slice(bytes);
        let mut whole = 0;
        loop {
            match frame_len(&self.partial[whole..]) {
                Ok(Some(n)) if n <= self.partial.len() - whole => whole += n,
                Ok(_) => break,
                Err(_) => {
                    self.lost = true;
                    break;
                }
            }
        }
        take(&self.partial[..whole]);
        self.partial.drain(..whole);
    }
}

/// Serves the snoop socket of a bridge until its task is aborted.
pub(super) async fn accept(listener: Listener, daemon: Rc<RefCell<Daemon>>, name: String) {
    loop {
        match listener.accept().await {
            Ok(peer) => {
                let (daemon_of, name_of) = (Rc::clone(&daemon), name.clone());
                let task = tokio::task::spawn_local(async move {
                    let Ok(stream) = peer.open().await else { return };
                    if let Err(e) = serve(stream, &daemon_of, &name_of).await {
                        log!(Dbg, Rconn, "{name_of}: monitor connection dropped: {e}");
                    }
                });
                let handle = task.abort_handle();
                if let Some(b) = daemon.borrow_mut().connections.bridges.get_mut(&name) {
                    b.tasks.push(handle);
                }
            }
            Err(e) => {
                log!(Warn, Vconn, "{name}: accept failed: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: Stream, daemon: &RefCell<Daemon>, name: &str) -> io::Result<()> {
    let wake = Rc::new(Notify::new());
    let Some(id) = daemon.borrow_mut().add_snooper(name, Rc::clone(&wake)) else {
        return Ok(());
    };
    let result = listen(stream, daemon, name, id, &wake).await;
    if let Some(b) = daemon.borrow_mut().connections.bridges.get_mut(name) {
        b.snoopers.remove(&id);
    }
    result
}

async fn listen(
    stream: Stream,
    daemon: &RefCell<Daemon>,
    name: &str,
    id: u64,
    wake: &Notify,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut ignored = [0; 512];
    loop {
        let output = {
            let mut d = daemon.borrow_mut();
            let bridge = d.connections.bridges.get_mut(name);
            let Some(s) = bridge.and_then(|b| b.snoopers.get_mut(&id)) else { return Ok(()) };
            std::mem::take(&mut s.output)
        };
        if !output.is_empty() {
            writer.write_all(&output).await?;
            continue;
        }
        tokio::select! {
            n = reader.read(&mut ignored) => if n? == 0 { return Ok(()) },
            () = wake.notified() => {}
        }
    }
}

impl Daemon {
    fn add_snooper(&mut self, name: &str, wake: Rc<Notify>) -> Option<u64> {
        let id = self.connections.serial();
        let bridge = self.connections.bridges.get_mut(name)?;
        let rank = |role| match role {
            "master" => 2,
            "slave" => 0,
            _ => 1,
        };
        let heard = bridge.connections.values().filter(|c| c.cutter.is_some());
        let best = heard.max_by_key(|c| rank(c.session.role()));
        let all = Version::ALL.iter().fold(0, |m: u32, v| m | v.bit());
        let hello = openflow::message::hello(0, all);
        let snooper = Snooper {
            target: best.and_then(|c| c.target.clone()),
            output: hello.encode(openflow::message::Session::default()).unwrap_or_default(),
            wake,
        };
        log!(Info, Rconn, "{name}: new monitor connection");
        bridge.snoopers.insert(id, snooper);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let n = 8 + body.len() as u8;
        [&[1, kind, 0, n, 0, 0, 0, 7], body].concat()
    }

    #[test]
    fn messages_are_cut_wherever_the_stream_is() {
        let stream = [message(2, b"abc"), message(10, b""), message(3, b"0123456789")].concat();
        for at in 0..stream.len() {
            let (mut cutter, mut all) = (Cutter::default(), Vec::new());
            for part in [&stream[..at], &stream[at..]] {
                cutter.push(part, |m| {
                    let whole = frame_len(m).ok().flatten();
                    assert!(m.is_empty() || whole.is_some_and(|n| n <= m.len()));
                    all.extend_from_slice(m);
                });
            }
            assert_eq!(all, stream);
        }
        let mut cutter = Cutter::default();
        cutter.push(&[1, 2, 0, 7, 0, 0, 0, 0], |m| assert!(m.is_empty()));
        assert!(cutter.lost);
    }

    #[test]
    fn a_snooper_hears_one_controller_and_no_hello() {
        let snooper = |target: Option<&str>| Snooper {
            target: target.map(str::to_owned),
            output: Vec::new(),
            wake: Rc::new(Notify::new()),
        };
        let mut all = BTreeMap::from([(1, snooper(Some("a"))), (2, snooper(None))]);
        copy(&mut all, "b", &[message(0, b""), message(2, b"b")].concat());
        copy(&mut all, "a", &message(2, b"a"));
        assert_eq!(all[&1].output, message(2, b"a"));
        assert_eq!(all[&2].output, message(2, b"b"));
        copy(&mut all, "a", &message(2, &[0; 100]).repeat(20_000));
        assert!(all[&1].output.len() <= MAX_BACKLOG && all[&1].output.len() > MAX_BACKLOG - 200);
    }
}
