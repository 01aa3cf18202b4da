//! The XDP program of a port: it hands each frame to the socket of the queue on which it came.
//!
//! A frame on a queue without a socket goes on to the host's stack.
//!
//! Where a driver keeps the outer VLAN tag beside the frame, as veth does for a tag that its peer left to
//! the device, a frame that is redirected would lose it. There the program asks the driver for the tag,
//! by the kernel's function `bpf_xdp_metadata_rx_vlan_tag` (Linux 6.8), and puts it back into the frame.
//! The number of that function is looked up in the kernel's own description of its types (BTF).

use std::os::fd::{AsRawFd, BorrowedFd};

/// Opcodes of `linux/bpf.h`, as far as they are used.
mod op {
    pub(super) const MOV_REG: u8 = 0xbf;
    pub(super) const MOV: u8 = 0xb7;
    pub(super) const ADD: u8 = 0x07;
    pub(super) const TO_BE: u8 = 0xdc;
    pub(super) const LOAD_IMM64: u8 = 0x18;
    pub(super) const LOAD_U32: u8 = 0x61;
    pub(super) const LOAD_U16: u8 = 0x69;
    pub(super) const STORE_U16: u8 = 0x6b;
    pub(super) const STORE_IMM64: u8 = 0x7a;
    pub(super) const JUMP_NE: u8 = 0x55;
    pub(super) const JUMP_GT_REG: u8 = 0x2d;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
}

/// `src` of a load that takes a map's descriptor, and of a call of a kernel function.
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_KFUNC: u8 = 2;
const ADJUST_HEAD: i32 = 44;
const REDIRECT_MAP: i32 = 51;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
/// Fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;

/// `struct bpf_insn` as an integer.
fn insn(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    let (o, i) = (off.to_ne_bytes(), imm.to_ne_bytes());
    // The kernel's bit fields lie in the order of the machine's bytes.
    let registers = if cfg!(target_endian = "little") { dst | src << 4 } else { dst << 4 | src };
    u64::from_ne_bytes([opcode, registers, o[0], o[1], i[0], i[1], i[2], i[3]])
}

/// The program. `vlan_tag`: the number of the kernel function that tells a frame's tag.
pub(super) fn program(map: BorrowedFd<'_>, vlan_tag: Option<u32>) -> Vec<u64> {
    let mut p = vec![insn(op::MOV_REG, 6, 1, 0, 0)];
    if let Some(function) = vlan_tag {
        p.extend(restore_tag(function as i32));
    }
    p.extend([
        insn(op::LOAD_U32, 2, 6, RX_QUEUE_INDEX, 0),
        insn(op::LOAD_IMM64, 1, PSEUDO_MAP_FD, 0, map.as_raw_fd()),
        0,
        insn(op::MOV, 3, 0, 0, XDP_PASS),
        insn(op::CALL, 0, 0, 0, REDIRECT_MAP),
        insn(op::EXIT, 0, 0, 0, 0),
    ]);
    p
}

