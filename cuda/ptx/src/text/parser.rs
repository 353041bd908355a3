//! Tokens to syntax tree.

use super::ast::*;
use super::lexer::{self, Kind, Token};
use super::{Error, Errors};

/// Parses a whole file; `name` is how errors call it.
pub fn parse(name: &str, source: &str) -> Result<File, Errors> {
    let fail = |line, message| Errors(vec![Error { file: name.to_string(), line, message }]);
    let tokens = lexer::tokens(source).map_err(|(line, message)| fail(line, message))?;
    let module = File { address_size: 64, ..File::default() };
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, numbered: 0, loc: None, module };
    parser.module().map_err(|(line, message)| fail(line, message))?;
    Ok(parser.module)
}

pub(super) type Result_<T> = Result<T, (u32, String)>;

/// How deep braces, brackets and parentheses may stand in each other. Compilers stay far below; the stack ends far above.
const MAX_DEPTH: u32 = 64;
/// The most variables that `name<count>` may declare in a file.
const MAX_NUMBERED: u32 = 1 << 20;
/// The most bytes of a variable, and its greatest alignment.
const MAX_BYTES: u64 = u32::MAX as u64;
const MAX_ALIGN: u32 = 1 << 16;

pub(super) struct Parser<'a> {
    pub(super) tokens: &'a [Token<'a>],
    pub(super) at: usize,
    /// What is open around this place.
    depth: u32,
    /// Variables declared by `name<count>`.
    numbered: u32,
    /// The last `.loc` of the current function.
    pub(super) loc: Option<Loc>,
    pub(super) module: File,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at).map(|t| t.kind)
    }

    pub(super) fn peek_second(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at + 1).map(|t| t.kind)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    pub(super) fn next(&mut self) -> Result_<Kind<'a>> {
        let kind = self.peek().ok_or_else(|| (self.line(), "the file ends in the middle of something".to_string()))?;
        self.at += 1;
        Ok(kind)
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(Kind::Punct(c));
        self.at += usize::from(hit);
        hit
    }

    pub(super) fn eat_word(&mut self, w: &str) -> bool {
        let hit = self.peek() == Some(Kind::Word(w));
        self.at += usize::from(hit);
        hit
    }

    pub(super) fn unexpected<T>(&self, wanted: &str) -> Result_<T> {
        let found = match self.peek() {
            None => "the end of the file".to_string(),
            Some(Kind::Word(w)) => format!("`{w}`"),
            Some(Kind::Number(Literal::Int(v))) => format!("`{v}`"),
            Some(Kind::Number(_) | Kind::Unsigned(_)) => "a number".to_string(),
            Some(Kind::Text(t)) => format!("\"{t}\""),
            Some(Kind::Punct(c)) => format!("`{c}`"),
        };
        Err((self.line(), format!("expected {wanted}, found {found}")))
    }

    pub(super) fn expect(&mut self, c: char) -> Result_<()> {
        if self.eat(c) { Ok(()) } else { self.unexpected(&format!("`{c}`")) }
    }

    pub(super) fn word(&mut self, what: &str) -> Result_<&'a str> {
        match self.peek() {
            Some(Kind::Word(w)) => {
                self.at += 1;
                Ok(w)
            }
            _ => self.unexpected(what),
        }
    }

    /// Parses what stands inside of something that can hold its like.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result_<T>) -> Result_<T> {
        if self.depth == MAX_DEPTH {
            return Err((self.line(), format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// An integer, with its sign.
    pub(super) fn int(&mut self, what: &str) -> Result_<i64> {
        let negative = self.eat('-');
        match self.peek() {
            Some(Kind::Number(Literal::Int(v))) => {
                self.at += 1;
                Ok(if negative { v.wrapping_neg() } else { v })
            }
            _ => self.unexpected(what),
        }
    }

    pub(super) fn unsigned(&mut self, what: &str) -> Result_<u32> {
        let line = self.line();
        let v = self.int(what)?;
        u32::try_from(v).map_err(|_| (line, format!("{what}: {v} is out of range")))
    }

    pub(super) fn module(&mut self) -> Result_<()> {
        while let Some(kind) = self.peek() {
            let Kind::Word(w) = kind else {
                if self.eat(';') {
                    continue;
                }
                return self.unexpected("a directive");
            };
            let line = self.line();
            match w {
                ".version" => {
                    self.at += 1;
                    self.module.version = match self.next()? {
                        Kind::Number(Literal::F64(v)) => (v as u32, ((v - v.floor()) * 10.0).round() as u32),
                        _ => return Err((line, "expected a version such as 8.4".to_string())),
                    };
                }
                ".target" => {
                    self.at += 1;
                    loop {
                        let t = self.word("a target")?;
                        check_target(t).map_err(|message| (line, message))?;
                        self.module.target.push(t.to_string());
                        if !self.eat(',') {
                            break;
                        }
                    }
                }
                ".address_size" => {
                    self.at += 1;
                    self.module.address_size = self.unsigned("an address size")?;
                    if self.module.address_size != 64 {
                        return Err((line, "only .address_size 64 is supported".to_string()));
                    }
                }
                ".file" => self.file()?,
                ".loc" => {
                    self.at += 1;
                    self.location()?;
                }
                ".section" => self.section()?,
                ".pragma" => self.pragma()?,
                ".alias" => {
                    self.at += 1;
                    let new = self.word("a name")?.to_string();
                    self.expect(',')?;
                    let old = self.word("a name")?.to_string();
                    self.expect(';')?;
                    self.module.aliases.push((new, old, line));
                }
                _ => self.linked()?,
            }
        }
        Ok(())
    }

    pub(super) fn file(&mut self) -> Result_<()> {
        self.at += 1;
        let index = self.unsigned("a file index")?;
        match self.next()? {
            Kind::Text(path) => self.module.files.push((index, path.to_string())),
            _ => return Err((self.line(), "expected a path in quotes".to_string())),
        }
        // Optional timestamp and size.
        while self.eat(',') {
            self.int("a number")?;
        }
        Ok(())
    }

    /// After `.loc`: file, line, column, and where it was inlined (the innermost place is kept).
    pub(super) fn location(&mut self) -> Result_<()> {
        let (file, line) = (self.unsigned("a file index")?, self.unsigned("a line")?);
        let column = if matches!(self.peek(), Some(Kind::Number(_))) { self.unsigned("a column")? } else { 0 };
        self.loc = Some(Loc { file, line, column });
        while self.eat(',') {
            match self.word("function_name or inlined_at")? {
                "function_name" => {
                    self.word("a label")?;
                    if self.eat('+') {
                        self.int("an offset")?;
                    }
                }
                "inlined_at" => {
                    for _ in 0..3 {
                        self.int("a number")?;
                    }
                }
                other => return Err((self.line(), format!("unknown attribute `{other}` of .loc"))),
            }
        }
        Ok(())
    }

    /// Debug sections hold nothing that runs.
    pub(super) fn section(&mut self) -> Result_<()> {
        self.at += 1;
        self.word("a section name")?;
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Kind::Punct('{') => depth += 1,
                Kind::Punct('}') => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn pragma(&mut self) -> Result_<()> {
        self.at += 1;
        loop {
            match self.next()? {
                Kind::Text(_) => {}
                _ => return Err((self.line(), "expected a string after .pragma".to_string())),
            }
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')
    }

    pub(super) fn linkage(&mut self) -> Linkage {
        let mut linkage = Linkage::Local;
        while let Some(Kind::Word(w)) = self.peek() {
            linkage = match w {
                ".visible" => Linkage::Visible,
                ".extern" => Linkage::Extern,
                ".weak" => Linkage::Weak,
                ".common" => Linkage::Common,
                _ => break,
            };
            self.at += 1;
        }
        linkage
    }

    /// A function or variable of module scope, with its linkage.
    pub(super) fn linked(&mut self) -> Result_<()> {
        let linkage = self.linkage();
        match self.peek() {
            Some(Kind::Word(w @ (".entry" | ".func"))) => {
                self.at += 1;
                let f = self.function(w == ".entry")?;
                self.module.functions.push(f);
                Ok(())
            }
            Some(Kind::Word(w)) => match space(w) {
                Some(s) => {
                    self.at += 1;
                    let list = self.variables(s, linkage)?;
                    self.module.variables.extend(list);
                    Ok(())
                }
                None => Err((self.line(), format!("unknown directive `{w}`"))),
            },
            _ => self.unexpected("a directive"),
        }
    }

    /// What follows a space: alignment, type, then names with extents and initialisers, up to `;`.
    pub(super) fn variables(&mut self, space: Space, linkage: Linkage) -> Result_<Vec<Variable>> {
        let (align, ty, vector) = self.typed()?;
        let mut out = Vec::new();
        loop {
            let line = self.line();
            let name = self.word("a variable's name")?.to_string();
            let mut count = None;
            if self.eat('<') {
                let n = self.unsigned("a count")?;
                self.expect('>')?;
                self.numbered = self.numbered.saturating_add(n);
                if self.numbered > MAX_NUMBERED {
                    return Err((line, format!("`{name}<{n}>`: more than {MAX_NUMBERED} numbered variables")));
                }
                count = Some(n);
            }
            let mut dims = self.extents()?;
            let init = if self.eat('=') { Some(self.initialiser()?) } else { None };
            if let (Some(None), Some(Init::List(l))) = (dims.first(), &init) {
                dims[0] = Some(l.len() as u64);
            }
            check_size(&name, ty.bytes() * vector, &dims).map_err(|message| (line, message))?;
            let var = |name| Variable {
                name,
                space,
                ty,
                vector,
                dims: dims.clone(),
                align,
                init: init.clone(),
                linkage,
                register: false,
                line,
            };
            match count {
                None => out.push(var(name)),
                Some(n) => out.extend((0..n).map(|i| var(format!("{name}{i}")))),
            }
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(out)
    }

    /// `[n][m]…`; an extent may be left out.
    fn extents(&mut self) -> Result_<Vec<Option<u64>>> {
        let mut dims = Vec::new();
        while self.eat('[') {
            let open = matches!(self.peek(), Some(Kind::Punct(']')));
            dims.push(if open { None } else { Some(u64::from(self.unsigned("an extent")?)) });
            self.expect(']')?;
        }
        Ok(dims)
    }

    /// `(.managed)` or `(.unified(a, b))`: where the memory lies is the system's business.
    fn attribute(&mut self) -> Result_<()> {
        self.expect('(')?;
        loop {
            match self.word("an attribute")? {
                ".managed" => {}
                ".unified" => {
                    self.expect('(')?;
                    self.int("a number")?;
                    self.expect(',')?;
                    self.int("a number")?;
                    self.expect(')')?;
                }
                other => return Err((self.line(), format!("unknown attribute `{other}`"))),
            }
            if !self.eat(',') {
                return self.expect(')');
            }
        }
    }

    /// `.align n`, `.attribute(…)`, `.v2`, and the type, in any order up to the name.
    pub(super) fn typed(&mut self) -> Result_<(Option<u32>, Type, u32)> {
        let (mut align, mut ty, mut vector) = (None, None, 1);
        while let Some(Kind::Word(w)) = self.peek() {
            let Some(d) = w.strip_prefix('.') else { break };
            let line = self.line();
            self.at += 1;
            match d {
                "align" => {
                    let a = self.unsigned("an alignment")?;
                    if !a.is_power_of_two() || a > MAX_ALIGN {
                        return Err((line, format!("alignment {a} is not a power of two up to {MAX_ALIGN}")));
                    }
                    align = Some(a);
                }
                "v2" => vector = 2,
                "v4" => vector = 4,
                "v8" => vector = 8,
                "attribute" => self.attribute()?,
                "texref" | "samplerref" | "surfref" => {
                    return Err((line, format!("`.{d}`: textures and surfaces are not supported")));
                }
                "ptr" => {
                    // A pointer's target space and alignment are advice.
                    while let Some(Kind::Word(w)) = self.peek() {
                        match w {
                            ".align" => {
                                self.at += 1;
                                self.unsigned("an alignment")?;
                            }
                            ".global" | ".shared" | ".const" | ".local" | ".generic" => self.at += 1,
                            _ => break,
                        }
                    }
                }
                _ => ty = Some(Type::parse(d).ok_or_else(|| (line, format!("unknown type or attribute `.{d}`")))?),
            }
        }
        match ty {
            Some(t) => Ok((align, t, vector)),
            None => self.unexpected("a type"),
        }
    }

    pub(super) fn initialiser(&mut self) -> Result_<Init> {
        if self.eat('{') {
            let mut list = Vec::new();
            while !self.eat('}') {
                list.push(self.nested(Self::initialiser)?);
                if !self.eat(',') && self.peek() != Some(Kind::Punct('}')) {
                    return self.unexpected("`,` or `}`");
                }
            }
            return Ok(Init::List(list));
        }
        let value = match (self.peek(), self.peek_second()) {
            (Some(Kind::Number(Literal::Int(v))), Some(Kind::Punct('('))) => {
                self.at += 2;
                let inner = self.symbol_value()?;
                self.expect(')')?;
                match inner {
                    InitValue::Symbol { name, offset, generic, .. } => {
                        InitValue::Symbol { name, offset, generic, mask: v as u64 }
                    }
                    other => other,
                }
            }
            _ if self.at_constant() => match self.constant()? {
                Literal::Int(v) => InitValue::Int(v),
                float => InitValue::Float(float),
            },
            _ => self.symbol_value()?,
        };
        Ok(Init::Value(value))
    }

    pub(super) fn symbol_value(&mut self) -> Result_<InitValue> {
        let mut name = self.word("a symbol")?;
        let generic = name == "generic";
        if generic {
            self.expect('(')?;
            name = self.word("a symbol")?;
            self.expect(')')?;
        }
        let offset = self.displacement()?.unwrap_or(0);
        Ok(InitValue::Symbol { name: name.to_string(), offset, generic, mask: u64::MAX })
    }

    /// `( .param … , .reg … )`.
    pub(super) fn parameters(&mut self) -> Result_<Vec<Variable>> {
        let mut list = Vec::new();
        if !self.eat('(') {
            return Ok(list);
        }
        while !self.eat(')') {
            let line = self.line();
            let register = match self.word(".param or .reg")? {
                ".param" => false,
                ".reg" => true,
                other => return Err((line, format!("expected .param or .reg, found `{other}`"))),
            };
            let (align, ty, vector) = self.typed()?;
            let name = self.word("a parameter's name")?.to_string();
            let dims = self.extents()?;
            check_size(&name, ty.bytes() * vector, &dims).map_err(|message| (line, message))?;
            list.push(Variable {
                name,
                space: Space::Param,
                ty,
                vector,
                dims,
                align,
                init: None,
                linkage: Linkage::Local,
                register,
                line,
            });
            if !self.eat(',') && self.peek() != Some(Kind::Punct(')')) {
                return self.unexpected("`,` or `)`");
            }
        }
        Ok(list)
    }

    pub(super) fn triple(&mut self) -> Result_<[u32; 3]> {
        let mut t = [1; 3];
        for (i, v) in t.iter_mut().enumerate() {
            if i > 0 && !self.eat(',') {
                break;
            }
            *v = self.unsigned("an extent")?;
        }
        Ok(t)
    }

    pub(super) fn function(&mut self, entry: bool) -> Result_<Function> {
        if self.eat_word(".attribute") {
            self.attribute()?;
        }
        let returns = if !entry && self.peek() == Some(Kind::Punct('(')) { self.parameters()? } else { Vec::new() };
        let line = self.line();
        let name = self.word("a function's name")?.to_string();
        let params = self.parameters()?;
        let mut f = Function {
            name,
            entry,
            returns,
            params,
            noreturn: false,
            maxntid: None,
            reqntid: None,
            reqnctapercluster: None,
            maxnreg: None,
            maxclusterrank: None,
            minnctapersm: None,
            explicit_cluster: false,
            blocks_are_clusters: false,
            body: None,
            line,
        };
        self.loc = None;
        loop {
            let line = self.line();
            match self.peek() {
                Some(Kind::Punct(';')) => {
                    self.at += 1;
                    return Ok(f);
                }
                Some(Kind::Punct('{')) => {
                    self.at += 1;
                    f.body = Some(self.block()?);
                    return Ok(f);
                }
                Some(Kind::Word(".pragma")) => self.pragma()?,
                Some(Kind::Word(w)) => {
                    self.at += 1;
                    match w {
                        ".maxntid" => f.maxntid = Some(self.triple()?),
                        ".reqntid" => f.reqntid = Some(self.triple()?),
                        ".reqnctapercluster" => f.reqnctapercluster = Some(self.triple()?),
                        ".maxnreg" => f.maxnreg = Some(self.unsigned("a number of registers")?),
                        ".maxclusterrank" => f.maxclusterrank = Some(self.unsigned("a number of CTAs")?),
                        ".minnctapersm" => f.minnctapersm = Some(self.unsigned("a count")?),
                        ".maxnctapersm" => {
                            self.unsigned("a count")?;
                        }
                        ".explicitcluster" => f.explicit_cluster = true,
                        ".noreturn" => f.noreturn = true,
                        ".blocksareclusters" => f.blocks_are_clusters = true,
                        ".abi_preserve" | ".abi_preserve_control" => {
                            self.unsigned("a count")?;
                        }
                        other => return Err((line, format!("unknown directive `{other}` of a function"))),
                    }
                }
                _ => return self.unexpected("a function's body"),
            }
        }
    }
}

/// Refuses a target whose code does not run on an sm_90a.
fn check_target(word: &str) -> Result<(), String> {
    let architecture = word.strip_prefix("sm_").or(word.strip_prefix("compute_"));
    let number = architecture.and_then(|a| a.parse::<u32>().ok());
    match (architecture, number) {
        (Some("90a"), _) => Ok(()),
        (_, Some(n)) if n <= 90 => Ok(()),
        (Some(_), _) => Err(format!("code for `.target {word}` does not run on sm_90a, which is the machine here")),
        (None, _) if matches!(word, "texmode_unified" | "texmode_independent" | "debug") => Ok(()),
        (None, _) => Err(format!("unknown target `{word}`")),
    }
}

/// Refuses an array whose size, or the size of a part of it, is beyond any memory.
fn check_size(name: &str, element: u32, dims: &[Option<u64>]) -> Result<(), String> {
    let times = |n: u64, d: &Option<u64>| n.checked_mul(d.unwrap_or(1).max(1)).filter(|&n| n <= MAX_BYTES);
    match dims.iter().try_fold(u64::from(element), times) {
        Some(_) => Ok(()),
        None => Err(format!("`{name}` has more than {MAX_BYTES} bytes")),
    }
}

pub(super) fn space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" => Space::Global,
        ".const" => Space::Const,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}
