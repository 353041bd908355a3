//! What an instruction names: registers, constants, addresses, guards.
//!
//! There are three files of registers: 32-bit (8- and 16-bit registers live there, zero-extended), 64-bit (a b128 register is two of
//! them in a row), and predicates (a lane mask each). Immediates, symbol addresses and special registers that never change
//! ([`Constant`]) are registers too, filled when a warp starts, so that an operand is always an index. Recursion is refused, so each
//! function of the module has registers of its own and a call moves none.

use crate::text::ast::Space;

/// Which register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// 32 bits and less.
    B32 = 0,
    /// 64 bits.
    B64 = 1,
    /// Predicates.
    Pred = 2,
}

/// A register: its file and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg {
    /// The file.
    pub class: Class,
    /// The index.
    pub index: u16,
}

/// What a register that is no register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// An immediate (for a predicate: 0 or 1).
    Bits(u64),
    /// A special register that stays the same while a thread lives.
    Special(Special),
    /// Address in the shared window of shared variable `.0`, plus `.1` bytes.
    Shared(u32, i64),
    /// Address of global or constant variable `.0`, plus `.1` bytes.
    Global(u32, i64),
    /// Generic address of byte `.0` of the kernel's parameters.
    KernelParam(u32),
    /// Handle of function `.0`.
    Function(u32),
}

/// Special registers that stay the same while a thread lives. `u8` is the dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Clusterid(u8),
    Nclusterid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    IsExplicitCluster,
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    TotalSmemSize,
    AggrSmemSize,
    DynamicSmemSize,
    ReservedSmemOffset(u8),
    Envreg(u8),
    PerformanceMonitor,
    CurrentGraphExec,
}

/// Operand indices of a lane-wise instruction. What each means is the family's business; by habit `d` and `e` are written,
/// `a`, `b`, `c`, `f` read, and `how` holds modifiers.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Args {
    pub d: u16,
    pub e: u16,
    pub a: u16,
    pub b: u16,
    pub c: u16,
    pub f: u16,
    pub how: u32,
}

/// A guard: predicate register and whether it is negated. `index == NONE`: always.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Predicate register.
    pub index: u16,
    /// `@!p`.
    pub negated: bool,
}

impl Guard {
    /// No guard.
    pub const ALWAYS: Guard = Guard { index: u16::MAX, negated: false };
}

/// No such pc.
pub const NO_PC: u32 = u32::MAX;

/// `[base + offset]`, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Addr {
    /// The register (or constant register) that holds the base, of 32 or 64 bits.
    pub base: Reg,
    /// Bytes added.
    pub offset: i64,
    /// The space that the name implies, if it is a variable's: `ld.param [p]` of a function reads its frame.
    pub space: Option<Space>,
    /// The base is a constant: the address is the same each time.
    pub constant: bool,
}
