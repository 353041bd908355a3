//! What one multiprocessor does, moment by moment: for the picture and the trace.

use super::warp::{Timed, Why};

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

/// The spans of a multiprocessor, as many as are wanted.
pub struct View {
    /// The multiprocessor.
    pub sm: u32,
    /// The clocks that are wanted.
    pub clocks: std::ops::Range<u64>,
    pub spans: Vec<Span>,
}

/// The most spans that are kept.
const MOST: usize = 2_000_000;

impl View {
    /// Of a multiprocessor, during these clocks.
    pub fn new(sm: u32, clocks: std::ops::Range<u64>) -> View {
        View { sm, clocks, spans: Vec::new() }
    }

    /// What was seen in Chrome's trace format, which Perfetto opens: a track for the tensor cores, one for the copies, one for each warp. A clock
    /// is shown as a microsecond.
    pub fn chrome(&self, opcode: impl Fn(u32) -> String) -> String {
        let mut out = String::from("[");
        for (i, Span { from, to, what }) in self.spans.iter().enumerate() {
            let (track, name) = match what {
                What::Product { warpgroup, .. } => ("tensor cores".into(), format!("warpgroup {warpgroup}")),
                What::Copy { bytes } => ("copies".into(), format!("{bytes} bytes")),
                What::Wait { slot, warp, why, pc } => {
                    (format!("CTA {slot}, warp {warp}"), format!("waits: {} ({})", why.name(), opcode(*pc)))
                }
                What::Issue { slot, warp, pc } => (format!("CTA {slot}, warp {warp}"), opcode(*pc)),
            };
            let event = serde_json::json!({"name": name, "ph": "X", "pid": self.sm, "tid": track, "ts": from, "dur": to - from});
            out.push_str(if i == 0 { "\n" } else { ",\n" });
            out.push_str(&event.to_string());
        }
        out.push_str("\n]\n");
        out
    }

    fn push(&mut self, from: u64, to: u64, what: What) {
        if from < self.clocks.end && to > self.clocks.start && from < to && self.spans.len() < MOST {
            self.spans.push(Span { from, to, what });
        }
    }

    /// A warp issues.
    pub fn issue(&mut self, sm: u32, slot: u32, warp: u32, pc: u32, timed: &Timed, time: u64) {
        if sm != self.sm {
            return;
        }
        let ready = timed.next.max(timed.since);
        self.push(timed.since, ready, What::Wait { slot, warp, why: timed.why, pc });
        self.push(ready, time, What::Wait { slot, warp, why: Why::Busy, pc });
        self.push(time, time + 1, What::Issue { slot, warp, pc });
    }

    /// A copy lands.
    pub fn copy(&mut self, sm: u32, from: u64, to: u64, bytes: u32) {
        if sm == self.sm {
            self.push(from, to, What::Copy { bytes });
        }
    }

    /// The tensor cores multiply.
    pub fn product(&mut self, sm: u32, slot: u32, warpgroup: u32, from: u64, to: u64) {
        if sm == self.sm {
            self.push(from, to, What::Product { slot, warpgroup });
        }
    }
}
