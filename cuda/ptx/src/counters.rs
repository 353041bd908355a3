//! What a launch did, counted by kernel and by line: where its time would go on an H100, read without one.
//!
//! The machine counts by instruction number in a [`Recorder`]; [`Recorder::finish`] turns numbers into lines. The roofline
//! divides each unit's work by what that unit of an H100 (SXM, 132 SMs at 1.83 GHz, HBM3) can do at most: the largest quotient
//! bounds the kernel's time from below. It knows nothing of latency, so a kernel that fails to overlap its work takes longer.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Serialize, Serializer};

use crate::hazard::SourceLine;

/// Instructions by what executes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Integer and logic.
    Integer,
    /// f32, and packed halves.
    Float,
    /// f64.
    Double,
    /// Reciprocals, roots, exponentials: the special function units.
    Special,
    /// Conversions.
    Convert,
    /// Comparisons and selections.
    Compare,
    /// Moves and address conversions.
    Move,
    /// Loads and stores.
    Memory,
    /// Atomics and reductions.
    Atomic,
    /// Shuffles, votes, matches.
    Warp,
    /// Branches, calls and returns.
    Control,
    /// Barriers, fences, mbarriers, waits.
    Synchronize,
    /// Asynchronous copies.
    Copy,
    /// The tensor cores, and the moves of fragments.
    Tensor,
}

impl Class {
    /// The class of an opcode as PTX writes it.
    pub fn of(opcode: &str) -> Class {
        let mut parts = opcode.split('.');
        let head = parts.next().unwrap_or("");
        let has = |part: &str| opcode.split('.').any(|p| p == part);
        match head {
            "mma" | "wgmma" if has("mma_async") || head == "mma" => Class::Tensor,
            "ldmatrix" | "stmatrix" | "movmatrix" => Class::Tensor,
            "wgmma" | "bar" | "barrier" | "fence" | "membar" | "mbarrier" | "nanosleep" | "griddepcontrol" => Class::Synchronize,
            "cp" if opcode.contains("commit") || opcode.contains("wait") => Class::Synchronize,
            "cp" => Class::Copy,
            "ld" | "ldu" | "st" | "prefetch" | "prefetchu" => Class::Memory,
            "atom" | "red" => Class::Atomic,
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => Class::Warp,
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" => Class::Control,
            "setp" | "set" | "selp" | "slct" | "testp" => Class::Compare,
            "mov" | "cvta" | "isspacep" | "mapa" | "getctarank" | "setmaxnreg" => Class::Move,
            "cvt" => Class::Convert,
            "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "ex2" | "lg2" | "tanh" => Class::Special,
            _ if has("f64") => Class::Double,
            _ if ["f32", "f16", "f16x2", "bf16", "bf16x2"].iter().any(|t| has(t)) => Class::Float,
            _ => Class::Integer,
        }
    }

    /// Floating-point operations a thread on the CUDA cores.
    pub(crate) fn flops(opcode: &str) -> u64 {
        if !matches!(Class::of(opcode), Class::Float | Class::Double) {
            return 0;
        }
        let one = match opcode.split('.').next().unwrap_or("") {
            "fma" | "mad" => 2,
            "add" | "sub" | "mul" | "div" => 1,
            _ => 0,
        };
        if opcode.contains("16x2") { 2 * one } else { one }
    }
}

/// What the tensor cores multiply: each kind has a peak of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// f16 and bf16.
    Half,
    /// tf32.
    Tf32,
    /// 8-bit floats and integers.
    Byte,
    /// f64.
    Double,
}

