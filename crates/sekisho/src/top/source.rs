//! Samples of the daemon: one call for each, over a connection that is made again when it broke.

use switchd::ctl::status::Status;
use switchd::unixctl::unknown_command;

use crate::applet::{Failure, Session};
use crate::control::Control;

/// What a daemon is asked.
const COMMAND: &str = "sekisho/status";

/// Where samples come from.
#[derive(Debug)]
pub struct Source {
    target: String,
    control: Option<Control>,
}

impl Source {
    /// The daemon `target`: a name, or an absolute path of a control socket.
    pub fn new(target: &str) -> Source {
        Source { target: target.to_owned(), control: None }
    }

    /// Asks once. After a failure the next call connects anew.
    ///
    /// # Errors
    /// The daemon cannot be reached, or does not know what it is asked.
    pub fn sample(&mut self, session: &mut Session<'_>) -> Result<Status, Failure> {
        let mut control = match self.control.take() {
            Some(control) => control,
            None => Control::connect(session, &self.target)?,
        };
        let text = control.call(session, COMMAND, &[])?.map_err(|text| {
            let target = &self.target;
            Failure::fatal(if text.starts_with(&unknown_command(COMMAND)) {
                format!("{target} does not know {COMMAND}: it has to be a Sekisho switch, of this release or a later one")
            } else {
                format!("{target}: {COMMAND}: {}", text.trim_end())
            })
        })?;
        let status = serde_json::from_str(&text)
            .map_err(|e| Failure::fatal(format!("{}: cannot read {COMMAND}: {e}", self.target)))?;
        self.control = Some(control);
        Ok(status)
    }
}
