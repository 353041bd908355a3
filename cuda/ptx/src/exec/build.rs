//! From a syntax tree to a module: names, registers, frames, shared memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::cfg;
use super::control::Transfer;
use super::module::Module;
use super::op::{self, Inst, Op};
use super::origins;
use crate::ir::decode::{Cx, ELEMENTS, Name, Numbering, Scopes, class_of};
use crate::ir::initial::Fill;
use crate::ir::program::{
    BUILTINS, Declared, Entry, Function, Global, Origins, ParamInfo, Program, Relocation, RelocationTarget, SharedVariable,
    Signature, Source,
};
use crate::ir::{Guard, NO_PC, Reg};
use crate::text::ast::{self, Linkage, Operand, Space, Statement, Type, Variable};
use crate::text::{Error, Errors, parser};

/// The most bytes of parameters that a kernel takes, and of local memory that the functions of a module may need together.
const MAX_PARAMS: u32 = 32_764;
const MAX_FRAME: u32 = 1 << 24;

impl Module {
    /// Parses and decodes PTX text; `name` is what errors call the file.
    pub fn parse(name: &str, source: &str) -> Result<Module, Errors> {
        let tree = parser::parse(name, source)?;
        let program = Program { name: name.to_string(), source: source.to_string(), ..Program::default() };
        Builder { file: name.to_string(), program, ..Builder::default() }.build(&tree)
    }
}

#[derive(Default)]
struct Builder {
    file: String,
    /// The function under way.
    current: u32,
    errors: Vec<Error>,
    program: Program,
    code: Vec<Inst>,
    refs: Vec<Reg>,
    names: HashMap<String, Name>,
    /// Parameters and results of each function by name.
    signatures: HashMap<String, (Vec<Variable>, Vec<Variable>)>,
    /// Per function: direct callees, indirect calls, shared variables named.
    callees: Vec<Vec<u32>>,
    indirect: Vec<bool>,
    shared_used: Vec<Vec<u32>>,
}

/// What a function's body decodes to, before it is placed.
#[derive(Default)]
struct Body {
    code: Vec<Inst>,
    sources: Vec<Source>,
    /// pc of each label.
    labels: Vec<Option<u32>>,
    frame: u32,
    /// Results that a function returns in registers: the register's name and the place it is copied to, and its type.
    returns: Vec<(String, String, Type)>,
    /// Places in the frame that were made for the arguments of calls.
    places: u32,
}

impl Builder {
    fn error(&mut self, line: u32, message: impl Into<String>) {
        self.errors.push(Error { file: self.file.clone(), line, message: message.into() });
    }

    fn build(mut self, tree: &ast::File) -> Result<Module, Errors> {
        self.program.files = tree.files.iter().cloned().collect();
        self.declare(tree);
        for v in &tree.variables {
            if let Some(Name::Global(index, _)) = self.names.get(&v.name) {
                let index = *index as usize;
                let names = std::mem::take(&mut self.names);
                self.initialise(v, index, |name| names.get(name));
                self.names = names;
            }
        }
        // Device functions first: their registers and frames come before those of every kernel.
        let mut frame = 0;
        let mut base = Numbering::default();
        let bodies: Vec<&ast::Function> = self.bodies(tree);
        for f in bodies.iter().filter(|f| !f.entry) {
            (base, frame) = self.function(f, base, frame);
        }
        for f in bodies.iter().filter(|f| f.entry) {
            let (registers, frame) = self.function(f, base.clone(), frame);
            self.entry(f, registers, frame);
        }
        for (_, old, line) in &tree.aliases {
            if !self.names.contains_key(old) {
                self.error(*line, format!(".alias: there is no function `{old}`"));
            }
        }
        self.check_recursion();
        self.place_shared();
        if self.errors.is_empty() {
            for e in 0..self.program.entries.len() {
                let found = origins::find(&self.program, &self.code, &self.refs, &self.program.entries[e]);
                self.program.entries[e].origins = found;
            }
            Ok(Module { program: self.program, code: self.code, refs: self.refs })
        } else {
            self.errors.sort_by_key(|e| e.line);
            Err(Errors(self.errors))
        }
    }