/// Counts of one instruction, one line or one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Instructions issued, one a warp.
    pub warp_instructions: u64,
    /// Instructions executed, one a thread.
    pub thread_instructions: u64,
    /// Branches at which the lanes of a warp parted.
    pub divergent_branches: u64,
    /// Loads, stores and atomics of a warp in global memory.
    pub global_requests: u64,
    /// Sectors of 32 bytes that they touched; 4 a request is what a dense f32 access needs.
    pub global_sectors: u64,
    /// Loads, stores and atomics of a warp in shared memory.
    pub shared_requests: u64,
    /// Passes over the 32 banks that they took.
    pub shared_passes: u64,
    /// Passes beyond those that the bytes alone would need: bank conflicts.
    pub bank_conflicts: u64,
    /// Bytes moved by bulk copies (TMA), without those out of a tensor's bounds; a multicast counts once.
    pub tma_bytes: u64,
    /// Operations of the tensor cores on f16 and bf16, a multiplication and an addition each counted.
    pub tensor_flops_16: u64,
    /// On tf32.
    pub tensor_flops_tf32: u64,
    /// On 8-bit floats and integers.
    pub tensor_flops_8: u64,
    /// On f64.
    pub tensor_flops_64: u64,
    /// Times that a warp had to wait at a barrier, an mbarrier or for asynchronous work.
    pub barrier_waits: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        let Counts {
            warp_instructions,
            thread_instructions,
            divergent_branches,
            global_requests,
            global_sectors,
            shared_requests,
            shared_passes,
            bank_conflicts,
            tma_bytes,
            tensor_flops_16,
            tensor_flops_tf32,
            tensor_flops_8,
            tensor_flops_64,
            barrier_waits,
        } = other;
        self.warp_instructions += warp_instructions;
        self.thread_instructions += thread_instructions;
        self.divergent_branches += divergent_branches;
        self.global_requests += global_requests;
        self.global_sectors += global_sectors;
        self.shared_requests += shared_requests;
        self.shared_passes += shared_passes;
        self.bank_conflicts += bank_conflicts;
        self.tma_bytes += tma_bytes;
        self.tensor_flops_16 += tensor_flops_16;
        self.tensor_flops_tf32 += tensor_flops_tf32;
        self.tensor_flops_8 += tensor_flops_8;
        self.tensor_flops_64 += tensor_flops_64;
        self.barrier_waits += barrier_waits;
    }

    /// All operations of the tensor cores.
    pub fn tensor_flops(&self) -> u64 {
        self.tensor_flops_16 + self.tensor_flops_tf32 + self.tensor_flops_8 + self.tensor_flops_64
    }
}

/// Counts while a kernel runs, by instruction number.
pub struct Recorder {
    counts: Vec<Counts>,
    /// Lines of 128 bytes of global memory that were touched at all: what must cross the memory bus at least once.
    footprint: HashSet<u64, BuildHasherDefault<Mix>>,
}

impl Recorder {
    /// For a module of so many instructions.
    pub fn new(instructions: usize) -> Recorder {
        Recorder { counts: vec![Counts::default(); instructions], footprint: HashSet::default() }
    }

