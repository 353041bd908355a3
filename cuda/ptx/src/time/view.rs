//! What one multiprocessor does, moment by moment: for the picture and the trace.

use std::io;
use std::ops::Range;
use std::path::Path;

use serde_json::json;

use super::warp::{Timed, Why};
use crate::ir::Program;
use crate::observe::trace::chrome::Events;
use crate::replace;

/// A stretch of time of one lane of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Clocks.
    pub from: u64,
    pub to: u64,
    pub what: What,
}

/// What happens in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The tensor cores multiply for a warpgroup (CTA's slot, number there).
    Product { slot: u32, warpgroup: u32 },
    /// A copy of so many bytes is under way.
    Copy { bytes: u32 },
    /// A warp (CTA's slot, number there) waits at an instruction.
    Wait { slot: u32, warp: u32, why: Why, pc: u32 },
    /// It issues, the same.
    Issue { slot: u32, warp: u32, pc: u32 },
}

impl What {
    /// The warp that it is about: CTA's slot, number there.
    pub fn warp(&self) -> Option<(u32, u32)> {
        match *self {
            What::Wait { slot, warp, .. } | What::Issue { slot, warp, .. } => Some((slot, warp)),
            _ => None,
        }
    }
}

/// What a warp is called.
pub fn warp_name(slot: u32, warp: u32) -> String {
    format!("CTA {slot}, warp {warp}")
}

/// What one multiprocessor did in a launch, as many spans as are wanted.
pub struct View {
    /// The multiprocessor.
    pub(super) sm: u32,
    /// The clocks that are wanted.
    pub(super) clocks: Range<u64>,
    pub(super) spans: Vec<Span>,
    pub(super) title: String,
    /// By instruction.
    opcodes: Vec<String>,
}

/// The most spans that are kept.
const MOST: usize = 2_000_000;

impl View {
    /// Of a multiprocessor, during these clocks.
    pub(super) fn new(sm: u32, clocks: Range<u64>) -> View {
        View { sm, clocks, spans: Vec::new(), title: String::new(), opcodes: Vec::new() }
    }

    /// The launch is over: what it is called, and its opcodes.
    pub(super) fn finish(&mut self, title: String, program: &Program) {
        self.title = title;
        self.opcodes = program.sources.iter().map(|s| s.opcode.clone()).collect();
    }

    /// Draws it as SVG. The file is written beside its place and then takes its name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_picture(&self, file: &Path) -> io::Result<()> {
        replace::with(file, |out| out.write_all(self.svg().as_bytes()))
    }

    /// Writes it in the format of Chrome's tracing, which Perfetto opens: a thread for the tensor cores, one for the copies, one for each warp. A
    /// microsecond stands for a clock. The file is written beside its place and then takes its name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_trace(&self, file: &Path) -> io::Result<()> {
        replace::with(file, |out| {
            let other = json!({"time": "A microsecond stands for a clock. It is foretold.", "launch": self.title});
            let mut events = Events::begin(out, &other)?;
            let mut threads: Vec<String> = Vec::new();
            for Span { from, to, what } in &self.spans {
                let (thread, name) = match *what {
                    What::Product { warpgroup, .. } => ("tensor cores".into(), format!("warpgroup {warpgroup}")),
                    What::Copy { bytes } => ("copies".into(), format!("{bytes} bytes")),
                    What::Wait { slot, warp, why, pc } => {
                        (warp_name(slot, warp), format!("waits: {} ({})", why.name(), self.opcodes[pc as usize]))
                    }
                    What::Issue { slot, warp, pc } => (warp_name(slot, warp), self.opcodes[pc as usize].clone()),
                };
                let tid = match threads.iter().position(|t| *t == thread) {
                    Some(tid) => tid,
                    None => {
                        events.thread(self.sm, threads.len() as u32, &thread)?;
                        threads.push(thread);
                        threads.len() - 1
                    }
                };
                events.put(&json!({"name": name, "ph": "X", "pid": self.sm, "tid": tid, "ts": from, "dur": to - from}))?;
            }
            events.end()
        })
    }

    fn push(&mut self, from: u64, to: u64, what: What) {
        if from < self.clocks.end && to > self.clocks.start && from < to && self.spans.len() < MOST {
            self.spans.push(Span { from, to, what });
        }
    }

    /// A warp issues.
    pub(super) fn issue(&mut self, sm: u32, slot: u32, warp: u32, pc: u32, timed: &Timed, time: u64) {
        if sm != self.sm {
            return;
        }
        let ready = timed.next.max(timed.since);
        self.push(timed.since, ready, What::Wait { slot, warp, why: timed.why, pc });
        self.push(ready, time, What::Wait { slot, warp, why: Why::Busy, pc });
        self.push(time, time + 1, What::Issue { slot, warp, pc });
    }

    /// A copy lands.
    pub(super) fn copy(&mut self, sm: u32, from: u64, to: u64, bytes: u32) {
        if sm == self.sm {
            self.push(from, to, What::Copy { bytes });
        }
    }

    /// The tensor cores multiply.
    pub(super) fn product(&mut self, sm: u32, slot: u32, warpgroup: u32, from: u64, to: u64) {
        if sm == self.sm {
            self.push(from, to, What::Product { slot, warpgroup });
        }
    }
}
