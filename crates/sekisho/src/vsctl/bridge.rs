//! The commands on bridges, ports and interfaces.

use ovsdb::{Atom, Datum};

use super::command::{ANY, Command, Ctx, Stop};
use super::model::{Bridge, Model, Port, insert};
use super::record::set_column;
use super::replica::RowId;

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "add-br",
        usage: "!NEW-BRIDGE ?PARENT ?NEW-VLAN",
        help: "create BRIDGE, or fake BRIDGE in PARENT on VLAN",
        args: (1, 3),
        options: &["--may-exist"],
        run: add_br,
    },
    Command {
        name: "del-br",
        usage: "!BRIDGE",
        help: "delete BRIDGE and all of its ports",
        args: (1, 1),
        options: &["--if-exists"],
        run: del_br,
    },
    Command {
        name: "list-br",
        usage: "",
        help: "print the names of all the bridges",
        args: (0, 0),
        options: &["--real", "--fake"],
        run: list_br,
    },
    Command {
        name: "br-exists",
        usage: "!BRIDGE",
        help: "exit 2 if BRIDGE does not exist",
        args: (1, 1),
        options: &[],
        run: br_exists,
    },
    Command {
        name: "br-to-vlan",
        usage: "!BRIDGE",
        help: "print the VLAN which BRIDGE is on",
        args: (1, 1),
        options: &[],
        run: br_to_vlan,
    },
    Command {
        name: "br-to-parent",
        usage: "!BRIDGE",
        help: "print the parent of BRIDGE",
        args: (1, 1),
        options: &[],
        run: br_to_parent,
    },
    Command {
        name: "br-set-external-id",
        usage: "!BRIDGE !KEY ?VALUE",
        help: "set KEY on BRIDGE to VALUE, or unset it",
        args: (2, 3),
        options: &[],
        run: br_set_external_id,
    },
    Command {
        name: "br-get-external-id",
        usage: "!BRIDGE ?KEY",
        help: "print value of KEY, or all keys, on BRIDGE",
        args: (1, 2),
        options: &[],
        run: br_get_external_id,
    },
    Command {
        name: "list-ports",
        usage: "!BRIDGE",
        help: "print the names of all the ports on BRIDGE",
        args: (1, 1),
        options: &[],
        run: list_ports,
    },
    Command {
        name: "add-port",
        usage: "!BRIDGE !NEW-PORT *COLUMN?:KEY=VALUE",
        help: "add network device PORT to BRIDGE",
        args: (2, ANY),
        options: &["--may-exist"],
        run: add_port,
    },
    Command {
        name: "add-bond",
        usage: "!BRIDGE !BOND +IFACE *COLUMN?:KEY=VALUE",
        help: "add bonded PORT in BRIDGE from IFACEs",
        args: (4, ANY),
        options: &["--may-exist", "--fake-iface"],
        run: add_bond,
    },
    Command {
        name: "del-port",
        usage: "?BRIDGE !PORT|IFACE",
        help: "delete PORT (which may be bonded) from BRIDGE",
        args: (1, 2),
        options: &["--if-exists", "--with-iface"],
        run: del_port,
    },
    Command {
        name: "add-bond-iface",
        usage: "!BOND !IFACE",
        help: "add IFACE to BOND",
        args: (2, 2),
        options: &["--may-exist"],
        run: add_bond_iface,
    },
    Command {
        name: "del-bond-iface",
        usage: "?BOND !IFACE",
        help: "delete IFACE from BOND, or from whatever port has it",
        args: (1, 2),
        options: &["--if-exists"],
        run: del_bond_iface,
    },
    Command {
        name: "port-to-br",
        usage: "!PORT",
        help: "print name of bridge that contains PORT",
        args: (1, 1),
        options: &[],
        run: port_to_br,
    },
    Command {
        name: "list-ifaces",
        usage: "!BRIDGE",
        help: "print the names of all interfaces on BRIDGE",
        args: (1, 1),
        options: &[],
        run: list_ifaces,
    },
    Command {
        name: "iface-to-br",
        usage: "!IFACE",
        help: "print name of bridge that contains IFACE",
        args: (1, 1),
        options: &[],
        run: iface_to_br,
    },
];

