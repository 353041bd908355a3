//! A kernel's machine code as nvdisasm lists it, its loops, and counts of what decides its speed.

use std::collections::{BTreeMap, HashMap};

/// Fields of a count, each with the beginnings of the opcodes that it counts.
const COUNTED: [(&str, &[&str]); 15] = [
    ("instructions", &[""]),
    ("hgmma", &["HGMMA", "QGMMA"]),
    ("hmma", &["HMMA", "QMMA"]),
    ("ffma", &["FFMA"]),
    ("utmaldg", &["UTMALDG"]),
    ("utmastg", &["UTMASTG", "UTMAREDG"]),
    ("ldgsts", &["LDGSTS"]),
    ("ldsm", &["LDSM"]),
    ("stsm", &["STSM"]),
    ("lds", &["LDS"]),
    ("sts", &["STS"]),
    ("bar", &["BAR", "UCGABAR_WAIT"]),
    ("syncs", &["SYNCS"]),
    // Waits for products, for asynchronous copies, and for an mbarrier's phase.
    ("waits", &["WARPGROUP.DEPBAR", "DEPBAR", "SYNCS.PHASECHK"]),
    ("membar", &["MEMBAR"]),
];

/// What a main loop is for, the first kind that a kernel has.
const WORK: [&str; 4] = ["HGMMA", "HMMA", "DMMA", "FFMA"];

/// One kernel.
#[derive(Debug)]
pub struct Listing {
    /// The name in the PTX.
    pub name: String,
    instructions: Vec<Instruction>,
}

#[derive(Clone, Debug, PartialEq)]
struct Instruction {
    opcode: String,
    /// Whether what follows it in the listing never follows it in time.
    leaves: bool,
    /// The instruction that a branch goes to.
    target: Option<usize>,
}

impl Listing {
    /// All kernels of a file.
    pub fn all(text: &str) -> Vec<Listing> {
        let sections = text.split("\n.text.").skip(1);
        sections.filter_map(|section| section.split_once(":\n").map(|(name, code)| Listing::of(name, code))).collect()
    }

    fn of(name: &str, code: &str) -> Listing {
        let mut labels: HashMap<&str, usize> = HashMap::new();
        let mut lines: Vec<(bool, &str, &str)> = Vec::new(); // whether it is guarded, opcode, operands
        for line in code.lines().map(str::trim) {
            if line.starts_with(".section") {
                break;
            }
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, lines.len());
            } else if let Some((_, code)) = line.strip_prefix("/*").and_then(|line| line.split_once("*/")) {
                let code = code.trim().trim_start_matches('{').trim_start();
                let guard = code.strip_prefix('@').and_then(|code| code.split_once(char::is_whitespace));
                if guard.is_some_and(|(guard, _)| guard == "!PT") {
                    continue; // a filler that never runs
                }
                let (guarded, code) = guard.map_or((false, code), |(_, code)| (true, code.trim_start()));
                let (opcode, operands) = code.split_once([' ', ';']).unwrap_or((code, ""));
                lines.push((guarded, opcode, operands));
            }
        }
        let target = |opcode: &str, operands: &str| {
            let label = operands.split_once("`(").and_then(|(_, rest)| rest.split_once(')'))?.0;
            let jumps = opcode.starts_with("BRA") || opcode.starts_with("JMP");
            labels.get(label).copied().filter(|_| jumps)
        };
        // A jump with another operand than its target depends on that.
        let leaves = |guarded: bool, opcode: &str, operands: &str| {
            !guarded && !operands.contains(',') && ["BRA", "EXIT", "RET", "JMP", "BRX"].iter().any(|o| opcode.starts_with(o))
        };
        let instruction = |&(guarded, opcode, operands): &(bool, &str, &str)| Instruction {
            opcode: opcode.to_string(),
            leaves: leaves(guarded, opcode, operands),
            target: target(opcode, operands),
        };
        Listing { name: name.to_string(), instructions: lines.iter().map(instruction).collect() }
    }

    /// How often each counted kind occurs.
    pub fn counts(&self) -> Vec<(&'static str, u32)> {
        let count = |opcodes: &[&str]| {
            let counted = |i: &&Instruction| {
                // LDS is not LDSM, and BAR not BARRIER.
                opcodes.iter().any(|o| {
                    i.opcode.strip_prefix(o).is_some_and(|rest| o.is_empty() || rest.is_empty() || rest.starts_with('.'))
                })
            };
            self.instructions.iter().filter(counted).count() as u32
        };
        COUNTED.iter().map(|(field, opcodes)| (*field, count(opcodes))).collect()
    }

    /// The innermost loop with most products; empty if there is none.
    pub fn main_loop(&self) -> Listing {
        let work = |i: usize, kind: &str| self.instructions[i].opcode.starts_with(kind);
        let all = 0..self.instructions.len();
        let kind = WORK.iter().find(|kind| all.clone().any(|i| work(i, kind)));
        let products = |body: &[usize]| kind.map_or(0, |kind| body.iter().filter(|&&i| work(i, kind)).count());
        let loops: Vec<Vec<usize>> = self.loops().into_values().filter(|body| products(body) > 0).collect();
        let holds = |outer: &[usize], inner: &[usize]| outer.len() > inner.len() && inner.iter().all(|i| outer.contains(i));
        let innermost = loops.iter().filter(|body| !loops.iter().any(|other| holds(body, other)));
        let body = innermost.max_by_key(|body| products(body)).cloned().unwrap_or_default();
        Listing { name: self.name.clone(), instructions: body.iter().map(|&i| self.instructions[i].clone()).collect() }
    }

    /// Natural loops by their first instruction: what reaches a jump back to it without passing it. Code that is moved out of
    /// line and comes back belongs to the loop; jumps into the middle of something are no loop.
    fn loops(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.instructions.len()];
        for (at, instruction) in self.instructions.iter().enumerate() {
            if let Some(target) = instruction.target {
                before[target].push(at);
            }
            if !instruction.leaves && at + 1 < before.len() {
                before[at + 1].push(at);
            }
        }
        let mut loops: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (from, to) in self.instructions.iter().enumerate().filter_map(|(from, i)| Some((from, i.target?))) {
            let mut inside = vec![false; before.len()];
            inside[to] = true;
            let mut open = vec![from];
            while let Some(at) = open.pop() {
                if !std::mem::replace(&mut inside[at], true) {
                    open.extend(&before[at]);
                }
            }
            // Reaching the kernel's beginning, it found a way around `to`.
            if to == 0 || !inside[0] {
                let body = loops.entry(to).or_default();
                body.extend((0..before.len()).filter(|&i| inside[i]));
                body.sort_unstable();
                body.dedup();
            }
        }
        loops
    }
}