    /// Adds what another counted of the same module.
    pub fn append(&mut self, other: Recorder) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, other)| mine.add(other));
        self.footprint.extend(other.footprint);
    }

    /// A warp issued instruction `pc` with `lanes` of its threads.
    #[inline]
    pub fn issue(&mut self, pc: u32, lanes: u32) {
        let counts = &mut self.counts[pc as usize];
        counts.warp_instructions += 1;
        counts.thread_instructions += u64::from(lanes.count_ones());
    }

    /// The lanes of a warp parted at `pc`.
    pub fn diverge(&mut self, pc: u32) {
        self.counts[pc as usize].divergent_branches += 1;
    }

    /// A warp had to wait at `pc`.
    pub fn wait(&mut self, pc: u32) {
        self.counts[pc as usize].barrier_waits += 1;
    }

    /// `lanes` of a warp touched `size` bytes each of global memory.
    pub fn global(&mut self, pc: u32, lanes: u32, addresses: &[u64; 32], size: u32) {
        let mut sectors: Vec<u64> = Vec::with_capacity(64);
        for lane in (0..32).filter(|lane| lanes >> lane & 1 == 1) {
            let (first, last) = (addresses[lane] / 32, addresses[lane].saturating_add(u64::from(size) - 1) / 32);
            sectors.extend(first..=last);
            self.footprint.insert(first / 4);
        }
        sectors.sort_unstable();
        sectors.dedup();
        let counts = &mut self.counts[pc as usize];
        counts.global_requests += 1;
        counts.global_sectors += sectors.len() as u64;
    }

    /// `lanes` of a warp touched `size` bytes each of shared memory, at these offsets.
    pub fn shared(&mut self, pc: u32, lanes: u32, offsets: &[u32; 32], size: u32) {
        let (passes, needed) = passes(lanes, offsets, size);
        let counts = &mut self.counts[pc as usize];
        counts.shared_requests += 1;
        counts.shared_passes += u64::from(passes);
        counts.bank_conflicts += u64::from(passes - needed);
    }

    /// A bulk copy moved `bytes`.
    pub fn bulk(&mut self, pc: u32, bytes: u64) {
        self.counts[pc as usize].tma_bytes += bytes;
    }

    /// Global memory that was touched by asynchronous work.
    pub fn touch(&mut self, address: u64, bytes: u64) {
        if bytes > 0 {
            self.footprint.extend(address / 128..=(address + bytes - 1) / 128);
        }
    }

    /// The tensor cores multiplied.
    pub fn tensor(&mut self, pc: u32, kind: TensorKind, flops: u64) {
        let counts = &mut self.counts[pc as usize];
        match kind {
            TensorKind::Half => counts.tensor_flops_16 += flops,
            TensorKind::Tf32 => counts.tensor_flops_tf32 += flops,
            TensorKind::Byte => counts.tensor_flops_8 += flops,
            TensorKind::Double => counts.tensor_flops_64 += flops,
        }
    }

    /// The counts by line. `describe` gives an instruction's opcode, PTX line and source line; `ctas` is the grid's size.
    pub fn finish<'a>(self, kernel: &str, ctas: u64, describe: impl Fn(u32) -> (&'a str, u32, Option<SourceLine>)) -> Counters {
        let mut total = Counts::default();
        let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
        let mut lines: BTreeMap<u32, LineCounts> = BTreeMap::new();
        let mut cuda_core_flops = 0;
        for (pc, counts) in self.counts.into_iter().enumerate().filter(|(_, counts)| counts.warp_instructions > 0) {
            let (opcode, ptx_line, source) = describe(pc as u32);
            total.add(&counts);
            *classes.entry(Class::of(opcode)).or_default() += counts.thread_instructions;
            cuda_core_flops += Class::flops(opcode) * counts.thread_instructions;
            let empty = || LineCounts { ptx_line, source, opcode: opcode.to_string(), counts: Counts::default() };
            lines.entry(ptx_line).or_insert_with(empty).counts.add(&counts);
        }
        Counters {
            kernel: kernel.to_string(),
            ctas,
            total,
            classes,
            cuda_core_flops,
            footprint_bytes: 128 * self.footprint.len() as u64,
            lines: lines.into_values().collect(),
        }
    }
}

/// Counts of one PTX line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineCounts {
    /// The line of the PTX text.
    pub ptx_line: u32,
    /// The line of CUDA C++, where `.loc` gives one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub source: Option<SourceLine>,
    /// The instruction.
    pub opcode: String,
    /// What it did.
    #[serde(flatten)]
    pub counts: Counts,
}

fn as_text<S: Serializer>(source: &Option<SourceLine>, serializer: S) -> Result<S::Ok, S::Error> {
    match source {
        Some(at) => serializer.serialize_str(&format!("{}:{}", at.file, at.line)),
        None => serializer.serialize_none(),
    }
}

/// What one launch of a kernel did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// The kernel.
    pub kernel: String,
    /// CTAs of its grid.
    pub ctas: u64,
    /// Everything together.
    pub total: Counts,
    /// Thread-instructions by class.
    pub classes: BTreeMap<Class, u64>,
    /// Floating-point operations of the CUDA cores.
    pub cuda_core_flops: u64,
    /// Global memory that was touched at all, in lines of 128 bytes.
    pub footprint_bytes: u64,
    /// By PTX line.
    pub lines: Vec<LineCounts>,
}

/// A unit of the chip and the least time that it needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// The unit.
    pub unit: &'static str,
    /// Its work.
    pub work: f64,
    /// What it can do a second with the SMs that the grid can use.
    pub rate: f64,
    /// `work / rate`.
    pub seconds: f64,
}

const SMS: f64 = 132.0;
const CLOCK: f64 = 1.83e9;

impl Counters {
    /// Active threads an issued warp instruction, of 32.
    pub fn lanes(&self) -> f64 {
        self.total.thread_instructions as f64 / (self.total.warp_instructions as f64).max(1.0)
    }