/// Puts a tag that the driver knows into the frame; falls through with `r6` the context.
fn restore_tag(function: i32) -> Vec<u64> {
    const PROTO: i16 = -8;
    const TCI: i16 = -16;
    let mut p = vec![
        insn(op::STORE_IMM64, 10, 0, PROTO, 0),
        insn(op::STORE_IMM64, 10, 0, TCI, 0),
        insn(op::MOV_REG, 2, 10, 0, 0),
        insn(op::ADD, 2, 0, 0, PROTO.into()),
        insn(op::MOV_REG, 3, 10, 0, 0),
        insn(op::ADD, 3, 0, 0, TCI.into()),
        insn(op::CALL, 0, PSEUDO_KFUNC, 0, function),
    ];
    let mut restore = vec![
        insn(op::MOV_REG, 1, 6, 0, 0),
        insn(op::MOV, 2, 0, 0, -4),
        insn(op::CALL, 0, 0, 0, ADJUST_HEAD),
    ];
    // A frame that cannot be given its tag is dropped: two jumps over what follows them.
    let mut put = Vec::new();
    // The addresses move forward by a tag's length.
    for at in (0..12).step_by(2) {
        put.push(insn(op::LOAD_U16, 1, 2, at + 4, 0));
        put.push(insn(op::STORE_U16, 2, 1, at, 0));
    }
    put.extend([
        // The protocol comes in network byte order, the tag in the host's.
        insn(op::LOAD_U16, 1, 10, PROTO, 0),
        insn(op::STORE_U16, 2, 1, 12, 0),
        insn(op::LOAD_U16, 1, 10, TCI, 0),
        insn(op::TO_BE, 1, 0, 0, 16),
        insn(op::STORE_U16, 2, 1, 14, 0),
    ]);
    let drop = [insn(op::MOV, 0, 0, 0, XDP_DROP), insn(op::EXIT, 0, 0, 0, 0)];
    let look = [
        insn(op::LOAD_U32, 2, 6, DATA, 0),
        insn(op::LOAD_U32, 3, 6, DATA_END, 0),
        insn(op::MOV_REG, 1, 2, 0, 0),
        insn(op::ADD, 1, 0, 0, 18),
    ];
    // Layout: [adjust] if r0 != 0 goto drop; [look] if r1 > r3 goto drop; [put]; goto after; drop.
    let over_drop = insn(0x05, 0, 0, drop.len() as i16, 0);
    let to_drop = put.len() as i16 + 1;
    let past_look = look.len() as i16 + 1;
    restore.push(insn(op::JUMP_NE, 0, 0, past_look + to_drop, 0));
    restore.extend(look);
    restore.push(insn(op::JUMP_GT_REG, 1, 3, to_drop, 0));
    restore.extend(put);
    restore.push(over_drop);
    restore.extend(drop);
    // Without a tag (or a driver that tells) there is nothing to do.
    p.push(insn(op::JUMP_NE, 0, 0, restore.len() as i16, 0));
    p.extend(restore);
    p
}

/// The number of the kernel function that tells a frame's VLAN tag, if the kernel has it.
pub(super) fn vlan_tag_function() -> Option<u32> {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    function(&btf, b"bpf_xdp_metadata_rx_vlan_tag")
}

/// The number of the function `name` in a description of types in this machine's byte order.
///
/// Source: the kernel's `btf` documentation.
fn function(btf: &[u8], name: &[u8]) -> Option<u32> {
    const MAGIC: u16 = 0xeb9f;
    const FUNC: u32 = 12;
    let word = |at: usize| Some(u32::from_ne_bytes(*btf.get(at..)?.first_chunk()?));
    if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
        return None;
    }
    let header = word(4)? as usize;
    let section = |offset: u32, len: u32| {
        let start = header.checked_add(offset as usize)?;
        btf.get(start..start.checked_add(len as usize)?)
    };
    let mut types = section(word(8)?, word(12)?)?;
    let names = section(word(16)?, word(20)?)?;
    for id in 1.. {
        let [n0, n1, n2, n3, i0, i1, i2, i3, ..] = *types else { return None };
        let info = u32::from_ne_bytes([i0, i1, i2, i3]);
        let (kind, n) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        if kind == FUNC {
            let at = u32::from_ne_bytes([n0, n1, n2, n3]) as usize;
            if names.get(at..)?.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0)) {
                return Some(id);
            }
        }
        // What follows a type's first twelve bytes.
        let more = match kind {
            1 | 14 | 17 => 4,          // integer, variable, tag of a declaration
            3 => 12,                   // array
            4 | 5 | 15 | 19 => 12 * n, // structure, union, data section, 64-bit enumeration
            6 | 13 => 8 * n,           // enumeration, prototype
            _ => 0,
        };
        types = types.get(12 + more..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_among_other_types_by_its_whole_name() {
        let names = b"\0int\0find_me_not\0find_me\0";
        let mut types = Vec::new();
        let mut add = |name: u32, kind: u32, n: u32, more: usize| {
            for w in [name, kind << 24 | n, 0] {
                types.extend(w.to_ne_bytes());
            }
            types.extend(vec![0xff; more]);
        };
        add(1, 1, 0, 4);
        add(0, 4, 3, 36);
        add(0, 13, 2, 16);
        add(5, 12, 0, 0);
        add(17, 8, 0, 0); // not a function
        add(17, 12, 0, 0);
        let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        for w in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            btf.extend(w.to_ne_bytes());
        }
        btf.extend(&types);
        btf.extend(names);
        assert_eq!(function(&btf, b"find_me"), Some(6));
        assert_eq!(function(&btf, b"find_me_not"), Some(4));
        assert_eq!(function(&btf, b"int"), None);
        for len in 0..btf.len() {
            // Cut anywhere, it is at most not found.
            assert!(function(&btf[..len], b"find_me").is_none(), "{len}");
        }
    }
}
