//! JSON-RPC 1.0 over a stream: RFC 7047 §4 (also what unixctl speaks).
//!
//! Messages are JSON objects one behind the other with nothing between them. [`Framer`] finds their
//! ends in bytes that come in any pieces, looking at each byte once; only whole messages are parsed.
//! A stream that is not such a sequence is an error for good: its connection must be closed.

use serde_json::{Map, Value, json};

/// What limits a peer: a message may not be larger or more deeply nested.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Objects and arrays within each other; at most 127, which is what the parser takes.
    pub depth: usize,
}

impl Default for Limits {
    /// 256 MiB (a whole database may come as one reply) and 100 levels.
    fn default() -> Self {
        Limits { message_bytes: 256 << 20, depth: 100 }
    }
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Bytes that are no JSON.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// Longer than [`Limits::message_bytes`].
    #[error("message is larger than {0} bytes")]
    TooLarge(usize),
    /// Deeper than [`Limits::depth`].
    #[error("message nests deeper than {0} levels")]
    TooDeep(usize),
    /// JSON that is no JSON-RPC message.
    #[error("bad JSON-RPC message: {0}")]
    Message(String),
}

/// Splits a byte stream into JSON objects.
#[derive(Debug, Default)]
pub struct Framer {
    limits: Limits,
    buf: Vec<u8>,
    /// Bytes at the start of `buf` that were given out.
    start: usize,
    /// Bytes of `buf` that were looked at.
    scanned: usize,
    /// Closing brackets that are awaited, innermost last.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    failed: Option<StreamError>,
}

impl Framer {
    /// A framer with these limits.
    pub fn new(limits: Limits) -> Self {
        Framer { limits, ..Framer::default() }
    }

    /// Adds bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start > 0 && self.start * 2 >= self.buf.len() {
            self.buf.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`StreamError`], and the same again on every later call.
    pub fn next_value(&mut self) -> Result<Option<Value>, StreamError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.scan().and_then(|end| {
            let Some(end) = end else { return Ok(None) };
            let value = serde_json::from_slice(&self.buf[self.start..end])
                .map_err(|e| StreamError::Json(e.to_string()))?;
            self.start = end;
            Ok(Some(value))
        });
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.buf = Vec::new();
        }
        result
    }

    /// Finds the end of the message that begins at `start`.
    fn scan(&mut self) -> Result<Option<usize>, StreamError> {
        while let Some(&byte) = self.buf.get(self.scanned) {
            if self.open.is_empty() {
                match byte {
                    b'{' => {
                        self.start = self.scanned;
                        self.open.push(b'}');
                    }
                    b' ' | b'\t' | b'\r' | b'\n' => self.start = self.scanned + 1,
                    _ => return Err(StreamError::Json("an object must begin with '{'".into())),
                }
                self.scanned += 1;
                continue;
            }
            if self.scanned - self.start >= self.limits.message_bytes {
                return Err(StreamError::TooLarge(self.limits.message_bytes));
            }
            self.scanned += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    0..0x20 => {
                        return Err(StreamError::Json("control character in a string".into()));
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    if self.open.len() >= self.limits.depth {
                        return Err(StreamError::TooDeep(self.limits.depth));
                    }
                    self.open.push(byte + 2); // ASCII: '{' + 2 is '}', '[' + 2 is ']'.
                }
                b'}' | b']' => {
                    if self.open.pop() != Some(byte) {
                        return Err(StreamError::Json("brackets do not match".into()));
                    }
                    if self.open.is_empty() {
                        return Ok(Some(self.scanned));
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'-' | b'+' | b'.' => {}
                _ if byte.is_ascii_alphanumeric() => {}
                _ => return Err(StreamError::Json(format!("unexpected byte 0x{byte:02x}"))),
            }
        }
        Ok(None)
    }
}

