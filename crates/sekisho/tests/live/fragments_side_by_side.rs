//! Random fragments through our switch and the stock one in their simulated worlds: the same frames leave by the same ports in
//! the same order, and all that can be listed is the same.

use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};
use testkit::netns::Netns;
use testkit::sut::{Sut, Whose, have_stock};

use crate::kill_nine::Random;
use crate::simulated::{captured, simulation_of};

const HOST_V4: [u8; 4] = [10, 0, 0, 0];
const HOST_V6: [u8; 16] = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A UDP datagram that is sent in fragments.
struct Datagram {
    v6: bool,
    id: u16,
    tags: u8,
    /// IPv4: words of options. IPv6: extension headers before the fragment header.
    extra: usize,
    payload: Vec<u8>,
}

fn host<const N: usize>(mut address: [u8; N], n: u8) -> [u8; N] {
    address[N - 1] = n;
    address
}

impl Datagram {
    fn random(random: &mut Random, id: u16) -> Datagram {
        let v6 = random.below(2) == 0;
        let len = 908 + random.below(2600) as u16;
        let mut payload = [1000 + id, 53, len, 0].map(u16::to_be_bytes).concat();
        payload.extend((8..len).map(|_| random.below(256) as u8));
        let pseudo = match v6 {
            true => pseudo_v6(&host(HOST_V6, 1), &host(HOST_V6, 2), 17, len.into()),
            false => {
                let [src, dst] = [1, 2].map(|n| u32::from_be_bytes(host(HOST_V4, n)));
                pseudo_v4(src, dst, 17, len.into())
            }
        };
        let sum = finish(add(pseudo, &payload));
        payload[6..8].copy_from_slice(&sum.to_be_bytes());
        let (tags, extra) = (random.below(4).saturating_sub(1) as u8, random.below(3) as usize);
        Datagram { v6, id, tags, extra, payload }
    }

    fn fragment(&self, from: usize, to: usize, more: bool) -> Vec<u8> {
        let part = &self.payload[from..to];
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        (0..self.tags).for_each(|n| f.extend([0x81, 0, 0, n + 1]));
        let offset = from as u16;
        if self.v6 {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            f.extend(((8 * self.extra + 8 + part.len()) as u16).to_be_bytes());
            let next = |i: usize| if i < self.extra { 60 } else { 44 };
            f.extend([next(0), 64]);
            f.extend([host(HOST_V6, 1), host(HOST_V6, 2)].concat());
            (0..self.extra).for_each(|i| f.extend([next(i + 1), 0, 1, 4, 0, 0, 0, 0]));
            f.extend([17, 0]);
            f.extend((offset | u16::from(more)).to_be_bytes());
            f.extend(u32::from(self.id).to_be_bytes());
        } else {
            let header = 20 + 4 * self.extra;
            f.extend([8, 0, 0x40 | (header / 4) as u8, 0]);
            f.extend(((header + part.len()) as u16).to_be_bytes());
            f.extend(self.id.to_be_bytes());
            f.extend(((if more { 0x2000 } else { 0 }) | (offset / 8)).to_be_bytes());
            f.extend([64, 17, 0, 0]);
            f.extend([host(HOST_V4, 1), host(HOST_V4, 2)].concat());
            (0..self.extra).for_each(|_| f.extend([1; 4]));
            let ip = f.len() - header;
            let sum = checksum(&f[ip..]);
            f[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        f.extend(part);
        f
    }

    /// Its fragments and what may come with them, in any order: some twice, some lost, some that overlap others or are
    /// too small.
    ///
    /// None lies around another one, which the stock switch takes, and then never finds whole.
    fn sent(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let n = self.payload.len();
        let mut ends = vec![0];
        while let Some(&last) = ends.last().filter(|&&e| e < n) {
            ends.push(n.min(last + 8 * (40 + random.below(80) as usize)));
        }
        let mut all = Vec::new();
        for w in ends.windows(2) {
            let copies = [1, 1, 1, 1, 1, 1, 2, 2, 0][random.below(9) as usize];
            let f = self.fragment(w[0], w[1], w[1] < n);
            all.extend(std::iter::repeat_n(f, copies));
        }
        if ends.len() > 2 && random.below(3) == 0 {
            let from = ends[1] - 8;
            all.push(self.fragment(from, (from + 400).min(n / 8 * 8), true));
        }
        if random.below(4) == 0 {
            all.push(self.fragment(0, 200, true));
        }
        for i in (1..all.len()).rev() {
            all.swap(i, random.below(i as u64 + 1) as usize);
        }
        all
    }
}

/// What a switch makes of it all: each line that can be listed, and the frames that leave.
fn play(whose: Whose, ns: &Netns, frames: &[Vec<u8>]) -> (Vec<String>, [Vec<Vec<u8>>; 2]) {
    let sut: Sut<'_> = simulation_of(whose, ns, 3);
    let app = |line: &str| sut.ok(Whose::Stock, &format!("ovs-appctl {line}")).unwrap();
    app("time/stop");
    for version in ["v4", "v6"] {
        app(&format!("dpctl/ipf-set-min-frag {version} 400"));
    }
    for flow in [
        "priority=20,ct_state=-trk,ip,actions=ct(table=1,zone=5)",
        "priority=20,ct_state=-trk,ipv6,actions=ct(table=1,zone=5)",
        "table=1,priority=30,ct_state=+inv,actions=3",
        "table=1,ct_state=+new,ip,actions=ct(commit,zone=5,nat(src=10.0.0.9)),2",
        "table=1,ct_state=+new,ipv6,actions=ct(commit,zone=5,nat(src=fc00::9)),2",
        "table=1,ct_state=+est,actions=2",
    ] {
        sut.ok(Whose::Stock, &format!("ovs-ofctl add-flow br0 {flow}")).unwrap();
    }
    for f in frames {
        let hex: String = f.iter().map(|b| format!("{b:02x}")).collect();
        app(&format!("netdev-dummy/receive p1 {hex}"));
    }
    let mut listed: Vec<String> = ["dpctl/ipf-get-status -m", "dpctl/dump-conntrack"]
        .iter()
        .flat_map(|line| app(line).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    listed.sort();
    (listed, ["p2", "p3"].map(|port| captured(&sut, port)))
}

#[test]
fn fragments_are_treated_as_the_stock_switch_does() {
    if !have_stock().unwrap() {
        return;
    }
    let ns = Netns::new("frag").unwrap();
    // `SEKISHO_DIFF_SEED` takes another one.
    let seed =
        std::env::var("SEKISHO_DIFF_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1_u64);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9) | 1);
    let mut waiting: Vec<Vec<Vec<u8>>> =
        (1..=30).map(|id| Datagram::random(&mut random, id).sent(&mut random)).collect();
    // Those of one datagram among those of others.
    let mut frames = Vec::new();
    while waiting.iter().any(|w| !w.is_empty()) {
        let i = random.below(waiting.len() as u64) as usize;
        frames.extend(waiting[i].pop());
    }
    let (ours, ours_out) = play(Whose::Ours, &ns, &frames);
    let (stock, stock_out) = play(Whose::Stock, &ns, &frames);
    assert_eq!(ours, stock, "seed {seed}");
    let lens = |out: &[Vec<Vec<u8>>; 2]| out.each_ref().map(Vec::len);
    assert_eq!(lens(&ours_out), lens(&stock_out), "seed {seed}");
    assert!(lens(&ours_out).iter().all(|n| *n > 8), "seed {seed}: {:?}", lens(&ours_out));
    assert!(ours_out == stock_out, "seed {seed}: other frames leave");
}
