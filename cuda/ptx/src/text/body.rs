//! Bodies of functions: statements, instructions and their operands.

use super::ast::*;
use super::lexer::Kind;
use super::parser::{Parser, Result_, space};

impl Parser<'_> {
    /// Statements up to the closing brace.
    pub(super) fn block(&mut self) -> Result_<Vec<Statement>> {
        let mut out = Vec::new();
        loop {
            let line = self.line();
            match self.peek() {
                Some(Kind::Punct('}')) => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(Kind::Punct(';')) => self.at += 1,
                Some(Kind::Punct('{')) => {
                    self.at += 1;
                    out.push(Statement::Block(self.nested(Self::block)?));
                }
                Some(Kind::Punct('@')) => out.push(Statement::Instruction(self.instruction()?)),
                Some(Kind::Word(w)) if self.peek_second() == Some(Kind::Punct(':')) => {
                    self.at += 2;
                    self.labelled(w, line, &mut out)?;
                }
                Some(Kind::Word(w)) if w.starts_with('.') => {
                    self.at += 1;
                    self.body_directive(w, line, &mut out)?;
                }
                Some(Kind::Word(_)) => out.push(Statement::Instruction(self.instruction()?)),
                _ => return self.unexpected("a statement"),
            }
        }
    }

    /// After `name:`.
    fn labelled(&mut self, name: &str, line: u32, out: &mut Vec<Statement>) -> Result_<()> {
        match self.peek() {
            Some(Kind::Word(".callprototype")) => {
                self.at += 1;
                let returns = if self.peek() == Some(Kind::Punct('(')) { self.parameters()? } else { Vec::new() };
                self.word("`_`")?;
                let params = self.parameters()?;
                loop {
                    match self.peek() {
                        Some(Kind::Word(".noreturn")) => self.at += 1,
                        Some(Kind::Word(".abi_preserve" | ".abi_preserve_control")) => {
                            self.at += 1;
                            self.unsigned("a count")?;
                        }
                        _ => break,
                    }
                }
                self.expect(';')?;
                out.push(Statement::Prototype(Prototype { name: name.to_string(), returns, params, line }));
            }
            Some(Kind::Word(".branchtargets" | ".calltargets")) => {
                self.at += 1;
                let mut targets = Vec::new();
                loop {
                    targets.push(self.word("a label")?.to_string());
                    if !self.eat(',') {
                        break;
                    }
                }
                self.expect(';')?;
                out.push(Statement::Targets { name: name.to_string(), targets, line });
            }
            _ => out.push(Statement::Label(name.to_string(), line)),
        }
        Ok(())
    }

    fn body_directive(&mut self, w: &str, line: u32, out: &mut Vec<Statement>) -> Result_<()> {
        match w {
            ".loc" => self.location()?,
            ".pragma" => {
                self.at -= 1;
                self.pragma()?;
            }
            ".file" => {
                self.at -= 1;
                self.file()?;
            }
            ".reg" => {
                let (_, ty, vector) = self.typed()?;
                let mut names = Vec::new();
                loop {
                    let name = self.word("a register's name")?.to_string();
                    let mut count = None;
                    if self.eat('<') {
                        count = Some(self.unsigned("a count")?);
                        self.expect('>')?;
                    }
                    names.push((name, count));
                    if !self.eat(',') {
                        break;
                    }
                }
                self.expect(';')?;
                out.push(Statement::Registers { ty, vector, names, line });
            }
            _ => {
                self.at -= 1;
                let linkage = self.linkage();
                let w = self.word("a directive")?;
                let Some(s) = space(w) else { return Err((line, format!("unknown directive `{w}` in a function"))) };
                out.extend(self.variables(s, linkage)?.into_iter().map(Statement::Variable));
            }
        }
        Ok(())
    }

    fn instruction(&mut self) -> Result_<Instruction> {
        let line = self.line();
        let guard = if self.eat('@') {
            let negated = self.eat('!');
            Some(Guard { register: self.word("a predicate")?.to_string(), negated })
        } else {
            None
        };
        let opcode = self.word("an opcode")?.to_string();
        let call = opcode.split('.').next() == Some("call");
        let mut operands = Vec::new();
        while !self.eat(';') {
            if !operands.is_empty() {
                self.expect(',')?;
            }
            operands.push(match self.peek() {
                // Elsewhere a parenthesis belongs to a constant expression.
                Some(Kind::Punct('(')) if call => {
                    self.at += 1;
                    Operand::List(self.nested(|p| p.operands_until(')'))?)
                }
                _ => self.operand()?,
            });
        }
        Ok(Instruction { guard, opcode, operands, line, loc: self.loc })
    }

    fn operand(&mut self) -> Result_<Operand> {
        let first = self.simple_operand()?;
        if self.eat('|') {
            let second = self.simple_operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn simple_operand(&mut self) -> Result_<Operand> {
        match self.peek() {
            Some(Kind::Punct('[')) => {
                self.at += 1;
                self.nested(Self::address)
            }
            Some(Kind::Punct('{')) => {
                self.at += 1;
                Ok(Operand::Vector(self.nested(|p| p.operands_until('}'))?))
            }
            Some(_) if self.at_constant() => self.constant().map(Operand::Literal),
            Some(Kind::Punct('!')) => {
                self.at += 1;
                Ok(Operand::Not(self.word("a predicate")?.to_string()))
            }
            Some(Kind::Word("_")) => {
                self.at += 1;
                Ok(Operand::Sink)
            }
            Some(Kind::Word(w)) => {
                self.at += 1;
                match self.displacement()? {
                    None => Ok(Operand::Name(w.to_string())),
                    Some(d) => Ok(Operand::Offset(w.to_string(), d)),
                }
            }
            _ => self.unexpected("an operand"),
        }
    }

    /// `+` and a constant expression, or nothing.
    pub(super) fn displacement(&mut self) -> Result_<Option<i64>> {
        if self.eat('+') { self.integer("an offset").map(Some) } else { Ok(None) }
    }

    fn operands_until(&mut self, end: char) -> Result_<Vec<Operand>> {
        let mut list = Vec::new();
        while !self.eat(end) {
            if !list.is_empty() {
                self.expect(',')?;
            }
            list.push(self.operand()?);
        }
        Ok(list)
    }

    fn address(&mut self) -> Result_<Operand> {
        let base = match self.simple_operand()? {
            Operand::Offset(name, offset) => (Operand::Name(name), offset),
            base @ (Operand::Literal(Literal::Int(_)) | Operand::Name(_)) => (base, 0),
            _ => return self.unexpected("an address"),
        };
        let rest = if self.eat(',') { self.operands_until(']')? } else { self.expect(']').map(|()| Vec::new())? };
        Ok(Operand::Address { base: Box::new(base.0), offset: base.1, rest })
    }
}