/// A JSON-RPC message: RFC 7047 §4.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants a reply with the same id.
    Request {
        /// Any JSON but null.
        id: Value,
        /// Name of the method.
        method: String,
        /// Arguments, an array.
        params: Vec<Value>,
    },
    /// Wants no reply.
    Notification {
        /// Name of the method.
        method: String,
        /// Arguments, an array.
        params: Vec<Value>,
    },
    /// Answer of a request that went well.
    Reply {
        /// Of the request.
        id: Value,
        /// Depends on the method.
        result: Value,
    },
    /// Answer of a request that failed.
    Error {
        /// Of the request.
        id: Value,
        /// An `<error>` object, or for unixctl a string.
        error: Value,
    },
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// [`StreamError::Message`] if the JSON is none of the four kinds.
    pub fn from_json(json: Value) -> Result<Message, StreamError> {
        let bad = |why: &str| StreamError::Message(why.to_owned());
        let Value::Object(mut map) = json else { return Err(bad("message is not a JSON object")) };
        let mut take = |name: &str| map.remove(name).unwrap_or(Value::Null);
        let (id, method, params) = (take("id"), take("method"), take("params"));
        let (result, error) = (take("result"), take("error"));
        if let Some(name) = map.keys().next() {
            return Err(StreamError::Message(format!("message has unexpected member \"{name}\"")));
        }
        match (method, params) {
            (Value::String(method), Value::Array(params)) => {
                if !result.is_null() || !error.is_null() {
                    Err(bad("request must not have \"result\" or \"error\""))
                } else if id.is_null() {
                    Ok(Message::Notification { method, params })
                } else {
                    Ok(Message::Request { id, method, params })
                }
            }
            (Value::Null, Value::Null) if id.is_null() => Err(bad("reply must have \"id\"")),
            (Value::Null, Value::Null) if error.is_null() => Ok(Message::Reply { id, result }),
            (Value::Null, Value::Null) if result.is_null() => Ok(Message::Error { id, error }),
            (Value::Null, _) => Err(bad("reply must have \"result\" or \"error\", no \"params\"")),
            (Value::String(_), _) => Err(bad("\"params\" must be JSON array")),
            _ => Err(bad("method is not a JSON string")),
        }
    }

    /// The JSON of the message.
    pub fn into_json(self) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.into(), value);
        match self {
            Message::Request { id, method, params } => {
                put("id", id);
                put("method", Value::from(method));
                put("params", Value::from(params));
            }
            Message::Notification { method, params } => {
                put("id", Value::Null);
                put("method", Value::from(method));
                put("params", Value::from(params));
            }
            Message::Reply { id, result } => {
                put("id", id);
                put("result", result);
                put("error", Value::Null);
            }
            Message::Error { id, error } => {
                put("id", id);
                put("result", Value::Null);
                put("error", error);
            }
        }
        Value::Object(map)
    }

    /// The bytes to send.
    pub fn into_bytes(self) -> Vec<u8> {
        self.into_json().to_string().into_bytes()
    }

    /// The reply a peer expects to its `echo`.
    pub fn echo_reply(id: Value, params: Vec<Value>) -> Message {
        Message::Reply { id, result: json!(params) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(framer: &mut Framer) -> Vec<Value> {
        std::iter::from_fn(|| framer.next_value().unwrap()).collect()
    }

    #[test]
    fn splits_anywhere() {
        let text = r#"{"a":"}{\"","b":[1,{"c":null}]} {"x":"é\\"}{}"#;
        let whole: Vec<Value> = {
            let mut framer = Framer::default();
            framer.push(text.as_bytes());
            all(&mut framer)
        };
        assert_eq!(whole.len(), 3);
        for cut in 0..=text.len() {
            let mut framer = Framer::default();
            framer.push(&text.as_bytes()[..cut]);
            let mut got = all(&mut framer);
            framer.push(&text.as_bytes()[cut..]);
            got.extend(all(&mut framer));
            assert_eq!(got, whole, "cut at {cut}");
        }
        let mut framer = Framer::default();
        let mut got = Vec::new();
        for byte in text.bytes() {
            framer.push(&[byte]);
            got.extend(all(&mut framer));
        }
        assert_eq!(got, whole);
    }

    #[test]
    fn refuses_what_is_no_sequence_of_objects() {
        for bad in ["x", "[1]", "{]", "{\"a\":}", "{\"a\" \u{7f}", "{\"\n\"}", "{}}"] {
            let mut framer = Framer::default();
            framer.push(bad.as_bytes());
            let error = loop {
                match framer.next_value() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{bad} was taken"),
                    Err(e) => break e,
                }
            };
            framer.push(b"{}");
            assert_eq!(framer.next_value(), Err(error), "an error is for good");
        }
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { message_bytes: 20, depth: 3 };
        let run = |text: &str| {
            let mut framer = Framer::new(limits);
            framer.push(text.as_bytes());
            framer.next_value()
        };
        assert!(run(r#"{"a":"0123456789abc"}"#).is_err());
        assert!(run(r#"{"a":"0123456789ab"}"#).unwrap().is_some());
        assert_eq!(run(r#"{"a":[[[1]]]}"#), Err(StreamError::TooDeep(3)));
        assert!(run(r#"{"a":[[1]]}"#).unwrap().is_some());
    }

    #[test]
    fn messages_round_trip() {
        let messages = [
            Message::Request { id: json!(1), method: "echo".into(), params: vec![json!("x")] },
            Message::Notification { method: "update".into(), params: vec![] },
            Message::Reply { id: json!("a"), result: json!({"x": 1}) },
            Message::Error { id: json!(3), error: json!({"error": "canceled"}) },
        ];
        for message in messages {
            assert_eq!(Message::from_json(message.clone().into_json()), Ok(message));
        }
        for bad in [
            json!({}),
            json!({"method": 1}),
            json!({"method": "x", "params": {}}),
            json!({"id": null, "result": 1}),
            json!({"id": 1, "result": 1, "error": 1}),
            json!({"id": 1, "result": 1, "extra": 1}),
        ] {
            assert!(Message::from_json(bad.clone()).is_err(), "{bad}");
        }
    }
}