    /// The functions that have bodies, the last of each name.
    fn bodies<'t>(&self, tree: &'t ast::File) -> Vec<&'t ast::Function> {
        tree.functions.iter().filter(|f| f.body.is_some()).collect()
    }

    fn declare(&mut self, tree: &ast::File) {
        for v in &tree.variables {
            let name = match v.space {
                Space::Shared => self.shared_variable(v),
                Space::Global | Space::Const => match self.names.get(&v.name) {
                    None | Some(Name::Extern) if v.linkage == Linkage::Extern => Name::Extern,
                    None | Some(Name::Extern) => self.global_variable(v),
                    Some(_) => continue,
                },
                Space::Local | Space::Param => {
                    self.error(v.line, format!("`{}`: no such space at module scope", v.name));
                    continue;
                }
            };
            self.names.insert(v.name.clone(), name);
        }
        for f in &tree.functions {
            let known = self.names.contains_key(&f.name);
            if f.body.is_some() && known && tree.functions.iter().filter(|g| g.name == f.name && g.body.is_some()).count() > 1 {
                self.error(f.line, format!("function `{}` is defined twice", f.name));
            }
            if known {
                continue;
            }
            self.signatures.insert(f.name.clone(), (f.params.clone(), f.returns.clone()));
            let defined = tree.functions.iter().any(|g| g.name == f.name && g.body.is_some());
            let aliased = tree.aliases.iter().any(|(new, ..)| *new == f.name);
            if !defined && !aliased && !BUILTINS.contains(&f.name.as_str()) {
                // An error only where it is called.
                continue;
            }
            if aliased && !defined {
                continue;
            }
            let index = self.program.functions.len() as u32;
            self.names.insert(f.name.clone(), Name::Function(index));
            self.program.functions.push(Function {
                name: f.name.clone(),
                entry: f.entry,
                start: NO_PC,
                end: NO_PC,
                signature: Signature::default(),
            });
        }
        for (new, old, _) in &tree.aliases {
            if let Some(n) = self.names.get(old).cloned() {
                self.names.insert(new.clone(), n);
            }
        }
        let n = self.program.functions.len();
        self.callees = vec![Vec::new(); n];
        self.indirect = vec![false; n];
        self.shared_used = vec![Vec::new(); n];
    }

    fn global_variable(&mut self, v: &Variable) -> Name {
        self.program.globals.push(Global {
            name: v.name.clone(),
            space: v.space,
            bytes: v.bytes(),
            init: Vec::new(),
            relocations: Vec::new(),
        });
        Name::Global(self.program.globals.len() as u32 - 1, v.space)
    }

    fn shared_variable(&mut self, v: &Variable) -> Name {
        let dynamic = v.linkage == Linkage::Extern;
        if v.init.is_some() {
            self.error(v.line, format!("shared variable `{}` cannot have an initial value", v.name));
        }
        if !dynamic && v.dims.first() == Some(&None) {
            self.error(v.line, format!("shared variable `{}` of open size must be .extern", v.name));
        }
        let index = self.program.shared.len() as u32;
        self.program.shared.push(SharedVariable { name: v.name.clone(), bytes: v.bytes(), align: v.alignment(), dynamic });
        Name::Shared(index)
    }

    /// The initial bytes of global variable `index`; `find` knows the names that they may point to.
    fn initialise<'n>(&mut self, v: &Variable, index: usize, find: impl Fn(&str) -> Option<&'n Name>) {
        let Some(init) = &v.init else { return };
        let dims: Vec<u64> = v.dims.iter().map(|d| d.unwrap_or(0)).collect();
        let size = (v.ty.bytes() * v.vector) as usize;
        let mut fill = Fill { ty: v.ty, element: v.ty.bytes() as usize, bytes: vec![0; v.bytes() as usize], found: Vec::new() };
        if let Err(message) = fill.put(init, &dims, 0, size) {
            self.error(v.line, format!("initial value of `{}`: {message}", v.name));
            return;
        }
        let Fill { bytes, found, .. } = fill;
        for (at, name, offset, mask) in found {
            let target = match find(&name) {
                Some(Name::Global(g, _)) => RelocationTarget::Global(*g),
                Some(Name::Function(f)) => RelocationTarget::Function(*f),
                _ => {
                    self.error(v.line, format!("initial value of `{}`: `{name}` has no constant address", v.name));
                    continue;
                }
            };
            let size = v.ty.bytes() as usize;
            if size > 8 {
                self.error(v.line, format!("initial value of `{}`: an address has 64 bits at most", v.name));
                continue;
            }
            self.program.globals[index].relocations.push(Relocation { at, size, target, offset, mask });
        }
        self.program.globals[index].init = bytes;
    }

    /// Decodes a body and appends it to the code. Takes and returns the numbering and the frame's end.
    fn function(&mut self, f: &ast::Function, numbering: Numbering, frame: u32) -> (Numbering, u32) {
        let Some(Name::Function(index)) = self.names.get(&f.name).cloned() else { return (numbering, frame) };
        self.current = index;
        let mut scopes = Scopes {
            module: Arc::new(std::mem::take(&mut self.names)),
            stack: vec![HashMap::new()],
            numbering,
            entry: f.entry,
            callees: Vec::new(),
            indirect: false,
            shared: Vec::new(),
            vectors: false,
        };
        let mut body = Body { frame, ..Body::default() };
        let mut signature = Signature::default();
        let mut offset = 0;
        let mut received = Vec::new();
        for (list, out) in [(&f.returns, &mut signature.returns), (&f.params, &mut signature.params)] {
            for p in list {
                let bytes = p.bytes() as u32;
                let name = if f.entry {
                    let at = self.place(p, &mut offset, MAX_PARAMS, "parameters");
                    out.push((at, bytes));
                    Name::KernelParam { offset: at, bytes }
                } else {
                    let at = self.place(p, &mut body.frame, MAX_FRAME, "local memory");
                    out.push((at, bytes));
                    Name::Frame { space: Space::Param, offset: at, bytes }
                };
                if !p.register {
                    scopes.stack[0].insert(p.name.clone(), name);
                    continue;
                }
                // A parameter that is a register has a place in the frame too, from or to which it is copied.
                if p.ty == Type::Pred || p.vector > 1 || f.entry {
                    self.error(p.line, format!("`{}`: a parameter in a register must be a number", p.name));
                    continue;
                }
                let place = format!("{}%", p.name);
                scopes.stack[0].insert(place.clone(), name);
                self.registers(p.ty, 1, &[(p.name.clone(), None)], p.line, &mut scopes);
                if std::ptr::eq(list, &f.returns) {
                    body.returns.push((p.name.clone(), place, p.ty));
                } else {
                    received.push((p.name.clone(), place, p.ty));
                }
            }
        }
        for (register, place, ty) in received {
            let load = copy("ld", ty, Operand::Name(register), place, f.line);
            self.decode(&load, &mut scopes, &mut body);
        }
        self.statements(f.body.as_deref().unwrap_or(&[]), &mut scopes, &mut body);
        // Falling off the end returns.
        let end_line = body.sources.last().map_or(f.line, |s| s.line);
        self.return_registers(None, end_line, &mut scopes, &mut body);
        let end = if f.entry { Transfer::Exit } else { Transfer::Return };
        body.code.push(Inst {
            guard: Guard::ALWAYS,
            op: Op::Transfer(end),
            refs: self.refs.len() as u32,
            uses: 0,
            defs: 0,
            touches_wgmma: false,
        });
        body.sources.push(Source { line: end_line, loc: None, opcode: "ret".into() });

        let start = self.code.len() as u32;
        let labels: Vec<u32> = body.labels.iter().map(|l| l.unwrap_or(0)).collect();
        cfg::link(&mut body.code, &labels, start);
        self.mark_wgmma(&mut body.code);
        self.code.append(&mut body.code);
        self.program.sources.append(&mut body.sources);
        let function = &mut self.program.functions[index as usize];
        function.start = start;
        function.end = self.code.len() as u32;
        function.signature = signature;
        self.callees[index as usize] = scopes.callees;
        self.indirect[index as usize] = scopes.indirect;
        self.shared_used[index as usize] = scopes.shared;
        if scopes.numbering.is_full() {
            self.error(f.line, format!("`{}` needs more than 65535 registers", f.name));
        }
        self.names = Arc::into_inner(scopes.module).expect("the names are not held by anyone else");
        (scopes.numbering, body.frame.next_multiple_of(16))
    }

    /// Finds the instructions that access registers which a wgmma of the same function works on.
    fn mark_wgmma(&self, code: &mut [Inst]) {
        let asynchronous = |inst: &Inst| match &inst.op {
            Op::Wgmma(x) => x.asynchronous().collect(),
            _ => Vec::new(),
        };
        let registers: HashSet<Reg> = code.iter().flat_map(asynchronous).collect();
        if registers.is_empty() {
            return;
        }
        for inst in code {
            let (uses, defs) = inst.registers(&self.refs);
            inst.touches_wgmma = asynchronous(inst).is_empty() && uses.iter().chain(defs).any(|r| registers.contains(r));
        }
    }

    /// Decodes statements in the innermost scope.
    fn statements(&mut self, list: &[Statement], scopes: &mut Scopes, body: &mut Body) {
        // Labels may be used before they are met.
        for s in list {
            let (name, value, line) = match s {
                Statement::Label(name, line) => {
                    body.labels.push(None);
                    (name, Name::Label(body.labels.len() as u32 - 1), *line)
                }
                Statement::Targets { name, targets, line } => (name, Name::Targets(targets.clone()), *line),
                Statement::Prototype(p) => {
                    let sizes = |list: &[Variable]| list.iter().map(|v| v.bytes() as u32).collect::<Vec<_>>();
                    (&p.name, Name::Prototype(sizes(&p.params), sizes(&p.returns)), p.line)
                }
                _ => continue,
            };
            if scopes.stack.last_mut().expect("a scope").insert(name.clone(), value).is_some() {
                self.error(line, format!("`{name}` is declared twice"));
            }
        }
        for s in list {
            // One error for the function, not one for each name that could not be declared.
            if scopes.numbering.is_full() {
                return;
            }
            match s {
                Statement::Registers { ty, vector, names, line } => self.registers(*ty, *vector, names, *line, scopes),
                Statement::Variable(v) => self.local_variable(v, scopes, body),
                Statement::Label(name, _) => {
                    if let Some(Name::Label(l)) = scopes.find(name) {
                        body.labels[*l as usize] = Some(body.code.len() as u32);
                    }
                }
                Statement::Instruction(i) => self.instruction(i, scopes, body),
                Statement::Block(inner) => {
                    scopes.stack.push(HashMap::new());
                    self.statements(inner, scopes, body);
                    scopes.stack.pop();
                }
                Statement::Prototype(_) | Statement::Targets { .. } => {}
            }
        }
    }

    fn registers(&mut self, ty: Type, vector: u32, names: &[(String, Option<u32>)], line: u32, scopes: &mut Scopes) {
        let per = if ty == Type::B128 { 2 } else { 1 };
        if vector > 4 || (vector > 1 && (ty == Type::Pred || ty.bits() * vector > 128)) {
            self.error(
                line,
                format!("a vector register has 2 or 4 elements and 128 bits at most, not {vector} of .{}", ty.name()),
            );
            return;
        }
        for (name, count) in names {
            let many = count.unwrap_or(1);
            for i in 0..many {
                if scopes.numbering.is_full() {
                    return;
                }
                let full = if count.is_some() { format!("{name}{i}") } else { name.clone() };
                let value = match vector {
                    1 => {
                        let reg = scopes.numbering.fresh(class_of(ty), per);
                        if i == 0 {
                            self.declare_register(name, *count, reg, per, ty, line);
                        }
                        Name::Register { reg, ty }
                    }
                    n => {
                        scopes.vectors = true;
                        for element in 0..n as usize {
                            let reg = scopes.numbering.fresh(class_of(ty), per);
                            let value = Name::Register { reg, ty };
                            for names in ELEMENTS {
                                self.declare_register(&format!("{full}.{}", names[element]), None, reg, per, ty, line);
                                let scope = scopes.stack.last_mut().expect("a scope");
                                scope.insert(format!("{full}.{}", names[element]), value.clone());
                            }
                        }
                        Name::Vector(n as usize)
                    }
                };
                if scopes.stack.last_mut().expect("a scope").insert(full.clone(), value).is_some() {
                    self.error(line, format!("`{full}` is declared twice"));
                    return;
                }
            }
        }
    }

    /// Notes what registers of the function under way are called.
    fn declare_register(&mut self, name: &str, count: Option<u32>, first: Reg, per: u32, ty: Type, line: u32) {
        let function = self.current;
        self.program.declared.push(Declared { function, name: name.into(), count, first, per, ty, line });
    }

    /// Room for a variable behind `end`, which stays where it is if there is not so much.
    fn place(&mut self, v: &Variable, end: &mut u32, most: u32, what: &str) -> u32 {
        let at = u64::from(*end).next_multiple_of(v.alignment().max(1));
        if at + v.bytes() > u64::from(most) {
            self.error(v.line, format!("`{}`: more than {most} bytes of {what}", v.name));
            return *end;
        }
        *end = (at + v.bytes()) as u32;
        at as u32
    }

    fn local_variable(&mut self, v: &Variable, scopes: &mut Scopes, body: &mut Body) {
        let name = match v.space {
            Space::Local | Space::Param => {
                if v.init.is_some() {
                    self.error(v.line, format!("`{}` cannot have an initial value here", v.name));
                }
                let offset = self.place(v, &mut body.frame, MAX_FRAME, "local memory");
                Name::Frame { space: v.space, offset, bytes: v.bytes() as u32 }
            }
            Space::Shared => self.shared_variable(v),
            Space::Global | Space::Const => {
                let name = self.global_variable(v);
                let index = self.program.globals.len() - 1;
                self.initialise(v, index, |name| scopes.find(name));
                name
            }
        };
        if scopes.stack.last_mut().expect("a scope").insert(v.name.clone(), name).is_some() {
            self.error(v.line, format!("`{}` is declared twice", v.name));
        }
    }

    fn instruction(&mut self, i: &ast::Instruction, scopes: &mut Scopes, body: &mut Body) {
        match i.opcode.split('.').next() {
            Some("call") if i.operands.iter().any(|o| matches!(o, Operand::List(_))) => self.call(i, scopes, body),
            Some("ret") => {
                self.return_registers(i.guard.as_ref(), i.line, scopes, body);
                self.decode(i, scopes, body);
            }
            _ => match scopes.spread(i) {
                Some(spread) => self.decode(&spread, scopes, body),
                None => self.decode(i, scopes, body),
            },
        }
    }

    /// Before a `ret`: results in registers go to their places.
    fn return_registers(&mut self, guard: Option<&ast::Guard>, line: u32, scopes: &mut Scopes, body: &mut Body) {
        for (register, place, ty) in body.returns.clone() {
            let store = ast::Instruction { guard: guard.cloned(), ..copy("st", ty, Operand::Name(register), place, line) };
            self.decode(&store, scopes, body);
        }
    }

    /// A call. Arguments and results that are not `.param` variables, but registers or constants, are copied to and from places made
    /// for them.
    fn call(&mut self, i: &ast::Instruction, scopes: &mut Scopes, body: &mut Body) {
        let mut call = i.clone();
        let callee = i.operands.iter().find_map(|o| if let Operand::Name(name) = o { Some(name.clone()) } else { None });
        let signature = callee.and_then(|name| self.signatures.get(&name).cloned());
        let first_is_result = matches!(i.operands.first(), Some(Operand::List(_)));
        let mut after = Vec::new();
        for (at, operand) in call.operands.iter_mut().enumerate() {
            let Operand::List(list) = operand else { continue };
            let result = first_is_result && at == 0;
            for (n, o) in list.iter_mut().enumerate() {
                let formal = signature.as_ref().and_then(|s| if result { s.1.get(n) } else { s.0.get(n) });
                let ty = match o {
                    Operand::Name(name) => match scopes.find(name) {
                        Some(Name::Register { ty, .. }) if *ty != Type::Pred => formal.map_or(*ty, |f| f.ty),
                        _ => continue,
                    },
                    Operand::Literal(_) if !result => match formal {
                        Some(f) => f.ty,
                        None => continue,
                    },
                    _ => continue,
                };
                let place = format!("call%{}", body.places);
                body.places += 1;
                body.frame = body.frame.next_multiple_of(ty.bytes());
                let name = Name::Frame { space: Space::Param, offset: body.frame, bytes: ty.bytes() };
                body.frame += ty.bytes();
                scopes.stack.last_mut().expect("a scope").insert(place.clone(), name);
                let value = std::mem::replace(o, Operand::Name(place.clone()));
                let how = if result { "ld" } else { "st" };
                let copy = ast::Instruction { guard: i.guard.clone(), loc: i.loc, ..copy(how, ty, value, place, i.line) };
                if result {
                    after.push(copy);
                } else {
                    self.decode(&copy, scopes, body);
                }
            }
        }
        self.decode(&call, scopes, body);
        for copy in after {
            self.decode(&copy, scopes, body);
        }
    }

    fn decode(&mut self, i: &ast::Instruction, scopes: &mut Scopes, body: &mut Body) {
        let mut cx = Cx::new(i, scopes);
        let guard = match &i.guard {
            None => Ok(Guard::ALWAYS),
            Some(g) => cx.src_of(&Operand::Name(g.register.clone()), Type::Pred).map(|index| Guard { index, negated: g.negated }),
        };
        // The guard decides, it is no operand: its undefinedness is checked, not passed on.
        cx.uses.clear();
        let (op, guard) = match (op::decode(&mut cx), guard) {
            (Ok(op), Ok(guard)) => (op, guard),
            (Err(m), _) | (_, Err(m)) => {
                self.error(i.line, m);
                return;
            }
        };
        let (uses, defs) = (std::mem::take(&mut cx.uses), std::mem::take(&mut cx.defs));
        let refs = self.refs.len() as u32;
        self.refs.extend(uses.iter().chain(&defs));
        body.code.push(Inst { guard, op, refs, uses: uses.len() as u16, defs: defs.len() as u16, touches_wgmma: false });
        body.sources.push(Source { line: i.line, loc: i.loc, opcode: i.opcode.clone() });
    }

    fn entry(&mut self, f: &ast::Function, registers: Numbering, frame: u32) {
        let Some(Name::Function(index)) = self.names.get(&f.name) else { return };
        let function = &self.program.functions[*index as usize];
        let params = (function.signature.params.iter().zip(&f.params))
            .map(|(&(offset, size), p)| ParamInfo {
                name: p.name.clone(),
                offset,
                size,
                align: p.alignment() as u32,
                ty: p.ty,
                elements: p.bytes() / u64::from(p.ty.bytes()),
            })
            .collect();
        self.program.entries.push(Entry {
            name: f.name.clone(),
            start: function.start,
            params,
            registers,
            frame,
            shared: HashMap::new(),
            static_shared: 0,
            origins: Origins::default(),
            maxntid: f.maxntid,
            reqntid: f.reqntid,
            reqnctapercluster: f.reqnctapercluster,
            maxclusterrank: f.maxclusterrank,
            explicit_cluster: f.explicit_cluster,
            blocks_are_clusters: f.blocks_are_clusters,
            maxnreg: f.maxnreg,
            minnctapersm: f.minnctapersm,
        });
    }

    /// Functions have static registers and frames, so no function may be active twice in a thread.
    fn check_recursion(&mut self) {
        for f in 0..self.callees.len() {
            if self.reach(f).contains(&f) {
                let name = self.program.functions[f].name.clone();
                let start = self.program.functions[f].start as usize;
                let line = self.program.sources.get(start).map_or(1, |s| s.line);
                self.error(line, format!("recursion: `{name}` calls itself, directly or through others, which is not supported"));
            }
        }
    }

    /// Functions that `f` calls by name, directly or not.
    fn reach(&self, f: usize) -> Vec<usize> {
        let mut seen: Vec<usize> = Vec::new();
        let mut todo = vec![f];
        while let Some(g) = todo.pop() {
            for &c in &self.callees[g] {
                if !seen.contains(&(c as usize)) {
                    seen.push(c as usize);
                    todo.push(c as usize);
                }
            }
        }
        seen
    }

    /// Each kernel gets the shared variables that it and what it calls name.
    fn place_shared(&mut self) {
        for e in 0..self.program.entries.len() {
            let name = self.program.entries[e].name.clone();
            let Some(Name::Function(f)) = self.names.get(&name) else { continue };
            let mut reached = self.reach(*f as usize);
            reached.push(*f as usize);
            if reached.iter().any(|&g| self.indirect[g]) {
                // Any function that is not a kernel may be the target.
                reached.extend((0..self.program.functions.len()).filter(|&g| !self.program.functions[g].entry));
            }
            let mut used: Vec<u32> = reached.iter().flat_map(|&g| self.shared_used[g].iter().copied()).collect();
            used.sort_unstable();
            used.dedup();
            let (mut end, mut dynamic_align) = (0_u64, 1);
            let mut places = HashMap::new();
            for &v in &used {
                let var = &self.program.shared[v as usize];
                if var.dynamic {
                    dynamic_align = dynamic_align.max(var.align);
                } else {
                    end = end.next_multiple_of(var.align.max(1));
                    places.insert(v, end.min(u32::MAX.into()) as u32);
                    end += var.bytes;
                }
            }
            // What no CTA can have is refused at the launch.
            let dynamic_start = u32::try_from(end.next_multiple_of(dynamic_align)).unwrap_or(u32::MAX);
            for &v in used.iter().filter(|&&v| self.program.shared[v as usize].dynamic) {
                places.insert(v, dynamic_start);
            }
            let entry = &mut self.program.entries[e];
            entry.shared = places;
            entry.static_shared = dynamic_start;
        }
    }
}

