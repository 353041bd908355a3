//! A warp in time: what it runs next, from when on it can, and what it waits for until then.

use std::collections::VecDeque;

use super::cost::Pipe;
use crate::exec::warp::{Split, Warp};
use crate::ir::{Class, Reg};

/// No time: something has to happen first.
pub const NEVER: u64 = u64::MAX;

/// What keeps a warp from issuing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Its own instruction before: machine instructions follow one another.
    Issue,
    /// The scheduler or the pipe had something else to do.
    Busy,
    /// A register that an instruction or a load has still to write.
    Register,
    /// Lanes of its own that are elsewhere.
    Lanes,
    /// A named barrier of its CTA.
    Barrier,
    /// A barrier of its cluster.
    Cluster,
    /// The phase of an mbarrier.
    Mbarrier,
    /// A group of wgmma.
    Wgmma,
    /// A group of `cp.async`.
    Copies,
    /// A group of bulk stores.
    Stores,
    /// Registers that `setmaxnreg` asks for.
    Registers,
    /// `nanosleep`.
    Sleep,
}

/// What is waited for group by group: when each is done.
#[derive(Default)]
pub struct Groups {
    /// Of the group that is not committed: when its reads and when all of it is done.
    open: [u64; 2],
    committed: VecDeque<[u64; 2]>,
}

impl Groups {
    /// The open group has one operation more.
    pub fn add(&mut self, read: u64, done: u64) {
        self.open = [self.open[0].max(read), self.open[1].max(done)];
    }

    /// Closes the group.
    pub fn commit(&mut self) {
        self.committed.push_back(std::mem::take(&mut self.open));
    }

    /// When no more than `pending` committed groups are under way; of their reads, or of all of them.
    pub fn wait(&mut self, pending: usize, read: bool) -> u64 {
        let over = self.committed.len().saturating_sub(pending);
        let done = self.committed.iter().take(over).map(|g| g[usize::from(!read)]).max().unwrap_or(0);
        if !read {
            self.committed.drain(..over);
        }
        done
    }

    /// When everything is done, what was not committed too.
    pub fn all(&mut self) -> u64 {
        self.commit();
        self.wait(0, false)
    }
}

/// A warp.
pub struct Timed {
    pub warp: Warp,
    /// The lanes that run next; `None`: all wait.
    pub split: Option<Split>,
    /// From when on the next instruction can issue, but for what is busy; [`NEVER`] while all lanes wait.
    pub next: u64,
    /// What `next` waits for, from the clock after the last issue on.
    pub why: Why,
    /// The instruction that waits: the next one, or the last if that is what has to be done first.
    pub at: u32,
    /// Where its next instruction runs.
    pub pipe: Pipe,
    /// The clock after its last issue.
    pub since: u64,
    /// When each register can be used.
    ready: Vec<u64>,
    base: [usize; 3],
    /// Of a register that was not computed: the instruction at which that began.
    born: Vec<u32>,
    /// `cp.async`
    pub copies: Groups,
    /// Bulk copies from shared memory.
    pub stores: Groups,
}

impl Timed {
    /// A warp that starts at `time`; its registers are so many.
    pub fn new(mut warp: Warp, count: [u32; 3], time: u64) -> Timed {
        let [n32, n64, np] = count.map(|n| n as usize);
        let split = warp.splits.pop();
        Timed {
            warp,
            split,
            next: time,
            why: Why::Issue,
            at: 0,
            pipe: Pipe::None,
            since: time,
            ready: vec![0; n32 + n64 + np],
            base: [0, n32, n32 + n64],
            born: vec![u32::MAX; n32 + n64 + np],
            copies: Groups::default(),
            stores: Groups::default(),
        }
    }

    fn at(&self, reg: Reg) -> usize {
        self.base[reg.class as usize] + reg.index as usize
    }

    /// When all of these registers can be used.
    #[inline]
    pub fn ready<'r>(&self, regs: impl IntoIterator<Item = &'r Reg>) -> u64 {
        regs.into_iter().map(|r| self.ready[self.at(*r)]).max().unwrap_or(0)
    }

    /// When a predicate can be used.
    #[inline]
    pub fn predicate_ready(&self, index: u16) -> u64 {
        self.ready(&[Reg { class: Class::Pred, index }])
    }

    /// These registers can be used at `time`.
    #[inline]
    pub fn set_ready(&mut self, regs: &[Reg], time: u64) {
        for r in regs {
            let at = self.at(*r);
            self.ready[at] = time;
        }
    }

    /// What was not computed here began at `pc`, or where an operand's began.
    pub fn note_birth(&mut self, uses: &[Reg], defs: &[Reg], pc: u32) {
        let undefined = |r: &&Reg| self.warp.regs.undef(**r) != 0 && self.born[self.at(**r)] != u32::MAX;
        let from = uses.iter().find(undefined).map_or(pc, |r| self.born[self.at(*r)]);
        for r in defs {
            let at = self.at(*r);
            self.born[at] = from;
        }
    }

    /// The instruction at which a register began not to be computed.
    pub fn birth(&self, reg: Reg) -> Option<u32> {
        Some(self.born[self.at(reg)]).filter(|pc| *pc != u32::MAX)
    }
}
