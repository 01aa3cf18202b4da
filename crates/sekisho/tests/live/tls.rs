//! TLS: tools, controllers, managers and a database server that prove who they are, with keys that
//! `ovs-pki` made.

use std::process::Command;

use testkit::need;
use testkit::process::{DEADLINE, eventually};
use testkit::story::Story;
use testkit::sut::{Sut, Whose};

use crate::{BINARY, can_run, start, switch, tools};

/// Keys of a switch, of a controller, and of a stranger, in a directory.
struct Pki {
    dir: String,
}

impl Pki {
    fn new(sut: &Sut<'_>) -> Pki {
        let dir = sut.file("pki");
        std::fs::create_dir_all(&dir).unwrap();
        for (ca, names) in
            [("d", &[("sw", "switch"), ("ct", "controller")][..]), ("e", &[("xx", "controller")])]
        {
            let run = |args: &[&str]| {
                let mut cmd = Command::new("ovs-pki");
                cmd.args(["-d", &format!("{dir}/{ca}"), "-l", &format!("{dir}/log"), "-u"]);
                let out = cmd.args(args).current_dir(&dir).output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            };
            run(&["init"]);
            names.iter().for_each(|(name, kind)| run(&["req+sign", name, kind]));
        }
        Pki { dir }
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Key, certificate, and the CA whose certificates are believed.
    fn keys(&self, name: &str, ca: &str) -> [String; 3] {
        let ca = self.file(&format!("d/{ca}ca/cacert.pem"));
        [self.file(&format!("{name}-privkey.pem")), self.file(&format!("{name}-cert.pem")), ca]
    }

    /// The same as options of a tool.
    fn options(&self, name: &str) -> String {
        let [key, cert, ca] = self.keys(name, "switch");
        format!("--private-key={key} --certificate={cert} --ca-cert={ca}")
    }
}

/// Runs a line of a tool until it succeeds, as what it talks to may be on its way.
fn patiently(sut: &Sut<'_>, whose: Whose, line: &str) -> String {
    let argv: Vec<&str> = line.split_whitespace().collect();
    eventually(line, DEADLINE, || {
        let ran = sut.tool(whose, &argv)?;
        Ok(ran.success().then_some(ran.stdout))
    })
    .unwrap()
}

fn fails(sut: &Sut<'_>, whose: Whose, line: &str) -> String {
    let ran = sut.tool(whose, &line.split_whitespace().collect::<Vec<_>>()).unwrap();
    assert!(!ran.success(), "{line}: {}", ran.text());
    ran.stderr
}

/// Everybody who runs here.
fn everybody() -> Vec<Whose> {
    let stock = testkit::sut::have_stock().unwrap();
    [Whose::Ours].into_iter().chain(stock.then_some(Whose::Stock)).collect()
}

#[test]
fn tools_and_managers_prove_who_they_are() {
    if !can_run(switch(), tools()) || !need::programs(&["ovs-pki", "openssl"]).unwrap() {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    let pki = Pki::new(&sut);
    sut.add_bridge(tools(), &["vm1p"]).unwrap();
    let keys = pki.keys("sw", "controller").join(" ");
    sut.ok(tools(), &format!("ovs-vsctl set-ssl {keys} -- set-manager pssl:6640:127.0.0.1"))
        .unwrap();
    sut.ok(tools(), "ovs-vsctl set-controller br0 pssl:6653:127.0.0.1").unwrap();
    let good = pki.options("ct");
    for whose in everybody() {
        let db = "--timeout=5 --db=ssl:127.0.0.1:6640";
        assert_eq!(patiently(&sut, whose, &format!("ovs-vsctl {good} {db} list-br")), "br0\n");
        let dbs = format!("ovsdb-client {good} list-dbs ssl:127.0.0.1:6640");
        assert!(patiently(&sut, whose, &dbs).contains("Open_vSwitch"));
        let show = format!("ovs-ofctl {good} show ssl:127.0.0.1:6653");
        assert!(patiently(&sut, whose, &show).contains("2(vm1p)"), "{whose:?}");

        // A CA that is not there yet is learned from a peer that presents it, which a switch does
        // not do; nobody's or a stranger's keys will not do, and plain words least.
        let bad = pki.options("xx");
        fails(&sut, whose, &format!("ovs-ofctl {bad} show ssl:127.0.0.1:6653"));
        fails(&sut, whose, &format!("ovs-vsctl {bad} {db} list-br"));
        fails(&sut, whose, "ovs-ofctl show ssl:127.0.0.1:6653");
        fails(&sut, whose, "ovs-vsctl --timeout=3 --db=tcp:127.0.0.1:6640 list-br");
        let [key, cert, _] = pki.keys("ct", "switch");
        let learned = pki.file("learned.pem");
        let first =
            format!("--private-key={key} --certificate={cert} --bootstrap-ca-cert={learned}");
        fails(&sut, whose, &format!("ovs-ofctl {first} show ssl:127.0.0.1:6653"));
        assert!(!std::path::Path::new(&learned).exists());
        // An older version is spoken where it is asked for.
        let old = format!("ovs-vsctl {good} --ssl-protocols=TLSv1.2 {db} list-br");
        assert_eq!(sut.ok(whose, &old).unwrap(), "br0\n");
    }
    // Other keys count for connections that are made from then on.
    let [key, cert, _] = pki.keys("sw", "controller");
    let other = pki.file("e/controllerca/cacert.pem");
    sut.ok(tools(), &format!("ovs-vsctl set-ssl {key} {cert} {other}")).unwrap();
    let bad = pki.options("xx");
    patiently(&sut, tools(), &format!("ovs-ofctl {bad} show ssl:127.0.0.1:6653"));
    fails(&sut, tools(), &format!("ovs-ofctl {good} show ssl:127.0.0.1:6653"));
    sut.check_alive().unwrap();
}

#[test]
fn a_switch_proves_who_it_is_to_its_database() {
    if switch() == Whose::Stock || !testkit::sut::have_stock().unwrap() {
        return;
    }
    if !need::programs(&["ovs-pki", "openssl"]).unwrap() {
        return;
    }
    let story = Story::new().unwrap();
    let sut = Sut::stage(BINARY, &story.sw).unwrap();
    let pki = Pki::new(&sut);
    let (db, socket) = (sut.file("far.db"), sut.file("far.sock"));
    let schema = "/usr/share/openvswitch/vswitch.ovsschema";
    story.sw.ok(&["ovsdb-tool", "create", &db, schema]).unwrap();
    let spawn = |line: &str, [key, cert, ca]: [String; 3]| {
        let line = format!("{line} --private-key={key} --certificate={cert} --ca-cert={ca}");
        story.sw.spawn(&line.split_whitespace().collect::<Vec<_>>()).unwrap()
    };
    let ctl = sut.file("far.ctl");
    let remotes = format!("--remote=pssl:6640:127.0.0.1 --remote=punix:{socket}");
    let server = format!("ovsdb-server {db} {remotes} --unixctl={ctl} -vconsole:off");
    let _server = spawn(&server, pki.keys("ct", "switch"));
    let switch = format!("{BINARY} run --rundir {} --ovsdb ssl:127.0.0.1:6640", sut.rundir());
    let mut switch = spawn(&switch, pki.keys("sw", "controller"));
    patiently(&sut, Whose::Stock, &format!("ovs-vsctl --timeout=10 --db=unix:{socket} add-br br0"));
    let show = patiently(&sut, Whose::Ours, "ovs-ofctl show br0");
    assert!(show.contains("LOCAL(br0)"), "{show}");
    assert!(switch.alive());
    // A stranger's keys do not get in.
    let other = Sut::stage(BINARY, &story.sw).unwrap();
    let stranger = format!("{BINARY} run --rundir {} --ovsdb ssl:127.0.0.1:6640", other.rundir());
    let stranger = spawn(&stranger, pki.keys("xx", "controller"));
    let lost = || Ok(stranger.stderr().contains("connection dropped").then_some(()));
    eventually("the stranger is turned away", DEADLINE, lost).unwrap();
}

#[test]
fn a_tool_learns_the_ca_of_the_first_peer() {
    if switch() == Whose::Stock || !need::programs(&["ovs-pki", "openssl"]).unwrap() {
        return;
    }
    let story = Story::new().unwrap();
    let staged = Sut::stage(BINARY, &story.sw).unwrap();
    let pki = Pki::new(&staged);
    let [key, cert, ca] = pki.keys("sw", "controller");
    let own_ca = pki.file("d/switchca/cacert.pem");
    let keys =
        [("private-key", key), ("certificate", cert), ("ca-cert", ca), ("peer-ca-cert", own_ca)]
            .map(|(name, file)| format!("--{name}={file}"));
    let options: Vec<&str> = keys.iter().map(String::as_str).collect();
    let sut = Sut::start_with(Whose::Ours, BINARY, &story.sw, &options).unwrap();
    sut.ok(Whose::Ours, "ovs-vsctl --no-wait set-manager pssl:6640:127.0.0.1 -- add-br br3")
        .unwrap();
    for (n, whose) in everybody().into_iter().enumerate() {
        let [key, cert, _] = pki.keys("ct", "switch");
        let learned = pki.file(&format!("learned{n}.pem"));
        let line = format!(
            "ovs-vsctl --private-key={key} --certificate={cert} --bootstrap-ca-cert={learned} \
             --timeout=9 --db=ssl:127.0.0.1:6640 list-br"
        );
        for _ in 0..2 {
            assert_eq!(patiently(&sut, whose, &line), "br3\n");
        }
        let pem = std::fs::read_to_string(&learned).unwrap();
        let ca = std::fs::read_to_string(pki.file("d/switchca/cacert.pem")).unwrap();
        let body = |text: &str| {
            let text = &text[text.find("-----BEGIN").unwrap()..];
            text.split_whitespace().collect::<String>()
        };
        assert_eq!(body(&pem), body(&ca), "{whose:?}");
    }
}
