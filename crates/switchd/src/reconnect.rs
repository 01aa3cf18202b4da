//! Keeping a connection: when to try, how long to wait, when a silent peer counts as gone.
//!
//! [`Reconnect`] is the state of a peer that we connect to; [`Liveness`] that of any open
//! connection. Neither does anything itself: the owner asks at each tick what is due and says what
//! happened. Attempts follow each other after 1 s, then twice as long each time up to the maximum;
//! a connection that lasted longer than the wait before it starts that anew.

use std::time::Duration;

use base::Instant;

use crate::vlog::{self, Level, Module};

/// First wait.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// What a peer is doing (`status:state` of the Controller and Manager tables).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting before the next attempt.
    Backoff,
    /// Trying.
    Connecting,
    /// Connected.
    Active,
}

/// A peer that we connect to.
#[derive(Debug)]
pub struct Reconnect {
    /// For the log.
    name: String,
    module: Module,
    state: State,
    backoff: Duration,
    /// When the wait, or the patience with an attempt, ends.
    deadline: Instant,
    max_backoff: Duration,
    /// When it was last connected, or else when we began to try.
    last_up: Instant,
    last_connected: Option<Instant>,
    last_disconnected: Option<Instant>,
    last_error: Option<String>,
}

/// What is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Start an attempt.
    Connect,
    /// Give the attempt up.
    GiveUp,
}

impl Reconnect {
    /// A peer that is to be connected to at once.
    pub fn new(name: String, module: Module, max_backoff: Duration, now: Instant) -> Reconnect {
        Reconnect {
            name,
            module,
            state: State::Backoff,
            backoff: Duration::ZERO,
            deadline: now,
            max_backoff: max_backoff.max(MIN_BACKOFF),
            last_up: now,
            last_connected: None,
            last_disconnected: None,
            last_error: None,
        }
    }

    /// Changes the longest wait.
    pub fn set_max_backoff(&mut self, max: Duration, now: Instant) {
        self.max_backoff = max.max(MIN_BACKOFF);
        if self.backoff > self.max_backoff {
            self.backoff = self.max_backoff;
            self.deadline = self.deadline.min(now + self.max_backoff);
        }
    }

    /// What is due now. [`Due::Connect`] means that it is being done.
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        match self.state {
            State::Backoff if now >= self.deadline => {
                self.say(Level::Info, "connecting...");
                self.state = State::Connecting;
                self.deadline = now + self.backoff.max(MIN_BACKOFF);
                Some(Due::Connect)
            }
            State::Connecting if now >= self.deadline => Some(Due::GiveUp),
            State::Active => {
                self.last_up = now;
                None
            }
            _ => None,
        }
    }

    /// An attempt succeeded.
    pub fn connected(&mut self, now: Instant) {
        self.backoff = self.backoff.min(self.max_backoff);
        vlog::write(self.module, Level::Info, format_args!("{}: connected", self.name));
        self.deadline = now + self.backoff;
        self.state = State::Active;
        self.last_up = now;
        self.last_connected = Some(now);
    }

    /// An attempt failed, or the connection ended: `None` if the peer closed it.
    pub fn disconnected(&mut self, why: Option<&str>, now: Instant) {
        match (self.state, why) {
            (State::Backoff, _) => return,
            (State::Connecting, _) => {
                let why = why.unwrap_or("Connection reset by peer");
                self.say(Level::Warn, &format!("connection failed ({why})"));
            }
            (State::Active, Some(why)) => {
                self.say(Level::Warn, &format!("connection dropped ({why})"));
            }
            (State::Active, None) => self.say(Level::Info, "connection closed by peer"),
        }
        if let Some(why) = why {
            self.last_error = Some(why.to_owned());
        }
        // A failure that came at once is a reason to wait longer, a connection that held is not.
        let held = self.state == State::Active && now >= self.deadline;
        if held || self.backoff.is_zero() {
            self.backoff = MIN_BACKOFF;
        } else if self.backoff * 2 < self.max_backoff {
            self.backoff *= 2;
            self.say(
                Level::Info,
                &format!("waiting {} seconds before reconnect", self.backoff.as_secs()),
            );
        } else {
            self.say(
                Level::Info,
                "continuing to retry connections in the background but suppressing further logging",
            );
            self.backoff = self.max_backoff;
        }
        self.last_disconnected = Some(now);
        self.deadline = now + self.backoff;
        self.state = State::Backoff;
    }

    /// Once the waits are as long as they get, attempts are not worth a line each.
    fn say(&self, level: Level, text: &str) {
        if self.state == State::Active || self.backoff < self.max_backoff {
            vlog::write(self.module, level, format_args!("{}: {text}", self.name));
        }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.state == State::Active
    }

    /// How long it has not been connected.
    pub fn down_for(&self, now: Instant) -> Duration {
        if self.is_connected() { Duration::ZERO } else { now.since(self.last_up) }
    }

    /// The pairs of the `status` column. `idle`: a probe is on its way.
    pub fn status(&self, idle: bool, now: Instant) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |k: &str, v: String| out.push((k.to_owned(), v));
        if let Some(e) = &self.last_error {
            put("last_error", e.clone());
        }
        let state = match self.state {
            State::Backoff => "BACKOFF",
            State::Connecting => "CONNECTING",
            State::Active if idle => "IDLE",
            State::Active => "ACTIVE",
        };
        put("state", state.to_owned());
        if let Some(t) = self.last_connected {
            put("sec_since_connect", now.since(t).as_secs().to_string());
        }
        if let Some(t) = self.last_disconnected.filter(|_| self.last_connected.is_some()) {
            put("sec_since_disconnect", now.since(t).as_secs().to_string());
        }
        out
    }
}

