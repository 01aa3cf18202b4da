//! Cables between simulated devices: options `stream` and `pstream`, also across daemons.
//!
//! A frame travels as two bytes of length (network order) and its bytes. What the device sends goes
//! to every other end that is connected; what comes is handed to the daemon, which puts it on the
//! device. A cable whose other end is not there tries again for ever.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use packet::header::ETH_LEN;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use crate::log;
use crate::remote::{Keys, Listener, Remote, Stream};

/// Wait between two attempts to connect.
const BACKOFF: Duration = Duration::from_millis(100);
/// TCP port when a target names none: there is no usual one.
const NO_PORT: u16 = 0;

/// A frame that came by a cable: the device's name, the bytes.
pub type Arrival = (String, Vec<u8>);

/// The other ends that are connected.
type Peers = Rc<RefCell<Vec<UnboundedSender<Rc<[u8]>>>>>;

/// One device's cable; unplugged when dropped.
#[derive(Debug)]
pub struct Cable {
    target: String,
    peers: Peers,
    active: bool,
    task: JoinHandle<()>,
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
        // What carries frames ends when nobody can send any.
        self.peers.borrow_mut().clear();
    }
}

impl Cable {
    /// Plugs a cable into `device`, to the target of `stream` or `pstream`. Needs a `LocalSet`.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn plug(
        device: &str,
        target: &str,
        arrivals: UnboundedSender<Arrival>,
    ) -> Result<Cable, String> {
        let remote = Remote::parse(target, NO_PORT).map_err(|e| e.to_string())?;
        let peers = Peers::default();
        let end = End { device: device.to_owned(), peers: Rc::clone(&peers), arrivals };
        let active = !remote.is_passive();
        let text = target.to_owned();
        let task = tokio::task::spawn_local(async move {
            if active {
                end.connect(remote).await;
            } else if let Err(e) = end.listen(remote).await {
                log!(Warn, NetdevDummy, "{text}: open failed ({e})");
            }
        });
        Ok(Cable { target: target.to_owned(), peers, active, task })
    }

    /// Where it leads.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Whether the other end is there; `None` for an end that waits to be connected to.
    pub fn is_connected(&self) -> Option<bool> {
        self.active.then(|| !self.peers.borrow().is_empty())
    }

    /// Sends a frame to the other ends.
    pub fn send(&self, frame: &[u8]) {
        let Ok(len) = u16::try_from(frame.len()) else { return };
        let bytes: Rc<[u8]> = len.to_be_bytes().into_iter().chain(frame.iter().copied()).collect();
        self.peers.borrow_mut().retain(|p| p.send(Rc::clone(&bytes)).is_ok());
    }
}

/// What a cable's task has.
#[derive(Clone)]
struct End {
    device: String,
    peers: Peers,
    arrivals: UnboundedSender<Arrival>,
}

impl End {
    async fn connect(self, remote: Remote) {
        loop {
            if let Ok(stream) = Stream::connect(&remote, &Keys::default()).await {
                // An end that goes away is tried again, however it went.
                let _ = self.carry(stream).await;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    async fn listen(self, remote: Remote) -> io::Result<()> {
        let listener = Listener::bind(&remote, &Keys::default()).await?;
        loop {
            let peer = listener.accept().await?;
            let end = self.clone();
            tokio::task::spawn_local(async move {
                if let Ok(stream) = peer.open().await {
                    let _ = end.carry(stream).await;
                }
            });
        }
    }

    /// Carries frames both ways until an end is pulled.
    async fn carry(&self, stream: Stream) -> io::Result<()> {
        let (sender, mut outgoing) = mpsc::unbounded_channel();
        let own = sender.downgrade();
        self.peers.borrow_mut().push(sender);
        let done = self.converse(stream, &mut outgoing).await;
        if let Some(own) = own.upgrade() {
            self.peers.borrow_mut().retain(|p| !p.same_channel(&own));
        }
        done
    }

    async fn converse(
        &self,
        stream: Stream,
        outgoing: &mut UnboundedReceiver<Rc<[u8]>>,
    ) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut buf = Vec::new();
        let mut chunk = vec![0; 16_384];
        loop {
            tokio::select! {
                n = reader.read(&mut chunk) => {
                    let n = n?;
                    if n == 0 {
                        return Ok(());
                    }
                    buf.extend_from_slice(&chunk[..n]);
                    self.take_frames(&mut buf)?;
                }
                bytes = outgoing.recv() => match bytes {
                    Some(bytes) => writer.write_all(&bytes).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn take_frames(&self, buf: &mut Vec<u8>) -> io::Result<()> {
        let mut at = 0;
        while let Some(len) = packet::header::be16(buf, at).map(usize::from) {
            if len < ETH_LEN {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some(frame) = buf.get(at + 2..at + 2 + len) else { break };
            // A daemon that is gone needs no frames.
            let _ = self.arrivals.send((self.device.clone(), frame.to_vec()));
            at += 2 + len;
        }
        buf.drain(..at);
        Ok(())
    }
}
