//! From a syntax tree to a module: names, registers, frames, shared memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::decode::{Cx, Name, Numbering, Scopes, class_of};
use super::initial::Fill;
use super::module::{
    BUILTINS, Entry, Function, Global, Inst, Module, ParamInfo, Relocation, RelocationTarget, SharedVariable, Signature, Source,
};
use super::{Guard, NO_PC, Op, Reg};
use crate::cfg;
use crate::text::ast::{self, Linkage, Operand, Space, Statement, Type, Variable};
use crate::text::{Error, Errors};

/// The most bytes of parameters that a kernel takes, and of local memory that the functions of a module may need together.
const MAX_PARAMS: u32 = 32_764;
const MAX_FRAME: u32 = 1 << 24;

pub(super) struct Builder {
    file: String,
    errors: Vec<Error>,
    module: Module,
    names: HashMap<String, Name>,
    /// Per function: direct callees, indirect calls, shared variables named.
    callees: Vec<Vec<u32>>,
    indirect: Vec<bool>,
    shared_used: Vec<Vec<u32>>,
}

/// What a function's body decodes to, before it is placed.
struct Body {
    code: Vec<Inst>,
    sources: Vec<Source>,
    /// pc of each label.
    labels: Vec<Option<u32>>,
    frame: u32,
}

impl Builder {
    pub(super) fn new(name: &str) -> Builder {
        let module = Module {
            name: name.to_string(),
            code: Vec::new(),
            refs: Vec::new(),
            sources: Vec::new(),
            entries: Vec::new(),
            functions: Vec::new(),
            globals: Vec::new(),
            shared: Vec::new(),
            files: HashMap::new(),
        };
        Builder {
            file: name.to_string(),
            errors: Vec::new(),
            module,
            names: HashMap::new(),
            callees: Vec::new(),
            indirect: Vec::new(),
            shared_used: Vec::new(),
        }
    }

    fn error(&mut self, line: u32, message: impl Into<String>) {
        self.errors.push(Error { file: self.file.clone(), line, message: message.into() });
    }

    pub(super) fn build(mut self, tree: &ast::Module) -> Result<Module, Errors> {
        self.module.files = tree.files.iter().cloned().collect();
        self.declare(tree);
        for v in &tree.variables {
            self.initialise(v);
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
            Ok(self.module)
        } else {
            self.errors.sort_by_key(|e| e.line);
            Err(Errors(self.errors))
        }
    }

