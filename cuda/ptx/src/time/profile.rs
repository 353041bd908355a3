//! Where the time of warps goes: by their number in the CTA while the launch runs, by role in the report.

use serde::Serialize;

use super::warp::{Timed, Why};
use crate::counters::Class;
use crate::ir::Program;

const REASONS: [(Why, &str); 12] = [
    (Why::Issue, "issuing"),
    (Why::Busy, "scheduler or pipe busy"),
    (Why::Register, "register"),
    (Why::Lanes, "lanes of the warp"),
    (Why::Barrier, "named barrier"),
    (Why::Cluster, "cluster barrier"),
    (Why::Mbarrier, "mbarrier"),
    (Why::Wgmma, "wgmma"),
    (Why::Copies, "cp.async"),
    (Why::Stores, "bulk stores"),
    (Why::Registers, "setmaxnreg"),
    (Why::Sleep, "sleep"),
];

impl Why {
    /// All of them.
    pub const ALL: [Why; REASONS.len()] = {
        let mut all = [Why::Issue; REASONS.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = REASONS[i].0;
            i += 1;
        }
        all
    };

    /// In words.
    pub fn name(self) -> &'static str {
        REASONS[self as usize].1
    }
}

/// What an instruction cost the warps with one number.
#[derive(Clone, Copy, Default)]
struct Line {
    issued: u64,
    /// Clocks waited for something, which is `why`, and because others were first.
    waited: [u64; 2],
    why: u8,
}

/// Sums over a launch.
pub struct Profile {
    instructions: usize,
    lines: Vec<Line>,
    /// By warp and reason.
    clocks: Vec<[u64; REASONS.len()]>,
    /// Operations of the tensor cores.
    pub tensor_flops: f64,
    /// Floating-point operations of the CUDA cores.
    pub flops: u64,
    /// Those of a thread in each instruction.
    weights: Vec<u64>,
}

/// What warps of one kind do with their time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Role {
    /// What they run: the tensor cores, copies, or neither.
    pub name: String,
    /// Their numbers in the CTA.
    pub warps: Vec<u32>,
    /// Shares of their time, largest first.
    pub shares: Vec<(&'static str, f64)>,
    /// Where they wait longest: PTX line, source line, opcode, reason, share of their time.
    pub lines: Vec<Waited>,
}

/// An instruction that is waited at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Waited {
    /// Line of the PTX file.
    pub ptx_line: u32,
    /// Its place in the source, if the PTX says.
    pub source: Option<String>,
    /// The opcode.
    pub opcode: String,
    /// What is waited for.
    pub why: &'static str,
    /// Share of the role's time.
    pub share: f64,
}

impl Profile {
    /// Of a CTA of so many warps that run a module.
    pub fn new(warps: usize, program: &Program) -> Profile {
        let instructions = program.sources.len();
        Profile {
            instructions,
            lines: vec![Line::default(); warps * instructions],
            clocks: vec![[0; REASONS.len()]; warps],
            tensor_flops: 0.0,
            flops: 0,
            weights: program.sources.iter().map(|s| Class::flops(&s.opcode)).collect(),
        }
    }

    /// A warp issues the instruction at `pc`.
    #[inline]
    pub fn issue(&mut self, warp: u32, pc: u32, slots: u16, mask: u32, timed: &Timed, time: u64) {
        let lines = &mut self.lines[warp as usize * self.instructions..];
        let clocks = &mut self.clocks[warp as usize];
        let wait = timed.next.saturating_sub(timed.since);
        let busy = time - timed.next.max(timed.since);
        lines[pc as usize].issued += 1;
        for (at, clocks, why) in [(timed.at, wait, timed.why), (pc, busy, Why::Busy)] {
            if clocks > 0 {
                let line = &mut lines[at as usize];
                line.waited[usize::from(why == Why::Busy)] += clocks;
                line.why = if why == Why::Busy { line.why } else { why as u8 };
            }
        }
        clocks[timed.why as usize] += wait;
        clocks[Why::Busy as usize] += busy;
        clocks[Why::Issue as usize] += u64::from(slots);
        self.flops += self.weights[pc as usize] * u64::from(mask.count_ones());
    }

    /// Machine instructions by warps: what each instruction was issued.
    pub fn issued(&self) -> u64 {
        self.lines.iter().map(|l| l.issued).sum()
    }

    /// Warps that mostly run the same, together.
    pub fn roles(&self, program: &Program) -> Vec<Role> {
        let warps = self.clocks.len();
        let lines = |w: usize| &self.lines[w * self.instructions..(w + 1) * self.instructions];
        // What a warp runs at least an eighth as often as what it runs most often.
        let hot = |w: usize| -> Vec<u32> {
            let most = lines(w).iter().map(|l| l.issued).max().unwrap_or(0);
            let often = |(_, l): &(usize, &Line)| l.issued > 0 && l.issued * 8 >= most;
            lines(w).iter().enumerate().filter(often).map(|(pc, _)| pc as u32).collect()
        };
        let mut groups: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
        for w in 0..warps {
            let hot = hot(w);
            let alike = |g: &&mut (Vec<u32>, Vec<u32>)| {
                let common = g.0.iter().filter(|pc| hot.binary_search(pc).is_ok()).count();
                2 * common > g.0.len().max(hot.len())
            };
            match groups.iter_mut().find(alike) {
                Some(group) => group.1.push(w as u32),
                None => groups.push((hot, vec![w as u32])),
            }
        }
        let role = |(hot, warps): (Vec<u32>, Vec<u32>)| {
            let mut clocks = [0u64; REASONS.len()];
            warps.iter().for_each(|w| clocks.iter_mut().zip(self.clocks[*w as usize]).for_each(|(a, b)| *a += b));
            let total = clocks.iter().sum::<u64>().max(1) as f64;
            let mut shares: Vec<(&'static str, f64)> =
                REASONS.iter().map(|(why, name)| (*name, clocks[*why as usize] as f64 / total)).filter(|s| s.1 > 0.001).collect();
            shares.sort_by(|a, b| b.1.total_cmp(&a.1));
            let mut waits: Vec<(u64, usize, u8)> = (0..self.instructions)
                .map(|pc| {
                    let sum = |i: usize| warps.iter().map(|w| lines(*w as usize)[pc].waited[i]).sum::<u64>();
                    let (waited, busy) = (sum(0), sum(1));
                    let why = warps.iter().map(|w| lines(*w as usize)[pc]).max_by_key(|l| l.waited[0]).map_or(0, |l| l.why);
                    if waited >= busy { (waited, pc, why) } else { (busy, pc, Why::Busy as u8) }
                })
                .collect();
            waits.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            let waited = |(clocks, pc, why): &(u64, usize, u8)| {
                let (opcode, line, source) = program.line(*pc as u32);
                Waited {
                    ptx_line: line,
                    source: source.map(|s| s.to_string()),
                    opcode: opcode.into(),
                    why: REASONS[*why as usize].1,
                    share: *clocks as f64 / total,
                }
            };
            let runs = |word: &str| hot.iter().any(|pc| program.sources[*pc as usize].opcode.contains(word));
            let name = match () {
                _ if runs("wgmma.mma") => "wgmma",
                _ if runs("mma.sync") => "mma.sync",
                _ if runs("cp.async.bulk.tensor") || runs("cp.async.bulk.shared") => "copies",
                _ if runs("cp.async") => "cp.async",
                _ => "CUDA cores",
            };
            let lines = waits.iter().take(5).map(waited).filter(|w| w.share >= 0.01).collect();
            Role { name: name.into(), warps, shares, lines }
        };
        groups.into_iter().map(role).collect()
    }
}
