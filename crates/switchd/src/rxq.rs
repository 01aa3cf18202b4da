//! Receive queues and the workers that poll them: what the database asks for, and who gets what.
//!
//! [`Settings`] are what Open_vSwitch `other_config` says of it. A plan gives each queue to a worker as
//! `ovs-vswitchd.conf.db(5)` and the manual's pages on PMD threads describe it. [`Crew`] carries out the difference
//! when something changed: workers come and go, queues move, packets go on.
//!
//! A worker is a PMD thread of those pages, with two differences: it sleeps when it is idle, and it polls every
//! port, be it a NIC or a tap. In the simulated world, where there are no threads, ports of type `dummy-pmd` have
//! workers that stand for such threads, and one more stands for the main thread, which has all other ports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{DpPort, Instant};
use datapath::{Cpu, Datapath, MAX_WORKERS, QueueUse};
use netdev::cpu;

use crate::daemon::Daemon;
use crate::log;
use crate::pmd::Pmd;
use crate::reconcile::Reconciler;

mod balance;
mod sleeps;

/// Most receive queues of a port: more than there can be workers would be of no use.
pub const MAX_QUEUES: usize = MAX_WORKERS;
/// How long a worker looks for packets before it sleeps, at most, unless the database says otherwise.
const SPIN: Duration = Duration::from_micros(40);
/// The longest that it can be told to.
const MAX_SPIN_US: u64 = 1_000_000;
/// Workers that there are at most unless the database asks for more.
const MOST_BY_DEFAULT: usize = 4;

/// Workers that there are unless the database asks for another number: half of the processors, for the guests need
/// some too.
pub fn default_workers() -> usize {
    (cpu::available().len() / 2).clamp(1, MOST_BY_DEFAULT)
}

/// How queues that are not pinned are given to workers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// One after the other, in the order of the ports.
    RoundRobin,
    /// The busiest first, up and down the list of workers.
    #[default]
    Cycles,
    /// The busiest first, each to the worker with the least load.
    Group,
}

impl Algorithm {
    const NAMES: [(&'static str, Algorithm); 3] = [
        ("roundrobin", Algorithm::RoundRobin),
        ("cycles", Algorithm::Cycles),
        ("group", Algorithm::Group),
    ];

    fn name(self) -> &'static str {
        Algorithm::NAMES.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }
}

/// What `other_config` of Open_vSwitch asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `n-handler-threads`.
    n_threads: Option<usize>,
    /// `pmd-cpu-mask`: cores, ascending.
    cores: Option<Vec<usize>>,
    /// `pmd-rxq-assign`.
    algorithm: Algorithm,
    /// `pmd-rxq-isolate`.
    isolate: bool,
    /// `pmd-spin-max`: how long workers look for packets before they sleep, at most.
    spin: Duration,
    /// `pmd-sleep-max`.
    sleeps: sleeps::Sleeps,
    /// `pmd-rt-priority`: 0 is none.
    realtime: u8,
    /// `flow-limit`: most megaflows.
    flow_limit: usize,
    /// `pmd-auto-lb`.
    balance: balance::Rules,
}

impl Default for Settings {
    fn default() -> Settings {
        let algorithm = Algorithm::default();
        let flow_limit = datapath::Config::default().flow_limit;
        Settings {
            n_threads: None,
            cores: None,
            algorithm,
            isolate: true,
            spin: SPIN,
            sleeps: sleeps::Sleeps::default(),
            realtime: 0,
            flow_limit,
            balance: balance::Rules::default(),
        }
    }
}

