//! The methods a client can call: RFC 7047 §4.1 and ovsdb-server(7).

use serde_json::{Value, json};

use super::monitor::{Dialect, Monitor};
use super::{Now, Server, SessionId, Trigger};
use crate::error::{Error, Result};
use crate::jsonrpc::Message;
use crate::types::{Uuid, is_id};

/// The notification that carries `update` to the owner of `monitor`.
pub(super) fn update_message(monitor: &Monitor, update: Value) -> Message {
    let id = monitor.id.clone();
    let (method, params) = match monitor.dialect {
        Dialect::V1 => ("update", vec![id, update]),
        Dialect::V2 => ("update2", vec![id, update]),
        // A database of one server has no transaction ids a client could come back with.
        Dialect::V3 => ("update3", vec![id, json!(Uuid::ZERO.to_string()), update]),
    };
    Message::Notification { method: method.to_owned(), params }
}

/// What answers a request.
enum Answer {
    Result(Value),
    Error(Value),
    /// Sent already, or later.
    None,
}

impl From<Result<Value>> for Answer {
    fn from(result: Result<Value>) -> Self {
        match result {
            Ok(value) => Answer::Result(value),
            Err(e) => Answer::Error(e.to_json()),
        }
    }
}

impl Server {
    pub(super) fn message(&mut self, session: SessionId, now: Now, message: Message) {
        match message {
            Message::Request { id, method, params } => {
                let answer = self.request(session, now, &id, &method, params);
                match answer {
                    Answer::Result(result) => self.send(session, Message::Reply { id, result }),
                    Answer::Error(error) => self.send(session, Message::Error { id, error }),
                    Answer::None => {}
                }
            }
            Message::Notification { method, params } if method == "cancel" => {
                if let [id] = params.as_slice() {
                    self.cancel(session, id);
                }
            }
            // Other notifications mean nothing to a server, and it asks nothing.
            Message::Notification { .. } | Message::Reply { .. } | Message::Error { .. } => {}
        }
    }

    fn request(
        &mut self,
        session: SessionId,
        now: Now,
        id: &Value,
        method: &str,
        params: Vec<Value>,
    ) -> Answer {
        match method {
            "echo" => Answer::Result(Value::from(params)),
            "list_dbs" => Answer::Result(json!(self.db_names().collect::<Vec<_>>())),
            "get_server_id" => Answer::Result(json!(self.id.to_string())),
            "set_db_change_aware" => match params.as_slice() {
                // Databases never come or go under a session, so there is nothing to announce.
                [Value::Bool(_)] => Answer::Result(json!({})),
                _ => Answer::Error(
                    Error::syntax(
                        Some(&Value::from(params)),
                        "set_db_change_aware request params must be boolean",
                    )
                    .to_json(),
                ),
            },
            "get_schema" => {
                let params = Value::from(params);
                self.named_db(method, &params)
                    .map(|name| self.db(&name).map_or(Value::Null, |db| db.schema().to_json()))
                    .into()
            }
            "transact" => self.transact_request(session, now, id, params),
            "monitor" => self.monitor(session, Dialect::V1, method, params).into(),
            "monitor_cond" => self.monitor(session, Dialect::V2, method, params).into(),
            "monitor_cond_since" => self.monitor(session, Dialect::V3, method, params).into(),
            "monitor_cond_change" => self.monitor_cond_change(session, params).into(),
            "monitor_cancel" => {
                let monitors = self.sessions.get_mut(&session).map(|s| &mut s.monitors);
                let removed = match (params.as_slice(), monitors) {
                    ([id], Some(monitors)) => monitors.remove(&id.to_string()),
                    _ => None,
                };
                match removed {
                    Some(_) => Answer::Result(json!({})),
                    None => Answer::Error(json!("unknown monitor")),
                }
            }
            "lock" | "steal" => self.lock(session, method, params).into(),
            "unlock" => self.unlock(session, params).into(),
            _ => Answer::Error(json!("unknown method")),
        }
    }

    /// The database the first parameter names.
    fn named_db(&self, method: &str, params: &Value) -> Result<String> {
        let Some(name) = params.get(0).and_then(Value::as_str) else {
            return Err(Error::syntax(
                Some(params),
                format!("{method} request params must begin with <db-name>"),
            ));
        };
        if self.dbs.contains_key(name) {
            return Ok(name.to_owned());
        }
        Err(Error::new(
            "unknown database",
            format!("{method} request specifies unknown database {name}"),
        )
        .at(Some(params)))
    }

