//! One instruction's decoding context, and the names that are in scope.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::operand::{Addr, Args, Class, Constant, Reg, Special};
use crate::text::ast::{self, Literal, Operand, Space, Type};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Register {
        reg: Reg,
        ty: Type,
    },
    /// A variable of the thread's frame: `.local`, or `.param` of a function or of a call; offset in the frame.
    Frame {
        space: Space,
        offset: u32,
        bytes: u32,
    },
    /// A kernel's parameter.
    KernelParam {
        offset: u32,
        bytes: u32,
    },
    /// Shared variable by number.
    Shared(u32),
    /// Global or constant variable by number.
    Global(u32, Space),
    /// Label by number.
    Label(u32),
    /// Label list.
    Targets(Vec<String>),
    /// Call prototype: bytes of the parameters and of the results.
    Prototype(Vec<u32>, Vec<u32>),
    /// A function of the module.
    Function(u32),
    /// A register of so many elements, each a register by the name with `.x` and so on behind it.
    Vector(usize),
    /// A variable that another module would have to define.
    Extern,
}

/// What the elements of a vector register are called.
pub(crate) const ELEMENTS: [[&str; 4]; 2] = [["x", "y", "z", "w"], ["r", "g", "b", "a"]];

/// Register counts and constants of a kernel or of all functions together.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    /// Registers by class.
    pub count: [u32; 3],
    /// Registers that are filled when a warp starts.
    pub constants: Vec<(Reg, Constant)>,
    known: HashMap<(Class, Constant), Reg>,
    carry: Option<u16>,
    overflow: bool,
}

impl Numbering {
    /// `n` new registers in a row.
    pub fn fresh(&mut self, class: Class, n: u32) -> Reg {
        let count = &mut self.count[class as usize];
        if *count + n > u32::from(u16::MAX) {
            // Reported once, by `is_full`; until then any index does.
            self.overflow = true;
            *count = 0;
        }
        let reg = Reg { class, index: *count as u16 };
        *count += n;
        reg
    }

    /// The predicate that stands for the condition code's carry.
    pub fn carry(&mut self) -> u16 {
        match self.carry {
            Some(index) => index,
            None => {
                let index = self.fresh(Class::Pred, 1).index;
                *self.carry.insert(index)
            }
        }
    }

    /// Whether a register file has run out of indices.
    pub fn is_full(&self) -> bool {
        self.overflow
    }

    /// The register that holds `constant`.
    pub fn constant(&mut self, class: Class, constant: Constant) -> Reg {
        if let Some(&reg) = self.known.get(&(class, constant)) {
            return reg;
        }
        let reg = self.fresh(class, 1);
        self.known.insert((class, constant), reg);
        self.constants.push((reg, constant));
        reg
    }
}

/// Names of the function that is being decoded, innermost scope last.
pub(crate) struct Scopes {
    pub module: Arc<HashMap<String, Name>>,
    pub stack: Vec<HashMap<String, Name>>,
    pub numbering: Numbering,
    /// True in a kernel.
    pub entry: bool,
    /// Functions called by name, and whether there is an indirect call.
    pub callees: Vec<u32>,
    pub indirect: bool,
    /// Shared variables that are named.
    pub shared: Vec<u32>,
    /// Some register is a vector.
    pub vectors: bool,
}

impl Scopes {
    /// The elements of what is named, if it is a vector: a register, or a special register of three dimensions.
    fn elements(&self, name: &str) -> Option<Vec<Operand>> {
        const SPECIAL: [&str; 8] =
            ["tid", "ntid", "ctaid", "nctaid", "clusterid", "nclusterid", "cluster_ctaid", "cluster_nctaid"];
        let n = match self.find(name) {
            Some(Name::Vector(n)) => *n,
            None if name.strip_prefix('%').is_some_and(|n| SPECIAL.contains(&n)) => 4,
            _ => return None,
        };
        Some(ELEMENTS[0][..n].iter().map(|e| Operand::Name(format!("{name}.{e}"))).collect())
    }

    /// The instruction with the elements of vectors in their place, if it names any.
    pub fn spread(&self, i: &ast::Instruction) -> Option<ast::Instruction> {
        if !self.vectors && !i.opcode.starts_with("mov.v") {
            return None;
        }
        let mut out = i.clone();
        let mut found = false;
        for operand in &mut out.operands {
            let Operand::Name(name) = operand else { continue };
            if let Some(elements) = self.elements(name) {
                *operand = Operand::Vector(elements);
                found = true;
            }
        }
        found.then_some(out)
    }

