//! A decoded module without its code: kernels, functions, variables, and where each instruction comes from.

use std::collections::HashMap;

use super::decode::Numbering;
use super::operand::Reg;
use crate::hazard::SourceLine;
use crate::text::ast::{Loc, Space, Type};

/// Where an instruction comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Line of the PTX file.
    pub line: u32,
    /// Place in the CUDA C++ source.
    pub loc: Option<Loc>,
    /// The dotted opcode.
    pub opcode: String,
}

/// A kernel parameter: how it is declared and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParamInfo {
    /// Its name.
    pub name: String,
    /// Offset in the parameter block.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
    /// Type of one element.
    pub(crate) ty: Type,
    /// Elements.
    pub(crate) elements: u64,
}

impl ParamInfo {
    /// A parameter of which only the place is known.
    #[cfg(feature = "card")]
    pub(crate) fn bytes(name: String, offset: u32, size: u32) -> ParamInfo {
        ParamInfo { name, offset, size, align: 1, ty: Type::B8, elements: size.into() }
    }

    /// `.f32 scale`, or `.align 64 .b8 map[128]`.
    pub fn declaration(&self) -> String {
        let ParamInfo { name, align, ty, elements, .. } = self;
        match elements {
            1 => format!(".{} {name}", ty.name()),
            n => format!(".align {align} .{} {name}[{n}]", ty.name()),
        }
    }

    /// A single number with a point.
    pub(crate) fn is_float(&self) -> bool {
        self.elements == 1 && self.ty.is_float()
    }

    /// A single number without one.
    pub(crate) fn is_integer(&self) -> bool {
        self.elements == 1 && !self.ty.is_float() && !self.ty.is_bits()
    }
}

/// What a kernel asks of its launch, and needs of an SM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Bytes of static shared memory.
    pub static_shared: u32,
    /// Bytes of local memory a thread, as far as the PTX declares it.
    pub local: u32,
    /// `.maxntid`
    pub maxntid: Option<[u32; 3]>,
    /// `.reqntid`
    pub reqntid: Option<[u32; 3]>,
    /// `.reqnctapercluster`
    pub reqnctapercluster: Option<[u32; 3]>,
    /// `.explicitcluster`
    pub explicit_cluster: bool,
    /// `.maxnreg`
    pub maxnreg: Option<u32>,
}

/// Where a shared variable lies in a CTA's shared memory.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The variable's name.
    pub name: String,
    /// Its first byte.
    pub start: u32,
    /// One past its last.
    pub end: u32,
}

/// The shared variables that addresses in registers were made from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// For each register of 32 and of 64 bits, the number of its variable plus one; 0: none.
    pub registers: [Vec<u16>; 2],
    /// The variables.
    pub extents: Vec<Extent>,
}

impl Origins {
    /// The variable that addresses in a register were made from.
    #[inline]
    pub fn of(&self, reg: Reg) -> Option<&Extent> {
        let number = *self.registers.get(reg.class as usize)?.get(reg.index as usize)?;
        self.extents.get(usize::from(number).checked_sub(1)?)
    }
}

/// A kernel.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// First instruction.
    pub start: u32,
    /// Parameters.
    pub params: Vec<ParamInfo>,
    /// Registers and their constants.
    pub registers: Numbering,
    /// Bytes of local memory a thread.
    pub frame: u32,
    /// Shared variables with their offsets, the dynamic ones at the end of the static ones.
    pub shared: HashMap<u32, u32>,
    /// Bytes of static shared memory: where the dynamic part starts.
    pub static_shared: u32,
    /// Which of them addresses are made from.
    pub origins: Origins,
    /// `.maxntid`
    pub maxntid: Option<[u32; 3]>,
    /// `.reqntid`
    pub reqntid: Option<[u32; 3]>,
    /// `.reqnctapercluster`
    pub reqnctapercluster: Option<[u32; 3]>,
    /// `.maxclusterrank`
    pub maxclusterrank: Option<u32>,
    /// `.explicitcluster`
    pub explicit_cluster: bool,
    /// `.blocksareclusters`: a launch counts its grid in clusters.
    pub blocks_are_clusters: bool,
    /// `.maxnreg`
    pub maxnreg: Option<u32>,
    /// `.minnctapersm`
    pub minnctapersm: Option<u32>,
}

/// A function's places in the frame of a thread.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    /// Parameters: offset in the frame and bytes.
    pub params: Vec<(u32, u32)>,
    /// Results.
    pub returns: Vec<(u32, u32)>,
}

/// A function or kernel.
pub struct Function {
    /// Its name.
    pub name: String,
    /// A kernel.
    pub entry: bool,
    /// First instruction; [`super::NO_PC`] if it has no body (`vprintf`, `__assertfail`).
    pub start: u32,
    /// One past its last.
    pub end: u32,
    /// Where its parameters and results lie.
    pub signature: Signature,
}

/// A variable of module scope.
pub struct Global {
    /// Its name.
    pub name: String,
    /// `.global` or `.const`.
    pub space: Space,
    /// Size in bytes.
    pub bytes: u64,
    /// Initial bytes; empty where all are zeros.
    pub init: Vec<u8>,
    /// Addresses to fill in.
    pub relocations: Vec<Relocation>,
}

