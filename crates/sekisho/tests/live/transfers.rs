//! Files by HTTP, FTP and TFTP through the connection tracker and its helpers, and what ICMP says on the
//! way: with real clients and the kernel's stack, plain and translated, IPv4 and IPv6.

use testkit::netns::Netns;
use testkit::process::Proc;
use testkit::story::{Story, Vm, transfer};
use testkit::sut::{Sut, Whose};
use testkit::{need, peer};

use crate::traffic::{machines, under_policy};
use crate::{can_run, switch, tools};

/// What is done with the connections that the first machine opens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nat {
    No,
    /// The second machine knows the first by an address that is longer in text than its own.
    Source,
    /// The first machine knows the second by another one.
    Destination,
}

/// Where clients find the server.
fn server(nat: Nat, v6: bool) -> &'static str {
    match (nat, v6) {
        (Nat::Destination, false) => "192.168.0.180",
        (Nat::Destination, true) => "fd00::1:180",
        (_, false) => "192.168.0.2",
        (_, true) => "fd00::2",
    }
}

/// The first machine opens connections for files, the second answers; what belongs to them passes.
fn policy(nat: Nat, helpers: bool) -> String {
    let mut flows = String::from(
        "priority=200,arp,actions=normal\n\
         priority=200,icmp6,icmp_type=135,actions=normal\n\
         priority=200,icmp6,icmp_type=136,actions=normal\n\
         priority=100,ip,actions=ct(zone=7,nat,table=1)\n\
         priority=100,ipv6,actions=ct(zone=7,nat,table=1)\n\
         priority=1,actions=drop\n\
         table=1,priority=20,ct_state=+rel-new-inv,in_port=3,actions=output:2\n\
         table=1,priority=20,ct_state=+rel-new-inv,in_port=2,actions=output:3\n\
         table=1,priority=10,ct_state=+est-inv,in_port=2,actions=output:3\n\
         table=1,priority=10,ct_state=+est-inv,in_port=3,actions=output:2\n",
    );
    for (version, v6) in [("", false), ("6", true)] {
        let ip = if v6 { "ipv6" } else { "ip" };
        let nat = match (nat, v6) {
            (Nat::No, _) => "",
            (Nat::Source, false) => ",nat(src=192.168.0.209)",
            (Nat::Source, true) => ",nat(src=fd00::1:209)",
            (Nat::Destination, false) => ",nat(dst=192.168.0.2)",
            (Nat::Destination, true) => ",nat(dst=fd00::2)",
        };
        for (what, alg) in [
            (format!("icmp{version}"), ""),
            (format!("tcp{version},tp_dst=80"), ""),
            (format!("tcp{version},tp_dst=5001"), ""),
            (format!("udp{version}"), ""),
            (format!("tcp{version},tp_dst=21"), ",alg=ftp"),
            (format!("udp{version},tp_dst=69"), ",alg=tftp"),
        ] {
            let alg = if helpers { alg } else { "" };
            let priority = if alg.is_empty() { 30 } else { 40 };
            flows += &format!(
                "table=1,priority={priority},in_port=2,ct_state=+new-rel,{what},\
                 actions=ct(commit,zone=7{nat}{alg}),ct(zone=7,nat,table=2)\n"
            );
        }
        // Connections that a control connection announced, by either side. If they are not translated,
        // stock 3.1 gives them another source on `nat`: 0.0.0.0.
        for (from, to) in [(2, 3), (3, 2)] {
            let stays = nat.is_empty() || nat.contains("dst") && from == 3;
            let nat = if stays && switch() == Whose::Stock { "" } else { ",nat" };
            flows += &format!(
                "table=1,priority=50,in_port={from},ct_state=+new+rel,{ip},\
                 actions=ct(commit,zone=7{nat},table=3)\n\
                 table=3,in_port={from},actions=output:{to}\n"
            );
        }
    }
    flows + "table=2,in_port=2,actions=output:3\n"
}

/// The machines with a server of files on the second one, under a policy.
struct Files<'a> {
    story: &'a Story,
    sut: Sut<'a>,
    _server: Proc,
}