    pub fn find(&self, name: &str) -> Option<&Name> {
        self.stack.iter().rev().find_map(|s| s.get(name)).or_else(|| self.module.get(name))
    }
}

/// An instruction on its way to an operation.
///
/// An opcode is a name of one or several words (`cp.async.bulk.tensor`, `mul.wide`), then modifiers. Assemblers take the modifiers
/// in any order, and compilers rely on it; only among their like (types, layouts of A and B, source and destination spaces) does the
/// order mean anything. So a decoder first reads the words of the name ([`Cx::lead`], [`Cx::part`]) and then takes the modifiers that
/// it knows from the set of those left ([`Cx::eat`], [`Cx::pick`], [`Cx::ty`], each the first of its kind); what stays is refused
/// by [`Cx::end`].
pub struct Cx<'a> {
    pub(crate) inst: &'a ast::Instruction,
    head: &'a str,
    /// What is left of the opcode behind its head.
    left: SmallVec<[&'a str; 12]>,
    pub(crate) scopes: &'a mut Scopes,
    /// Registers read.
    pub(crate) uses: SmallVec<[Reg; 8]>,
    /// Registers written.
    pub(crate) defs: SmallVec<[Reg; 8]>,
}

/// Class of a register that holds a `ty`. A b128 is a pair of 64-bit ones.
pub fn class_of(ty: Type) -> Class {
    match ty.bits() {
        1 => Class::Pred,
        64 | 128 => Class::B64,
        _ => Class::B32,
    }
}

fn show(operand: &Operand) -> String {
    match operand {
        Operand::Name(n) => format!("`{n}`"),
        Operand::Offset(n, o) => format!("`{n}+{o}`"),
        Operand::Literal(Literal::Int(v)) => format!("`{v}`"),
        Operand::Literal(_) => "a floating-point literal".into(),
        Operand::Not(n) => format!("`!{n}`"),
        Operand::Sink => "`_`".into(),
        Operand::Pair(..) => "a pair `a|b`".into(),
        Operand::Vector(_) => "a vector `{…}`".into(),
        Operand::List(_) => "a list `(…)`".into(),
        Operand::Address { .. } => "an address `[…]`".into(),
    }
}

