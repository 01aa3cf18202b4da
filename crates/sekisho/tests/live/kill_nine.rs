//! What the database has acknowledged survives `kill -9` at any instant.
//!
//! Fifty times: random `ovs-vsctl` transactions, up to 200, one after the other, and the daemon is
//! killed in the middle of one of them. It must start again on what it finds and hold all that was
//! acknowledged; the transaction in flight may be there whole or not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testkit::need;
use testkit::netns::Netns;
use testkit::process::Proc;
use testkit::sut::{Sut, Whose, have_stock};

use crate::{can_run, start, switch, tools};

const ROUNDS: u32 = 50;
const TRANSACTIONS: u64 = 200;
const BRIDGES: u64 = 4;

/// What the database must hold: the external ids of each bridge.
type Model = BTreeMap<String, BTreeMap<String, String>>;

/// Numbers that look random and are the same on each run (xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A random transaction: its command line, and the model as it is after it.
fn transaction(random: &mut Random, model: &Model) -> (String, Model) {
    let mut after = model.clone();
    let bridge = format!("kn{}", random.below(BRIDGES));
    let (key, value) = (format!("k{}", random.below(6)), random.below(1 << 40).to_string());
    let line = match (random.below(8), after.get_mut(&bridge)) {
        (_, None) => {
            after.insert(bridge.clone(), BTreeMap::from([(key.clone(), value.clone())]));
            // Two operations and the garbage collection of none: all or nothing.
            format!("add-br {bridge} -- set Bridge {bridge} external_ids:{key}={value}")
        }
        (0, Some(_)) => {
            after.remove(&bridge);
            format!("del-br {bridge}")
        }
        (1, Some(ids)) => {
            ids.clear();
            format!("clear Bridge {bridge} external_ids")
        }
        (2, Some(ids)) => {
            ids.remove(&key);
            format!("remove Bridge {bridge} external_ids {key}")
        }
        (3, Some(ids)) => {
            // A large one, so that a kill falls within a write.
            let long = value.repeat(2000);
            ids.insert(key.clone(), long.clone());
            format!("set Bridge {bridge} external_ids:{key}={long}")
        }
        (_, Some(ids)) => {
            ids.insert(key.clone(), value.clone());
            format!("set Bridge {bridge} external_ids:{key}={value}")
        }
    };
    (line, after)
}

/// What the database holds.
fn read(sut: &Sut<'_>, client: Whose) -> Model {
    let listing = sut.ok(client, "ovs-vsctl --timeout=20 --no-wait list-br").unwrap();
    listing
        .lines()
        .map(|bridge| {
            let line = format!("ovs-vsctl --timeout=20 --no-wait br-get-external-id {bridge}");
            let ids = sut.ok(client, &line).unwrap();
            let pairs = ids.lines().filter_map(|line| line.split_once('='));
            (bridge.to_owned(), pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
        })
        .collect()
}

/// A client that writes: the stock one where there is one.
fn client() -> Whose {
    if have_stock().unwrap() { Whose::Stock } else { tools() }
}

#[test]
fn kill_nine() {
    if !can_run(switch(), tools()) {
        return;
    }
    let _turn = need::turn("cpu").unwrap();
    let client = client();
    let ns = Netns::new("db").unwrap();
    let mut sut = start(&ns);
    let mut random = Random(0x5e15_0000_0000_0001);
    let mut model = Model::new();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let fatal = random.below(TRANSACTIONS);
        for n in 0..=fatal {
            let (line, after) = transaction(&mut random, &model);
            let line = format!("ovs-vsctl --timeout=20 --no-wait {line}");
            if n < fatal {
                sut.ok(client, &line).unwrap_or_else(|e| panic!("round {round}: {e}"));
                (model, acknowledged) = (after, acknowledged + 1);
                continue;
            }
            // Killed between the start of the client and a little after its usual end.
            let mut writer = sut.spawn_tool(client, &line).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(12_000)));
            sut.kill();
            let done = acknowledgement(&mut writer);
            sut.start_again().unwrap_or_else(|e| panic!("round {round}: {e:#}"));
            let found = read(&sut, client);
            if done {
                assert_eq!(found, after, "round {round}: an acknowledged transaction is lost");
            } else {
                assert!(
                    found == model || found == after,
                    "round {round}: after {line}\nfound {found:?}\nwanted {model:?}\nor {after:?}"
                );
            }
            (model, acknowledged) = (found, acknowledged + u32::from(done));
        }
    }
    sut.check_alive().unwrap();
    eprintln!("{acknowledged} transactions acknowledged in {ROUNDS} rounds, none lost");
}

/// Whether the client says that its transaction is done. One that has not ended a moment after the
/// daemon's death is waiting for it to come back, and is ended before it can try again.
fn acknowledgement(writer: &mut Proc) -> bool {
    let patience = Instant::now() + Duration::from_millis(100);
    while writer.alive() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    if writer.alive() {
        writer.kill();
        return false;
    }
    writer.wait(Duration::from_secs(1)).unwrap() == Some(0)
}

/// A record that was cut off, as by a full disk or a crash of the machine, is left out; what stands
/// before it is kept.
#[test]
fn a_torn_record_is_left_out() {
    if !can_run(switch(), tools()) {
        return;
    }
    let ns = Netns::new("db").unwrap();
    let mut sut = start(&ns);
    sut.ok(tools(), "ovs-vsctl --no-wait add-br kept -- set Bridge kept external_ids:a=b").unwrap();
    sut.stop().unwrap();
    let whole = std::fs::read(sut.database()).unwrap();
    sut.start_again().unwrap();
    sut.ok(tools(), "ovs-vsctl --no-wait set Bridge kept external_ids:a=c").unwrap();
    sut.kill();
    let more = std::fs::read(sut.database()).unwrap();
    assert!(more.len() > whole.len() && more.starts_with(&whole), "the log is only added to");
    for cut in [more.len() - 1, whole.len() + (more.len() - whole.len()) / 2, whole.len() + 1] {
        std::fs::write(sut.database(), &more[..cut]).unwrap();
        sut.start_again().unwrap();
        let value = sut.ok(tools(), "ovs-vsctl --no-wait get Bridge kept external_ids:a").unwrap();
        assert!(value == "b\n" || value == "c\n", "cut at {cut}: {value}");
        // And it can be written to again.
        sut.ok(tools(), "ovs-vsctl --no-wait set Bridge kept external_ids:x=y").unwrap();
        sut.kill();
        sut.start_again().unwrap();
        let value = sut.ok(tools(), "ovs-vsctl --no-wait get Bridge kept external_ids:x").unwrap();
        assert_eq!(value, "y\n");
        sut.kill();
    }
}