impl Settings {
    /// Reads them. What makes no sense is as if it were not there, and told in `complaints`.
    pub fn read(other_config: &BTreeMap<String, String>, complaints: &mut Vec<String>) -> Settings {
        let balance = balance::Rules::read(other_config, complaints);
        let sleeps = other_config.get("pmd-sleep-max");
        let sleeps = sleeps.map(|text| sleeps::Sleeps::read(text, complaints)).unwrap_or_default();
        let mut settings = Settings { balance, sleeps, ..Settings::default() };
        let mut number = |key, min, max| number(other_config, key, min, max, complaints);
        let threads = number("n-handler-threads", 1, MAX_WORKERS as u64);
        settings.n_threads = threads.map(|n| n as usize);
        if let Some(us) = number("pmd-spin-max", 0, MAX_SPIN_US) {
            settings.spin = Duration::from_micros(us);
        }
        if let Some(priority) = number("pmd-rt-priority", 0, 99) {
            settings.realtime = priority as u8;
        }
        if let Some(n) = number("flow-limit", 0, u64::from(u32::MAX)) {
            settings.flow_limit = n as usize;
        }
        settings.cores = other_config.get("pmd-cpu-mask").map(|m| read_mask(m, complaints));
        if let Some(name) = other_config.get("pmd-rxq-assign") {
            match Algorithm::NAMES.iter().find(|(n, _)| n == name) {
                Some((_, algorithm)) => settings.algorithm = *algorithm,
                None => complaints.push(format!(
                    "Unsupported rx queue to PMD assignment mode in pmd-rxq-assign. Defaulting to \
                     'cycles'. (other_config:pmd-rxq-assign={name} is none of roundrobin, cycles, group)"
                )),
            }
        }
        match flag(other_config, "pmd-rxq-isolate", complaints) {
            Some(false) if settings.algorithm == Algorithm::Group => settings.isolate = false,
            Some(false) => complaints.push(
                "pmd-rxq-isolate can only be set false when using pmd-rxq-assign=group".to_owned(),
            ),
            None | Some(true) => {}
        }
        settings
    }
}

/// A setting that is a number; `None` if it is not there, or something else.
fn number(
    other_config: &BTreeMap<String, String>,
    key: &str,
    min: u64,
    max: u64,
    complaints: &mut Vec<String>,
) -> Option<u64> {
    let text = other_config.get(key)?;
    let n = text.parse().ok().filter(|n| (min..=max).contains(n));
    if n.is_none() {
        complaints
            .push(format!("ignoring other_config:{key}={text}: not a number from {min} to {max}"));
    }
    n
}

/// A setting that is `true` or `false`; `None` if it is not there, or something else.
fn flag(
    other_config: &BTreeMap<String, String>,
    key: &str,
    complaints: &mut Vec<String>,
) -> Option<bool> {
    let text = other_config.get(key)?;
    let flag = text.parse().ok();
    if flag.is_none() {
        complaints.push(format!("ignoring other_config:{key}={text}: neither true nor false"));
    }
    flag
}

/// The cores of a mask in hexadecimal, with or without `0x`. A digit that is none stands for no core, as in OVS.
fn read_mask(mask: &str, complaints: &mut Vec<String>) -> Vec<usize> {
    let digits = mask.strip_prefix("0x").or(mask.strip_prefix("0X")).unwrap_or(mask);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        complaints.push(format!(
            "other_config:pmd-cpu-mask={mask}: Invalid cpu mask: not a number in hexadecimal, such as 0x6 for \
             cores 1 and 2"
        ));
    }
    let nibbles = digits.chars().rev().map(|c| c.to_digit(16).unwrap_or(0));
    let bits = nibbles.zip((0..).step_by(4)).flat_map(|(nibble, base)| {
        (0..4).filter(move |bit| nibble >> bit & 1 == 1).map(move |bit| base + bit)
    });
    bits.collect()
}

/// `other_config:pmd-rxq-affinity` of an Interface: `QUEUE:CORE,…`. `None` if it is something else.
pub fn read_affinity(text: &str) -> Option<BTreeMap<u32, usize>> {
    let pairs = text.split([',', ' ']).map(str::trim).filter(|p| !p.is_empty());
    let pair = |p: &str| {
        let (queue, core) = p.split_once([':', '='])?;
        Some((queue.trim().parse().ok()?, core.trim().parse().ok()?))
    };
    pairs.map(pair).collect()
}

