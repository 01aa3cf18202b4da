//! The switch as `vsctl` sees it: bridges, fake bridges (VLANs of a bridge that look like bridges),
//! ports and interfaces, read from the rows that `Open_vSwitch` reaches.

use std::collections::BTreeMap;

use ovsdb::{Atom, Datum, Uuid};

use super::command::{Ctx, Stop};
use super::replica::{RowId, Txn};

/// A bridge, or a fake one.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// Name.
    pub name: String,
    /// Row of `Bridge`; a fake bridge has its parent's.
    pub row: RowId,
    /// For a fake bridge: its parent's name, its VLAN, and its row of `Port`.
    pub fake: Option<Fake>,
}

/// What makes a bridge fake.
#[derive(Debug, Clone)]
pub struct Fake {
    /// The bridge it is part of.
    pub parent: String,
    /// Its VLAN.
    pub vlan: i64,
    /// Row of its local port.
    pub port: RowId,
}

impl Bridge {
    /// The VLAN, 0 for a real bridge.
    pub fn vlan(&self) -> i64 {
        self.fake.as_ref().map_or(0, |f| f.vlan)
    }

    /// The real bridge's name.
    pub fn parent(&self) -> &str {
        self.fake.as_ref().map_or(&self.name, |f| &f.parent)
    }
}

/// A port.
#[derive(Debug, Clone)]
pub struct Port {
    /// Row of `Port`.
    pub row: RowId,
    /// Name of the bridge, perhaps fake, that it belongs to.
    pub bridge: String,
    /// Names of its interfaces.
    pub interfaces: Vec<String>,
}

/// An interface.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Name of its port.
    pub port: String,
    /// Name of the bridge, perhaps fake.
    pub bridge: String,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub struct Model {
    /// Bridges.
    pub bridges: BTreeMap<String, Bridge>,
    /// Ports, local ones included.
    pub ports: BTreeMap<String, Port>,
    /// Interfaces, local ones included.
    pub interfaces: BTreeMap<String, Interface>,
}

/// Rows of a transaction by the names of table and column.
impl Txn<'_> {
    /// Number of a table.
    ///
    /// # Errors
    /// The server's schema has no such table.
    pub fn table(&self, name: &str) -> Result<usize, Stop> {
        let schema = self.schema();
        schema.table_index(name).ok_or_else(|| {
            Stop::fatal(format!("the database (schema {}) has no table {name}", schema.version))
        })
    }

    /// Number of a column.
    ///
    /// # Errors
    /// The server's schema has no such column.
    pub fn column(&self, table: usize, name: &str) -> Result<usize, Stop> {
        let schema = self.schema();
        let table = &schema.tables[table];
        table.column_index(name).ok_or_else(|| {
            let (table, version) = (&table.name, &schema.version);
            Stop::fatal(format!("table {table} (schema {version}) has no column {name}"))
        })
    }

    /// A value of a row.
    ///
    /// # Errors
    /// The server's schema has no such column.
    pub fn value(&self, id: RowId, column: &str) -> Result<Datum, Stop> {
        let column = self.column(id.table, column)?;
        Ok(super::record::read(self, id, column))
    }

    /// The string in a column, empty if there is none.
    ///
    /// # Errors
    /// The server's schema has no such column.
    pub fn string(&self, id: RowId, column: &str) -> Result<String, Stop> {
        let value = self.value(id, column)?;
        Ok(value.keys().next().and_then(Atom::as_str).unwrap_or_default().to_owned())
    }

    /// The rows of `table` that a column refers to.
    ///
    /// # Errors
    /// The server's schema has no such table or column.
    pub fn refs(&self, id: RowId, column: &str, table: &str) -> Result<Vec<RowId>, Stop> {
        let table = self.table(table)?;
        let value = self.value(id, column)?;
        let uuids = value.keys().filter_map(Atom::as_uuid).map(|uuid| RowId { table, uuid });
        Ok(uuids.filter(|id| self.row(*id).is_some()).collect())
    }

    /// Sets a column.
    ///
    /// # Errors
    /// The server's schema has no such column.
    pub fn set(&mut self, id: RowId, column: &str, value: Datum) -> Result<(), Stop> {
        let column = self.column(id.table, column)?;
        self.write(id, column, value);
        Ok(())
    }

    /// Changes the references in a column, provided that nobody else does meanwhile.
    ///
    /// # Errors
    /// The server's schema has no such column.
    pub fn change_refs(
        &mut self,
        id: RowId,
        column: &str,
        change: impl FnOnce(&mut Vec<Uuid>),
    ) -> Result<(), Stop> {
        let number = self.column(id.table, column)?;
        self.verify(id, number);
        let mut uuids: Vec<Uuid> =
            self.value(id, column)?.keys().filter_map(Atom::as_uuid).collect();
        change(&mut uuids);
        self.write(id, number, Datum::set(uuids));
        Ok(())
    }

    /// Notes that what is done depends on a column.
    ///
    /// # Errors
    /// The server's schema has no such column.
    pub fn depends_on(&mut self, id: RowId, column: &str) -> Result<(), Stop> {
        let column = self.column(id.table, column)?;
        self.verify(id, column);
        Ok(())
    }

    /// The only row of `Open_vSwitch`.
    ///
    /// # Errors
    /// There is none; the caller of commands makes one, so this cannot be.
    pub fn root(&self) -> Result<RowId, Stop> {
        let table = self.table("Open_vSwitch")?;
        self.rows(table)
            .map(|(id, _)| id)
            .next()
            .ok_or_else(|| Stop::fatal("the database has no Open_vSwitch row"))
    }
}