/// The command as typed, options first, for messages.
fn as_typed(ctx: &Ctx<'_, '_>) -> String {
    let options = ctx.options.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    });
    options.chain(ctx.argv.iter().cloned()).collect::<Vec<_>>().join(" ")
}

fn add_br(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let name = ctx.arg(1).to_owned();
    if name.is_empty() {
        return Err(Stop::fatal("bridge name must not be empty string"));
    }
    let parent = match ctx.argv.len() {
        2 => None,
        3 => return Err(Stop::fatal("'add-br' command takes exactly 1 or 3 arguments")),
        _ => {
            let hint = "add-br: vlan must be between 0 and 4095";
            match ctx.number(ctx.arg(3), hint)? {
                vlan @ 0..=4095 => Some((ctx.arg(2).to_owned(), vlan)),
                _ => return Err(Stop::fatal(hint)),
            }
        }
    };
    let model = Model::read(ctx.txn)?;
    if let (true, Some(have)) = (ctx.has("--may-exist"), model.bridges.get(&name)) {
        let but = match (&parent, &have.fake) {
            (None, None) => return Ok(()),
            (None, Some(fake)) => format!("is a VLAN bridge for VLAN {}", fake.vlan),
            (Some(_), None) => "is not a VLAN bridge".to_owned(),
            (Some((parent, _)), Some(fake)) if *parent != fake.parent => {
                format!("has the wrong parent {}", fake.parent)
            }
            (Some((_, vlan)), Some(fake)) if *vlan != fake.vlan => {
                format!("is a VLAN bridge for the wrong VLAN {}", fake.vlan)
            }
            _ => return Ok(()),
        };
        let wanted = match &parent {
            None => name.clone(),
            Some((parent, vlan)) => format!("{name} {parent} {vlan}"),
        };
        return Err(Stop::fatal(format!("\"--may-exist add-br {wanted}\" but {name} {but}")));
    }
    model.check_free(&name, &format!("cannot create a bridge named {name}"))?;
    let (bridge_row, vlan) = match &parent {
        None => (None, None),
        Some((parent, vlan)) => {
            let Some(real) = model.bridges.get(parent) else {
                return Err(Stop::fatal(format!("parent bridge {parent} does not exist")));
            };
            if real.fake.is_some() {
                return Err(Stop::fatal("cannot create bridge with fake bridge as parent"));
            }
            let twin = model
                .bridges
                .values()
                .find(|b| b.fake.as_ref().is_some_and(|f| f.parent == *parent && f.vlan == *vlan));
            if let Some(twin) = twin {
                return Err(Stop::fatal(format!(
                    "bridge {parent} already has a child VLAN bridge {} on VLAN {vlan}",
                    twin.name
                )));
            }
            (Some(real.row), Some(*vlan))
        }
    };
    let interface = insert(ctx, "Interface")?;
    ctx.txn.set(interface, "name", Datum::scalar(name.as_str()))?;
    ctx.txn.set(interface, "type", Datum::scalar("internal"))?;
    ctx.new_interfaces.push(interface);
    let port = insert(ctx, "Port")?;
    ctx.txn.set(port, "name", Datum::scalar(name.as_str()))?;
    ctx.txn.set(port, "interfaces", Datum::scalar(interface.uuid))?;
    if let Some(vlan) = vlan {
        ctx.txn.set(port, "fake_bridge", Datum::scalar(true))?;
        ctx.txn.set(port, "tag", Datum::scalar(vlan))?;
    }
    match bridge_row {
        Some(bridge) => ctx.txn.change_refs(bridge, "ports", |refs| refs.push(port.uuid)),
        None => {
            let bridge = insert(ctx, "Bridge")?;
            ctx.txn.set(bridge, "name", Datum::scalar(name))?;
            ctx.txn.set(bridge, "ports", Datum::scalar(port.uuid))?;
            let root = ctx.txn.root()?;
            ctx.txn.change_refs(root, "bridges", |refs| refs.push(bridge.uuid))
        }
    }
}