impl<'a> Files<'a> {
    fn new(story: &'a Story, nat: Nat, helpers: bool) -> Files<'a> {
        let to_vm1 = [(Vm::Two, "192.168.0.209"), (Vm::Two, "fd00::1:209")];
        let to_vm2 = [(Vm::One, "192.168.0.180"), (Vm::One, "fd00::1:180")];
        for (vm, ip) in to_vm1.into_iter().chain(to_vm2) {
            let mac = vm.other().mac();
            let line = format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent");
            story.vm(vm).ip(&line).unwrap();
        }
        let mut server = story.vm(Vm::Two).spawn(&[&peer::path().unwrap(), "files"]).unwrap();
        server.wait_for("serves", |out| out.contains("serving files")).unwrap();
        Files { story, sut: under_policy(story, &policy(nat, helpers)), _server: server }
    }

    /// What curl on the first machine says.
    fn curl(&self, args: &[&str]) -> (bool, String) {
        let argv = [&["curl", "--silent", "--show-error", "--max-time", "10"], args].concat();
        let ran = self.story.vm(Vm::One).run(&argv).unwrap();
        (ran.success(), ran.text())
    }

    fn get(&self, args: &[&str], n: usize) {
        let want: String = (1..=n).map(|i| format!("line {i}\n")).collect();
        let (ok, got) = self.curl(args);
        assert!(ok && got == want, "{args:?}: {} bytes, ends with {}", got.len(), tail(&got));
    }

    fn connections(&self) -> String {
        self.sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack zone=7").unwrap()
    }
}

fn tail(text: &str) -> &str {
    text.get(text.len().saturating_sub(200)..).unwrap_or(text)
}

fn ready() -> Option<Story> {
    if !can_run(switch(), tools()) || !need::programs(&["curl"]).unwrap() {
        return None;
    }
    let story = machines();
    story.enable_ipv6().unwrap();
    Some(story)
}

/// By HTTP, by FTP in each of its ways, and by TFTP.
fn files_come_and_go(nat: Nat) {
    let Some(story) = ready() else { return };
    let files = Files::new(&story, nat, true);
    for v6 in [false, true] {
        let server = match (server(nat, v6), v6) {
            (ip, false) => ip.to_owned(),
            (ip, true) => format!("[{ip}]"),
        };
        files.get(&[&format!("http://{server}/lines-20000")], 20_000);
        // The client listens; it names its port by EPRT first.
        let eprt = ["--ftp-port", "-"];
        let port = ["--ftp-port", "-", "--disable-eprt"];
        // The server listens.
        let (epsv, pasv) = ([], ["--disable-epsv"]);
        let ways: [&[&str]; 4] = [&eprt, &epsv, &port, &pasv];
        // PORT and PASV are of IPv4 alone, and the stock switch reads nothing else there.
        let first = if !v6 && switch() == Whose::Stock { 2 } else { 0 };
        for way in &ways[first..if v6 { 2 } else { 4 }] {
            let url = format!("ftp://{server}/lines-20000");
            files.get(&[way, &[url.as_str()][..]].concat(), 20_000);
            // Several files by one control connection, whose numbers are shifted by then.
            let some = [1, 2, 3].map(|n| format!("ftp://{server}/lines-{n}"));
            let urls: Vec<&str> = some.iter().map(String::as_str).collect();
            let (ok, text) = files.curl(&[way, &urls[..]].concat());
            assert!(ok && text.lines().count() == 6, "{way:?}: {text}");
        }
        let kept = files.sut.file("sent");
        std::fs::write(&kept, "this is kept\n").unwrap();
        let url = format!("ftp://{server}/kept");
        let up = [ways[first], &["--upload-file", &kept, &url]].concat();
        assert_eq!(files.curl(&up), (true, String::new()), "{up:?}");
        let down = [ways[first + 1], &[&url]].concat();
        assert_eq!(files.curl(&down), (true, "this is kept\n".to_owned()), "{down:?}");
        files.get(&[&format!("tftp://{server}/lines-500")], 500);
        let (ok, said) = files.curl(&[&format!("tftp://{server}/no-such-file")]);
        assert!(!ok && said.contains("(68)"), "{said}");
    }
    let connections = files.connections();
    for helper in ["helper=ftp", "helper=tftp"] {
        assert!(connections.lines().any(|l| l.ends_with(helper)), "{helper}: {connections}");
    }
    // Of each version an HTTP connection, a control connection and a data connection each way at least.
    let other = match nat {
        Nat::No => return,
        Nat::Source => ["192.168.0.209,", "fd00::1:209,"],
        Nat::Destination => ["192.168.0.180,", "fd00::1:180,"],
    };
    for address in other {
        let n = connections.lines().filter(|l| l.contains(address)).count();
        assert!(n >= 4, "{address}: {connections}");
    }
}

#[test]
fn files_by_http_ftp_and_tftp() {
    files_come_and_go(Nat::No);
}

#[test]
fn files_for_a_client_with_another_address() {
    files_come_and_go(Nat::Source);
}

#[test]
fn files_of_a_server_with_a_virtual_address() {
    files_come_and_go(Nat::Destination);
}

/// Without helpers the same policy lets no data connection pass.
#[test]
fn without_a_helper_data_connections_belong_to_nothing() {
    let Some(story) = ready() else { return };
    let files = Files::new(&story, Nat::No, false);
    let quick = ["--connect-timeout", "2", "--max-time", "2"];
    let (ok, said) =
        files.curl(&[&quick[..], &["--ftp-port", "-", "ftp://192.168.0.2/lines-5"]].concat());
    assert!(!ok, "{said}");
    assert!(!files.connections().contains("helper="), "{}", files.connections());
}

/// Behind the second machine a network that takes smaller packets.
fn far_away(story: &Story) -> Netns {
    let far = story.sw.sibling("far").unwrap();
    let router = story.vm(Vm::Two);
    router.ip(&format!("link add far type veth peer name eth0 netns {}", far.pid())).unwrap();
    router.ip("link set far mtu 1400 up").unwrap();
    far.ip("link set eth0 up").unwrap();
    for (ns, dev) in [(router, "far"), (&far, "eth0")] {
        ns.sysctl(&format!("net/ipv6/conf/{dev}/accept_dad"), "0").unwrap();
        ns.sysctl(&format!("net/ipv6/conf/{dev}/disable_ipv6"), "0").unwrap();
    }
    router.ip("addr add 10.9.0.1/24 dev far").unwrap();
    router.ip("addr add fd09::1/64 dev far nodad").unwrap();
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    router.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    for rate in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
        router.sysctl(rate, "0").unwrap();
        far.sysctl(rate, "0").unwrap();
    }
    far.ip("addr add 10.9.0.2/24 dev eth0").unwrap();
    far.ip("addr add fd09::2/64 dev eth0 nodad").unwrap();
    far.ip("route add default via 10.9.0.1").unwrap();
    far.ip("-6 route add default via fd09::1").unwrap();
    story.vm(Vm::One).ip("route add 10.9.0.0/24 via 192.168.0.2").unwrap();
    story.vm(Vm::One).ip("-6 route add fd09::/64 via fd00::2").unwrap();
    far
}

