//! Commands about tables as such: what they can do, and how they are configured.

use std::fmt::Write as _;

use base::TableId;
use openflow::message::{
    Body, FeaturesCommand, Message, TableDesc, TableFeatures, TableMod, parts, table_config,
};
use openflow::print::TableFeaturesText;
use openflow::version::Version;

use super::Tool;
use super::conn::Conn;
use crate::applet::{Failure, Outcome};

/// All parts of the answer to a request, each with its bytes; an error of the switch is shown and ends
/// the tool.
fn ask_all(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    request: &[u8],
    xid: u32,
) -> Result<Vec<Message>, Failure> {
    conn.send_bytes(request)?;
    let mut parts = Vec::new();
    loop {
        let bytes = conn.reply(xid)?;
        let part = conn.decode(&bytes)?;
        if matches!(part.body, Body::Error(_)) {
            return tool.refused(conn, &bytes);
        }
        let more = part.more;
        parts.push(part);
        if !more {
            return Ok(parts);
        }
    }
}

fn encode(message: &Message, conn: &Conn) -> Result<Vec<u8>, Failure> {
    message.encode(conn.agreed).map_err(|e| Failure::fatal(e.to_string()))
}

/// What the switch says of its tables; before 1.3 that is hardly more than their names.
pub(super) fn features(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
) -> Result<Vec<TableFeatures>, Failure> {
    let body = match conn.version < Version::Of13 {
        true => Body::TableStatsRequest,
        false => Body::TableFeaturesRequest(Vec::new()),
    };
    let request = conn.message(tool.next_xid(), body);
    let bytes = encode(&request, conn)?;
    let mut tables = Vec::new();
    for part in ask_all(tool, conn, &bytes, request.xid)? {
        match part.body {
            Body::TableFeaturesReply(list) => tables.extend(list),
            Body::TableStatsReply(list) => tables.extend(list.into_iter().map(|t| t.features)),
            _ => {}
        }
    }
    Ok(tables)
}

/// What is said of the tables is told once over all parts, so that what repeats is not told again.
pub(super) fn dump_table_features(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut conn = tool.open(&args[0])?;
    if conn.version < Version::Of13 {
        return Err(Failure::fatal(
            "dump-table-features needs OpenFlow 1.3 or later ('-O OpenFlow13')",
        ));
    }
    let list = features(tool, &mut conn)?;
    let text = TableFeaturesText(&list, conn.version).to_string();
    writeln!(tool.session.out, "{}", text.strip_prefix('\n').unwrap_or(&text))?;
    Ok(0)
}

/// What `mod-table` can change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    Miss(u32),
    Evict(bool),
    Vacancy(Option<(u8, u8)>),
    Name(String),
}

/// Reads `vacancy:DOWN,UP`.
fn parse_vacancy(text: &str) -> Result<(u8, u8), String> {
    let (down, up) = text.split_once(',').unwrap_or((text, ""));
    let percent = |what: &str, text: &str| match text.parse::<u8>() {
        _ if text.is_empty() => Err(format!("Vacancy {what} value missing")),
        Ok(n) if n <= 100 => Ok(n),
        _ => Err(format!("Invalid vacancy {what} value \"{text}\"")),
    };
    let (down, up) = (percent("down", down)?, percent("up", up)?);
    match down <= up {
        true => Ok((down, up)),
        false => Err("Invalid vacancy range, vacancy up should be greater than vacancy down \
                      (OFPBPC_BAD_VALUE)"
            .to_owned()),
    }
}

impl Setting {
    fn parse(text: &str, all: bool) -> Result<Setting, String> {
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        Ok(match text {
            "controller" => Setting::Miss(0),
            "continue" => Setting::Miss(1),
            "drop" => Setting::Miss(2),
            "evict" => Setting::Evict(true),
            "noevict" => Setting::Evict(false),
            "novacancy" => Setting::Vacancy(None),
            _ if word == "vacancy" => Setting::Vacancy(Some(parse_vacancy(rest)?)),
            _ if text.starts_with("name:") && !all => Setting::Name(rest.to_owned()),
            _ => return Err(format!("invalid table_mod setting {text}")),
        })
    }

    /// The versions that can say it.
    fn versions(&self) -> &'static [Version] {
        match self {
            Setting::Miss(_) => &[Version::Of11, Version::Of12],
            Setting::Evict(_) | Setting::Vacancy(_) => &[Version::Of14, Version::Of15],
            Setting::Name(_) => &[Version::Of13, Version::Of14, Version::Of15],
        }
    }
}