impl<'a> Cx<'a> {
    pub(crate) fn new(inst: &'a ast::Instruction, scopes: &'a mut Scopes) -> Cx<'a> {
        let mut parts = inst.opcode.split('.');
        let head = parts.next().unwrap_or("");
        Cx { inst, head, left: parts.collect(), scopes, uses: SmallVec::new(), defs: SmallVec::new() }
    }

    /// The first word of the opcode.
    pub fn head(&self) -> &'a str {
        self.head
    }

    /// The parts that are left.
    pub fn parts(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.left.iter().copied()
    }

    /// Whether `part` is left.
    pub fn has(&self, part: &str) -> bool {
        self.left.contains(&part)
    }

    /// The first part that is left.
    pub fn peek(&self) -> Option<&'a str> {
        self.left.first().copied()
    }

    /// Takes the next word of the instruction's name if it is `part`: unlike a modifier it has its place.
    pub fn lead(&mut self, part: &str) -> bool {
        let hit = self.peek() == Some(part);
        if hit {
            self.left.remove(0);
        }
        hit
    }

    /// Takes the next word of the instruction's name, whatever it is.
    pub fn part(&mut self, what: &str) -> Result<&'a str, String> {
        match self.left.is_empty() {
            true => Err(format!("`{}` lacks {what}", self.inst.opcode)),
            false => Ok(self.left.remove(0)),
        }
    }

    /// Takes the first modifier that `wanted` accepts.
    pub fn find<T>(&mut self, wanted: impl Fn(&'a str) -> Option<T>) -> Option<T> {
        let (at, value) = self.left.iter().enumerate().find_map(|(i, p)| Some((i, wanted(p)?)))?;
        self.left.remove(at);
        Some(value)
    }

    /// Takes the modifier `part` if it is there.
    pub fn eat(&mut self, part: &str) -> bool {
        self.find(|p| (p == part).then_some(())).is_some()
    }

    /// Takes these modifiers, which every form has.
    pub fn expect(&mut self, parts: &[&str]) -> Result<(), String> {
        if parts.iter().all(|p| self.eat(p)) { Ok(()) } else { self.unknown() }
    }

    /// Takes the first modifier that the table has.
    pub fn pick<T: Copy>(&mut self, table: &[(&str, T)]) -> Option<T> {
        self.find(|p| table.iter().find(|(n, _)| *n == p).map(|(_, v)| *v))
    }

    /// Takes the first type.
    pub fn ty(&mut self) -> Result<Type, String> {
        if let Some(ty) = self.find(Type::parse) {
            return Ok(ty);
        }
        let part = self.part("a type")?;
        Err(format!("`.{part}` of `{}` is not a type known here", self.inst.opcode))
    }

    /// Takes the first type, which must be one of `allowed`.
    pub fn ty_of(&mut self, allowed: &[Type]) -> Result<Type, String> {
        let ty = self.ty()?;
        if allowed.contains(&ty) { Ok(ty) } else { Err(format!("`{}` does not take the type .{}", self.inst.opcode, ty.name())) }
    }

    /// Demands that every part was taken and that there are `operands` operands.
    pub fn end(&self, operands: usize) -> Result<(), String> {
        self.no_more_parts()?;
        let n = self.inst.operands.len();
        if n != operands {
            return Err(format!("`{}` takes {operands} operands, not {n}", self.inst.opcode));
        }
        Ok(())
    }

    /// Demands that every part was taken.
    pub fn no_more_parts(&self) -> Result<(), String> {
        match self.peek() {
            Some(p) => Err(format!("`{}`: modifier `.{p}` is unknown or does not belong here", self.inst.opcode)),
            None => Ok(()),
        }
    }

    /// An error that this form is not known.
    pub fn unknown<T>(&self) -> Result<T, String> {
        Err(format!("unknown form of instruction `{}`", self.inst.opcode))
    }

    /// Whether a name is a predicate register.
    pub fn is_predicate(&self, name: &str) -> bool {
        matches!(self.scopes.find(name), Some(Name::Register { ty: Type::Pred, .. }))
    }

    /// Number of operands.
    pub fn count(&self) -> usize {
        self.inst.operands.len()
    }

    /// Operand `i`, raw.
    pub fn operand(&self, i: usize) -> Result<&'a Operand, String> {
        self.inst.operands.get(i).ok_or_else(|| format!("`{}` has too few operands", self.inst.opcode))
    }

    /// The elements of operand `i` if it is a vector, or the operand itself as the only element.
    pub fn elements(&self, i: usize) -> Result<&'a [Operand], String> {
        Ok(match self.operand(i)? {
            Operand::Vector(v) => v,
            other => std::slice::from_ref(other),
        })
    }

    /// The same, `n` of them.
    pub fn vector(&self, i: usize, n: usize) -> Result<&'a [Operand], String> {
        let elements = self.elements(i)?;
        match elements.len() == n {
            true => Ok(elements),
            false => Err(format!("operand {} of `{}` needs {n} registers, not {}", i + 1, self.inst.opcode, elements.len())),
        }
    }

    /// The register that operand `i` names, to be read as a `ty`.
    pub fn src(&mut self, i: usize, ty: Type) -> Result<u16, String> {
        let operand = self.operand(i)?;
        self.src_of(operand, ty)
    }

    /// The register that operand `i` names, to be written as a `ty`.
    pub fn dst(&mut self, i: usize, ty: Type) -> Result<u16, String> {
        let operand = self.operand(i)?;
        self.dst_of(operand, ty)
    }

    /// Reads `operand` as a `ty`.
    pub fn src_of(&mut self, operand: &Operand, ty: Type) -> Result<u16, String> {
        let reg = self.read(operand, ty, false)?;
        Ok(reg.index)
    }

    /// Reads `operand` as a `ty`; a wider register of the same kind will do, as `st` and `cvt` allow.
    pub fn src_wide(&mut self, operand: &Operand, ty: Type) -> Result<Reg, String> {
        self.read(operand, ty, true)
    }

    fn read(&mut self, operand: &Operand, ty: Type, wider: bool) -> Result<Reg, String> {
        let class = class_of(ty);
        let reg = match operand {
            Operand::Name(name) => match self.scopes.find(name) {
                Some(Name::Register { reg, ty: declared }) => {
                    let (reg, declared) = (*reg, *declared);
                    check_register(name, declared, ty, wider)?;
                    reg
                }
                Some(_) => self.symbol(name, 0, class)?,
                None => match special(name) {
                    // `%tid` and its like had 16 bits once, `%gridid` 32.
                    Some((s, bits)) if bits == ty.bits() || (bits >= 32 && matches!(ty.bits(), 16 | 32 | 64)) => {
                        self.scopes.numbering.constant(class, Constant::Special(s))
                    }
                    Some((_, bits)) => {
                        return Err(format!("`{name}` has {bits} bits, `{}` reads .{}", self.inst.opcode, ty.name()));
                    }
                    None => return Err(format!("`{name}` is not declared")),
                },
            },
            Operand::Offset(name, offset) => self.symbol(name, *offset, class)?,
            Operand::Literal(l) => {
                let bits = literal_bits(*l, ty)?;
                self.scopes.numbering.constant(class, Constant::Bits(bits))
            }
            other => return Err(format!("`{}` cannot read {}", self.inst.opcode, show(other))),
        };
        self.note_use(reg);
        if ty == Type::B128 {
            self.note_use(Reg { class: Class::B64, index: reg.index + 1 });
        }
        Ok(reg)
    }

    /// Writes `operand` as a `ty`; `_` gets a register of its own.
    pub fn dst_of(&mut self, operand: &Operand, ty: Type) -> Result<u16, String> {
        self.write(operand, ty, false).map(|r| r.index)
    }

    /// Writes `operand` as a `ty`; a wider register will do, as `ld` and `cvt` allow.
    pub fn dst_wide(&mut self, operand: &Operand, ty: Type) -> Result<Reg, String> {
        self.write(operand, ty, true)
    }

    fn write(&mut self, operand: &Operand, ty: Type, wider: bool) -> Result<Reg, String> {
        let reg = match operand {
            Operand::Name(name) => match self.scopes.find(name) {
                Some(Name::Register { reg, ty: declared }) => {
                    check_register(name, *declared, ty, wider)?;
                    *reg
                }
                Some(_) => return Err(format!("`{}` cannot write `{name}`", self.inst.opcode)),
                None => return Err(format!("`{name}` is not declared")),
            },
            Operand::Sink => self.scopes.numbering.fresh(class_of(ty), ty.bits().div_ceil(64)),
            other => return Err(format!("`{}` cannot write {}", self.inst.opcode, show(other))),
        };
        self.note_def(reg);
        if ty == Type::B128 {
            self.note_def(Reg { class: Class::B64, index: reg.index + 1 });
        }
        Ok(reg)
    }

    /// A predicate operand, possibly negated.
    pub fn predicate(&mut self, operand: &Operand) -> Result<(u16, bool), String> {
        match operand {
            Operand::Not(name) => Ok((self.src_of(&Operand::Name(name.clone()), Type::Pred)?, true)),
            other => Ok((self.src_of(other, Type::Pred)?, false)),
        }
    }

    /// The pair `a|b` of operand `i`, or the operand alone.
    pub fn pair(&self, i: usize) -> Result<(&'a Operand, Option<&'a Operand>), String> {
        Ok(match self.operand(i)? {
            Operand::Pair(a, b) => (&**a, Some(&**b)),
            other => (other, None),
        })
    }

    /// An integer literal.
    pub fn int(&self, i: usize) -> Result<i64, String> {
        match self.operand(i)? {
            Operand::Literal(Literal::Int(v)) => Ok(*v),
            other => Err(format!("operand {} of `{}` must be an integer literal, not {}", i + 1, self.inst.opcode, show(other))),
        }
    }

    /// A register (of the class that `ty` asks for) that holds `bits`.
    pub fn constant(&mut self, ty: Type, bits: u64) -> u16 {
        self.scopes.numbering.constant(class_of(ty), Constant::Bits(bits)).index
    }

    /// Notes a register as read.
    pub fn note_use(&mut self, reg: Reg) {
        self.uses.push(reg);
    }

    /// Notes a register as written.
    pub fn note_def(&mut self, reg: Reg) {
        self.defs.push(reg);
    }

    /// Operand `i` as an address without coordinates.
    pub fn address(&mut self, i: usize) -> Result<Addr, String> {
        let operand = self.operand(i)?;
        match operand {
            Operand::Address { rest, .. } if !rest.is_empty() => {
                Err(format!("`{}` takes no coordinates in operand {}", self.inst.opcode, i + 1))
            }
            _ => self.address_of(operand).map(|(a, _)| a),
        }
    }

    /// An address and what follows it in the brackets.
    pub fn address_of(&mut self, operand: &'a Operand) -> Result<(Addr, &'a [Operand]), String> {
        let Operand::Address { base, offset, rest } = operand else {
            return Err(format!("`{}` needs an address, not {}", self.inst.opcode, show(operand)));
        };
        let addr = match &**base {
            Operand::Name(name) => match self.scopes.find(name) {
                Some(Name::Extern) => return Err(format!("`{name}` is extern and nothing defines it")),
                Some(Name::Register { reg, ty }) => {
                    let (reg, ty) = (*reg, *ty);
                    if !matches!(ty.bits(), 32 | 64) {
                        return Err(format!("`{name}` is no address: it has {} bits", ty.bits()));
                    }
                    self.note_use(reg);
                    Addr { base: reg, offset: *offset, space: None, constant: false }
                }
                Some(found) => {
                    let space = match found {
                        Name::Frame { space, .. } => Some(*space),
                        Name::KernelParam { .. } => Some(Space::Param),
                        Name::Shared(_) => Some(Space::Shared),
                        Name::Global(_, s) => Some(*s),
                        _ => None,
                    };
                    let class = if space == Some(Space::Shared) { Class::B32 } else { Class::B64 };
                    let reg = self.symbol(name, 0, class)?;
                    Addr { base: reg, offset: *offset, space, constant: true }
                }
                None => return Err(format!("`{name}` is not declared")),
            },
            Operand::Literal(Literal::Int(v)) => {
                let reg = self.scopes.numbering.constant(Class::B64, Constant::Bits(*v as u64));
                Addr { base: reg, offset: *offset, space: None, constant: true }
            }
            other => return Err(format!("{} is no address", show(other))),
        };
        Ok((addr, rest))
    }

    /// Label operand `i`, by number.
    pub fn label(&self, i: usize) -> Result<u32, String> {
        match self.operand(i)? {
            Operand::Name(name) => self.label_named(name),
            other => Err(format!("`{}` needs a label, not {}", self.inst.opcode, show(other))),
        }
    }

    /// A label by its name.
    pub fn label_named(&self, name: &str) -> Result<u32, String> {
        match self.scopes.find(name) {
            Some(Name::Label(l)) => Ok(*l),
            _ => Err(format!("there is no label `{name}`")),
        }
    }

    /// The constant register of a variable's or function's address.
    fn symbol(&mut self, name: &str, offset: i64, class: Class) -> Result<Reg, String> {
        let constant = match self.scopes.find(name) {
            Some(Name::Frame { offset: at, .. }) => Constant::Bits(u64::from(*at).wrapping_add_signed(offset)),
            Some(Name::KernelParam { offset: at, .. }) => Constant::KernelParam(at.wrapping_add(offset as u32)),
            Some(Name::Shared(s)) => {
                let s = *s;
                if !self.scopes.shared.contains(&s) {
                    self.scopes.shared.push(s);
                }
                Constant::Shared(s, offset)
            }
            Some(Name::Global(s, _)) => Constant::Global(*s, offset),
            Some(Name::Function(f)) if offset == 0 => Constant::Function(*f),
            Some(Name::Register { .. }) => return Err(format!("`{name}` is a register: it takes no offset here")),
            Some(Name::Extern) => return Err(format!("`{name}` is extern and nothing defines it")),
            Some(_) => return Err(format!("`{name}` has no address")),
            None => return Err(format!("`{name}` is not declared")),
        };
        Ok(self.scopes.numbering.constant(class, constant))
    }

    /// Decodes the usual shape: `d` (operand 0) of one type, then sources of their types, in `a`, `b`, `c`, `f`.
    pub fn args(&mut self, d: Type, sources: &[Type]) -> Result<Args, String> {
        self.end(1 + sources.len())?;
        let mut args = Args { d: self.dst(0, d)?, ..Args::default() };
        let mut out = [0; 4];
        for (i, ty) in sources.iter().enumerate() {
            out[i] = self.src(i + 1, *ty)?;
        }
        [args.a, args.b, args.c, args.f] = out;
        Ok(args)
    }
}