/// A worker as these pages call it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The core that it runs on; without a mask, its place among the workers.
    pub id: usize,
    /// The core's NUMA node.
    pub numa: usize,
    /// Its number in the datapath.
    pub worker: usize,
}

/// A queue that wants a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Queue {
    port: DpPort,
    queue: u32,
    name: String,
    /// NUMA node of its device; `None` for one that has none.
    numa: Option<usize>,
    /// The core that it is to be polled on.
    pinned: Option<usize>,
    /// Nanoseconds that its packets took lately.
    busy: u64,
}

/// Who gets what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// By queue, in the order of the queues that were planned: an index of the cores.
    places: Vec<Option<usize>>,
    /// Cores, by index, that pinned queues have for themselves.
    isolated: BTreeSet<usize>,
    /// What there is to say of it; whether it is a warning.
    said: Vec<(bool, String)>,
}

/// Some cores that take turns: those of a NUMA node, or all.
struct Pool {
    /// Indices of the cores.
    cores: Vec<usize>,
    next: usize,
    up: bool,
}

impl Pool {
    fn of(cores: &[Core], numa: Option<usize>) -> Pool {
        let is_in = |c: &Core| numa.is_none_or(|n| n == c.numa);
        let cores = (0..).zip(cores).filter(|(_, c)| is_in(c)).map(|(i, _)| i).collect();
        Pool { cores, next: 0, up: true }
    }

    /// The next in turn: to and fro if `turns`, else around.
    fn step(&mut self, turns: bool) -> Option<usize> {
        let this = self.cores.get(self.next).copied();
        match (self.up, self.next) {
            (true, at) if at + 1 >= self.cores.len() => match turns {
                true => self.up = false,
                false => self.next = 0,
            },
            (true, _) => self.next += 1,
            (false, 0) => self.up = true,
            (false, _) => self.next -= 1,
        }
        this
    }
}

/// Gives queues to cores. `busy` and `n` of what a core has count for `group`.
fn plan(cores: &[Core], queues: &[Queue], algorithm: Algorithm, isolate: bool) -> Plan {
    let mut plan = Plan { places: vec![None; queues.len()], ..Plan::default() };
    let mut load = vec![(0u64, 0usize); cores.len()];
    let mut free = Vec::new();
    for (at, q) in queues.iter().enumerate() {
        let Queue { name, queue, .. } = q;
        let Some(id) = q.pinned else {
            free.push(at);
            continue;
        };
        let Some(core) = cores.iter().position(|c| c.id == id) else {
            plan.said.push((
                true,
                format!(
                    "Core {id:2} cannot be pinned with port '{name}' rx queue {queue}. Use pmd-cpu-mask to \
                     enable a pmd on core {id}. An alternative core will be assigned."
                ),
            ));
            free.push(at);
            continue;
        };
        if isolate {
            plan.isolated.insert(core);
        }
        let numa = cores[core].numa;
        plan.said.push((
            false,
            format!(
                "Core {id:2} on numa node {numa} is pinned with port '{name}' rx queue {queue}"
            ),
        ));
        load[core].0 += q.busy;
        load[core].1 += 1;
        plan.places[at] = Some(core);
    }
    if algorithm != Algorithm::RoundRobin {
        free.sort_by_key(|&at| {
            (std::cmp::Reverse(queues[at].busy), queues[at].port, queues[at].queue)
        });
    }
    if !free.is_empty() {
        let name = algorithm.name();
        let text = format!("Performing pmd to rx queue assignment using {name} algorithm.");
        plan.said.push((false, text));
    }
    let nodes: BTreeSet<usize> = cores.iter().map(|c| c.numa).collect();
    let mut pools: BTreeMap<Option<usize>, Pool> = nodes
        .iter()
        .map(|n| Some(*n))
        .chain([None])
        .map(|numa| (numa, Pool::of(cores, numa)))
        .collect();
    let isolated = plan.isolated.clone();
    let has_room = |pool: &Pool| pool.cores.iter().any(|c| !isolated.contains(c));
    let mut elsewhere = nodes.iter().copied().cycle();
    for at in free {
        let q = &queues[at];
        let mut numa = q.numa;
        if pools.get(&numa).is_none_or(|p| !has_room(p)) {
            let mut others = elsewhere.by_ref().take(nodes.len()).map(Some);
            numa = others.find(|n| pools.get(n).is_some_and(&has_room)).flatten();
        }
        let pool = pools.get_mut(&numa).filter(|p| has_room(p));
        let core = pool.and_then(|pool| match algorithm {
            Algorithm::Group => {
                let open = pool.cores.iter().copied().filter(|c| !isolated.contains(c));
                open.min_by_key(|&c| if q.busy > 0 { load[c].0 } else { load[c].1 as u64 })
            }
            _ => {
                let turns = algorithm == Algorithm::Cycles;
                // To and fro gives some twice before all had a turn.
                let n = 2 * pool.cores.len();
                let open = (0..n)
                    .map(|_| pool.step(turns))
                    .find(|c| c.is_some_and(|c| !isolated.contains(&c)));
                open.flatten()
            }
        });
        let Queue { name, queue, .. } = q;
        let Some(core) = core else {
            plan.said.push((
                true,
                format!(
                    "No non-isolated pmd on any numa available for port '{name}' rx queue {queue}. It stays \
                     where it is."
                ),
            ));
            continue;
        };
        let Core { id, numa, .. } = cores[core];
        if let Some(own) = q.numa.filter(|n| *n != numa) {
            plan.said.push((
                false,
                format!(
                    "There's no available (non-isolated) pmd thread on numa node {own}. Port '{name}' rx queue \
                     {queue} will be assigned to a pmd on numa node {numa}. This may lead to reduced performance."
                ),
            ));
        }
        let text =
            format!("Core {id:2} on numa node {numa} assigned port '{name}' rx queue {queue}.");
        plan.said.push((false, text));
        load[core].0 += q.busy;
        load[core].1 += 1;
        plan.places[at] = Some(core);
    }
    plan
}

