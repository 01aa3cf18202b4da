//! The control socket's messages: JSON-RPC 1.0 requests and replies, as bytes in and out.
//!
//! A daemon listens on `RUNDIR/PROGRAM.PID.ctl`; a client sends `{"method", "params", "id"}` with string
//! parameters and gets one reply whose `result` or `error` is text to print. Messages follow each other
//! with no delimiter, so [`Decoder`] finds where each object ends; it keeps what is incomplete and never
//! scans a byte twice. Both ends use this module; neither socket nor clock is here.
//!
//! Contract with stock clients and servers (observed on OVS 3.1): a reply carries only `error` when it
//! failed; text ends with a newline; anything that is not a request with string parameters ends the
//! connection.

use serde_json::{Map, Value};

/// Most bytes a daemon lets one request have: packets in hex and flow lists fit, floods do not.
pub const MAX_REQUEST: usize = 4 << 20;

/// Why a byte stream cannot be read any further; the connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The stream is not a sequence of JSON objects.
    #[error("message is not a JSON object")]
    NotAnObject,
    /// An object is not JSON after all.
    #[error("bad JSON: {0}")]
    Json(String),
    /// One message exceeds the limit.
    #[error("message exceeds {0} bytes")]
    TooLong(usize),
    /// A JSON object that is not what is expected here.
    #[error("{0}")]
    Unexpected(&'static str),
}

/// Splits a byte stream into JSON objects.
#[derive(Debug, Clone)]
pub struct Decoder {
    buf: Vec<u8>,
    /// Bytes of `buf` already looked at.
    scanned: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    limit: usize,
}

impl Decoder {
    /// A decoder that refuses messages of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buf: Vec::new(), scanned: 0, depth: 0, in_string: false, escaped: false, limit }
    }

    /// Adds received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Takes out the next whole message, `None` if more bytes are needed.
    ///
    /// # Errors
    /// After an error the stream has lost its framing: close the connection.
    pub fn next_object(&mut self) -> Result<Option<Map<String, Value>>, Error> {
        if self.depth == 0 {
            let blank = self.buf.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.buf.drain(..blank);
            self.scanned = 0;
            if self.buf.first().is_some_and(|b| *b != b'{') {
                return Err(Error::NotAnObject);
            }
        }
        while let Some(&byte) = self.buf.get(self.scanned) {
            self.scanned += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let rest = self.buf.split_off(self.scanned);
                        let message = std::mem::replace(&mut self.buf, rest);
                        self.scanned = 0;
                        return serde_json::from_slice(&message)
                            .map(Some)
                            .map_err(|e| Error::Json(e.to_string()));
                    }
                }
                _ => {}
            }
        }
        if self.buf.len() > self.limit { Err(Error::TooLong(self.limit)) } else { Ok(None) }
    }

    /// Takes out the next request (a daemon's side).
    ///
    /// # Errors
    /// As [`Decoder::next_object`], and if the object is no request with string parameters.
    pub fn next_request(&mut self) -> Result<Option<Request>, Error> {
        self.next_object()?.map(Request::from_object).transpose()
    }

    /// Takes out the next reply (a client's side).
    ///
    /// # Errors
    /// As [`Decoder::next_object`], and if the object is no reply.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, Error> {
        self.next_object()?.map(Reply::from_object).transpose()
    }
}

/// Reads one reply and hands its text over line by line as it comes, so that a client need not hold
/// the whole of a long one.
#[derive(Debug)]
pub struct Lines {
    /// How the reply begins if it is a text.
    head: Vec<u8>,
    /// Whether it does.
    is_text: Option<bool>,
    buf: Vec<u8>,
    /// Bytes of `buf` already looked at.
    scanned: usize,
    /// A reply that begins otherwise.
    other: Decoder,
}

impl Lines {
    /// For the reply to the request of that id.
    pub fn new(id: &Value) -> Self {
        let head = format!("{{\"error\":null,\"id\":{id},\"result\":\"").into_bytes();
        let other = Decoder::new(usize::MAX);
        Self { head, is_text: None, buf: Vec::new(), scanned: 0, other }
    }

