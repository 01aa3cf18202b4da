//! The XDP program of a port: it hands each frame to the socket of the queue on which it came.
//!
//! A frame on a queue without a socket goes on to the host's stack.
//!
//! Where a driver keeps the outer VLAN tag beside the frame, as veth does for a tag that its peer left to
//! the device, a frame that is redirected would lose it. There the program asks the driver for the tag,
//! by the kernel's function `bpf_xdp_metadata_rx_vlan_tag` (Linux 6.8), and puts it back into the frame.

use std::os::fd::{AsRawFd, BorrowedFd};

use bpf::asm::{Alu, Asm, If, Label, Reg::*, Size};

const ADJUST_HEAD: i32 = 44;
const REDIRECT_MAP: i32 = 51;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
/// Fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;

/// The program. `vlan_tag`: the number of the kernel function that tells a frame's tag.
pub(super) fn program(map: BorrowedFd<'_>, vlan_tag: Option<u32>) -> Vec<u64> {
    let mut a = Asm::new();
    let drop = a.label();
    a.mov(R6, R1);
    if let Some(function) = vlan_tag {
        restore_tag(&mut a, function, drop);
    }
    a.load(Size::U32, R2, R6, RX_QUEUE_INDEX);
    a.load_map(R1, map.as_raw_fd());
    a.mov(R3, XDP_PASS);
    a.call(REDIRECT_MAP);
    a.exit();
    a.put(drop);
    if vlan_tag.is_some() {
        a.mov(R0, XDP_DROP);
        a.exit();
    }
    a.finish()
}

/// Puts a tag that the driver knows into the frame; goes to `drop` if it finds no room there.
fn restore_tag(a: &mut Asm, function: u32, drop: Label) {
    const PROTO: i16 = -8;
    const TCI: i16 = -16;
    let done = a.label();
    for (reg, at) in [(R2, PROTO), (R3, TCI)] {
        a.store(Size::U64, R10, at, 0);
        a.mov(reg, R10);
        a.alu(Alu::Add, reg, i32::from(at));
    }
    a.mov(R1, R6);
    a.call_kernel(function);
    // Without a tag (or a driver that tells) there is nothing to do.
    a.jump(If::Ne, R0, 0, done);
    a.mov(R1, R6);
    a.mov(R2, -4);
    a.call(ADJUST_HEAD);
    a.jump(If::Ne, R0, 0, drop);
    a.load(Size::U32, R2, R6, DATA);
    a.load(Size::U32, R3, R6, DATA_END);
    a.mov(R1, R2);
    a.alu(Alu::Add, R1, 18);
    a.jump(If::Gt, R1, R3, drop);
    // The addresses move forward by a tag's length.
    for at in (0..12).step_by(2) {
        a.load(Size::U16, R1, R2, at + 4);
        a.store(Size::U16, R2, at, R1);
    }
    // The protocol comes in network byte order, the tag in the host's.
    a.load(Size::U16, R1, R10, PROTO);
    a.store(Size::U16, R2, 12, R1);
    a.load(Size::U16, R1, R10, TCI);
    a.swap(R1, Size::U16);
    a.store(Size::U16, R2, 14, R1);
    a.put(done);
}