fn placed(queues: &[QueueUse]) -> Vec<(DpPort, u32, usize)> {
    queues.iter().map(|q| (q.port, q.queue, q.worker)).collect()
}

/// The workers that there are, and what they were given.
#[derive(Debug)]
pub struct Crew {
    /// NUMA node of each core that can be had.
    nodes: BTreeMap<usize, usize>,
    is_simulated: bool,
    settings: Settings,
    cores: Vec<Core>,
    /// Numbers, in the datapath, of workers that pinned queues have for themselves.
    isolated: BTreeSet<usize>,
    /// What the queues were given out for.
    planned: Option<(Vec<Core>, Vec<Queue>, Algorithm, bool)>,
    /// Who had what then: port, queue, worker.
    placed: Vec<(DpPort, u32, usize)>,
    /// What could not be had, so that it is told once.
    refused: Option<String>,
    balance: balance::Balance,
    /// There has been a bridge, with the settings of that time.
    is_configured: bool,
}

impl Crew {
    /// None yet. `dummy_numa`: the NUMA nodes of simulated cores, from core 0 on.
    pub fn new(is_simulated: bool, dummy_numa: Option<&[usize]>) -> Crew {
        let nodes: BTreeMap<usize, usize> = match dummy_numa {
            Some(nodes) => nodes.iter().copied().enumerate().collect(),
            None => cpu::available().iter().map(|&c| (c, cpu::numa_node(c))).collect(),
        };
        let mut sizes = BTreeMap::<usize, usize>::new();
        nodes.values().for_each(|n| *sizes.entry(*n).or_default() += 1);
        for (node, n) in &sizes {
            log!(Info, OvsNuma, "Discovered {n} CPU cores on NUMA node {node}");
        }
        let (n_nodes, n_cores) = (sizes.len(), nodes.len());
        log!(Info, OvsNuma, "Discovered {n_nodes} NUMA nodes and {n_cores} CPU cores");
        Crew {
            nodes,
            is_simulated,
            settings: Settings::default(),
            cores: Vec::new(),
            isolated: BTreeSet::new(),
            planned: None,
            placed: Vec::new(),
            refused: None,
            balance: balance::Balance::default(),
            is_configured: false,
        }
    }

