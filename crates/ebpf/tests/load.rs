//! The verifier's opinion.
#[test]
fn the_programs_load() {
    match ebpf::KernelPath::new(1000) {
        Ok(_) => {}
        Err(e) => panic!("{e}"),
    }
}