fn what_icmp_says_reaches_its_sender(nat: Nat) {
    let Some(story) = ready().filter(|_| need::programs(&["busybox"]).unwrap()) else { return };
    let far = far_away(&story);
    let files = Files::new(&story, nat, true);
    let one = story.vm(Vm::One);
    for (v6, router, there) in [(false, "192.168.0.2", "10.9.0.2"), (true, "fd00::2", "fd09::2")] {
        // Every hop answers, the last one that nobody listens there.
        let trace = if v6 { "traceroute6" } else { "traceroute" };
        let argv = ["busybox", trace, "-n", "-q", "1", "-w", "2", "-m", "5", there];
        let hops = one.ok(&argv).unwrap();
        let hops: Vec<&str> =
            hops.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [router, there]);
        // Too large for the way, and not to be cut.
        let size = if v6 { "1440" } else { "1460" };
        let argv = ["ping", "-n", "-M", "do", "-c", "1", "-W", "2", "-s", size, there];
        let said = one.run(&argv).unwrap();
        assert!(!said.success() && said.text().contains("1400"), "{said}");
        let route = one.ip(&format!("route get {there}")).unwrap();
        assert!(route.contains("mtu 1400"), "{route}");
        // A connection that begins with segments of full size finds its way, too.
        one.ip(&format!("{}route flush cache", if v6 { "-6 " } else { "" })).unwrap();
        transfer(one, &far, there, 300_000).unwrap();
    }
    drop(files);
}

#[test]
fn traceroute_and_path_mtu() {
    what_icmp_says_reaches_its_sender(Nat::No);
}

#[test]
fn traceroute_and_path_mtu_of_a_client_with_another_address() {
    what_icmp_says_reaches_its_sender(Nat::Source);
}
