//! The control socket's server: commands by name, each a row of one table.
//!
//! A daemon listens on `RUNDIR/PROGRAM.PID.ctl`. A request is answered at once, or later by whoever
//! holds the other end of [`Answer::Later`] (long polls, waits for a worker), or in pieces
//! ([`Answer::Pieces`]); requests on one connection are answered in order. A client that talks nonsense loses its connection, nobody else
//! does. Framing and texts are [`crate::unixctl`]'s.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::aside::{Framer, Piece};
use crate::log;
use crate::unixctl::{
    Decoder, MAX_REQUEST, Reply, Request, check_arity, json_reply, list_commands, unknown_command,
};

/// What a command says: text for standard output, or for standard error.
pub type Text = Result<String, String>;

/// A command's answer.
#[derive(Debug)]
pub enum Answer {
    /// Known now.
    Now(Text),
    /// Known now, as text and for programs: the client chooses (`set-options --format`).
    Either(String, Value),
    /// Known when the sender sends; a dropped sender is an error reply.
    Later(oneshot::Receiver<Text>),
    /// Text that comes in pieces until the sender is dropped ([`crate::aside`]).
    Pieces(mpsc::Receiver<Piece>),
}

impl From<Text> for Answer {
    fn from(text: Text) -> Answer {
        Answer::Now(text)
    }
}

/// One command of a daemon `D`.
pub struct Command<D> {
    /// Its name, `fdb/show` for example.
    pub name: &'static str,
    /// Its arguments, for `list-commands`.
    pub usage: &'static str,
    /// Fewest and most arguments.
    pub arity: (usize, usize),
    /// Does it.
    pub run: fn(&mut D, &[String]) -> Answer,
}

impl<D> std::fmt::Debug for Command<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

/// Runs one request against the tables.
pub fn dispatch<D>(daemon: &mut D, tables: &[&[Command<D>]], request: &Request) -> Answer {
    let mut rows = tables.iter().flat_map(|t| t.iter());
    if request.method == "list-commands" {
        let own = [("list-commands", ""), ("set-options", SET_OPTIONS)];
        let all: Vec<_> = rows.map(|c| (c.name, c.usage)).chain(own).collect();
        let object = all.iter().map(|(name, usage)| ((*name).to_owned(), (*usage).into()));
        let object = Value::Object(object.collect());
        return Answer::Either(list_commands(all), object);
    }
    let Some(command) = rows.find(|c| c.name == request.method) else {
        return Answer::Now(Err(unknown_command(&request.method)));
    };
    let (min, max) = command.arity;
    match check_arity(command.name, request.params.len(), min, max) {
        Ok(()) => (command.run)(daemon, &request.params),
        Err(text) => Answer::Now(Err(text)),
    }
}

/// Usage of the command that sets how replies on its connection look.
const SET_OPTIONS: &str = "[--format text|json]";

/// Does `set-options`: whether replies are to be JSON from now on.
fn set_options(params: &[String]) -> Result<bool, String> {
    check_arity("set-options", params.len(), 1, 2)?;
    let value = match params {
        [option] => option.strip_prefix("--format="),
        [option, value] if option == "--format" => Some(value.as_str()),
        _ => None,
    };
    match value {
        Some("json") => Ok(true),
        Some("text") => Ok(false),
        Some(other) => Err(format!("option format has invalid value {other}")),
        None => Err(format!("unrecognized option '{}'", params[0])),
    }
}

/// Listens on `path`, replacing a socket that a dead daemon left there.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => UnixListener::bind(path),
    }
}