fn del_br(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    let Some(bridge) = model.bridges.get(ctx.arg(1)) else {
        return if ctx.has("--if-exists") { Ok(()) } else { model.bridge(ctx.arg(1)).map(|_| ()) };
    };
    let belongs = |name: &str| {
        name == bridge.name || model.bridges.get(name).is_some_and(|b| b.parent() == bridge.name)
    };
    let doomed: Vec<RowId> =
        model.ports.values().filter(|p| belongs(&p.bridge)).map(|p| p.row).collect();
    if bridge.fake.is_some() {
        ctx.txn.change_refs(bridge.row, "ports", |refs| {
            refs.retain(|u| !doomed.iter().any(|d| d.uuid == *u));
        })?;
    } else {
        let root = ctx.txn.root()?;
        let uuid = bridge.row.uuid;
        ctx.txn.change_refs(root, "bridges", |refs| refs.retain(|u| *u != uuid))?;
        // What refers to the bridge would keep the transaction from being committed.
        if let Ok(sets) = ctx.txn.table("Flow_Sample_Collector_Set") {
            let rows: Vec<RowId> = ctx.txn.rows(sets).map(|(id, _)| id).collect();
            for row in rows {
                if ctx.txn.value(row, "bridge")?.contains_key(&Atom::Uuid(uuid)) {
                    ctx.txn.delete(row);
                }
            }
        }
        ctx.txn.delete(bridge.row);
    }
    delete_ports(ctx, &doomed)
}

/// Deletes rows of `Port` that no bridge refers to any more, and their interfaces.
fn delete_ports(ctx: &mut Ctx<'_, '_>, ports: &[RowId]) -> Result<(), Stop> {
    for &port in ports {
        for interface in ctx.txn.refs(port, "interfaces", "Interface")? {
            ctx.txn.delete(interface);
        }
        ctx.txn.delete(port);
    }
    Ok(())
}

fn list_br(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let (real, fake) = (ctx.has("--real"), ctx.has("--fake"));
    if real && fake {
        return Err(Stop::fatal("--real and --fake may not be specified together"));
    }
    let model = Model::read(ctx.txn)?;
    for bridge in model.bridges.values() {
        if if bridge.fake.is_some() { !real } else { !fake } {
            ctx.line(&bridge.name);
        }
    }
    Ok(())
}

fn br_exists(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    if Model::read(ctx.txn)?.bridges.contains_key(ctx.arg(1)) { Ok(()) } else { Err(Stop::Exit(2)) }
}

fn br_to_vlan(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let vlan = Model::read(ctx.txn)?.bridge(ctx.arg(1))?.vlan();
    ctx.line(vlan);
    Ok(())
}

fn br_to_parent(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    ctx.line(model.bridge(ctx.arg(1))?.parent());
    Ok(())
}

/// Where a bridge's external ids stand, and what its keys begin with there.
fn external_ids(bridge: &Bridge) -> (RowId, &'static str) {
    match &bridge.fake {
        Some(fake) => (fake.port, "fake-bridge-"),
        None => (bridge.row, ""),
    }
}

fn br_set_external_id(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    let (row, prefix) = external_ids(model.bridge(ctx.arg(1))?);
    let key = format!("{prefix}{}", ctx.arg(2));
    ctx.txn.depends_on(row, "external_ids")?;
    let mut ids = ctx.txn.value(row, "external_ids")?;
    if ctx.argv.len() > 3 {
        ids.union(&Datum::map([(key, ctx.arg(3))]), true);
    } else {
        ids.subtract(&Datum::set([key]));
    }
    ctx.txn.set(row, "external_ids", ids)
}

fn br_get_external_id(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    let (row, prefix) = external_ids(model.bridge(ctx.arg(1))?);
    ctx.txn.depends_on(row, "external_ids")?;
    for (key, value) in ctx.txn.value(row, "external_ids")?.pairs() {
        let (Some(key), Some(value)) = (key.as_str(), value.as_str()) else { continue };
        let Some(key) = key.strip_prefix(prefix) else { continue };
        if ctx.argv.len() < 3 {
            ctx.line(format_args!("{key}={value}"));
        } else if key == ctx.arg(2) {
            ctx.line(value);
        }
    }
    Ok(())
}