#[cfg(test)]
mod tests {
    use super::Listing;

    /// Two loops, the inner with products and a wait that spins out of line.
    const CODE: &str = "\t.section\t.text.k,\"ax\"\n\n.text.k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/               @P0 BRA `(.L_x_5) ;
.L_x_1:
        /*0020*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_2:
        /*0030*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR6], R6 ;
        /*0040*/              @!P0 BRA `(.L_x_4) ;
.L_x_3:
        /*0050*/                   HGMMA.64x256x16.F32.BF16 R24, gdesc[UR16], R24, gsb0 ;
        /*0060*/                   LDSM.16.M88.4 R4, [R2] ;
        /*0060*/              @!PT LDS RZ, [RZ] ;
        /*0070*/                   WARPGROUP.DEPBAR.LE gsb0, 0x1 ;
        /*0080*/              @!P1 BRA `(.L_x_2) ;
        /*0090*/                   STS [R2], R3 ;
        /*00a0*/              @!P2 BRA `(.L_x_1) ;
.L_x_5:
        /*00b0*/                   EXIT ;
.L_x_4:
        /*00c0*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR6], R6 ;
        /*00d0*/              @!P0 BRA `(.L_x_4) ;
        /*00e0*/                   BRA `(.L_x_3) ;
.L_x_6:
        /*00f0*/                   BRA `(.L_x_6);
\t.section\t.text.other,\"ax\"\n\n.text.other:
        /*0000*/                   EXIT ;
";

    fn count(listing: &Listing, field: &str) -> u32 {
        listing.counts().into_iter().find(|(name, _)| *name == field).expect("a field").1
    }

    #[test]
    fn the_main_loop_is_the_innermost_with_products() {
        let all = Listing::all(CODE);
        assert_eq!(all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["k", "other"]);
        let (whole, main) = (&all[0], all[0].main_loop());
        assert_eq!(["hgmma", "bar", "sts", "lds", "waits"].map(|f| count(whole, f)), [1, 1, 1, 0, 3]);
        // The wait out of line is part of it, the barrier around it is not.
        assert_eq!(["instructions", "hgmma", "bar", "sts", "ldsm", "waits"].map(|f| count(&main, f)), [9, 1, 0, 0, 1, 3]);
        assert_eq!(count(&all[1].main_loop(), "instructions"), 0);
    }

    #[test]
    fn a_jump_into_the_middle_is_no_loop() {
        let code = "\n.text.k:\n/*0000*/ @P0 BRA `(.L_2) ;\n.L_1:\n/*0010*/ FFMA R1, R1, R1, R1 ;\n.L_2:\n/*0020*/ NOP ;\n\
                    /*0030*/ @P1 BRA `(.L_1) ;\n/*0040*/ EXIT ;\n";
        assert!(Listing::all(code)[0].loops().is_empty());
    }
}
