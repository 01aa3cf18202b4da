//! What tests of the whole switch stand on: network namespaces, daemons under test, golden
//! transcripts and QEMU guests.
//!
//! - [`process`] runs a program to its end with a deadline, or in the background until dropped;
//! - [`netns`] makes network namespaces (also without root) and the topology of the story;
//! - [`sut`] starts a switch, ours or the stock Open vSwitch, behind one handle;
//! - [`control`] is a connection to the control socket of such a switch;
//! - [`rows`] makes packets of conversations out of rows of text;
//! - [`peer`] is the small network program that plays client and server in a namespace or a guest;
//! - [`golden`] compares what two switches print, but for MACs, times, ids and order;
//! - [`guest`] boots small virtual machines on taps that QEMU itself opens;
//! - [`masks`] tells the masks of megaflows from each other in a dump;
//! - [`need`] says what is missing on a machine, and when that is a failure.
//!
//! Everything a test starts ends with the test: children carry a parent-death signal, namespaces
//! live only as long as a pipe of the test process, scratch directories are removed on drop.

pub mod control;
pub mod golden;
pub mod guest;
pub mod masks;
pub mod need;
pub mod netns;
pub mod peer;
pub mod peer_program;
pub mod process;
pub mod rows;
pub mod scratch;
pub mod story;
pub mod sut;
