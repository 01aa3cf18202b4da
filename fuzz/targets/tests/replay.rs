//! Every kept input, and deterministic mutations of it, through its target.
//!
//! `SEKISHO_FUZZ_SEED` takes another seed, `SEKISHO_FUZZ_MUTATIONS` another number of mutations per target.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz_targets::input::Random;
use fuzz_targets::mutate::mutate;
use fuzz_targets::{TARGETS, Target};

/// Longer inputs only take longer.
const MAX_LEN: usize = 8192;
/// Mutations per target; a few targets are slower.
const MUTATIONS: u64 = 3000;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")),
        Err(_) => default,
    }
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut all: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("directory entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect();
    all.sort();
    all
}

/// Runs `input`; a panic is reported with where the input is from and its bytes.
fn run(target: Target, from: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
        eprintln!("{from}: the target panicked on {hex}");
        std::panic::resume_unwind(panic);
    }
}

fn replay(name: &str, mutations: u64) {
    let (_, target) = TARGETS.iter().find(|t| t.0 == name).expect("a target of this name");
    let corpus = corpus(name);
    assert!(corpus.len() >= 3, "{name} has hardly any corpus");
    for (file, input) in &corpus {
        run(*target, &format!("{name}/{file}"), input);
    }
    let seed = number("SEKISHO_FUZZ_SEED", 1);
    let mut random = Random(seed);
    for n in 0..number("SEKISHO_FUZZ_MUTATIONS", mutations) {
        let (file, input) = &corpus[random.below(corpus.len())];
        let (_, other) = &corpus[random.below(corpus.len())];
        let input = mutate(input, other, random.next_u64(), MAX_LEN);
        run(*target, &format!("{name}/{file}, seed {seed}, mutation {n}"), &input);
    }
}

macro_rules! targets {
    ($($name:ident $mutations:expr;)*) => {
        $(#[test] fn $name() { replay(stringify!($name), $mutations); })*

        #[test]
        fn every_target_is_replayed() {
            let here = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|t| t.0).collect::<Vec<_>>(), here);
            let shims = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
            for name in here {
                assert!(shims.join(format!("{name}.rs")).exists(), "{name} has no fuzzer");
            }
        }
    };
}

targets! {
    packet MUTATIONS;
    conntrack MUTATIONS;
    fragments MUTATIONS;
    openflow MUTATIONS;
    ofproto MUTATIONS;
    flow_text MUTATIONS;
    odp_text MUTATIONS;
    ovsdb 600;
    ovsdb_log 600;
    unixctl MUTATIONS;
    rewrite MUTATIONS;
    netlink MUTATIONS;
}
