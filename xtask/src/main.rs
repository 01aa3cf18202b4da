//! Checks of the house: which room may use which, file sizes, words that hide unfinished work.
//!
//! `cargo test -p xtask` runs them; `cargo run -p xtask` prints the house as it stands.

mod tidy;

use anyhow::Result;

fn main() -> Result<()> {
    for (floor, rooms) in tidy::FLOORS.iter().enumerate().rev() {
        println!("F{floor}");
        for room in *rooms {
            let (files, lines) = tidy::size_of_room(room)?;
            println!("  {room:<12} {files:>3} files {lines:>6} lines");
        }
    }
    Ok(())
}
