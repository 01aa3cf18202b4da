//! Answers of the control socket that take long: made on a thread of their own, so that the control
//! thread goes on, and handed over in pieces, so that nobody holds the whole of a large one. The thread quotes them, too:
//! the other one only copies, and is soon out of the way of a worker that wants its processor.

use std::fmt;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::control::{Answer, Text};

/// Bytes of text that are gathered before they are handed over.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the client at a time.
const WAITING: usize = 4;

/// Does the work on a thread of its own, and answers with what it says.
pub fn work(work: impl FnOnce() -> Text + Send + 'static) -> Answer {
    let (answer, receiver) = oneshot::channel();
    // A client that is gone needs no answer.
    spawn(move || drop(answer.send(work())), || Answer::Later(receiver))
}

/// Lets a thread of its own write the answer; a client that is slow is waited for there.
pub fn write(write: impl FnOnce(&mut Writer) -> fmt::Result + Send + 'static) -> Answer {
    let (sender, pieces) = mpsc::channel(WAITING);
    let mut writer = Writer { text: String::with_capacity(PIECE), sender };
    let write = move || {
        // What fails is the client.
        if write(&mut writer).is_ok() {
            let _ = writer.hand_over();
        }
    };
    spawn(write, || Answer::Pieces(pieces))
}

fn spawn(work: impl FnOnce() + Send + 'static, answer: impl FnOnce() -> Answer) -> Answer {
    let work = || {
        // It is workers that should have the processor, and the other thread.
        netdev::cpu::go_behind_others();
        work();
    };
    match std::thread::Builder::new().name("answer".into()).spawn(work) {
        Ok(_) => answer(),
        Err(e) => Err(format!("cannot start a thread for the answer: {e}")).into(),
    }
}

/// Where the text of an answer goes. Writing fails once the client is gone.
#[derive(Debug)]
pub struct Writer {
    text: String,
    sender: mpsc::Sender<Piece>,
}

/// Some of an answer, as it stands between quotation marks, but for the final newline.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    quoted: String,
    newline: bool,
}

impl Piece {
    fn of(text: &str) -> Piece {
        let shown = text.strip_suffix('\n').unwrap_or(text);
        let mut quoted = Value::from(shown).to_string();
        quoted.pop();
        quoted.remove(0);
        Piece { quoted, newline: shown.len() < text.len() }
    }
}

impl Writer {
    fn hand_over(&mut self) -> fmt::Result {
        let piece = std::mem::replace(&mut self.text, String::with_capacity(PIECE));
        self.sender.blocking_send(Piece::of(&piece)).map_err(|_| fmt::Error)
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        if self.text.len() < PIECE { Ok(()) } else { self.hand_over() }
    }
}

/// Makes one reply of pieces of text, each as bytes to send.
#[derive(Debug)]
pub struct Framer {
    /// Whether the client wants JSON, as [`crate::control`] frames text for it.
    json: bool,
    /// The last piece's final newline, which the text has exactly one of, or with JSON none.
    newline: bool,
    empty: bool,
}

impl Framer {
    /// The beginning of the reply to a request.
    pub fn new(id: &Value, json: bool) -> (Framer, String) {
        let open = if json { "{\"reply-format\":\"plain\",\"reply\":\"" } else { "\"" };
        let head = format!("{{\"error\":null,\"id\":{id},\"result\":{open}");
        (Framer { json, newline: false, empty: true }, head)
    }

    /// One more piece.
    pub fn piece(&mut self, piece: Piece) -> String {
        let Piece { mut quoted, newline } = piece;
        self.empty &= quoted.is_empty() && !newline;
        if std::mem::replace(&mut self.newline, newline) {
            quoted.insert_str(0, "\\n");
        }
        quoted
    }

    /// The end.
    pub fn end(self) -> &'static str {
        match (self.json, self.empty) {
            (true, _) => "\"}}",
            (false, true) => "\"}",
            (false, false) => "\\n\"}",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unixctl::{Decoder, Reply, Request};
    use std::fmt::Write;

    fn framed(pieces: &[&str], json: bool) -> Vec<u8> {
        let (mut framer, mut out) = Framer::new(&7.into(), json);
        pieces.iter().for_each(|p| out += &framer.piece(Piece::of(p)));
        (out + framer.end()).into_bytes()
    }

    /// In pieces or at once, the client reads the same.
    #[test]
    fn pieces_make_the_reply_that_the_whole_would_make() {
        let request = Request { id: 7.into(), method: "m".into(), params: Vec::new() };
        let decode = |bytes: &[u8]| {
            let mut d = Decoder::new(usize::MAX);
            d.feed(bytes);
            d.next_object().unwrap().unwrap()
        };
        for pieces in [
            &[][..],
            &[""],
            &["\n"],
            &["no newline"],
            &["a\n", "b\n"],
            &["a", "\n", "\n", "b\"\\\u{1}é"],
            &["a\n\n", "", "b\n\n"],
        ] {
            let whole = pieces.concat();
            let expected = Reply::to(&request, Ok(whole.clone())).encode();
            assert_eq!(decode(&framed(pieces, false)), decode(&expected), "{pieces:?}");
            let result = decode(&framed(pieces, true)).remove("result").unwrap();
            let text = whole.strip_suffix('\n').unwrap_or(&whole);
            let expected = serde_json::json!({"reply": text, "reply-format": "plain"});
            assert_eq!(result, expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_writer_ends_when_nobody_reads() {
        let (told, ended) = std::sync::mpsc::channel();
        let answer = write(move |w| {
            let mut n = 0u64;
            while writeln!(w, "line {n}").is_ok() {
                n += 1;
            }
            told.send(n).map_err(|_| fmt::Error)
        });
        let Answer::Pieces(mut pieces) = answer else { panic!("no thread") };
        let first = pieces.blocking_recv().unwrap();
        assert!(first.quoted.starts_with("line 0\\nline 1\\n"));
        drop(pieces);
        // It stopped, at the latest, at the first piece that there was no room for.
        assert!(ended.recv().unwrap() < 1_000_000);
    }
}
