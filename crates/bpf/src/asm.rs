//! An assembler of the kernel's instruction set, as far as the programs of this house need it.
//!
//! Source: RFC 9669 (BPF Instruction Set Architecture), and the kernel's own extensions where they are named.

/// A register. `R0` is what calls return, `R1` to `R5` what they take (and lose), `R6` to `R9` are kept over calls,
/// `R10` is the end of the stack, which is read-only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // numbers
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// What an instruction takes besides its destination.
#[derive(Copy, Clone, Debug)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A number, extended by its sign.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(r: Reg) -> Operand {
        Operand::Reg(r)
    }
}

impl From<i32> for Operand {
    fn from(n: i32) -> Operand {
        Operand::Imm(n)
    }
}

/// How much is loaded or stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// Four bytes.
    U32 = 0x00,
    /// Two bytes.
    U16 = 0x08,
    /// One byte.
    U8 = 0x10,
    /// Eight bytes.
    U64 = 0x18,
}

/// Arithmetic.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the operators' names
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Mov = 0xb0,
    /// A shift that keeps the sign.
    Sar = 0xc0,
}

/// When a jump is taken: if the destination is so, compared with the operand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the comparisons' names; those with `S` are signed
pub enum If {
    Eq = 0x10,
    Gt = 0x20,
    Ge = 0x30,
    /// They have a bit in common.
    AnyBit = 0x40,
    Ne = 0x50,
    SGt = 0x60,
    Lt = 0xa0,
    Le = 0xb0,
    SLt = 0xc0,
}

/// A place in the program that jumps lead to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program under way.
#[derive(Debug, Default)]
pub struct Asm {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
const MEM: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
/// The operand is a register.
const X: u8 = 0x08;
const GOTO: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_IMM64: u8 = 0x18;
/// To big endian.
const TO_BE: u8 = 0xdc;

/// `struct bpf_insn` as an integer.
fn insn(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    let (o, i) = (off.to_ne_bytes(), imm.to_ne_bytes());
    // The kernel's bit fields lie in the order of the machine's bytes.
    let registers = if cfg!(target_endian = "little") { dst | src << 4 } else { dst << 4 | src };
    u64::from_ne_bytes([opcode, registers, o[0], o[1], i[0], i[1], i[2], i[3]])
}

impl Asm {
    /// Of no instruction yet.
    pub fn new() -> Asm {
        Asm::default()
    }

    fn push(&mut self, opcode: u8, dst: Reg, src: u8, off: i16, imm: i32) {
        self.code.push(insn(opcode, dst as u8, src, off, imm));
    }

    fn with(&mut self, opcode: u8, dst: Reg, operand: Operand, off: i16) {
        match operand {
            Operand::Reg(r) => self.push(opcode | X, dst, r as u8, off, 0),
            Operand::Imm(n) => self.push(opcode, dst, 0, off, n),
        }
    }

    /// `dst = dst op operand` in 64 bits.
    pub fn alu(&mut self, op: Alu, dst: Reg, operand: impl Into<Operand>) {
        self.with(ALU64 | op as u8, dst, operand.into(), 0);
    }

    /// The same in 32 bits; the upper half becomes zero.
    pub fn alu32(&mut self, op: Alu, dst: Reg, operand: impl Into<Operand>) {
        self.with(ALU | op as u8, dst, operand.into(), 0);
    }

    /// `dst = operand`.
    pub fn mov(&mut self, dst: Reg, operand: impl Into<Operand>) {
        self.alu(Alu::Mov, dst, operand);
    }

    /// Turns the lowest bytes of a register from network byte order into the machine's, or back; the others become zero.
    pub fn swap(&mut self, dst: Reg, size: Size) {
        let bits = match size {
            Size::U64 => 64,
            Size::U32 => 32,
            Size::U16 | Size::U8 => 16,
        };
        self.push(TO_BE, dst, 0, 0, bits);
    }

    /// `dst = *(base + off)`; what is missing becomes zero.
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) {
        self.push(LDX | MEM | size as u8, dst, base as u8, off, 0);
    }

    /// `*(base + off) = operand`.
    pub fn store(&mut self, size: Size, base: Reg, off: i16, operand: impl Into<Operand>) {
        match operand.into() {
            Operand::Reg(r) => self.push(STX | MEM | size as u8, base, r as u8, off, 0),
            Operand::Imm(n) => self.push(ST | MEM | size as u8, base, 0, off, n),
        }
    }

    /// If `*(base + off)` is `r0`, it becomes `src`; `r0` becomes what was there. Of four bytes.
    pub fn compare_exchange(&mut self, base: Reg, off: i16, src: Reg) {
        self.push(STX | ATOMIC | Size::U32 as u8, base, src as u8, off, 0xf1);
    }

    /// Adds `src` to `*(base + off)`, of four bytes, and gives in `src` what was there. A full barrier.
    pub fn fetch_add(&mut self, base: Reg, off: i16, src: Reg) {
        self.push(STX | ATOMIC | Size::U32 as u8, base, src as u8, off, 0x01);
    }

    /// Adds `src` to `*(base + off)`, of eight bytes, at once for all who do.
    pub fn add_at_once(&mut self, base: Reg, off: i16, src: Reg) {
        self.push(STX | ATOMIC | Size::U64 as u8, base, src as u8, off, 0);
    }