    /// The least time on an H100 by unit, the slowest first.
    pub fn roofline(&self) -> Vec<Limit> {
        let t = &self.total;
        // A grid of few CTAs leaves SMs idle; the memory system is shared by all.
        let sms = SMS.min(self.ctas as f64).max(1.0);
        let per_sm = |rate: f64| sms * CLOCK * rate;
        let limits = [
            ("warp schedulers (instructions)", t.warp_instructions, per_sm(4.0)),
            ("f32 units (FLOP)", self.cuda_core_flops, per_sm(256.0)),
            ("tensor cores, 16 bits (FLOP)", t.tensor_flops_16, per_sm(4096.0)),
            ("tensor cores, tf32 (FLOP)", t.tensor_flops_tf32, per_sm(2048.0)),
            ("tensor cores, 8 bits (FLOP)", t.tensor_flops_8, per_sm(8192.0)),
            ("tensor cores, f64 (FLOP)", t.tensor_flops_64, per_sm(256.0)),
            ("special function units (threads)", self.classes.get(&Class::Special).copied().unwrap_or(0), per_sm(16.0)),
            ("shared memory (passes)", t.shared_passes, per_sm(1.0)),
            ("L1 (bytes)", 32 * t.global_sectors, per_sm(64.0)),
            ("L2 (bytes)", 32 * t.global_sectors + t.tma_bytes, 5.5e12),
            ("HBM (bytes, each once)", self.footprint_bytes, 3.35e12),
        ];
        let mut limits: Vec<Limit> = limits
            .into_iter()
            .filter(|(_, work, _)| *work > 0)
            .map(|(unit, work, rate)| Limit { unit, work: work as f64, rate, seconds: work as f64 / rate })
            .collect();
        limits.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        limits
    }

    /// Counts by line of CUDA C++, where `.loc` gives one, else by PTX line; the busiest first.
    fn by_source(&self) -> Vec<(String, Counts)> {
        let mut lines: BTreeMap<String, Counts> = BTreeMap::new();
        for line in &self.lines {
            let name = match &line.source {
                Some(at) => format!("{}:{}", at.file, at.line),
                None => format!("PTX line {}", line.ptx_line),
            };
            lines.entry(name).or_default().add(&line.counts);
        }
        let mut lines: Vec<(String, Counts)> = lines.into_iter().collect();
        lines.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.warp_instructions));
        lines
    }

    /// All of it as JSON, the roofline too.
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["roofline"] = serde_json::to_value(self.roofline()).unwrap_or_default();
        value
    }
}

/// The table that `ptxi run --counters` shows.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.total;
        writeln!(f, "{}: {} CTAs", self.kernel, self.ctas)?;
        writeln!(f, "  {:>14} warp instructions, {:.1} of 32 lanes active", t.warp_instructions, self.lanes())?;
        writeln!(f, "  {:>14} divergent branches, {} waits", t.divergent_branches, t.barrier_waits)?;
        let each = |a: u64, b: u64| a as f64 / (b as f64).max(1.0);
        writeln!(
            f,
            "  {:>14} global sectors in {} requests, {:.2} each",
            t.global_sectors,
            t.global_requests,
            each(t.global_sectors, t.global_requests)
        )?;
        writeln!(
            f,
            "  {:>14} passes of shared memory in {} requests, {} of them bank conflicts",
            t.shared_passes, t.shared_requests, t.bank_conflicts
        )?;
        writeln!(f, "  {:>14} bytes by TMA, {} tensor-core FLOP", t.tma_bytes, t.tensor_flops())?;
        write!(f, "  thread instructions:")?;
        for (class, count) in &self.classes {
            write!(f, " {} {count}", format!("{class:?}").to_lowercase())?;
        }
        writeln!(f)?;
        writeln!(f, "  at least this long on an H100:")?;
        for limit in self.roofline() {
            writeln!(f, "  {:>11.3} us  {}: {:.3e} at {:.3e}/s", limit.seconds * 1e6, limit.unit, limit.work, limit.rate)?;
        }
        writeln!(
            f,
            "  {:>12} {:>6} {:>12} {:>10} {:>12} {:>8}  line",
            "warp instr.", "lanes", "sectors", "conflicts", "TMA bytes", "waits"
        )?;
        for (name, c) in self.by_source().iter().take(40) {
            let lanes = each(c.thread_instructions, c.warp_instructions);
            writeln!(
                f,
                "  {:>12} {lanes:>6.1} {:>12} {:>10} {:>12} {:>8}  {name}",
                c.warp_instructions, c.global_sectors, c.bank_conflicts, c.tma_bytes, c.barrier_waits
            )?;
        }
        Ok(())
    }
}

