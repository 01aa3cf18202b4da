//! What the switch asks of the kernel's bpf(2), and no more.
//!
//! Programs are made by an [assembler](asm), so that nothing but Rust is needed to build the switch; [`Program`] loads
//! and attaches them, [`Map`] and [`Arena`] are what they share with us. The numbers of functions that the kernel offers
//! to programs are looked up in its own description of its [types](Types).
//!
//! Everything is let go of with its descriptor: a process that dies leaves nothing behind.

mod arena;
pub mod asm;
mod btf;
mod map;
mod program;
mod sys;

pub use arena::Arena;
pub use btf::{Bits, Types};
pub use map::Map;
pub use program::{Kind, Program, attach_filter, xdp};
pub use sys::monotonic;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        error: std::io::Error,
    },
    /// The kernel's verifier does not believe in a program.
    #[error("the kernel refuses the program {name}: {why}")]
    Refused {
        /// The program's name.
        name: &'static str,
        /// The last line of the verifier.
        why: String,
    },
}

impl Error {
    /// The system's number for it.
    pub fn errno(&self) -> i32 {
        match self {
            Error::System { error, .. } => error.raw_os_error().unwrap_or(libc::EIO),
            Error::Refused { .. } => libc::EACCES,
        }
    }
}
