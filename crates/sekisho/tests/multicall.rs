//! One binary, many names: links, versions, and what is printed where.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().expect("it runs")
}

fn sekisho(args: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_sekisho")), args)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sekisho-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_link_is_the_tool() {
    let dir = Dir::new("links");
    let made = sekisho(&["install-links", dir.path()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for tool in ["ovs-vsctl", "ovs-appctl", "ovs-dpctl", "ovsdb-client"] {
        let said = run(&dir.0.join(tool), &["--version"]);
        assert!(said.status.success());
        let first = format!("{tool} (Open vSwitch) 3.1.0\n");
        assert!(text(&said.stdout).starts_with(&first), "{}", text(&said.stdout));
        let word = tool.strip_prefix("ovs-").unwrap_or(tool);
        assert_eq!(text(&sekisho(&[word, "--version"]).stdout), text(&said.stdout));
        assert!(run(&dir.0.join(tool), &["--help"]).status.success());
    }
    let said = run(&dir.0.join("conntrack"), &["-V"]);
    assert_eq!(text(&said.stdout), "conntrack v1.4.7 (conntrack-tools)\n");
    // Messages carry the name that was called, options' mistakes the way it was called.
    let said = run(&dir.0.join("ovs-vsctl"), &["frob"]);
    assert_eq!(said.status.code(), Some(1));
    let unknown = "ovs-vsctl: unknown command 'frob'; use --help for help\n";
    assert_eq!(text(&said.stderr), unknown);
    assert_eq!(text(&sekisho(&["vsctl", "frob"]).stderr), unknown);
}

#[test]
fn links_replace_nothing_unasked() {
    let dir = Dir::new("unasked");
    assert!(sekisho(&["install-links", dir.path()]).status.success());
    // Again: all is there already.
    let again = sekisho(&["install-links", dir.path()]);
    assert!(again.status.success() && again.stdout.is_empty());
    let link = dir.0.join("ovs-vsctl");
    std::fs::remove_file(&link).expect("it is there");
    std::os::unix::fs::symlink("/bin/true", &link).expect("a link");
    let refused = sekisho(&["install-links", dir.path()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("exists and is not a link to this program"));
    assert!(sekisho(&["install-links", "--force", dir.path()]).status.success());
    assert_ne!(std::fs::read_link(&link).expect("a link"), Path::new("/bin/true"));
    // A real program stays, whatever is asked.
    std::fs::remove_file(&link).expect("it is there");
    std::fs::write(&link, "a program").expect("a file");
    assert_eq!(sekisho(&["install-links", "--force", dir.path()]).status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&link).expect("a file"), "a program");
    assert_eq!(sekisho(&["install-links", "/nonexistent"]).status.code(), Some(1));
    assert_eq!(sekisho(&["install-links"]).status.code(), Some(1));
}

/// `ofctl` writes a packet with two messages into a capture and reads them back.
#[test]
fn messages_go_into_captures_and_come_out() {
    let dir = Dir::new("captures");
    let flow = "tcp,nw_src=1.2.3.4,nw_dst=5.6.7.8,tp_src=40000,tp_dst=6653,tcp_flags=ack,nw_ttl=64";
    let messages = "01000008000000010102000800000002";
    let pcap = sekisho(&["ofctl", "--pcap", "compose-packet", flow, messages]);
    assert!(pcap.status.success(), "{}", text(&pcap.stderr));
    let file = dir.0.join("capture");
    std::fs::write(&file, &pcap.stdout).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let said = text(&sekisho(&["ofctl", "ofp-parse-pcap", file]).stdout);
    let ends = "1.2.3.4.40000 > 5.6.7.8.6653:\n";
    let hello = "OFPT_HELLO (xid=0x1):\n version bitmap: 0x01\n";
    let echo = "OFPT_ECHO_REQUEST (xid=0x2): 0 bytes of payload\n";
    assert_eq!(said, format!("{ends}{hello}\n{ends}{echo}"));
    assert_eq!(text(&sekisho(&["ofctl", "ofp-parse-pcap", file, "80"]).stdout), "");
    // What is no capture, or ends early, is refused.
    for bytes in [&pcap.stdout[..30], &pcap.stdout[1..], b""] {
        std::fs::write(file, bytes).expect("a file");
        assert_eq!(sekisho(&["ofctl", "ofp-parse-pcap", file]).status.code(), Some(1));
    }
}