    /// The workers that there are.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// Whether pinned queues have a worker for themselves.
    pub fn is_isolated(&self, core: &Core) -> bool {
        self.isolated.contains(&core.worker)
    }

    /// Follows new settings. The rest is done by [`Crew::settle`].
    pub fn configure(&mut self, settings: &Settings, dp: &Datapath, has_bridges: bool) {
        let old = std::mem::replace(&mut self.settings, settings.clone());
        if old.spin != settings.spin {
            log!(Info, DpifNetdev, "workers look for {:?} before they sleep", settings.spin);
        }
        // What a command said stands until the setting changes.
        if old.flow_limit != settings.flow_limit {
            dp.set_flow_limit(settings.flow_limit);
        }
        if old.algorithm != settings.algorithm {
            let name = settings.algorithm.name();
            log!(Info, DpifNetdev, "Rxq to PMD assignment mode changed to: '{name}'.");
        }
        if old.isolate != settings.isolate {
            let does = if settings.isolate { "isolates" } else { "does not isolate" };
            log!(Info, DpifNetdev, "pmd-rxq-affinity {does} PMD core");
        }
        let first = has_bridges && !self.is_configured;
        self.is_configured |= has_bridges;
        // What nobody asked for is told in the simulated world only, where Open vSwitch's tests look for it, and as there
        // with the first bridge.
        let before = Some(&old.balance).filter(|_| !first || !self.is_simulated);
        if self.is_configured || !self.is_simulated {
            for text in settings.balance.news(before) {
                log!(Info, DpifNetdev, "{text}");
            }
            if old.sleeps != settings.sleeps || before.is_none() {
                self.tell_sleeps();
            }
        }
        if old.realtime != settings.realtime {
            let priority = settings.realtime;
            log!(Info, DpifNetdev, "real-time priority of workers: {priority} (0: none)");
        }
        self.set_waits(dp);
    }

    /// The cores that are to have a worker; `None` in place of one for a worker that has none.
    fn wanted(&self, dp_has_pmd: bool) -> (Vec<Option<usize>>, Option<String>) {
        let mut refused = None;
        if let Some(mask) = &self.settings.cores {
            let (there, missing): (Vec<usize>, Vec<usize>) =
                mask.iter().partition(|c| self.nodes.contains_key(c));
            if !missing.is_empty() || there.is_empty() {
                let all: Vec<_> = self.nodes.keys().collect();
                refused = Some(format!(
                    "other_config:pmd-cpu-mask asks for cores {missing:?}, which are not there or not left to \
                     this process: cores {all:?} are"
                ));
            }
            if !there.is_empty() {
                return (there.into_iter().map(Some).take(MAX_WORKERS - 1).collect(), refused);
            }
        }
        let firsts = || {
            let mut seen = BTreeSet::new();
            self.nodes.iter().filter(move |(_, n)| seen.insert(**n)).map(|(c, _)| Some(*c))
        };
        let wanted = match self.is_simulated {
            true if dp_has_pmd => firsts().collect(),
            true => Vec::new(),
            false => {
                vec![None; self.settings.n_threads.unwrap_or_else(default_workers)]
            }
        };
        (wanted, refused)
    }

    /// The queues that are given out, of all that there are, by port and number.
    fn queues(&self, rec: &Reconciler, all: &[QueueUse]) -> Vec<Queue> {
        let queue = |q: &QueueUse| {
            // Threads of the simulated world are there for some kinds of ports only.
            let spec = rec.queue_spec(q.port).filter(|s| !self.is_simulated || s.is_pmd)?;
            Some(Queue {
                port: q.port,
                queue: q.queue,
                name: spec.name.to_owned(),
                numa: if self.is_simulated { Some(spec.numa.unwrap_or(0)) } else { spec.numa },
                pinned: spec.affinity.get(&q.queue).copied(),
                busy: 0,
            })
        };
        let mut queues: Vec<Queue> = all.iter().filter_map(queue).collect();
        queues.sort_by_key(|q| (q.port, q.queue));
        queues
    }

