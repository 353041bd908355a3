//! Where an undefined value comes from: passed on with it, and put into words where it decides something.

use smallvec::SmallVec;

use super::flow::At;
use super::machine::Machine;
use super::warp::Warp;
use crate::hazard::Site;
use crate::ir::Reg;
use crate::mem::Birth;

/// The instruction has left results undefined in some lanes: they inherit from its operands, of which `uses` says in which lanes they
/// were undefined, or from the memory that it read, or were born here.
#[cold]
pub fn inherit(m: &mut Machine<'_>, warp: &mut Warp, at: At<'_>, uses: SmallVec<[(Reg, u32); 4]>) {
    let loaded = std::mem::take(&mut m.mem.undefined);
    if !m.kernel.options.hazards {
        return;
    }
    for def in at.defs {
        let mut left = warp.regs.undef(*def) & at.mask;
        for (reg, undef) in &uses {
            for (lanes, birth) in warp.births.of(*reg, undef & left, at.pc) {
                warp.births.note(*def, lanes, birth);
            }
            left &= !undef;
        }
        for (lane, birth) in &loaded {
            if left >> lane & 1 == 1 {
                warp.births.note(*def, 1 << lane, *birth);
                left &= !(1 << lane);
            }
        }
        if left != 0 {
            // From another lane of the warp, as a shuffle brings it.
            let mut others = uses.iter().flat_map(|(reg, undef)| warp.births.of(*reg, *undef & warp.live, at.pc));
            let born = Birth::Instruction { pc: at.pc };
            let birth = loaded.first().map(|l| l.1).or_else(|| others.next().map(|o| o.1)).unwrap_or(born);
            warp.births.note(*def, left, birth);
        }
    }
}

/// Where the undefined operand of an instruction comes from, in words: the first one that it names.
#[cold]
pub fn explain(m: &Machine<'_>, warp: &Warp, pc: u32, lane: u32) -> Option<String> {
    let program = m.kernel.program;
    let statement = program.statement(pc)?;
    let line = program.sources[pc as usize].line;
    let named = super::seeing::words(statement).filter_map(|name| Some((name, program.register(pc, name, line)?.0)));
    let (name, reg) = named.into_iter().find(|(_, reg)| warp.regs.undef(*reg) >> lane & 1 == 1)?;
    let (_, birth) = *warp.births.of(reg, 1 << lane, pc).first()?;
    Some(match birth {
        Birth::Register { reg: same, .. } if same == reg => format!("nothing wrote `{name}`"),
        _ => format!("`{name}` {}", describe(m, birth)),
    })
}

/// The same in words.
pub fn describe(m: &Machine<'_>, birth: Birth) -> String {
    let line = |pc: u32| {
        let place = m.kernel.place(Site::new(pc, 0, 0));
        let source = place.source.map(|s| format!(" ({}:{})", s.file, s.line)).unwrap_or_default();
        format!("PTX line {}{source}", place.ptx_line)
    };
    let memory = |shared: bool, address: u64| match shared {
        true => format!("shared memory at {address:#x}"),
        false => format!("memory at {address:#x}"),
    };
    match birth {
        Birth::Register { reg, pc } => {
            let name = m.kernel.program.register_name(pc, reg).unwrap_or_else(|| "a register".into());
            format!("comes from `{name}`, which nothing had written when {} read it", line(pc))
        }
        Birth::Memory { shared, address, pc } => {
            format!("comes from {}, which nothing had written when {} read it", memory(shared, address), line(pc))
        }
        Birth::Written { shared, address, by, pc } => format!(
            "comes from {}, which {} had left undefined, or not finished writing, when {} read it",
            memory(shared, address),
            line(by),
            line(pc)
        ),
        Birth::Gone { address, pc } => {
            format!("comes from {}, whose CTA had ended when {} read it", memory(true, address), line(pc))
        }
        Birth::Instruction { pc } => {
            format!("comes from {} (`{}`), which gave no defined result", line(pc), m.kernel.program.sources[pc as usize].opcode)
        }
    }
}