/// Whether the peer of an open connection still says something.
#[derive(Clone, Debug)]
pub struct Liveness {
    /// Silence after which it is asked; zero for never.
    interval: Duration,
    last: Instant,
    asked: Option<Instant>,
}

/// What [`Liveness::poll`] finds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing is due.
    Fine,
    /// Ask whether it lives: for so long nothing came.
    Ask(Duration),
    /// It did not answer.
    Dead,
}

impl Liveness {
    /// A connection that was just made.
    pub fn new(interval: Duration, now: Instant) -> Liveness {
        Liveness { interval, last: now, asked: None }
    }

    /// Changes the interval.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Something came.
    pub fn heard(&mut self, now: Instant) {
        self.last = now;
        self.asked = None;
    }

    /// Whether an answer is awaited.
    pub fn is_idle(&self) -> bool {
        self.asked.is_some()
    }

    /// What is due now. [`Pulse::Ask`] means that it is being done.
    pub fn poll(&mut self, now: Instant) -> Pulse {
        if self.interval.is_zero() {
            return Pulse::Fine;
        }
        match self.asked {
            Some(t) if now >= t + self.interval => Pulse::Dead,
            Some(_) => Pulse::Fine,
            None if now >= self.last + self.interval => {
                self.asked = Some(now);
                Pulse::Ask(now.since(self.last))
            }
            None => Pulse::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn fresh() -> Reconnect {
        Reconnect::new("t".into(), Module::Rconn, Duration::from_secs(8), at(0))
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let mut r = fresh();
        let mut attempts = Vec::new();
        for ms in (0..40_000).step_by(100) {
            if r.poll(at(ms)) == Some(Due::Connect) {
                attempts.push(ms);
                r.disconnected(Some("Connection refused"), at(ms));
            }
        }
        assert_eq!(attempts, [0, 1000, 3000, 7000, 15_000, 23_000, 31_000, 39_000]);
        assert_eq!(r.down_for(at(40_000)), Duration::from_secs(40));
        let status = r.status(false, at(40_000));
        let want = [("last_error", "Connection refused"), ("state", "BACKOFF")];
        assert_eq!(status, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_connection_that_held_starts_anew() {
        let mut r = fresh();
        for ms in [0, 1000, 3000] {
            assert_eq!(r.poll(at(ms)), Some(Due::Connect));
            r.disconnected(Some("no"), at(ms));
        }
        assert_eq!(r.poll(at(7000)), Some(Due::Connect));
        r.connected(at(7010));
        assert!(r.is_connected());
        r.poll(at(60_000));
        r.disconnected(None, at(60_000));
        assert_eq!(r.poll(at(60_900)), None);
        assert_eq!(r.poll(at(61_000)), Some(Due::Connect));
        assert_eq!(r.down_for(at(61_000)), Duration::from_secs(1));
    }

    #[test]
    fn an_attempt_that_hangs_is_given_up() {
        let mut r = fresh();
        assert_eq!(r.poll(at(0)), Some(Due::Connect));
        assert_eq!(r.poll(at(900)), None);
        assert_eq!(r.poll(at(1000)), Some(Due::GiveUp));
        r.disconnected(Some("Connection timed out"), at(1000));
        assert_eq!(r.state(), State::Backoff);
    }

    #[test]
    fn silence_is_asked_about_and_then_ends_it() {
        let mut l = Liveness::new(Duration::from_secs(5), at(0));
        assert_eq!(l.poll(at(4900)), Pulse::Fine);
        assert_eq!(l.poll(at(5100)), Pulse::Ask(Duration::from_millis(5100)));
        assert_eq!(l.poll(at(9000)), Pulse::Fine);
        l.heard(at(9000));
        assert_eq!(l.poll(at(14_000)), Pulse::Ask(Duration::from_secs(5)));
        assert_eq!(l.poll(at(19_000)), Pulse::Dead);
        assert_eq!(Liveness::new(Duration::ZERO, at(0)).poll(at(1 << 40)), Pulse::Fine);
    }
}
