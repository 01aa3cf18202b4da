//! What is said on OpenFlow connections, in the log: module `vconn` at level DBG, as OVS writes it.

use flow::text::NoNames;
use ofproto::Session;
use openflow::message::{Session as Agreed, frame_len};
use openflow::print::{BytesText, Style};
use openflow::version::Version;

use super::snoop::Cutter;
use crate::log;
use crate::vlog::{Level, Module, enabled};

/// The log of one connection.
#[derive(Debug)]
pub(super) struct Spoken {
    /// `unix`, or the other end's address.
    peer: String,
    /// Cuts what is received, while it is logged.
    cutter: Option<Cutter>,
}

impl Spoken {
    pub(super) fn new(peer: String) -> Spoken {
        Spoken { peer, cutter: None }
    }

    /// Bytes came. Logging begins with a whole message.
    pub(super) fn received(&mut self, session: &Session, bytes: &[u8]) {
        if !enabled(Module::Vconn, Level::Dbg) {
            self.cutter = None;
            return;
        }
        if self.cutter.is_none() && session.is_between_messages() {
            self.cutter = Some(Cutter::default());
        }
        let (peer, agreed) = (&self.peer, session.codec());
        if let Some(cutter) = &mut self.cutter {
            cutter.push(bytes, |messages| write(peer, "received", agreed, messages));
        }
    }

    /// The first message told which version will be spoken.
    pub(super) fn negotiated(&self, version: Version, ours: u32, theirs: u32) {
        let peer = &self.peer;
        log!(
            Dbg,
            Vconn,
            "{peer}: negotiated OpenFlow version {:#04x} (we support {}, peer supports {})",
            version as u8,
            versions(ours),
            versions(theirs)
        );
    }

    /// Messages went out.
    pub(super) fn sent(&self, agreed: Agreed, messages: &[u8]) {
        if enabled(Module::Vconn, Level::Dbg) {
            write(&self.peer, "sent (Success)", agreed, messages);
        }
    }
}

fn write(peer: &str, what: &str, session: Agreed, messages: &[u8]) {
    let mut rest = messages;
    while let Ok(Some(n)) = frame_len(rest) {
        let Some((bytes, tail)) = rest.split_at_checked(n) else { break };
        rest = tail;
        let style = Style { names: &NoNames, verbosity: 1, session };
        let text = BytesText { bytes, style }.to_string();
        log!(Dbg, Vconn, "{peer}: {what}: {}", text.trim_end_matches('\n'));
    }
}

/// `version 0x04`, `versions 0x01, 0x04`, or `version 0x06 and earlier`.
fn versions(bitmap: u32) -> String {
    let list: Vec<u32> = (1..32).filter(|b| bitmap >> b & 1 != 0).collect();
    match list[..] {
        [.., highest] if list.len() > 1 && highest as usize == list.len() => {
            format!("version {highest:#04x} and earlier")
        }
        [one] => format!("version {one:#04x}"),
        _ => {
            let all: Vec<String> = list.iter().map(|v| format!("{v:#04x}")).collect();
            format!("versions {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::versions;

    #[test]
    fn versions_read_as_in_ovs() {
        assert_eq!(versions(0x7e), "version 0x06 and earlier");
        assert_eq!(versions(0x02), "version 0x01");
        assert_eq!(versions(0x20), "version 0x05");
        assert_eq!(versions(0x12), "versions 0x01, 0x04");
    }
}