/// A hash for numbers of memory lines: one multiplication; the standard one would cost more than the counting.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// Passes over the 32 banks of shared memory that an access by `lanes` at these offsets takes, and how many its words would fill.
pub(crate) fn passes(lanes: u32, offsets: &[u32; 32], size: u32) -> (u32, u32) {
    // One after the other, as most accesses are.
    let run = (1..32).all(|l| offsets[l] == offsets[0].wrapping_add(l as u32 * size));
    if lanes == u32::MAX && size >= 4 && run && offsets[0].is_multiple_of(4) {
        return (size / 4, size / 4);
    }
    // Wide accesses go in groups of lanes that fill the 128 bytes of one pass: 8 bytes by half warps, 16 by quarters.
    let group = (128 / size.max(4)).clamp(1, 32) as usize;
    let (mut passes, mut needed) = (0, 0);
    for base in (0..32).step_by(group) {
        // Distinct words of each bank; lanes that want the same word share it.
        let mut words: Vec<u32> = Vec::with_capacity(group * 4);
        for lane in (base..base + group).filter(|lane| lanes >> lane & 1 == 1) {
            let (first, last) = (offsets[lane] / 4, (offsets[lane] + size - 1) / 4);
            words.extend(first..=last);
        }
        if words.is_empty() {
            continue;
        }
        words.sort_unstable();
        words.dedup();
        let mut banks = [0u32; 32];
        words.iter().for_each(|word| banks[(word % 32) as usize] += 1);
        passes += banks.iter().copied().max().unwrap_or(1);
        needed += words.len().div_ceil(32) as u32;
    }
    (passes, needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_of_a_request() {
        let mut recorder = Recorder::new(1);
        let dense: [u64; 32] = std::array::from_fn(|i| 4096 + 4 * i as u64);
        let strided: [u64; 32] = std::array::from_fn(|i| 4096 + 128 * i as u64);
        recorder.issue(0, u32::MAX);
        recorder.global(0, u32::MAX, &dense, 4);
        assert_eq!(recorder.counts[0].global_sectors, 4);
        recorder.global(0, u32::MAX, &strided, 4);
        assert_eq!(recorder.counts[0].global_sectors, 4 + 32);
        recorder.global(0, 1, &[31; 32], 2);
        assert_eq!(recorder.counts[0].global_sectors, 4 + 32 + 2);
    }

    #[test]
    fn conflicts_of_banks() {
        let conflicts = |offset: fn(u32) -> u32, size| {
            let mut recorder = Recorder::new(1);
            let offsets = std::array::from_fn(|i| offset(i as u32));
            recorder.shared(0, u32::MAX, &offsets, size);
            (recorder.counts[0].shared_passes, recorder.counts[0].bank_conflicts)
        };
        assert_eq!(conflicts(|i| 4 * i, 4), (1, 0));
        assert_eq!(conflicts(|_| 64, 4), (1, 0), "one word is broadcast");
        assert_eq!(conflicts(|i| 8 * i, 4), (2, 1));
        assert_eq!(conflicts(|i| 128 * i, 4), (32, 31));
        assert_eq!(conflicts(|i| 132 * i, 4), (1, 0), "a padded column");
        assert_eq!(conflicts(|i| 16 * i, 16), (4, 0));
        assert_eq!(conflicts(|i| 128 * i, 16), (32, 28));
        assert_eq!(conflicts(|i| i, 1), (1, 0));
    }

    #[test]
    fn classes_of_opcodes() {
        let cases = [
            ("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16", Class::Tensor),
            ("wgmma.fence.sync.aligned", Class::Synchronize),
            ("cp.async.bulk.commit_group", Class::Synchronize),
            ("cp.async.cg.shared.global", Class::Copy),
            ("fma.rn.f32", Class::Float),
            ("fma.rn.f64", Class::Double),
            ("add.s32", Class::Integer),
            ("and.b32", Class::Integer),
            ("ex2.approx.f32", Class::Special),
            ("ld.global.f32", Class::Memory),
        ];
        for (opcode, class) in cases {
            assert_eq!(Class::of(opcode), class, "{opcode}");
        }
        assert_eq!((Class::flops("fma.rn.f32"), Class::flops("fma.rn.bf16x2"), Class::flops("add.s32")), (2, 4, 0));
    }
}
