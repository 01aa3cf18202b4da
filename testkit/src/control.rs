//! A control connection to a daemon, for tests that say much: `ovs-appctl` starts a process for each word.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a daemon may think about what it is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Control(BufReader<UnixStream>);

impl Control {
    /// Connects to the socket at `path`.
    pub fn connect(path: &str) -> Result<Control> {
        let stream =
            UnixStream::connect(path).with_context(|| format!("cannot connect to {path}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Control(BufReader::new(stream)))
    }

    /// A command's answer, be it an error of its own.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn call(&mut self, method: &str, args: &[&str]) -> Result<String> {
        let request = json!({ "id": 0, "method": method, "params": args });
        self.0.get_mut().write_all(request.to_string().as_bytes())?;
        let mut replies = serde_json::Deserializer::from_reader(&mut self.0);
        let reply = Value::deserialize(&mut replies)?;
        let text = |name: &str| reply[name].as_str().map(str::to_owned);
        text("result").or_else(|| text("error")).context("neither result nor error")
    }
}