    /// Makes workers and queues what they should be, if something about them changed or `anew`.
    pub fn settle(
        &mut self,
        rec: &Reconciler,
        dp: &Datapath,
        pmd: &mut Pmd,
        now: Instant,
        anew: bool,
    ) {
        let all = dp.queues();
        let mut queues = self.queues(rec, &all);
        self.set_workers(rec, dp, pmd, now, !queues.is_empty());

        if let Some(main) = self.main_worker(dp) {
            let is_planned = |port| queues.iter().any(|q| q.port == port);
            for q in all.iter().filter(|q| !is_planned(q.port)) {
                dp.place(q.port, q.queue, main);
            }
        }
        let Settings { algorithm, isolate, .. } = self.settings;
        let planned = (self.cores.clone(), queues.clone(), algorithm, isolate);
        // A port that was opened again has its queues with whoever had the fewest.
        if !anew && self.planned.as_ref() == Some(&planned) && self.placed == placed(&dp.queues()) {
            return;
        }
        queues.iter_mut().for_each(|q| q.busy = pmd.busy(q.port, q.queue));
        let plan = plan(&self.cores, &queues, algorithm, isolate);
        for (is_warning, text) in &plan.said {
            match is_warning {
                true => log!(Warn, DpifNetdev, "{text}"),
                false => log!(Info, DpifNetdev, "{text}"),
            }
        }
        for (q, core) in queues.iter().zip(&plan.places) {
            if let Some(core) = core {
                dp.place(q.port, q.queue, self.cores[*core].worker);
            }
        }
        self.isolated = plan.isolated.iter().map(|c| self.cores[*c].worker).collect();
        self.planned = Some(planned);
        self.placed = placed(&dp.queues());
    }

    /// The worker that stands for the main thread, in the simulated world.
    pub fn main_worker(&self, dp: &Datapath) -> Option<usize> {
        let workers = dp.workers();
        let main = self.is_simulated.then(|| workers.iter().find(|w| w.cpu.is_none()));
        main.flatten().map(|w| w.number)
    }

    fn set_workers(
        &mut self,
        rec: &Reconciler,
        dp: &Datapath,
        pmd: &mut Pmd,
        now: Instant,
        has_queues: bool,
    ) {
        let (wanted, mut refused) = self.wanted(has_queues);
        let cpus = wanted.iter().map(|c| c.map(Cpu));
        let main = self.is_simulated.then_some(None);
        let cpus: Vec<Option<Cpu>> = main.into_iter().chain(cpus).collect();
        match dp.set_workers(&cpus, &|port| rec.open_tx(port)) {
            Ok(false) if !self.cores.is_empty() || self.is_simulated && wanted.is_empty() => {}
            Ok(_) => self.tell_workers(dp, pmd, now),
            Err(e) => refused = Some(format!("{e}; the datapath threads stay as they are")),
        }
        if refused != self.refused {
            if let Some(text) = &refused {
                log!(Warn, DpifNetdev, "{text}");
            }
            self.refused = refused;
        }
    }

