//! Names of a switch's ports and tables.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use base::{OfPort, TableId};
use flow::text::{NameMap, NoNames, parse_port, parse_table};
use openflow::message::{Body, PortDesc};
use openflow::version::Version;

use super::Tool;
use super::tables;
use crate::applet::Failure;

/// Names and numbers of one kind. A name that two have is none.
#[derive(Clone, Debug)]
struct Pairs<K> {
    by_name: HashMap<String, Option<K>>,
    by_number: HashMap<K, String>,
}

impl<K> Default for Pairs<K> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_number: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Pairs<K> {
    /// Adds a number; one without a name is there all the same.
    fn add(&mut self, name: &str, number: K) {
        self.by_name
            .entry(name.to_owned())
            .and_modify(|other| *other = None)
            .or_insert((!name.is_empty()).then_some(number));
        self.by_number.insert(number, name.to_owned());
    }

    fn number(&self, name: &str) -> Option<K> {
        self.by_name.get(name).copied().flatten()
    }

    fn name(&self, number: K) -> Option<&str> {
        let name = self.by_number.get(&number)?;
        self.by_name.get(name)?.map(|_| name.as_str())
    }
}

/// Names of a switch's ports and tables, as far as they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    ports: Rc<Pairs<OfPort>>,
    tables: Rc<Pairs<TableId>>,
}

/// Names of the switches that were asked, by what they were asked for as.
#[derive(Debug, Default)]
pub(super) struct Known {
    ports: HashMap<String, Rc<Pairs<OfPort>>>,
    tables: HashMap<String, Rc<Pairs<TableId>>>,
}

impl Names {
    /// Adds a port; one without a name is there all the same.
    pub fn add_port(&mut self, name: &str, port: OfPort) {
        Rc::make_mut(&mut self.ports).add(name, port);
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = OfPort> + '_ {
        self.ports.by_number.keys().copied()
    }

    /// `names`, or none.
    pub(super) fn or_none(names: Option<&Names>) -> &dyn NameMap {
        names.map_or(&NoNames, |n| n as &dyn NameMap)
    }
}

impl NameMap for Names {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.ports.number(name)
    }

    fn name(&self, port: OfPort) -> Option<&str> {
        self.ports.name(port)
    }

    fn table_number(&self, name: &str) -> Option<TableId> {
        self.tables.number(name)
    }

    fn table_name(&self, table: TableId) -> Option<&str> {
        self.tables.name(table)
    }
}

impl Tool<'_, '_> {
    /// Asks a switch, once, on a connection of its own.
    fn port_names_of(&mut self, target: &str) -> Result<Names, Failure> {
        let ports = match self.known.ports.get(target) {
            Some(known) => Rc::clone(known),
            None => {
                let mut pairs = Pairs::default();
                for p in self.port_descriptions(target)? {
                    pairs.add(&p.name, p.port);
                }
                let pairs = Rc::new(pairs);
                self.known.ports.insert(target.to_owned(), Rc::clone(&pairs));
                pairs
            }
        };
        Ok(Names { ports, ..Names::default() })
    }

    /// The same for tables.
    fn table_names_of(&mut self, target: &str) -> Result<Names, Failure> {
        let tables = match self.known.tables.get(target) {
            Some(known) => Rc::clone(known),
            None => {
                let mut conn = self.open(target)?;
                let mut pairs = Pairs::default();
                for t in tables::features(self, &mut conn)?.iter().filter(|t| !t.name.is_empty()) {
                    pairs.add(&t.name, t.table);
                }
                let pairs = Rc::new(pairs);
                self.known.tables.insert(target.to_owned(), Rc::clone(&pairs));
                pairs
            }
        };
        Ok(Names { tables, ..Names::default() })
    }

    /// Names of both.
    pub(super) fn names_of(&mut self, target: &str) -> Result<Names, Failure> {
        let Names { ports, .. } = self.port_names_of(target)?;
        Ok(Names { ports, ..self.table_names_of(target)? })
    }

    /// Names that are understood in texts.
    pub(super) fn names_in(&mut self, target: &str) -> Result<Names, Failure> {
        match self.settings.names.0 {
            true => self.names_of(target),
            false => Ok(Names::default()),
        }
    }

    /// The port that `text` names: a number, a reserved name, or a name of the switch's.
    pub(super) fn port(&mut self, target: &str, text: &str) -> Result<OfPort, Failure> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(OfPort::NONE);
        }
        if let Some(port) = parse_port(text, &NoNames) {
            return Ok(port);
        }
        let names = match self.settings.names.0 {
            true => self.port_names_of(target)?,
            false => Names::default(),
        };
        let unknown = || Failure::fatal(format!("{target}: unknown port `{text}'"));
        parse_port(text, &names).ok_or_else(unknown)
    }

    /// The table that `text` names: a number, or a name of the switch's.
    pub(super) fn table(&mut self, target: &str, text: &str) -> Result<TableId, Failure> {
        let names = match self.settings.names.0 {
            true => self.table_names_of(target)?,
            false => Names::default(),
        };
        parse_table(text, &names)
            .filter(|t| *t != TableId::ALL)
            .ok_or_else(|| Failure::fatal(format!("unknown table \"{text}\"")))
    }

    /// Names to print instead of numbers.
    pub(super) fn names_out(&mut self, target: &str) -> Result<Option<Names>, Failure> {
        match self.settings.names.1 {
            true => self.names_of(target).map(Some),
            false => Ok(None),
        }
    }

    /// All ports of a switch, asked for on a connection of its own.
    pub(super) fn port_descriptions(&mut self, target: &str) -> Result<Vec<PortDesc>, Failure> {
        let mut conn = self.open(target)?;
        if conn.version < Version::Of13 {
            return match conn.ask(self.next_xid(), Body::FeaturesRequest)?.body {
                Body::FeaturesReply(f) => Ok(f.ports),
                _ => Err(Failure::fatal(format!("{target}: received bad features reply"))),
            };
        }
        let request = conn.message(self.next_xid(), Body::PortDescRequest(OfPort::NONE));
        let mut list = Vec::new();
        for part in conn.ask_all(&request)? {
            let Body::PortDescReply(ports) = part.body else {
                return Err(Failure::fatal(format!("{target}: received bad port descriptions")));
            };
            list.extend(ports);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_is_none() {
        let mut names = Names::default();
        let tables = Rc::make_mut(&mut names.tables);
        tables.add("ingress", TableId(1));
        tables.add("twice", TableId(2));
        tables.add("twice", TableId(3));
        assert_eq!(names.table_number("ingress"), Some(TableId(1)));
        assert_eq!(names.table_name(TableId(1)), Some("ingress"));
        assert_eq!(names.table_number("twice"), None);
        assert_eq!(names.table_name(TableId(3)), None);
        assert_eq!(names.number("ingress"), None);
    }
}