/// An address inside a variable's initial value.
pub struct Relocation {
    /// Where in the variable.
    pub at: usize,
    /// Bytes there.
    pub size: usize,
    /// What it points to.
    pub target: RelocationTarget,
    /// Bytes added.
    pub offset: i64,
    /// Bits kept, moved to the right end.
    pub mask: u64,
}

/// What an initial address points to.
pub enum RelocationTarget {
    /// A variable, by number.
    Global(u32),
    /// A function, by number.
    Function(u32),
}

/// A shared variable.
pub struct SharedVariable {
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Alignment.
    pub align: u64,
    /// `.extern`: the dynamic part.
    pub dynamic: bool,
}

/// Registers that one name declares, side by side.
pub struct Declared {
    /// Number of the function.
    pub function: u32,
    /// The name; of several registers, what their numbers follow.
    pub name: String,
    /// How many, if numbers follow.
    pub count: Option<u32>,
    /// The first.
    pub first: Reg,
    /// Registers of the machine that each takes.
    pub per: u32,
    /// Their type.
    pub ty: Type,
    /// Line of the PTX file.
    pub line: u32,
}

impl Declared {
    /// Which of them has this name.
    fn find(&self, name: &str) -> Option<u16> {
        let rest = name.strip_prefix(self.name.as_str())?;
        match self.count {
            None => rest.is_empty().then_some(0),
            Some(count) => rest.parse().ok().filter(|n: &u16| u32::from(*n) < count && rest == n.to_string()),
        }
    }
}

/// All of a module but its code.
#[derive(Default)]
pub struct Program {
    /// The file's name.
    pub name: String,
    /// The file.
    pub source: String,
    /// Names of registers.
    pub declared: Vec<Declared>,
    /// Where each instruction comes from.
    pub sources: Vec<Source>,
    /// Kernels.
    pub entries: Vec<Entry>,
    /// All functions, kernels included.
    pub functions: Vec<Function>,
    /// Global and constant variables.
    pub globals: Vec<Global>,
    /// Shared variables.
    pub shared: Vec<SharedVariable>,
    /// `.file` paths by index.
    pub files: HashMap<u32, String>,
}

/// Functions that the machine itself provides.
pub const BUILTINS: [&str; 4] = ["vprintf", "__assertfail", "malloc", "free"];

/// Handles of functions lie where no memory is.
const HANDLES: u64 = 0x00f0_0000_0000;

/// The value of a pointer to function `f`.
pub fn handle(f: u32) -> u64 {
    HANDLES + 16 * u64::from(f)
}

impl Program {
    /// The function that a pointer points to: its number.
    pub fn function_of(&self, handle: u64) -> Option<u32> {
        let f = handle.checked_sub(HANDLES).filter(|at| at.is_multiple_of(16))? / 16;
        (f < self.functions.len() as u64).then_some(f as u32)
    }

    /// A kernel by name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Opcode, PTX line and source line of instruction `pc`.
    pub fn line(&self, pc: u32) -> (&str, u32, Option<SourceLine>) {
        let s = &self.sources[pc as usize];
        let source = s.loc.and_then(|l| Some(SourceLine { file: self.files.get(&l.file)?.clone(), line: l.line }));
        (&s.opcode, s.line, source)
    }

    /// Lines of the file, from 1.
    pub fn text(&self, first: u32, last: u32) -> Vec<&str> {
        self.source.lines().skip(first as usize - 1).take((last + 1).saturating_sub(first) as usize).collect()
    }

    /// The register that a name means in line `line`, in the function of instruction `pc`, and its type.
    pub fn register(&self, pc: u32, name: &str, line: u32) -> Option<(Reg, Type)> {
        let function = self.functions.iter().position(|f| f.start <= pc && pc < f.end)? as u32;
        // An inner declaration hides an outer one.
        let mine = self.declared.iter().rev().filter(|d| d.function == function && d.line <= line);
        mine.filter_map(|d| Some((d, d.find(name)?)))
            .next()
            .map(|(d, n)| (Reg { class: d.first.class, index: d.first.index + n * d.per as u16 }, d.ty))
    }

    /// What a register is called in the function of instruction `pc`.
    pub fn register_name(&self, pc: u32, reg: Reg) -> Option<String> {
        let function = self.functions.iter().position(|f| f.start <= pc && pc < f.end)? as u32;
        let mut mine = self.declared.iter().filter(|d| d.function == function && d.first.class == reg.class);
        mine.find_map(|d| {
            let n = u32::from(reg.index.checked_sub(d.first.index)?) / d.per;
            (n < d.count.unwrap_or(1)).then(|| if d.count.is_some() { format!("{}{n}", d.name) } else { d.name.clone() })
        })
    }

    /// The text of instruction `pc`, from its line on; the instructions of a line are told apart by their opcodes.
    pub fn statement(&self, pc: u32) -> Option<&str> {
        let Source { line, opcode, .. } = &self.sources[pc as usize];
        let before = self.sources[..pc as usize].iter().rev().take_while(|s| s.line == *line);
        let same = before.filter(|s| s.opcode == *opcode).count();
        let from = self.source.split_inclusive('\n').take(*line as usize - 1).map(str::len).sum::<usize>();
        self.source[from..].split(';').filter(|s| s.contains(opcode.as_str())).nth(same)
    }

    /// The function that instruction `pc` belongs to.
    pub fn function_at(&self, pc: u32) -> Option<&Function> {
        self.functions.iter().find(|f| f.start <= pc && pc < f.end)
    }
}