    /// Takes over the workers that the datapath has now.
    fn tell_workers(&mut self, dp: &Datapath, pmd: &mut Pmd, now: Instant) {
        let workers = dp.workers();
        let main = self.main_worker(dp);
        let others = workers.iter().filter(|w| Some(w.number) != main);
        let core = |(place, w): (usize, &datapath::WorkerUse)| {
            let id = w.cpu.map_or(place, |c| c.0);
            let numa = w.cpu.and_then(|c| self.nodes.get(&c.0).copied()).unwrap_or(0);
            Core { id, numa, worker: w.number }
        };
        let mut cores: Vec<Core> = others.enumerate().map(core).collect();
        cores.sort_by_key(|c| c.id);
        let old = std::mem::replace(&mut self.cores, cores);
        // Threads that nobody asked for are no news, and who watches a start expects none (OVS has such threads for
        // few kinds of ports).
        let news = self.is_simulated || !old.is_empty();
        let say = |text: String| match news {
            true => log!(Info, DpifNetdev, "{text}"),
            false => log!(Dbg, DpifNetdev, "{text}"),
        };
        let changed = |a: &[Core], b: &[Core], what: &str| {
            for Core { id, numa, .. } in a.iter().filter(|c| !b.contains(c)) {
                say(format!("PMD thread on numa_id: {numa}, core id: {id:2} {what}."));
            }
        };
        changed(&old, &self.cores, "destroyed");
        changed(&self.cores, &old, "created");
        for core in self.cores.iter().filter(|c| !old.contains(c)) {
            pmd.clear(core.worker, now, dp.worker_stats(core.worker));
            say(self.sleep_text(core));
        }
        self.set_waits(dp);
        let nodes: BTreeSet<usize> = self.cores.iter().map(|c| c.numa).collect();
        for node in nodes {
            let n = self.cores.iter().filter(|c| c.numa == node).count();
            say(format!("There are {n} pmd threads on numa node {node}"));
        }
    }
}