    /// `dst = value`, of 64 bits.
    pub fn load_imm64(&mut self, dst: Reg, value: u64) {
        self.push(LOAD_IMM64, dst, 0, 0, value as u32 as i32);
        self.code.push(insn(0, 0, 0, 0, (value >> 32) as i32));
    }

    /// `dst` becomes the map of a descriptor.
    pub fn load_map(&mut self, dst: Reg, fd: i32) {
        const PSEUDO_MAP_FD: u8 = 1;
        self.push(LOAD_IMM64, dst, PSEUDO_MAP_FD, 0, fd);
        self.code.push(0);
    }

    /// `dst = src`, an address in the arena's lower 32 bits, as a pointer that can be followed. The program must have
    /// [loaded](Asm::load_map) an arena.
    pub fn in_arena(&mut self, dst: Reg, src: Reg) {
        const ADDRESS_SPACE_CAST: i16 = 1;
        const TO_KERNEL: i32 = 1;
        self.push(ALU64 | Alu::Mov as u8 | X, dst, src as u8, ADDRESS_SPACE_CAST, TO_KERNEL);
    }

    /// Calls a helper of the kernel by its number (`enum bpf_func_id`).
    pub fn call(&mut self, helper: i32) {
        self.push(CALL, Reg::R0, 0, 0, helper);
    }

    /// Calls a kernel function by its [number](crate::Types::function).
    pub fn call_kernel(&mut self, function: u32) {
        const PSEUDO_KFUNC: u8 = 2;
        self.push(CALL, Reg::R0, PSEUDO_KFUNC, 0, function as i32);
    }

    /// Ends the program; its result is `r0`.
    pub fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// A label that is [put](Asm::put) later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Jumps to the label come here.
    pub fn put(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Jumps if the 64 bits of `dst` are so.
    pub fn jump(&mut self, cond: If, dst: Reg, operand: impl Into<Operand>, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.with(JMP | cond as u8, dst, operand.into(), 0);
    }

    /// The same of the lower 32 bits.
    pub fn jump32(&mut self, cond: If, dst: Reg, operand: impl Into<Operand>, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.with(JMP32 | cond as u8, dst, operand.into(), 0);
    }

    /// Jumps.
    pub fn goto(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(GOTO, Reg::R0, 0, 0, 0);
    }

    /// The instructions, each `struct bpf_insn` as an integer.
    ///
    /// # Panics
    /// A jump leads nowhere or too far: a bug in the program.
    pub fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let Some(to) = self.labels[label.0] else {
                panic!("label {} was put nowhere", label.0)
            };
            let far = to as i64 - at as i64 - 1;
            let Ok(off) = i16::try_from(far) else { panic!("a jump over {far} instructions") };
            let mut bytes = self.code[at].to_ne_bytes();
            bytes[2..4].copy_from_slice(&off.to_ne_bytes());
            self.code[at] = u64::from_ne_bytes(bytes);
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opcode, registers, offset and number of an instruction.
    fn parts(insn: u64) -> (u8, u8, i16, i32) {
        let b = insn.to_ne_bytes();
        let (off, imm) = (i16::from_ne_bytes([b[2], b[3]]), [b[4], b[5], b[6], b[7]]);
        (b[0], b[1], off, i32::from_ne_bytes(imm))
    }

    #[test]
    fn jumps_lead_to_their_labels_forth_and_back() {
        let mut a = Asm::new();
        let (again, done) = (a.label(), a.label());
        a.mov(Reg::R0, 3);
        a.put(again);
        a.alu(Alu::Sub, Reg::R0, 1);
        a.jump(If::Eq, Reg::R0, 0, done);
        a.goto(again);
        a.put(done);
        a.exit();
        let code: Vec<_> = a.finish().into_iter().map(parts).collect();
        assert_eq!(code[2], (0x15, 0, 1, 0));
        assert_eq!(code[3], (0x05, 0, -3, 0));
        assert_eq!(code[4].0, 0x95);
    }

    #[test]
    #[should_panic(expected = "was put nowhere")]
    fn a_jump_to_nowhere_is_a_bug() {
        let mut a = Asm::new();
        let label = a.label();
        a.goto(label);
        a.finish();
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        let mut a = Asm::new();
        a.load(Size::U32, Reg::R2, Reg::R6, 16);
        a.store(Size::U16, Reg::R10, -8, 7);
        a.alu32(Alu::Add, Reg::R3, Reg::R4);
        a.load_map(Reg::R1, 5);
        a.in_arena(Reg::R7, Reg::R0);
        a.compare_exchange(Reg::R7, 4, Reg::R1);
        a.swap(Reg::R1, Size::U16);
        let code: Vec<_> = a.finish().into_iter().map(parts).collect();
        let want = [
            (0x61, 0x62, 16, 0),
            (0x6a, 0x0a, -8, 7),
            (0x0c, 0x43, 0, 0),
            (0x18, 0x11, 0, 5),
            (0, 0, 0, 0),
            (0xbf, 0x07, 1, 1),
            (0xc3, 0x17, 4, 0xf1),
            (0xdc, 0x01, 0, 16),
        ];
        assert_eq!(code, want);
    }
}