    fn transact_request(
        &mut self,
        session: SessionId,
        now: Now,
        id: &Value,
        params: Vec<Value>,
    ) -> Answer {
        let params = Value::from(params);
        let db = match self.named_db("transact", &params) {
            Ok(db) => db,
            Err(e) => return Answer::Error(e.to_json()),
        };
        let Value::Array(mut ops) = params else { return Answer::None };
        ops.remove(0);
        let started = now.monotonic;
        let trigger = Trigger { session, id: id.clone(), ops, started, timeout_ms: None };
        if self.attempt(&db, trigger, now) {
            self.retry(&db, now);
        }
        Answer::None
    }

    /// `cancel`: a waiting transaction is dropped and answered.
    fn cancel(&mut self, session: SessionId, id: &Value) {
        let mut found = false;
        for hosted in self.dbs.values_mut() {
            hosted.triggers.retain(|trigger| {
                let this = trigger.session == session && trigger.id == *id;
                found |= this;
                !this
            });
        }
        if found {
            self.send(session, Message::Error { id: id.clone(), error: json!("canceled") });
        }
    }

    fn monitor(
        &mut self,
        session: SessionId,
        dialect: Dialect,
        method: &str,
        params: Vec<Value>,
    ) -> Result<Value> {
        let params = Value::from(params);
        let name = self.named_db(method, &params)?;
        let wanted = if dialect == Dialect::V3 { 4 } else { 3 };
        let (Some(id), Some(requests)) = (params.get(1), params.get(2)) else {
            return Err(Error::syntax(Some(&params), "invalid parameters"));
        };
        if params.as_array().map(Vec::len) != Some(wanted) {
            return Err(Error::syntax(Some(&params), "invalid parameters"));
        }
        let (Some(hosted), Some(session)) = (self.dbs.get(&name), self.sessions.get_mut(&session))
        else {
            return Err(Error::syntax(Some(&params), "invalid parameters"));
        };
        let key = id.to_string();
        if session.monitors.contains_key(&key) {
            return Err(Error::syntax(Some(id), "duplicate monitor ID"));
        }
        let monitor = Monitor::parse_json(hosted.db.schema(), id, requests, dialect)?;
        let initial = monitor.initial(hosted.db.data());
        session.monitors.insert(key, monitor);
        Ok(match dialect {
            Dialect::V3 => json!([false, Uuid::ZERO.to_string(), initial]),
            _ => initial,
        })
    }

    fn monitor_cond_change(&mut self, session_id: SessionId, params: Vec<Value>) -> Result<Value> {
        let [old_id, new_id, requests] = params.as_slice() else {
            return Err(Error::syntax(Some(&Value::from(params)), "invalid parameters"));
        };
        let unknown = || Error::syntax(Some(old_id), "unknown monitor session");
        let session = self.sessions.get_mut(&session_id).ok_or_else(unknown)?;
        let (old_key, new_key) = (old_id.to_string(), new_id.to_string());
        let mut monitor = session.monitors.get(&old_key).cloned().ok_or_else(unknown)?;
        if monitor.dialect == Dialect::V1 {
            return Err(unknown());
        }
        if old_key != new_key && session.monitors.contains_key(&new_key) {
            return Err(Error::syntax(Some(new_id), "duplicate monitor ID"));
        }
        let hosted = self.dbs.get(&monitor.db).ok_or_else(unknown)?;
        let update = monitor.change_conditions(hosted.db.data(), requests)?;
        monitor.id = new_id.clone();
        if let Some(update) = update {
            session.send(update_message(&monitor, update));
        }
        session.monitors.remove(&old_key);
        session.monitors.insert(new_key, monitor);
        Ok(json!({}))
    }

    fn lock(&mut self, session: SessionId, method: &str, params: Vec<Value>) -> Result<Value> {
        let params = Value::from(params);
        let name = lock_name(&params)?;
        if self.locks.has(name, session) {
            return Err(Error::syntax(
                Some(&params),
                format!("must issue \"unlock\" before new \"{method}\""),
            ));
        }
        if method == "lock" {
            return Ok(json!({"locked": self.locks.lock(name, session)}));
        }
        if let Some(victim) = self.locks.steal(name, session) {
            self.notify(victim, "stolen", vec![json!(name)]);
        }
        Ok(json!({"locked": true}))
    }

    fn unlock(&mut self, session: SessionId, params: Vec<Value>) -> Result<Value> {
        let params = Value::from(params);
        let name = lock_name(&params)?;
        if !self.locks.has(name, session) {
            return Err(Error::syntax(
                Some(&params),
                "unlock: \"unlock\" without \"lock\" or \"steal\"",
            ));
        }
        if let Some(next) = self.locks.unlock(name, session) {
            self.notify(next, "locked", vec![json!(name)]);
        }
        Ok(json!({}))
    }
}

fn lock_name(params: &Value) -> Result<&str> {
    match params.as_array().map(Vec::as_slice) {
        Some([Value::String(name)]) if is_id(name) => Ok(name),
        _ => Err(Error::syntax(Some(params), "lock request params must be <id>")),
    }
}