impl Daemon {
    /// Workers and receive queues become what they should be; queues are given out `anew` if asked for.
    pub fn settle_queues(&mut self, anew: bool) {
        let now = self.clock.now();
        self.crew.settle(&self.rec, &self.dp, &mut self.pmd, now, anew);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(nodes: &[usize]) -> Vec<Core> {
        let core = |(id, numa): (usize, &usize)| Core { id, numa: *numa, worker: id + 1 };
        nodes.iter().enumerate().map(core).collect()
    }

    /// Queues of one port that took so long each.
    fn queues(busy: &[u64]) -> Vec<Queue> {
        let queue = |(queue, busy): (u32, &u64)| Queue {
            port: DpPort(1),
            queue,
            name: "p1".to_owned(),
            numa: Some(0),
            pinned: None,
            busy: *busy,
        };
        (0..).zip(busy).map(queue).collect()
    }

    fn places(cores: &[Core], queues: &[Queue], algorithm: Algorithm) -> Vec<usize> {
        let plan = plan(cores, queues, algorithm, true);
        plan.places.iter().map(|p| p.map_or(99, |at| cores[at].id)).collect()
    }

    #[test]
    fn queues_are_given_out_as_the_manual_shows_it() {
        // The example of the manual's page on PMD threads, in percent: three cores, and queues 0 to 5.
        let (cores, busy) = (cores(&[0, 0, 0]), queues(&[30, 80, 60, 70, 10, 0]));
        assert_eq!(places(&cores, &busy, Algorithm::Cycles), [2, 0, 2, 1, 1, 0]);
        assert_eq!(places(&cores, &busy, Algorithm::RoundRobin), [0, 1, 2, 0, 1, 2]);
        // 80 | 70 | 60 + 30, then 10 on the second; what was never busy goes where the fewest are.
        assert_eq!(places(&cores, &busy, Algorithm::Group), [2, 0, 2, 1, 1, 0]);
    }

    #[test]
    fn a_pinned_queue_has_its_core_for_itself_unless_told_otherwise() {
        let cores = cores(&[0, 0]);
        let mut all = queues(&[0; 4]);
        all[0].pinned = Some(0);
        for algorithm in [Algorithm::RoundRobin, Algorithm::Cycles, Algorithm::Group] {
            assert_eq!(places(&cores, &all, algorithm), [0, 1, 1, 1]);
        }
        let shared = plan(&cores, &all, Algorithm::Group, false);
        assert_eq!(shared.places, [0, 1, 0, 1].map(Some));
        assert!(shared.isolated.is_empty());

        // A core that is not there is none to wait for.
        all[1].pinned = Some(7);
        let plan = plan(&cores, &all, Algorithm::Cycles, true);
        assert_eq!(plan.places, [0, 1, 1, 1].map(Some));
        assert!(
            plan.said[1].0
                && plan.said[1]
                    .1
                    .starts_with("Core  7 cannot be pinned with port 'p1' rx queue 1.")
        );
        // Nobody is left for the others.
        all.iter_mut().for_each(|q| q.pinned = Some(0));
        all[3].pinned = None;
        let lone = super::plan(&cores[..1], &all, Algorithm::Cycles, true);
        assert_eq!(lone.places, [Some(0), Some(0), Some(0), None]);
        assert!(
            lone.said.iter().any(|(warning, text)| *warning && text.contains("stays where it is"))
        );
    }

    #[test]
    fn cores_of_the_own_node_are_preferred() {
        let cores = cores(&[0, 0, 1]);
        let mut all = queues(&[0; 3]);
        all[1].numa = Some(1);
        assert_eq!(places(&cores, &all, Algorithm::RoundRobin), [0, 2, 1]);
        // One without hardware is at home everywhere.
        all.iter_mut().for_each(|q| q.numa = None);
        assert_eq!(places(&cores, &all, Algorithm::RoundRobin), [0, 1, 2]);
        // A node without cores uses the others in turn.
        all.iter_mut().for_each(|q| q.numa = Some(5));
        assert_eq!(places(&cores, &all, Algorithm::Group), [0, 2, 1]);
        assert_eq!(places(&[], &all, Algorithm::Group), [99; 3]);
    }

    #[test]
    fn settings_that_make_no_sense_are_told_and_do_nothing() {
        let read = |pairs: &[(&str, &str)]| {
            let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let mut complaints = Vec::new();
            (Settings::read(&map, &mut complaints), complaints)
        };
        assert_eq!(read(&[]), (Settings::default(), vec![]));
        for (key, value, says) in [
            (
                "n-handler-threads",
                "0",
                "ignoring other_config:n-handler-threads=0: not a number from 1 to 64",
            ),
            ("n-handler-threads", "65", "from 1 to 64"),
            ("pmd-spin-max", "-1", "from 0 to 1000000"),
            ("pmd-rt-priority", "100", "from 0 to 99"),
            ("pmd-sleep-max", "much", "ignoring much of other_config:pmd-sleep-max=much"),
            ("pmd-rxq-assign", "best", "best is none of roundrobin, cycles, group"),
            ("pmd-rxq-isolate", "no", "neither true nor false"),
            ("pmd-rxq-isolate", "false", "only be set false when using pmd-rxq-assign=group"),
        ] {
            let (settings, complaints) = read(&[(key, value)]);
            assert_eq!(settings, Settings::default(), "{key}");
            assert!(complaints.len() == 1 && complaints[0].contains(says), "{complaints:?}");
        }
        for (mask, cores, n_complaints) in [
            ("0x1fe", &[1, 2, 3, 4, 5, 6, 7, 8][..], 0),
            ("6", &[1, 2], 0),
            ("0xz1", &[0], 1),
            ("", &[], 1),
        ] {
            let (settings, complaints) = read(&[("pmd-cpu-mask", mask)]);
            assert_eq!(
                (settings.cores.as_deref(), complaints.len()),
                (Some(cores), n_complaints),
                "{mask}"
            );
        }
        let (settings, complaints) = read(&[
            ("pmd-rxq-assign", "group"),
            ("pmd-rxq-isolate", "false"),
            ("pmd-spin-max", "7"),
        ]);
        assert!(complaints.is_empty() && !settings.isolate, "{complaints:?}");
        assert_eq!((settings.algorithm, settings.spin.as_micros()), (Algorithm::Group, 7));
    }

    #[test]
    fn affinity_is_a_list_of_queues_and_cores() {
        assert_eq!(read_affinity("0:3,1:7"), Some([(0, 3), (1, 7)].into()));
        assert_eq!(read_affinity(" 2:1 , "), Some([(2, 1)].into()));
        assert_eq!(read_affinity(""), Some([].into()));
        assert_eq!(
            [read_affinity("0"), read_affinity("a:1"), read_affinity("0:-1")],
            [None, None, None]
        );
    }
}
