//! What `monitor SWITCH watch:…` asks for (`ovs-ofctl(8)`).

use base::{OfPort, TableId};
use flow::text::{MatchParser, Mode, NameMap, Pairs, TextError, Tok};
use openflow::Match;
use openflow::flow_mod::GROUP_ANY;
use openflow::message::{FlowMonitor, MonitorCommand, monitor_flag};

/// Flags by the words that take them away.
const FLAGS: [(&str, u16); 7] = [
    ("!initial", monitor_flag::INITIAL),
    ("!add", monitor_flag::ADD),
    ("!delete", monitor_flag::DELETE),
    ("!modify", monitor_flag::MODIFY),
    ("!actions", monitor_flag::ACTIONS),
    ("!abbrev", monitor_flag::NO_ABBREV),
    ("!own", monitor_flag::OWN),
];

/// Reads what is behind `watch:`. `id` tells the monitor from others of the connection.
pub fn parse(
    text: &str,
    id: u32,
    names: &dyn NameMap,
    mode: Mode,
) -> Result<FlowMonitor, TextError> {
    let mut monitor = FlowMonitor {
        id,
        command: MonitorCommand::Add,
        flags: FLAGS.iter().fold(0, |m, f| m | f.1) & !monitor_flag::NO_ABBREV,
        out_port: OfPort::NONE,
        out_group: GROUP_ANY,
        table: TableId::ALL,
        match_: Match::ANY,
    };
    let mut fields = MatchParser::new(names, mode);
    for pair in Pairs::new(Tok::line(text)) {
        let (name, value) = (pair.key.text, pair.value);
        if let Some((_, flag)) = FLAGS.iter().find(|f| f.0 == name) {
            monitor.flags &= !flag;
            continue;
        }
        let bad = |what: &str| {
            TextError::new(value, format!("{text}: {} is not a valid {what}", value.text))
        };
        match name {
            "table" => {
                let unknown = || TextError::new(value, format!("unknown table \"{}\"", value.text));
                monitor.table = flow::text::parse_table(value.text, names).ok_or_else(unknown)?;
            }
            "out_port" => {
                monitor.out_port =
                    flow::text::parse_port(value.text, names).ok_or_else(|| bad("port"))?;
            }
            "out_group" => {
                monitor.out_group = value.text.parse().map_err(|_| bad("group"))?;
            }
            _ => {
                if !fields.take(&pair)? {
                    let why = format!("{text}: unknown keyword {name}");
                    return Err(TextError::new(pair.key, why));
                }
            }
        }
    }
    (monitor.match_, _) = fields.finish()?;
    Ok(monitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::text::NoNames;

    #[test]
    fn everything_is_watched_but_what_is_taken_away() {
        let parse = |text| super::parse(text, 3, &NoNames, Mode::Strict);
        let m = parse("").unwrap();
        assert_eq!((m.id, m.flags, m.table), (3, 0x5f, TableId::ALL));
        let m = parse("!initial,!own,table=4,out_port=2,tcp").unwrap();
        assert_eq!((m.flags, m.table, m.out_port), (0x1e, TableId(4), OfPort(2)));
        assert_ne!(m.match_, Match::ANY);
        for bad in ["!nothing", "table=x", "out_port=nowhere", "tcp_dst=x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
