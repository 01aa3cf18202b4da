//! `sekisho demo` plays the story and every verdict is right: as root and as an ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use testkit::need;
use testkit::process::{Ran, run, run_with};
use testkit::scratch::Scratch;
use testkit::sut::Whose;

use crate::{BINARY, can_run, switch};

/// Twice what a user is to wait for it, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn check(ran: &Ran) {
    assert!(ran.success(), "{ran}");
    // Both sides of the story, and the explanation at its end.
    for word in ["icmp", "tcp", "udp", "Datapath actions: drop"] {
        assert!(ran.stdout.to_lowercase().contains(&word.to_lowercase()), "no {word} in {ran}");
    }
}

fn skipped() -> bool {
    switch() == Whose::Stock || !can_run(Whose::Ours, Whose::Ours)
}

#[test]
fn demo() {
    if skipped() {
        return;
    }
    check(&run_with(Command::new(BINARY).arg("demo"), b"", DEADLINE).unwrap());
}

#[test]
fn demo_as_an_ordinary_user() {
    if skipped() || !need::programs(&["setpriv"]).unwrap() {
        return;
    }
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let mut allowed = Command::new("setpriv");
    if !run(allowed.args(user).args(["unshare", "-Urn", "true"])).unwrap().success() {
        need::absent("user namespaces for ordinary users").unwrap();
        return;
    }
    // Where the ordinary user can read it, whatever directory this is built in.
    let dir = Scratch::new().unwrap();
    let binary = dir.join("sekisho");
    std::fs::copy(BINARY, &binary).unwrap();
    for path in [dir.path().to_owned(), binary.clone().into()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut demo = Command::new("setpriv");
    demo.args(user).arg(&binary).arg("demo").current_dir("/tmp").env_remove("HOME");
    check(&run_with(&mut demo, b"", DEADLINE).unwrap());
}