fn list_ports(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    let bridge = model.bridge(ctx.arg(1))?;
    ctx.txn.depends_on(bridge.row, "ports")?;
    for (name, port) in &model.ports {
        if port.bridge == bridge.name && !model.bridges.contains_key(name) {
            ctx.line(name);
        }
    }
    Ok(())
}

fn list_ifaces(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    let bridge = model.bridge(ctx.arg(1))?;
    ctx.txn.depends_on(bridge.row, "ports")?;
    for (name, interface) in &model.interfaces {
        if interface.bridge == bridge.name && !model.bridges.contains_key(name) {
            ctx.line(name);
        }
    }
    Ok(())
}

fn add_port(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let argv = ctx.argv;
    new_port(ctx, &argv[2..3], &argv[3..])
}

fn add_bond(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let n = ctx.argv[3..].iter().take_while(|a| !a.contains('=')).count();
    if n < 2 {
        return Err(Stop::fatal(format!(
            "add-bond requires at least 2 interfaces, but only {n} were specified"
        )));
    }
    let argv = ctx.argv;
    let (interfaces, settings) = argv[3..].split_at(n);
    new_port(ctx, interfaces, settings)
}

/// Adds the port named by the second argument to the bridge named by the first.
fn new_port(ctx: &mut Ctx<'_, '_>, interfaces: &[String], settings: &[String]) -> Result<(), Stop> {
    let (bridge_name, name) = (ctx.arg(1).to_owned(), ctx.arg(2).to_owned());
    if name.is_empty() {
        return Err(Stop::fatal("port name must not be empty string"));
    }
    let model = Model::read(ctx.txn)?;
    if let (true, Some(have)) = (ctx.has("--may-exist"), model.port(&name)) {
        let mut wanted = interfaces.to_vec();
        wanted.sort();
        wanted.dedup();
        let typed = as_typed(ctx);
        if have.bridge != bridge_name {
            let text =
                format!("\"{typed}\" but {name} is actually attached to bridge {}", have.bridge);
            return Err(Stop::fatal(text));
        }
        if have.interfaces != wanted {
            let have = have.interfaces.join(", ");
            let text = format!("\"{typed}\" but {name} actually has interface(s) {have}");
            return Err(Stop::fatal(text));
        }
        return Ok(());
    }
    model.check_free(&name, &format!("cannot create a port named {name}"))?;
    for interface in interfaces {
        let what = format!("cannot create an interface named {interface}");
        model.check_free(interface, &what)?;
    }
    let bridge = model.bridge(&bridge_name)?;
    let mut rows = Vec::new();
    for interface in interfaces {
        let row = insert(ctx, "Interface")?;
        ctx.txn.set(row, "name", Datum::scalar(interface.as_str()))?;
        ctx.new_interfaces.push(row);
        rows.push(row.uuid);
    }
    let port = insert(ctx, "Port")?;
    ctx.txn.set(port, "name", Datum::scalar(name))?;
    ctx.txn.set(port, "interfaces", Datum::set(rows))?;
    if ctx.has("--fake-iface") {
        ctx.txn.set(port, "bond_fake_iface", Datum::scalar(true))?;
    }
    if bridge.fake.is_some() {
        ctx.txn.set(port, "tag", Datum::scalar(bridge.vlan()))?;
    }
    for setting in settings {
        set_column(ctx, port, setting, true)?;
    }
    ctx.txn.change_refs(bridge.row, "ports", |refs| refs.push(port.uuid))
}

