//! Who brought what to an mbarrier: kept for the phase under way and the one before it, so that a deadlock can say who is missing.

use smallvec::SmallVec;

use super::state::{Asyncs, Key};
use crate::exec::machine::Machine;
use crate::exec::residents::Residents;
use crate::hazard::{Site, listed};
use crate::mbarrier::Mbarrier;
use crate::mem::Which;
use crate::observe::trace::Change;

/// What one instruction of one warp brought to a phase.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    warp: u32,
    pc: u32,
    arrivals: u32,
    /// Bytes announced.
    announced: u64,
    /// Bytes landed.
    landed: u64,
}

/// All that came in a phase.
#[derive(Clone, Debug, Default)]
pub struct Ledger(SmallVec<[Sent; 4]>);

impl Ledger {
    /// Notes what an operation changed; `done`: it completed the phase.
    pub fn note(&mut self, site: Site, before: &Mbarrier, after: &Mbarrier, done: bool) -> Sent {
        let (pending, tx) = if done { (0, 0) } else { (after.pending, after.tx) };
        let arrivals = before.pending.saturating_sub(pending);
        let delta = i64::from(tx) - i64::from(before.tx);
        let (announced, landed) = (delta.max(0) as u64, (-delta).max(0) as u64);
        let sent = Sent { warp: site.warp, pc: site.pc, arrivals, announced, landed };
        match self.0.iter_mut().find(|s| (s.warp, s.pc) == (site.warp, site.pc)) {
            Some(s) => {
                s.arrivals += arrivals;
                s.announced += announced;
                s.landed += landed;
            }
            None => self.0.push(sent),
        }
        sent
    }

    /// What a warp has brought: arrivals and bytes.
    fn of(&self, warp: u32) -> (u32, u64) {
        self.0.iter().filter(|s| s.warp == warp).fold((0, 0), |(n, bytes), s| (n + s.arrivals, bytes + s.landed))
    }
}

impl Sent {
    /// The same in the words of a trace, with what is left of the phase then.
    pub fn change(&self, phase: u32, left: &Mbarrier) -> Change {
        let Sent { arrivals, announced, landed, .. } = *self;
        Change { phase, arrivals, announced, landed, pending: left.pending, expected: left.expected, bytes: left.tx.into() }
    }

    fn describe(&self, m: &Machine<'_>) -> String {
        let place = m.kernel.place(Site::new(self.pc, self.warp, 0));
        let source = place.source.map(|s| format!(", {}:{}", s.file, s.line)).unwrap_or_default();
        let mut what = Vec::new();
        if self.arrivals > 0 {
            what.push(format!("{} arrival{}", self.arrivals, if self.arrivals == 1 { "" } else { "s" }));
        }
        if self.announced > 0 {
            what.push(format!("{} bytes to expect", self.announced));
        }
        if self.landed > 0 {
            what.push(format!("{} bytes", self.landed));
        }
        let (warp, line) = (self.warp % m.kernel.grid.warps, place.ptx_line);
        format!("{} from warp {warp} of CTA {:?} (PTX line {line}{source})", what.join(" and "), place.cta)
    }
}

/// The phase that an mbarrier is in, and what it lacks.
pub fn missing(m: &mut Machine<'_>, asyncs: &Asyncs, residents: &Residents, key: Key) -> (String, String) {
    let (slot, offset) = key;
    let cta = residents.ctas[slot as usize].as_ref().map_or([0; 3], |c| c.id);
    let Some(bar) = asyncs.bars.get(&key) else {
        return (format!("the mbarrier at {offset:#x} of CTA {cta:?}, which is gone"), String::new());
    };
    let segment = m.mem.parts_of(Which::Shared(slot)).0;
    let bytes = segment.bytes(offset as usize, 8);
    let object = Mbarrier::decode(u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    let what = format!("phase {} of the mbarrier at {offset:#x} of CTA {cta:?}", bar.phase);
    let Some(object) = object else {
        return (what, format!("the bytes of the mbarrier at {offset:#x} were overwritten"));
    };
    let mut lacks = Vec::new();
    if object.pending > 0 {
        lacks.push(format!("{} of {} arrivals", object.pending, object.expected));
    }
    match object.tx {
        0 => {}
        tx if tx > 0 => lacks.push(format!("{tx} bytes")),
        tx => lacks.push(format!("the announcement of {} bytes that have landed", -tx)),
    }
    let describe = |list: &[Sent], only: &dyn Fn(&Sent) -> bool| listed(list.iter().filter(|s| only(s)).map(|s| s.describe(m)));
    let came = describe(&bar.now.0, &|_| true);
    let came = if came.is_empty() { "nothing".to_string() } else { came };
    // Who brought less than the last time is late.
    let behind = |s: &Sent| {
        let (now, before) = (bar.now.of(s.warp), bar.before.of(s.warp));
        (s.arrivals > 0 && now.0 < before.0) || (s.landed > 0 && now.1 < before.1)
    };
    let late = describe(&bar.before.0, &behind);
    let who = if !late.is_empty() {
        format!("the last time there came also {late}")
    } else {
        let lines = senders(m, object.pending > 0, object.tx > 0);
        if lines.is_empty() {
            "nothing in the program sends what is missing".into()
        } else {
            format!("what can send it stands in PTX lines {lines}")
        }
    };
    let missing = format!(
        "mbarrier at {offset:#x} of CTA {cta:?}, phase {}: missing: {}; there came {came}; {who}",
        bar.phase,
        lacks.join(" and ")
    );
    (what, missing)
}

/// The lines of the module that arrive on some mbarrier, or bring it bytes.
fn senders(m: &Machine<'_>, arrivals: bool, bytes: bool) -> String {
    let sends = |opcode: &str| {
        let arrives = opcode.starts_with("mbarrier.arrive") || opcode.starts_with("cp.async.mbarrier.arrive");
        let lands = opcode.contains("complete_tx");
        (arrivals && arrives) || (bytes && lands)
    };
    let program = m.kernel.program;
    let mine = |pc: usize| program.function_at(pc as u32).is_none_or(|f| !f.entry || f.name == m.kernel.entry.name);
    let lines = program.sources.iter().enumerate().filter(|(pc, s)| sends(&s.opcode) && mine(*pc));
    listed(lines.map(|(_, s)| s.line.to_string()))
}
