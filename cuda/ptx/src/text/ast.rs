//! The syntax tree of a PTX module: directives, variables, functions, and instructions as guard, opcode and operands.

/// A whole PTX file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// `.version`, as (major, minor).
    pub version: (u32, u32),
    /// `.target` words, such as `sm_90a`.
    pub target: Vec<String>,
    /// `.address_size`; 64 unless stated.
    pub address_size: u32,
    /// `.file` directives: index and path.
    pub files: Vec<(u32, String)>,
    /// Variables of module scope.
    pub variables: Vec<Variable>,
    /// Functions and kernels, declarations included.
    pub functions: Vec<Function>,
    /// `.alias new, old`, with its line.
    pub aliases: Vec<(String, String, u32)>,
}

/// State space of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// `.global`
    Global,
    /// `.const`
    Const,
    /// `.shared`
    Shared,
    /// `.local`
    Local,
    /// `.param`
    Param,
}

/// A fundamental type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Type {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    B8,
    B16,
    B32,
    B64,
    B128,
    F16,
    F16x2,
    BF16,
    BF16x2,
    F32,
    F64,
    TF32,
    E4M3x2,
    E5M2x2,
    Pred,
    U16x2,
    S16x2,
    F32x2,
}

impl Type {
    /// The types by their names in PTX, without the dot.
    const NAMES: [(&str, Type); 26] = {
        use Type::*;
        [
            ("u8", U8),
            ("u16", U16),
            ("u32", U32),
            ("u64", U64),
            ("s8", S8),
            ("s16", S16),
            ("s32", S32),
            ("s64", S64),
            ("b8", B8),
            ("b16", B16),
            ("b32", B32),
            ("b64", B64),
            ("b128", B128),
            ("f16", F16),
            ("f16x2", F16x2),
            ("bf16", BF16),
            ("bf16x2", BF16x2),
            ("f32", F32),
            ("f64", F64),
            ("tf32", TF32),
            ("e4m3x2", E4M3x2),
            ("e5m2x2", E5M2x2),
            ("pred", Pred),
            ("u16x2", U16x2),
            ("s16x2", S16x2),
            ("f32x2", F32x2),
        ]
    };

    /// The type a dotted part names.
    pub fn parse(word: &str) -> Option<Type> {
        Type::NAMES.iter().find(|n| n.0 == word).map(|n| n.1)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Type::NAMES.iter().find(|n| n.1 == self).expect("every type is listed").0
    }

    /// Size in bits; a predicate has 1.
    pub fn bits(self) -> u32 {
        use Type::*;
        match self {
            U8 | S8 | B8 => 8,
            U16 | S16 | B16 | F16 | BF16 | E4M3x2 | E5M2x2 => 16,
            U32 | S32 | B32 | F16x2 | BF16x2 | F32 | TF32 | U16x2 | S16x2 => 32,
            U64 | S64 | B64 | F64 | F32x2 => 64,
            B128 => 128,
            Pred => 1,
        }
    }

    /// Size in bytes.
    pub fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// Signed integers.
    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    /// Floating point, packed forms included.
    pub fn is_float(self) -> bool {
        use Type::*;
        matches!(self, F16 | F16x2 | BF16 | BF16x2 | F32 | F64 | TF32 | E4M3x2 | E5M2x2 | F32x2)
    }

    /// Untyped bits.
    pub fn is_bits(self) -> bool {
        use Type::*;
        matches!(self, B8 | B16 | B32 | B64 | B128)
    }
}

/// `.visible`, `.extern`, `.weak` or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Linkage {
    #[default]
    Local,
    Visible,
    Extern,
    Weak,
    Common,
}

/// A variable or a parameter.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// Element type.
    pub ty: Type,
    /// 1, 2 or 4: elements of a `.v` type.
    pub vector: u32,
    /// Array extents; a first `None` is an array of open size.
    pub dims: Vec<Option<u64>>,
    /// Stated alignment.
    pub align: Option<u32>,
    /// Values after `=`, flattened.
    pub init: Option<Init>,
    /// Linkage.
    pub linkage: Linkage,
    /// True for a `.reg` parameter of a function.
    pub register: bool,
    /// Line of the declaration.
    pub line: u32,
}

impl Variable {
    /// Size in bytes; an open array counts as empty.
    pub fn bytes(&self) -> u64 {
        let element = u64::from(self.ty.bytes() * self.vector);
        self.dims.iter().fold(element, |n, d| n * d.unwrap_or(0))
    }

    /// Alignment in bytes: the stated one or the type's own.
    pub fn alignment(&self) -> u64 {
        u64::from(self.align.unwrap_or(self.ty.bytes() * self.vector))
    }
}