fn del_port(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let target = ctx.argv.last().cloned().unwrap_or_default();
    let model = Model::read(ctx.txn)?;
    // The local port stands and falls with its bridge.
    if model.bridges.contains_key(&target) && !ctx.has("--if-exists") {
        return Err(Stop::fatal(format!(
            "cannot delete port {target} because it is the local port for bridge {target} \
             (deleting this port requires deleting the entire bridge)"
        )));
    }
    let port = match (model.port(&target), ctx.has("--with-iface")) {
        (None, true) => model.interface(&target).and_then(|i| model.ports.get(&i.port)),
        (port, _) => port,
    };
    let Some(port) = port else {
        return match (ctx.has("--if-exists"), ctx.has("--with-iface")) {
            (true, _) => Ok(()),
            (_, true) => Err(Stop::fatal(format!("no port or interface named {target}"))),
            (_, false) => Err(Stop::fatal(format!("no port named {target}"))),
        };
    };
    if ctx.argv.len() > 2 {
        let bridge = model.bridge(ctx.arg(1))?;
        if port.bridge != bridge.name {
            let name = &bridge.name;
            let of_port = model.bridge(&port.bridge)?;
            let hint = if of_port.parent() == name {
                format!(" (although its child bridge {} does)", port.bridge)
            } else {
                String::new()
            };
            return Err(Stop::fatal(format!("bridge {name} does not have a port {target}{hint}")));
        }
    }
    let (row, bridge) = (port.row, model.bridge(&port.bridge)?.row);
    ctx.txn.change_refs(bridge, "ports", |refs| refs.retain(|u| *u != row.uuid))?;
    delete_ports(ctx, &[row])
}

/// The port of that name.
fn must_find_port<'m>(model: &'m Model, name: &str) -> Result<&'m Port, Stop> {
    model.port(name).ok_or_else(|| Stop::fatal(format!("no port named {name}")))
}

fn add_bond_iface(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let name = ctx.arg(2);
    let model = Model::read(ctx.txn)?;
    let bond = must_find_port(&model, ctx.arg(1))?.row;
    if let (true, Some(have)) = (ctx.has("--may-exist"), model.interface(name)) {
        if have.port == ctx.arg(1) {
            return Ok(());
        }
        return Err(Stop::fatal(format!(
            "\"{}\" but {name} is actually attached to port {}",
            as_typed(ctx),
            have.port
        )));
    }
    model.check_free(name, &format!("cannot create an interface named {name}"))?;
    let row = insert(ctx, "Interface")?;
    ctx.txn.set(row, "name", Datum::scalar(name))?;
    ctx.new_interfaces.push(row);
    ctx.txn.change_refs(bond, "interfaces", |refs| refs.push(row.uuid))
}

fn del_bond_iface(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let name = ctx.argv.last().map_or("", String::as_str);
    let model = Model::read(ctx.txn)?;
    let bond = match ctx.argv.len() {
        3 => Some(must_find_port(&model, ctx.arg(1))?),
        _ => None,
    };
    let Some(interface) = model.interface(name) else {
        if ctx.has("--if-exists") {
            return Ok(());
        }
        return Err(Stop::fatal(format!("no interface named {name}")));
    };
    if bond.is_some() && interface.port != ctx.arg(1) {
        let bond = ctx.arg(1);
        return Err(Stop::fatal(format!("port {bond} does not have an interface {name}")));
    }
    let port = must_find_port(&model, &interface.port)?;
    if port.interfaces.len() == 1 {
        let port = &interface.port;
        return Err(Stop::fatal(format!("cannot delete last interface from port {port}")));
    }
    for row in ctx.txn.refs(port.row, "interfaces", "Interface")? {
        if ctx.txn.string(row, "name")? == name {
            ctx.txn.change_refs(port.row, "interfaces", |refs| refs.retain(|u| *u != row.uuid))?;
            ctx.txn.delete(row);
        }
    }
    Ok(())
}

fn port_to_br(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    match model.port(ctx.arg(1)) {
        Some(port) => ctx.line(&port.bridge),
        None => return Err(Stop::fatal(format!("no port named {}", ctx.arg(1)))),
    }
    Ok(())
}

fn iface_to_br(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let model = Model::read(ctx.txn)?;
    match model.interface(ctx.arg(1)) {
        Some(interface) => ctx.line(&interface.bridge),
        None => return Err(Stop::fatal(format!("no interface named {}", ctx.arg(1)))),
    }
    Ok(())
}
