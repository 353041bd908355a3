//! A line that is reached, and what registers and shared memory hold there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::value::Element;
use crate::hazard::Place;
use crate::matrix::swizzle::Swizzle;

/// Shows the registers of a thread each time that it reaches a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The file of CUDA C++ as `.file` names it, or the PTX file; its last parts are enough.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// The thread (`%tid`); the first that is there, if not given.
    pub thread: Option<[u32; 3]>,
    /// Its CTA (`%ctaid`); any, if not given.
    pub cta: Option<[u32; 3]>,
    /// How many times at most.
    pub times: u64,
    /// What of the CTA's shared memory is shown too.
    pub tables: Vec<Table>,
}

impl Probe {
    /// How often a line is shown if nothing else is said.
    pub const TIMES: u64 = 8;

    /// Of the first thread that is there, at most [`Probe::TIMES`] times.
    pub fn new(file: &str, line: u32) -> Probe {
        Probe { file: file.into(), line, thread: None, cta: None, times: Probe::TIMES, tables: Vec::new() }
    }

    /// Whether a file is the one that is meant.
    pub(crate) fn is_file(&self, file: &str) -> bool {
        file.strip_suffix(&self.file).is_some_and(|front| front.is_empty() || front.ends_with(['/', '\\']))
    }
}

/// `FILE:LINE`
impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Probe, String> {
        let parts = text.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse::<u32>().ok()?)));
        match parts {
            Some((file, line)) if !file.is_empty() && line > 0 => Ok(Probe::new(file, line)),
            _ => Err(format!("{text:?} is not FILE:LINE")),
        }
    }
}

/// Shared memory as rows and columns of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The type of an element.
    pub element: Element,
    /// Where it begins in the CTA's shared memory.
    pub offset: u32,
    /// Rows, which follow each other without gaps.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// How copies and wgmma permute it.
    pub swizzle: Swizzle,
}

impl Table {
    /// Where an element lies in shared memory.
    pub(crate) fn place(&self, row: u32, column: u32) -> u32 {
        self.swizzle.apply(self.offset + (row * self.columns + column) * self.element.bytes(), 0)
    }
}

/// `TYPE@OFFSET:ROWSxCOLUMNS`, and `:128B`, `:64B` or `:32B` where it is swizzled.
impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Table, String> {
        let bad = || format!("{text:?} is not TYPE@OFFSET:ROWSxCOLUMNS, with :128B, :64B or :32B if it is swizzled");
        let (element, rest) = text.split_once('@').ok_or_else(bad)?;
        let element = element.parse()?;
        let mut parts = rest.split(':');
        let offset = number(parts.next().unwrap_or_default()).and_then(|n| u32::try_from(n).ok()).ok_or_else(bad)?;
        let (rows, columns) = parts.next().and_then(|extent| extent.split_once('x')).ok_or_else(bad)?;
        let extent = |text: &str| text.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(bad);
        let (rows, columns) = (extent(rows)?, extent(columns)?);
        let swizzle = match parts.next() {
            None => Swizzle::None,
            Some("32B") => Swizzle::B32,
            Some("64B") => Swizzle::B64,
            Some("128B") => Swizzle::B128,
            Some(_) => return Err(bad()),
        };
        if parts.next().is_some() || offset >= 1 << 24 {
            return Err(bad());
        }
        Ok(Table { element, offset, rows, columns, swizzle })
    }
}

/// A number, in hexadecimal with `0x`.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A register as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its name in PTX.
    pub name: String,
    /// What it is declared as.
    pub element: Element,
    /// Its bits; `None`: nothing defined them.
    pub bits: Option<u64>,
}

/// A thread that reached a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The step.
    pub step: u64,
    /// Who, and where.
    pub at: Place,
    /// The line of PTX.
    pub text: String,
    /// The registers that the line names, before it is executed.
    pub registers: Vec<Register>,
    /// Shared memory, element by element; `None`: nothing defined it, or it is outside.
    pub tables: Vec<(Table, Vec<Option<u64>>)>,
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}\n    {}", self.step, self.at, self.text.trim())?;
        for r in &self.registers {
            write!(f, "\n    {:<8} ", r.name)?;
            match r.bits {
                Some(bits) => write!(f, "{}", r.element.shown(bits))?,
                None => write!(f, "undefined")?,
            }
        }
        for (table, values) in &self.tables {
            let Table { element, offset, rows, columns, .. } = *table;
            write!(f, "\n    shared memory at {offset:#x}, {rows} x {columns} {element}")?;
            for (row, values) in values.chunks(columns as usize).enumerate() {
                write!(f, "\n    {row:>4}:")?;
                for value in values {
                    let text = value.map_or("?".into(), |v| element.value(v));
                    write!(f, " {text:>9}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_is_read() {
        let probe: Probe = "kernels/k.cu:12".parse().unwrap();
        assert!(probe.is_file("cuda/kernels/k.cu") && probe.is_file("kernels/k.cu") && !probe.is_file("mykernels/k.cu"));
        let table: Table = "bf16@0x400:8x64:128B".parse().unwrap();
        assert_eq!((table.offset, table.rows, table.columns), (0x400, 8, 64));
        // Row 3 of a 128-byte swizzle: its chunks are exchanged by an exclusive or with 3.
        assert_eq!((table.place(0, 9), table.place(3, 0), table.place(3, 9)), (0x412, 0x400 + 384 + 48, 0x400 + 384 + 34));
        for bad in ["f32", "f32@0:0x4", "f32@0:4", "f9@0:1x1", "f32@0:1x1:16B", "f32@-1:1x1", "f32@0:1x1:128B:1"] {
            assert!(bad.parse::<Table>().is_err(), "{bad}");
        }
        for bad in ["k.cu", ":3", "k.cu:0", "k.cu:x"] {
            assert!(bad.parse::<Probe>().is_err(), "{bad}");
        }
    }
}