/// Whether a register declared `declared` may be used as a `ty`.
fn check_register(name: &str, declared: Type, ty: Type, wider: bool) -> Result<(), String> {
    let fits = if wider && ty != Type::Pred && declared != Type::Pred && ty.bits() <= 64 {
        declared.bits() >= ty.bits() && declared.bits() <= 64
    } else {
        declared.bits() == ty.bits()
    };
    if !fits {
        return Err(format!("register `{name}` is .{}, which does not fit .{}", declared.name(), ty.name()));
    }
    // An f32 register holds no u32 and the reverse; untyped bits hold anything.
    let numeric_clash =
        |a: Type, b: Type| a.is_float() && matches!(b, Type::F32 | Type::F64) != matches!(a, Type::F32 | Type::F64);
    if !wider && !declared.is_bits() && !ty.is_bits() && declared.is_float() != ty.is_float() && numeric_clash(declared, ty) {
        return Err(format!("register `{name}` is .{}, which does not fit .{}", declared.name(), ty.name()));
    }
    Ok(())
}

/// The bits of a literal read as a `ty`.
pub fn literal_bits(literal: Literal, ty: Type) -> Result<u64, String> {
    let mask = if ty.bits() >= 64 { u64::MAX } else { (1 << ty.bits()) - 1 };
    match (literal, ty) {
        (Literal::Int(v), Type::Pred) => Ok(u64::from(v != 0)),
        (Literal::Int(_), Type::F32 | Type::F64) => Err("an integer literal is no floating-point operand".into()),
        (Literal::Int(v), _) => Ok(v as u64 & mask),
        (Literal::F32(bits), Type::F32 | Type::B32 | Type::TF32 | Type::F16x2 | Type::BF16x2) => Ok(u64::from(bits)),
        (Literal::F32(bits), Type::F64) => Ok(f64::from(f32::from_bits(bits)).to_bits()),
        (Literal::F64(v), Type::F64 | Type::B64) => Ok(v.to_bits()),
        (Literal::F64(v), Type::F32 | Type::TF32) => Ok(u64::from((v as f32).to_bits())),
        _ => Err(format!("a floating-point literal does not fit .{}", ty.name())),
    }
}