/// An initialiser: one value, or a braced list (nested lists pad to the extent of their dimension).
#[derive(Clone, Debug)]
pub enum Init {
    /// A value.
    Value(InitValue),
    /// `{ … }`.
    List(Vec<Init>),
}

/// A single initial value.
#[derive(Clone, Debug)]
pub enum InitValue {
    /// An integer literal, as its 64 bits.
    Int(i64),
    /// A floating literal.
    Float(Literal),
    /// Address of a symbol plus an offset; `generic` where written so; `mask` selects a byte of it (`0xFF00(sym)`).
    Symbol {
        /// The symbol.
        name: String,
        /// Bytes added.
        offset: i64,
        /// Written `generic(sym)`.
        generic: bool,
        /// Byte mask, all ones unless written.
        mask: u64,
    },
}

/// A literal operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// An integer (64 bits; unsigned literals wrap).
    Int(i64),
    /// `0f…`: the bits of an f32.
    F32(u32),
    /// `0d…` or a decimal with a point: a double.
    F64(f64),
}

/// A function or a kernel.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `.entry` rather than `.func`.
    pub entry: bool,
    /// Return values.
    pub returns: Vec<Variable>,
    /// Parameters.
    pub params: Vec<Variable>,
    /// `.noreturn`.
    pub noreturn: bool,
    /// `.maxntid`
    pub maxntid: Option<[u32; 3]>,
    /// `.reqntid`
    pub reqntid: Option<[u32; 3]>,
    /// `.reqnctapercluster`
    pub reqnctapercluster: Option<[u32; 3]>,
    /// `.maxnreg`
    pub maxnreg: Option<u32>,
    /// `.maxclusterrank`
    pub maxclusterrank: Option<u32>,
    /// `.minnctapersm`
    pub minnctapersm: Option<u32>,
    /// `.explicitcluster`
    pub explicit_cluster: bool,
    /// `.blocksareclusters`
    pub blocks_are_clusters: bool,
    /// Body; a declaration has none.
    pub body: Option<Vec<Statement>>,
    /// Line of its name.
    pub line: u32,
}

/// Place in the CUDA C++ source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loc {
    /// Index of a `.file` directive.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// One statement of a body.
#[derive(Clone, Debug)]
pub enum Statement {
    /// `.reg .type a, b<n>;` as (name, count) pairs, count `None` for a plain name.
    Registers {
        /// Type of them all.
        ty: Type,
        /// Elements for a `.v` register; 1 otherwise.
        vector: u32,
        /// Names, and how many a `<n>` asks for.
        names: Vec<(String, Option<u32>)>,
        /// Line.
        line: u32,
    },
    /// `.shared`, `.local`, `.param`, … inside a body.
    Variable(Variable),
    /// `name:`
    Label(String, u32),
    /// An instruction.
    Instruction(Instruction),
    /// `{ … }`: a scope of names.
    Block(Vec<Statement>),
    /// `name: .callprototype …;`
    Prototype(Prototype),
    /// `name: .branchtargets a, b;` or `.calltargets`.
    Targets {
        /// Label of the list.
        name: String,
        /// Its members.
        targets: Vec<String>,
        /// Line.
        line: u32,
    },
}

/// A call prototype: what an indirect call passes and gets.
#[derive(Clone, Debug)]
pub struct Prototype {
    /// Its label.
    pub name: String,
    /// Return values.
    pub returns: Vec<Variable>,
    /// Parameters.
    pub params: Vec<Variable>,
    /// Line.
    pub line: u32,
}

/// `@p` or `@!p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The predicate register.
    pub register: String,
    /// True for `@!p`.
    pub negated: bool,
}

/// An instruction: nothing in it has been looked up yet.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Guard, if any.
    pub guard: Option<Guard>,
    /// The dotted opcode, whole: `ld.global.v4.f32`.
    pub opcode: String,
    /// Operands in order.
    pub operands: Vec<Operand>,
    /// Line in the PTX file.
    pub line: u32,
    /// Place in the source, by the last `.loc`.
    pub loc: Option<Loc>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, special register, variable, function or label.
    Name(String),
    /// `name+n`.
    Offset(String, i64),
    /// A literal.
    Literal(Literal),
    /// `!p`.
    Not(String),
    /// `_`: what is written there is lost.
    Sink,
    /// `a|b`, a pair of destinations.
    Pair(Box<Operand>, Box<Operand>),
    /// `{a, b, …}`.
    Vector(Vec<Operand>),
    /// `(a, b, …)` of a call.
    List(Vec<Operand>),
    /// `[base+offset]`, or `[base, {coordinates…}, …]` of tensor copies (what follows the base is in `rest`).
    Address {
        /// Register, symbol, or literal.
        base: Box<Operand>,
        /// Bytes added.
        offset: i64,
        /// Operands after a comma inside the brackets.
        rest: Vec<Operand>,
    },
}