/// `ld.param` or `st.param` between a register or constant and a place in the frame.
fn copy(how: &str, ty: Type, value: Operand, place: String, line: u32) -> ast::Instruction {
    let address = Operand::Address { base: Box::new(Operand::Name(place)), offset: 0, rest: Vec::new() };
    // What is in a register is moved as bits: `ld` and `st` have no type of halves.
    let bits = if ty.is_float() && !matches!(ty, Type::F32 | Type::F64) { format!("b{}", ty.bits()) } else { ty.name().into() };
    ast::Instruction {
        guard: None,
        opcode: format!("{how}.param.{bits}"),
        operands: if how == "ld" { vec![value, address] } else { vec![address, value] },
        line,
        loc: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allocated_for_what_is_only_declared() {
        let text = ".version 8.4\n.target sm_90a\n.address_size 64\n.global .b8 a[4294967295];";
        assert!(Module::parse("k.ptx", text).unwrap().program.globals[0].init.is_empty());
    }

    #[test]
    fn what_compilers_write_is_understood() {
        let text = r#"
            .file 1 "kernel.cu"
            .extern .func (.param .b32 func_retval0) vprintf(.param .b64 vprintf_param_0, .param .b64 vprintf_param_1);
            .extern .shared .align 128 .b8 dynamic[];
            .global .align 1 .b8 $str[4] = {37, 100, 10, 0};
            .global .align 4 .f32 table[2][2] = {{0f3F800000, 2.5}, {0f00000000}};
            .global .align 8 .u64 addresses[2] = {$str, generic($str)+1};
            .visible .const .align 4 .u32 constants[3] = {1, 2, 0x3};
            .weak .func (.param .b32 r) helper(.param .b32 x) .noreturn { ret; }
            .visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 64 .b8 map[128], .param .f32 scale)
            .maxntid 256, 1, 1
            .minnctapersm 1
            .reqnctapercluster 2, 1, 1
            .pragma "used_bytes_mask 0xff";
            {
                .local .align 8 .b8 __local_depot0[16];
                .reg .b64 %SP, %SPL;
                .reg .pred %p<3>;
                .reg .b32 %r<10>;
                .reg .b64 %rd<4>;
                .loc 1 10 5
            $L__func_begin0:
                mov.u64 %SPL, __local_depot0;
                cvta.local.u64 %SP, %SPL;
                .loc 1 12 3, function_name $L__info_string0, inlined_at 1 10 5
                .pragma "nounroll";
                mov.u32 %r1, dynamic;
                mov.b64 %rd1, table+4;
                // an inline-asm block, twice: its names are its own
                { .reg .pred P1; .reg .b32 a; mov.u32 a, 1; setp.ne.b32 P1, a, 0; @P1 bra DONE; DONE: }
                { .reg .pred P1; .reg .b32 a; mov.u32 a, 2; setp.ne.b32 P1, a, 0; @!P1 bra DONE; DONE: }
                ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%r2, %r3}, [%rd1+-4];
                mov.u32 %r4, %cluster_ctarank; mov.u32 %r5, %dynamic_smem_size; mov.u64 %rd2, %globaltimer; mov.u32 %r6, WARP_SZ;
                setp.lt.s32 %p1|%p2, %r1, -1;
            $L__tmp0:
                ret;
            $L__func_end0:
            }
            .section .debug_str { $L__info_string0: .b8 102,111,0 }
            .section .debug_loc { }
        "#;
        let module = Module::parse("k.ptx", &format!(".version 8.4\n.target sm_90a\n.address_size 64\n{text}")).unwrap();
        assert_eq!(module.kernels().collect::<Vec<_>>(), ["k"]);
        let sizes: Vec<_> = module.params("k").unwrap().iter().map(|p| (p.offset, p.size, p.align)).collect();
        assert_eq!(sizes, [(0, 8, 8), (64, 128, 64), (192, 4, 4)]);
        let entry = module.program.entry("k").unwrap();
        assert_eq!((entry.maxntid, entry.reqnctapercluster), (Some([256, 1, 1]), Some([2, 1, 1])));
        let table = module.program.globals.iter().find(|g| g.name == "table").unwrap();
        let floats: Vec<f32> = table.init.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        assert_eq!(floats, [1.0, 2.5, 0.0, 0.0]);
        // The innermost place counts.
        let at = (0..module.code.len()).find_map(|pc| module.program.line(pc as u32).2.filter(|s| s.line == 12)).unwrap();
        assert_eq!(at.file, "kernel.cu");
    }
}