/// The table mod that changes a table and leaves the rest of its configuration alone.
fn table_mod(old: &TableDesc, setting: &Setting) -> TableMod {
    let vacancy = old.vacancy.map(|(down, up, _)| (down, up));
    let mut m = TableMod { table: old.table, config: old.config, eviction_flags: None, vacancy };
    let mut set = |bit: u32, on: bool| match on {
        true => m.config |= bit,
        false => m.config &= !bit,
    };
    match setting {
        Setting::Evict(on) => set(table_config::EVICTION, *on),
        Setting::Vacancy(thresholds) => {
            set(table_config::VACANCY_EVENTS, thresholds.is_some());
            m.vacancy = *thresholds;
        }
        Setting::Miss(config) => m.config = *config,
        Setting::Name(_) => {}
    }
    m
}

fn rename(tool: &mut Tool<'_, '_>, conn: &mut Conn, table: TableId, name: &str) -> Outcome {
    let mut list = features(tool, conn)?;
    let missing = || Failure::fatal(format!("switch does not have table {}", table.0));
    let at = list.iter().position(|t| t.table == table).ok_or_else(missing)?;
    list[at].name = name.chars().take(31).collect();
    if conn.version >= Version::Of15 {
        // Before 1.5 all tables must be said again.
        list = vec![TableFeatures {
            command: FeaturesCommand::Modify,
            has_properties: false,
            ..list.swap_remove(at)
        }];
    }
    let to = conn.message(tool.next_xid(), Body::BarrierRequest);
    let mut bytes = Vec::new();
    parts::append(&mut bytes, conn.agreed, &to, list.into_iter(), Body::TableFeaturesRequest);
    ask_all(tool, conn, &bytes, to.xid)?;
    Ok(0)
}

pub(super) fn mod_table(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let all = args[1].eq_ignore_ascii_case("all");
    let table = match all {
        true => TableId::ALL,
        false => tool.table(&args[0], &args[1])?,
    };
    let setting = Setting::parse(&args[2], all).map_err(Failure::fatal)?;
    if table == TableId(254) && setting == Setting::Miss(1) {
        let text = "last table's flow miss handling can not be continue";
        return Err(Failure::fatal(text));
    }
    let usable = setting.versions();
    let bits = usable.iter().fold(0, |m, v| m | v.bit());
    if tool.settings.versions & bits == 0 {
        let mut text = format!("table_mod '{}' requires one of the OpenFlow versions ", args[2]);
        for (i, v) in usable.iter().enumerate() {
            let _ = write!(text, "{}{}", if i == 0 { "" } else { ", " }, v.name());
        }
        return Err(Failure::fatal(text));
    }
    tool.settings.versions &= bits;
    let mut conn = tool.open(&args[0])?;
    if let Setting::Name(name) = &setting {
        return rename(tool, &mut conn, table, name);
    }
    if let Setting::Miss(_) = setting {
        let m = table_mod(&TableDesc { table, ..TableDesc::default() }, &setting);
        tool.change(&mut conn, Body::TableMod(m), false)?;
        return Ok(0);
    }
    let request = conn.message(tool.next_xid(), Body::TableDescRequest);
    let bytes = encode(&request, &conn)?;
    for part in ask_all(tool, &mut conn, &bytes, request.xid)? {
        let Body::TableDescReply(list) = part.body else { continue };
        for old in list.iter().filter(|t| all || t.table == table) {
            tool.change(&mut conn, Body::TableMod(table_mod(old, &setting)), false)?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let parse = |text| Setting::parse(text, false);
        assert_eq!(parse("vacancy:20,80"), Ok(Setting::Vacancy(Some((20, 80)))));
        assert_eq!(parse("novacancy"), Ok(Setting::Vacancy(None)));
        assert_eq!(parse("name:"), Ok(Setting::Name(String::new())));
        assert_eq!(parse("vacancy:").unwrap_err(), "Vacancy down value missing");
        assert_eq!(parse("vacancy:3").unwrap_err(), "Vacancy up value missing");
        assert_eq!(parse("vacancy:101,5").unwrap_err(), "Invalid vacancy down value \"101\"");
        assert!(parse("vacancy:9,8").unwrap_err().starts_with("Invalid vacancy range"));
        let why = "invalid table_mod setting name:x";
        assert_eq!(Setting::parse("name:x", true).unwrap_err(), why);
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let old = TableDesc {
            table: TableId(3),
            config: table_config::VACANCY_EVENTS,
            eviction_flags: Some(7),
            vacancy: Some((10, 90, 50)),
        };
        let m = table_mod(&old, &Setting::Evict(true));
        assert_eq!(m.config, table_config::VACANCY_EVENTS | table_config::EVICTION);
        assert_eq!(m.vacancy, Some((10, 90)));
        assert_eq!(table_mod(&old, &Setting::Vacancy(None)).config, 0);
    }
}