/// The special registers that stay the same while a thread lives, with their width.
pub fn special(name: &str) -> Option<(Special, u32)> {
    use Special::*;
    let name = name.strip_prefix('%')?;
    let (base, dim) = match name.rsplit_once('.') {
        Some((base, d)) => (
            base,
            Some(match d {
                "x" => 0,
                "y" => 1,
                "z" => 2,
                "w" => 3,
                _ => return None,
            }),
        ),
        None => (name, None),
    };
    if let Some(d) = dim {
        let s = match base {
            "tid" => Tid(d),
            "ntid" => Ntid(d),
            "ctaid" => Ctaid(d),
            "nctaid" => Nctaid(d),
            "clusterid" => Clusterid(d),
            "nclusterid" => Nclusterid(d),
            "cluster_ctaid" => ClusterCtaid(d),
            "cluster_nctaid" => ClusterNctaid(d),
            _ => return None,
        };
        return Some((s, 32));
    }
    if let Some(n) = base.strip_prefix("pm") {
        let (n, bits) = n.strip_suffix("_64").map_or((n, 32), |n| (n, 64));
        return n.parse().ok().filter(|n: &u8| *n < 8).map(|_| (PerformanceMonitor, bits));
    }
    if let Some(n) = base.strip_prefix("envreg") {
        return n.parse().ok().filter(|n| *n < 32).map(|n| (Envreg(n), 32));
    }
    Some(match base {
        "cluster_ctarank" => (ClusterCtarank, 32),
        "cluster_nctarank" => (ClusterNctarank, 32),
        "is_explicit_cluster" => (IsExplicitCluster, 1),
        "laneid" => (LaneId, 32),
        "warpid" => (WarpId, 32),
        "nwarpid" => (NWarpId, 32),
        "smid" => (SmId, 32),
        "nsmid" => (NSmId, 32),
        "gridid" => (GridId, 64),
        "lanemask_eq" => (LanemaskEq, 32),
        "lanemask_le" => (LanemaskLe, 32),
        "lanemask_lt" => (LanemaskLt, 32),
        "lanemask_ge" => (LanemaskGe, 32),
        "lanemask_gt" => (LanemaskGt, 32),
        "total_smem_size" => (TotalSmemSize, 32),
        "aggr_smem_size" => (AggrSmemSize, 32),
        "dynamic_smem_size" => (DynamicSmemSize, 32),
        "reserved_smem_offset_begin" => (ReservedSmemOffset(0), 32),
        "reserved_smem_offset_end" => (ReservedSmemOffset(1), 32),
        "reserved_smem_offset_cap" => (ReservedSmemOffset(2), 32),
        "reserved_smem_offset_0" => (ReservedSmemOffset(3), 32),
        "reserved_smem_offset_1" => (ReservedSmemOffset(4), 32),
        "current_graph_exec" => (CurrentGraphExec, 64),
        _ => return None,
    })
}