/// Serves until the listener fails. Runs on the control thread; needs a `LocalSet`.
pub async fn serve<D: 'static>(
    listener: UnixListener,
    daemon: Rc<RefCell<D>>,
    tables: &'static [&'static [Command<D>]],
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let daemon = Rc::clone(&daemon);
                tokio::task::spawn_local(async move {
                    if let Err(e) = connection(stream, daemon, tables).await {
                        log!(Dbg, Unixctl, "connection ended: {e}");
                    }
                });
            }
            Err(e) => {
                // Out of descriptors, most likely: let others finish first.
                log!(Warn, Unixctl, "accept failed: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<D>(
    mut stream: UnixStream,
    daemon: Rc<RefCell<D>>,
    tables: &[&[Command<D>]],
) -> io::Result<()> {
    let mut decoder = Decoder::new(MAX_REQUEST);
    let mut buf = [0; 16384];
    let mut json = false;
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        decoder.feed(&buf[..n]);
        while let Some(request) = decoder.next_request().map_err(io::Error::other)? {
            log!(
                Dbg,
                Unixctl,
                "received request {}{:?}, id={}",
                request.method,
                request.params,
                request.id
            );
            let answer = if request.method == "set-options" {
                let set = set_options(&request.params);
                Answer::Now(set.map(|on| {
                    json = on;
                    String::new()
                }))
            } else {
                dispatch(&mut *daemon.borrow_mut(), tables, &request)
            };
            let text = match answer {
                Answer::Now(text) => text,
                Answer::Either(_, value) if json => {
                    stream.write_all(&json_reply(&request, &value)).await?;
                    continue;
                }
                Answer::Either(text, _) => Ok(text),
                Answer::Later(receiver) => {
                    receiver.await.unwrap_or_else(|_| Err("the daemon gave up on this".into()))
                }
                Answer::Pieces(mut pieces) => {
                    let (mut framer, head) = Framer::new(&request.id, json);
                    stream.write_all(head.as_bytes()).await?;
                    while let Some(piece) = pieces.recv().await {
                        stream.write_all(framer.piece(piece).as_bytes()).await?;
                    }
                    stream.write_all(framer.end().as_bytes()).await?;
                    continue;
                }
            };
            let bytes = match text {
                // There is no better form of it than what people read.
                Ok(text) if json => {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    json_reply(
                        &request,
                        &serde_json::json!({"reply": text, "reply-format": "plain"}),
                    )
                }
                text => Reply::to(&request, text).encode(),
            };
            stream.write_all(&bytes).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u32);

    const TABLE: &[Command<Counter>] = &[Command {
        name: "add",
        usage: "N",
        arity: (1, 1),
        run: |c, args| {
            let Ok(n) = args[0].parse::<u32>() else {
                return Err(format!("{}: not a number", args[0])).into();
            };
            c.0 += n;
            Ok(c.0.to_string()).into()
        },
    }];

    fn ask(c: &mut Counter, method: &str, params: &[&str]) -> Text {
        let request = Request {
            id: 1.into(),
            method: method.into(),
            params: params.iter().map(|p| (*p).to_owned()).collect(),
        };
        match dispatch(c, &[TABLE], &request) {
            Answer::Now(text) => text,
            Answer::Either(text, _) => Ok(text),
            Answer::Later(_) | Answer::Pieces(_) => panic!("answered later"),
        }
    }

    #[test]
    fn commands_are_found_checked_and_listed() {
        let mut c = Counter(1);
        assert_eq!(ask(&mut c, "add", &["2"]).unwrap(), "3");
        assert!(ask(&mut c, "add", &[]).unwrap_err().contains("at least 1 arguments"));
        assert!(ask(&mut c, "sub", &[]).unwrap_err().contains("not a valid command"));
        assert!(ask(&mut c, "list-commands", &[]).unwrap().contains("  add"));
    }

    #[test]
    fn the_form_of_replies_is_the_clients_to_choose() {
        let set = |words: &[&str]| {
            set_options(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(set(&["--format", "json"]), Ok(true));
        assert_eq!(set(&["--format=text"]), Ok(false));
        assert_eq!(set(&["--format", "x"]).unwrap_err(), "option format has invalid value x");
        assert!(set(&["--frob"]).is_err() && set(&[]).is_err());
    }
}
