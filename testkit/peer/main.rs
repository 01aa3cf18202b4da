//! The network program of the tests as a program of its own; see `peer_program.rs`.

#[path = "../src/peer_program.rs"]
mod peer_program;

fn main() -> std::process::ExitCode {
    let argv: Vec<String> = std::env::args().skip(1).collect();
    peer_program::run(&argv).into()
}