impl Model {
    /// Reads the transaction's rows.
    ///
    /// # Errors
    /// The server's schema lacks something.
    pub fn read(txn: &Txn<'_>) -> Result<Self, Stop> {
        let mut model = Self::default();
        let mut real = Vec::new();
        for row in txn.refs(txn.root()?, "bridges", "Bridge")? {
            let name = txn.string(row, "name")?;
            real.push((name.clone(), row));
            model.bridges.insert(name.clone(), Bridge { name, row, fake: None });
        }
        for (parent, row) in real {
            let mut vlans: BTreeMap<i64, String> = BTreeMap::new();
            let mut ports = Vec::new();
            for port in txn.refs(row, "ports", "Port")? {
                let name = txn.string(port, "name")?;
                let tag = txn.value(port, "tag")?.keys().next().and_then(Atom::as_integer);
                let tag = tag.filter(|t| (0..=4095).contains(t));
                let is_fake = txn.value(port, "fake_bridge")?.as_scalar().and_then(Atom::as_bool);
                if let (Some(true), Some(vlan)) = (is_fake, tag)
                    && name != parent
                {
                    vlans.entry(vlan).or_insert_with(|| name.clone());
                    let fake = Some(Fake { parent: parent.clone(), vlan, port });
                    model.bridges.insert(name.clone(), Bridge { name: name.clone(), row, fake });
                }
                ports.push((name, port, tag));
            }
            for (name, port, tag) in ports {
                let bridge = tag.and_then(|t| vlans.get(&t)).unwrap_or(&parent).clone();
                let mut interfaces = Vec::new();
                for interface in txn.refs(port, "interfaces", "Interface")? {
                    let interface = txn.string(interface, "name")?;
                    let of = Interface { port: name.clone(), bridge: bridge.clone() };
                    model.interfaces.insert(interface.clone(), of);
                    interfaces.push(interface);
                }
                interfaces.sort();
                model.ports.insert(name, Port { row: port, bridge, interfaces });
            }
        }
        Ok(model)
    }

    /// The bridge of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn bridge(&self, name: &str) -> Result<&Bridge, Stop> {
        self.bridges.get(name).ok_or_else(|| Stop::fatal(format!("no bridge named {name}")))
    }

    /// The real bridge of that name.
    ///
    /// # Errors
    /// There is none, or it is fake.
    pub fn real_bridge(&self, name: &str) -> Result<&Bridge, Stop> {
        let bridge = self.bridge(name)?;
        if bridge.fake.is_some() {
            return Err(Stop::fatal(format!("{name} is a fake bridge")));
        }
        Ok(bridge)
    }

    /// The port of that name, if it is no local port.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.get(name).filter(|_| !self.bridges.contains_key(name))
    }

    /// The interface of that name, if it is not a local port's.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.get(name).filter(|_| !self.bridges.contains_key(name))
    }

    /// Refuses a name that something has already; `what` begins the message.
    ///
    /// # Errors
    /// Something has that name.
    pub fn check_free(&self, name: &str, what: &str) -> Result<(), Stop> {
        let taken = if self.bridges.contains_key(name) {
            format!("a bridge named {name} already exists")
        } else if let Some(port) = self.ports.get(name) {
            format!("a port named {name} already exists on bridge {}", port.bridge)
        } else if let Some(interface) = self.interfaces.get(name) {
            format!("an interface named {name} already exists on bridge {}", interface.bridge)
        } else {
            return Ok(());
        };
        Err(Stop::fatal(format!("{what} because {taken}")))
    }
}

/// Inserts a row of `table`.
///
/// # Errors
/// The server's schema has no such table.
pub fn insert(ctx: &mut Ctx<'_, '_>, table: &str) -> Result<RowId, Stop> {
    let table = ctx.txn.table(table)?;
    Ok(ctx.txn.insert(table, ctx.uuids.generate()))
}