    /// Takes received bytes and calls `each` for every line in them, without its end. Returns the reply
    /// when it has ended; its text is empty if it was handed over.
    ///
    /// # Errors
    /// What came is no reply.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&str),
    ) -> Result<Option<Reply>, Error> {
        if self.is_text == Some(false) {
            self.other.feed(bytes);
            return self.other.next_reply();
        }
        self.buf.extend_from_slice(bytes);
        if self.is_text.is_none() {
            let n = self.buf.len().min(self.head.len());
            if self.buf[..n] != self.head[..n] {
                self.is_text = Some(false);
                self.other.feed(&std::mem::take(&mut self.buf));
                return self.other.next_reply();
            }
            if n < self.head.len() {
                return Ok(None);
            }
            self.is_text = Some(true);
            self.buf.drain(..n);
        }
        let mut begin = 0;
        let mut hand_over = |text: &[u8]| {
            let quoted = [b"\"", text, b"\""].concat();
            let line = serde_json::from_slice::<String>(&quoted);
            line.map(|line| each(&line)).map_err(|e| Error::Json(e.to_string()))
        };
        while let Some(&byte) = self.buf.get(self.scanned) {
            match (byte, self.buf.get(self.scanned + 1)) {
                (b'\\', None) => break,
                (b'\\', Some(b'n')) => {
                    hand_over(&self.buf[begin..self.scanned])?;
                    self.scanned += 2;
                    begin = self.scanned;
                }
                (b'\\', Some(_)) => self.scanned += 2,
                (b'"', _) => {
                    if begin < self.scanned {
                        hand_over(&self.buf[begin..self.scanned])?;
                    }
                    return Ok(Some(Reply { id: Value::Null, result: Ok(String::new()) }));
                }
                _ => self.scanned += 1,
            }
        }
        self.buf.drain(..begin);
        self.scanned -= begin;
        Ok(None)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client, returned in the reply; never null.
    pub id: Value,
    /// The command, `fdb/show` for example.
    pub method: String,
    /// Its arguments.
    pub params: Vec<String>,
}