    /// The functions that have bodies, the last of each name.
    fn bodies<'t>(&self, tree: &'t ast::Module) -> Vec<&'t ast::Function> {
        tree.functions.iter().filter(|f| f.body.is_some()).collect()
    }

    fn declare(&mut self, tree: &ast::Module) {
        for v in &tree.variables {
            let name = match v.space {
                Space::Shared => self.shared_variable(v),
                Space::Global | Space::Const => {
                    if self.names.contains_key(&v.name) {
                        continue;
                    }
                    let index = self.module.globals.len() as u32;
                    if v.linkage == Linkage::Extern {
                        self.error(v.line, format!("`{}` is extern and nothing defines it", v.name));
                    }
                    self.module.globals.push(Global {
                        name: v.name.clone(),
                        space: v.space,
                        bytes: v.bytes(),
                        align: v.alignment(),
                        init: Vec::new(),
                        relocations: Vec::new(),
                    });
                    Name::Global(index, v.space)
                }
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
            let defined = tree.functions.iter().any(|g| g.name == f.name && g.body.is_some());
            let aliased = tree.aliases.iter().any(|(new, ..)| *new == f.name);
            if !defined && !aliased && !BUILTINS.contains(&f.name.as_str()) {
                // An error only where it is called.
                continue;
            }
            if aliased && !defined {
                continue;
            }
            let index = self.module.functions.len() as u32;
            self.names.insert(f.name.clone(), Name::Function(index));
            self.module.functions.push(Function {
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
        let n = self.module.functions.len();
        self.callees = vec![Vec::new(); n];
        self.indirect = vec![false; n];
        self.shared_used = vec![Vec::new(); n];
    }

    fn shared_variable(&mut self, v: &Variable) -> Name {
        let dynamic = v.linkage == Linkage::Extern;
        if v.init.is_some() {
            self.error(v.line, format!("shared variable `{}` cannot have an initial value", v.name));
        }
        if !dynamic && v.dims.first() == Some(&None) {
            self.error(v.line, format!("shared variable `{}` of open size must be .extern", v.name));
        }
        let index = self.module.shared.len() as u32;
        self.module.shared.push(SharedVariable { name: v.name.clone(), bytes: v.bytes(), align: v.alignment(), dynamic });
        Name::Shared(index)
    }

    fn initialise(&mut self, v: &Variable) {
        let (Some(init), Some(Name::Global(index, _))) = (&v.init, self.names.get(&v.name)) else { return };
        let index = *index as usize;
        let dims: Vec<u64> = v.dims.iter().map(|d| d.unwrap_or(0)).collect();
        let size = (v.ty.bytes() * v.vector) as usize;
        let mut fill = Fill { ty: v.ty, element: v.ty.bytes() as usize, bytes: vec![0; v.bytes() as usize], found: Vec::new() };
        if let Err(message) = fill.put(init, &dims, 0, size) {
            self.error(v.line, format!("initial value of `{}`: {message}", v.name));
            return;
        }
        let Fill { bytes, found, .. } = fill;
        for (at, name, offset, mask) in found {
            let target = match self.names.get(&name) {
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
            self.module.globals[index].relocations.push(Relocation { at, size, target, offset, mask });
        }
        self.module.globals[index].init = bytes;
    }

    /// Decodes a body and appends it to the code. Takes and returns the numbering and the frame's end.
    fn function(&mut self, f: &ast::Function, numbering: Numbering, frame: u32) -> (Numbering, u32) {
        let Some(Name::Function(index)) = self.names.get(&f.name).cloned() else { return (numbering, frame) };
        let mut scopes = Scopes {
            module: Arc::new(std::mem::take(&mut self.names)),
            stack: vec![HashMap::new()],
            numbering,
            entry: f.entry,
            callees: Vec::new(),
            indirect: false,
            shared: Vec::new(),
        };
        let mut body = Body { code: Vec::new(), sources: Vec::new(), labels: Vec::new(), frame };
        let mut signature = Signature::default();
        let mut offset = 0;
        for (list, out) in [(&f.returns, &mut signature.returns), (&f.params, &mut signature.params)] {
            for p in list {
                if p.register {
                    self.error(p.line, format!("`{}`: .reg parameters are not supported, only .param", p.name));
                }
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
                scopes.stack[0].insert(p.name.clone(), name);
            }
        }
        self.statements(f.body.as_deref().unwrap_or(&[]), &mut scopes, &mut body);
        // Falling off the end returns.
        let end_line = body.sources.last().map_or(f.line, |s| s.line);
        let end_op = if f.entry { Op::Exit } else { Op::Return };
        body.code.push(Inst {
            guard: Guard::ALWAYS,
            op: end_op,
            refs: self.module.refs.len() as u32,
            uses: 0,
            defs: 0,
            touches_wgmma: false,
        });
        body.sources.push(Source { line: end_line, loc: None, opcode: "ret".into() });

        let start = self.module.code.len() as u32;
        let labels: Vec<u32> = body.labels.iter().map(|l| l.unwrap_or(0)).collect();
        cfg::link(&mut body.code, &labels, start);
        self.mark_wgmma(&mut body.code);
        self.module.code.append(&mut body.code);
        self.module.sources.append(&mut body.sources);
        let function = &mut self.module.functions[index as usize];
        function.start = start;
        function.end = self.module.code.len() as u32;
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
            Op::Matrix(x) => x.asynchronous().collect(),
            _ => Vec::new(),
        };
        let registers: HashSet<Reg> = code.iter().flat_map(asynchronous).collect();
        if registers.is_empty() {
            return;
        }
        for inst in code {
            let refs = &self.module.refs[inst.refs as usize..][..usize::from(inst.uses + inst.defs)];
            inst.touches_wgmma = asynchronous(inst).is_empty() && refs.iter().any(|r| registers.contains(r));
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
        if vector > 1 {
            self.error(line, "vector registers (.reg .v2, .v4) are not supported");
        }
        for (name, count) in names {
            let many = count.unwrap_or(1);
            for i in 0..many {
                if scopes.numbering.is_full() {
                    return;
                }
                let full = if count.is_some() { format!("{name}{i}") } else { name.clone() };
                let value = Name::Register { reg: scopes.numbering.fresh(class_of(ty), per), ty };
                if scopes.stack.last_mut().expect("a scope").insert(full.clone(), value).is_some() {
                    self.error(line, format!("`{full}` is declared twice"));
                    return;
                }
            }
        }
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
                self.error(v.line, format!("`{}`: .{:?} variables belong at module scope", v.name, v.space));
                return;
            }
        };
        if scopes.stack.last_mut().expect("a scope").insert(v.name.clone(), name).is_some() {
            self.error(v.line, format!("`{}` is declared twice", v.name));
        }
    }

    fn instruction(&mut self, i: &ast::Instruction, scopes: &mut Scopes, body: &mut Body) {
        let head = i.opcode.split('.').next().unwrap_or("");
        let Some(decode) = super::family(head) else {
            self.error(i.line, format!("unknown instruction `{}`", i.opcode));
            return;
        };
        let mut cx = Cx::new(i, scopes);
        let guard = match &i.guard {
            None => Ok(Guard::ALWAYS),
            Some(g) => cx.src_of(&Operand::Name(g.register.clone()), Type::Pred).map(|index| Guard { index, negated: g.negated }),
        };
        // The guard decides, it is no operand: its undefinedness is checked, not passed on.
        cx.uses.clear();
        let (op, guard) = match (decode(&mut cx), guard) {
            (Ok(op), Ok(guard)) => (op, guard),
            (Err(m), _) | (_, Err(m)) => {
                self.error(i.line, m);
                return;
            }
        };
        let (uses, defs) = (std::mem::take(&mut cx.uses), std::mem::take(&mut cx.defs));
        let refs = self.module.refs.len() as u32;
        self.module.refs.extend(uses.iter().chain(&defs));
        body.code.push(Inst { guard, op, refs, uses: uses.len() as u16, defs: defs.len() as u16, touches_wgmma: false });
        body.sources.push(Source { line: i.line, loc: i.loc, opcode: i.opcode.clone() });
    }

    fn entry(&mut self, f: &ast::Function, registers: Numbering, frame: u32) {
        let Some(Name::Function(index)) = self.names.get(&f.name) else { return };
        let function = &self.module.functions[*index as usize];
        let params = (function.signature.params.iter().zip(&f.params))
            .map(|(&(offset, size), p)| ParamInfo { offset, size, align: p.alignment() as u32 })
            .collect();
        self.module.entries.push(Entry {
            name: f.name.clone(),
            start: function.start,
            params,
            registers,
            frame,
            shared: HashMap::new(),
            static_shared: 0,
            maxntid: f.maxntid,
            reqntid: f.reqntid,
            reqnctapercluster: f.reqnctapercluster,
            explicit_cluster: f.explicit_cluster,
            maxnreg: f.maxnreg,
        });
    }

    /// Functions have static registers and frames, so no function may be active twice in a thread.
    fn check_recursion(&mut self) {
        for f in 0..self.callees.len() {
            if self.reach(f).contains(&f) {
                let name = self.module.functions[f].name.clone();
                let start = self.module.functions[f].start as usize;
                let line = self.module.sources.get(start).map_or(1, |s| s.line);
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
        for e in 0..self.module.entries.len() {
            let name = self.module.entries[e].name.clone();
            let Some(Name::Function(f)) = self.names.get(&name) else { continue };
            let mut reached = self.reach(*f as usize);
            reached.push(*f as usize);
            if reached.iter().any(|&g| self.indirect[g]) {
                // Any function that is not a kernel may be the target.
                reached.extend((0..self.module.functions.len()).filter(|&g| !self.module.functions[g].entry));
            }
            let mut used: Vec<u32> = reached.iter().flat_map(|&g| self.shared_used[g].iter().copied()).collect();
            used.sort_unstable();
            used.dedup();
            let (mut end, mut dynamic_align) = (0_u64, 1);
            let mut places = HashMap::new();
            for &v in &used {
                let var = &self.module.shared[v as usize];
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
            for &v in used.iter().filter(|&&v| self.module.shared[v as usize].dynamic) {
                places.insert(v, dynamic_start);
            }
            let entry = &mut self.module.entries[e];
            entry.shared = places;
            entry.static_shared = dynamic_start;
        }
    }
}