impl Request {
    fn from_object(mut object: Map<String, Value>) -> Result<Self, Error> {
        let Some(Value::String(method)) = object.remove("method") else {
            return Err(Error::Unexpected("message has no \"method\""));
        };
        let id = match object.remove("id") {
            None | Some(Value::Null) => {
                return Err(Error::Unexpected("received unexpected notification message"));
            }
            Some(id) => id,
        };
        let Some(Value::Array(params)) = object.remove("params") else {
            return Err(Error::Unexpected("request must have \"params\""));
        };
        let params = params
            .into_iter()
            .map(|p| match p {
                Value::String(s) => Ok(s),
                _ => Err(Error::Unexpected("request has a parameter that is not a string")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { id, method, params })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::json!({"id": self.id, "method": self.method, "params": self.params})
            .to_string()
            .into_bytes()
    }
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `id` of the request.
    pub id: Value,
    /// Text for standard output, or for standard error.
    pub result: Result<String, String>,
}

impl Reply {
    /// The answer to `request`; a text that lacks its final newline gets one.
    pub fn to(request: &Request, result: Result<String, String>) -> Self {
        let end = |mut text: String| {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text
        };
        Self { id: request.id.clone(), result: result.map(end).map_err(end) }
    }

    fn from_object(mut object: Map<String, Value>) -> Result<Self, Error> {
        if object.contains_key("method") {
            return Err(Error::Unexpected("received unexpected request message"));
        }
        let id = object.remove("id").unwrap_or(Value::Null);
        let result = match (object.remove("error"), object.remove("result")) {
            (Some(Value::String(text)), _) => Err(text),
            (None | Some(Value::Null), Some(Value::String(text))) => Ok(text),
            (None | Some(Value::Null), Some(Value::Null) | None) => Ok(String::new()),
            _ => return Err(Error::Unexpected("reply's result or error is not a string")),
        };
        Ok(Self { id, result })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        match &self.result {
            Ok(text) => serde_json::json!({"id": self.id, "result": text, "error": null}),
            Err(text) => serde_json::json!({"id": self.id, "error": text}),
        }
        .to_string()
        .into_bytes()
    }
}

/// The bytes of a successful reply that is more than text.
pub fn json_reply(request: &Request, result: &Value) -> Vec<u8> {
    serde_json::json!({"id": request.id, "result": result, "error": null}).to_string().into_bytes()
}

/// The error text for a command that does not exist.
pub fn unknown_command(name: &str) -> String {
    format!(
        "\"{name}\" is not a valid command \
         (use \"list-commands\" to see a list of valid commands)"
    )
}

/// Checks a number of arguments; the error is the text to reply with.
///
/// # Errors
/// Fewer than `min` or more than `max` arguments.
pub fn check_arity(name: &str, n_args: usize, min: usize, max: usize) -> Result<(), String> {
    if n_args < min {
        Err(format!("\"{name}\" command requires at least {min} arguments"))
    } else if n_args > max {
        Err(format!("\"{name}\" command takes at most {max} arguments"))
    } else {
        Ok(())
    }
}

/// The text of `list-commands` for commands given as (name, usage), sorted by name.
pub fn list_commands<'a>(commands: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut commands: Vec<_> = commands.into_iter().collect();
    commands.sort_unstable();
    let mut text = String::from("The available commands are:\n");
    for (name, usage) in commands {
        text += &format!("  {name:<23} {usage}");
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(d: &mut Decoder) -> Vec<String> {
        std::iter::from_fn(|| d.next_request().unwrap()).map(|r| r.method).collect()
    }

    #[test]
    fn messages_in_any_pieces() {
        let stream =
            br#"{"id":1,"method":"a{\"}","params":["]}\\"]} {"id":"x","method":"b","params":[]}"#;
        for cut in 0..stream.len() {
            let mut d = Decoder::new(MAX_REQUEST);
            d.feed(&stream[..cut]);
            let mut got = requests(&mut d);
            d.feed(&stream[cut..]);
            got.extend(requests(&mut d));
            assert_eq!(got, ["a{\"}", "b"], "cut at {cut}");
        }
    }

    #[test]
    fn refusals() {
        let fail = |bytes: &[u8]| {
            let mut d = Decoder::new(64);
            d.feed(bytes);
            d.next_request().unwrap_err()
        };
        assert_eq!(fail(b"[1]"), Error::NotAnObject);
        assert_eq!(fail(b"garbage"), Error::NotAnObject);
        assert!(matches!(fail(b"{]"), Error::Json(_)));
        assert!(matches!(fail(b"{\"id\":}"), Error::Json(_)));
        assert_eq!(fail(&[b'{'; 65]), Error::TooLong(64));
        for bad in [
            &br#"{"id":null,"method":"m","params":[]}"#[..],
            br#"{"id":1,"method":"m"}"#,
            br#"{"id":1,"method":"m","params":[1]}"#,
            br#"{"id":1,"result":"x","error":null}"#,
        ] {
            assert!(matches!(fail(bad), Error::Unexpected(_)));
        }
    }

    #[test]
    fn replies_round_trip() {
        let request = Request { id: 7.into(), method: "m".into(), params: vec!["p".into()] };
        let mut d = Decoder::new(MAX_REQUEST);
        d.feed(&request.encode());
        assert_eq!(d.next_request().unwrap().unwrap(), request);
        for result in [Ok("fine\n".to_owned()), Err("bad\n".to_owned()), Ok(String::new())] {
            let reply = Reply::to(&request, result);
            let mut d = Decoder::new(usize::MAX);
            d.feed(&reply.encode());
            assert_eq!(d.next_reply().unwrap().unwrap(), reply);
        }
        assert_eq!(Reply::to(&request, Ok("x".into())).result, Ok("x\n".into()));
        assert_eq!(
            String::from_utf8(Reply::to(&request, Err("no".into())).encode()).unwrap(),
            "{\"error\":\"no\\n\",\"id\":7}"
        );
    }

    #[test]
    fn lines_come_as_they_do() {
        let request = Request { id: 3.into(), method: "m".into(), params: Vec::new() };
        for text in ["", "\n", "a\n", "a\n\nb\"\\n\u{e9}\u{1}\nc\\\n", "\u{1f600}"] {
            let bytes = Reply::to(&request, Ok(text.to_owned())).encode();
            for cut in 0..=bytes.len() {
                let (mut lines, mut reader) = (Vec::new(), Lines::new(&request.id));
                let first = reader.feed(&bytes[..cut], |l| lines.push(l.to_owned())).unwrap();
                let end = match first {
                    Some(reply) => Some(reply),
                    None => reader.feed(&bytes[cut..], |l| lines.push(l.to_owned())).unwrap(),
                };
                assert!(end.is_some_and(|r| r.result == Ok(String::new())), "{text:?} {cut}");
                assert!(lines.iter().map(String::as_str).eq(text.lines()), "{text:?} {lines:?}");
            }
        }
        let bytes = Reply::to(&request, Err("no".to_owned())).encode();
        for cut in 0..bytes.len() {
            let mut reader = Lines::new(&request.id);
            assert!(reader.feed(&bytes[..cut], |_| panic!("no line")).unwrap().is_none());
            let end = reader.feed(&bytes[cut..], |_| panic!("no line")).unwrap();
            assert_eq!(end.unwrap().result, Err("no\n".to_owned()));
        }
        assert!(Lines::new(&request.id).feed(b"nonsense", |_| {}).is_err());
    }

    #[test]
    fn texts() {
        assert_eq!(
            unknown_command("frob"),
            "\"frob\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        );
        assert_eq!(check_arity("t", 1, 1, 2), Ok(()));
        assert!(check_arity("t", 0, 1, 2).unwrap_err().ends_with("requires at least 1 arguments"));
        assert!(check_arity("t", 3, 1, 2).unwrap_err().ends_with("takes at most 2 arguments"));
        assert_eq!(
            list_commands([("b", "[x]"), ("a", "")]),
            "The available commands are:\n  a                       \n  b                       [x]\n"
        );
    }
}
