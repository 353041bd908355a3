//! What each warp did and waited for, the phases of barriers, and asynchronous operations from issue to landing.
//!
//! A [`Recorder`] notes spans by the numbers of the machine while a launch runs; [`Recorder::finish`] turns them into a [`Trace`],
//! in which they have names and lines. Time is counted in steps: warp instructions of the whole machine. It says in which order
//! things happened under this seed, and nothing about time on a card.

pub(crate) mod chrome;
mod text;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::counters::Class;
use crate::hazard::{Place, Site, SourceLine};
use crate::replace;

/// What is to be traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// CTAs (`%ctaid`); all if there are none.
    pub ctas: Vec<[u32; 3]>,
    /// The step from which on.
    pub from: u64,
    /// The most spans; what comes after them is cut off, and [`Trace::cut`] says so.
    pub limit: usize,
}

impl Default for Request {
    fn default() -> Request {
        Request { ctas: Vec::new(), from: 0, limit: 200_000 }
    }
}

/// Where a span belongs in its CTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Track {
    /// A warp, by its number in the CTA.
    Warp(u32),
    /// A named barrier.
    Barrier(u32),
    /// An mbarrier, by its offset in shared memory.
    Mbarrier(u32),
    /// An asynchronous copy, by a number of its own.
    Copy(u32),
    /// A group of wgmma, by a number of its own.
    Wgmma(u32),
}

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A warp executes instructions.
    Run,
    /// Lanes wait.
    Wait,
    /// One instruction that synchronises or starts something: `begin` is `end`.
    Instruction,
    /// Threads came to a barrier, or bytes: `begin` is `end`.
    Arrival,
    /// A phase of a barrier, from its begin to its completion.
    Phase,
    /// An asynchronous copy, from issue to landing.
    Copy,
    /// A group of wgmma, from the first issue to the last product.
    Group,
}

/// Something that took some time, or none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// CTA in the grid (`%ctaid`).
    pub cta: [u32; 3],
    /// Where in the CTA.
    pub track: Track,
    /// What it is.
    pub kind: Kind,
    /// Step at which it began.
    pub begin: u64,
    /// Step at which it ended.
    pub end: u64,
    /// Whether it had ended when the trace did.
    pub ended: bool,
    /// In words.
    pub name: String,
    /// Line of the PTX text where it began; 0 if there is none.
    pub ptx_line: u32,
    /// The line of CUDA C++, where `.loc` gives one.
    pub source: Option<SourceLine>,
    /// Its numbers, by name.
    pub numbers: Vec<(&'static str, u64)>,
}

/// A launch, as it went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trace {
    /// The kernel.
    pub kernel: String,
    /// Steps that the launch took.
    pub steps: u64,
    /// What happened, by begin.
    pub spans: Vec<Span>,
    /// If the trace was cut: why and where, in a sentence.
    pub cut: Option<String>,
}

impl Trace {
    /// Writes traces of launches that followed each other: as text if the file's name ends in `.txt`, else in the format of
    /// Chrome's tracing, which Perfetto opens. The file is written beside its place and then takes its name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(traces: &[Trace], file: &Path) -> io::Result<()> {
        let as_text = file.extension().is_some_and(|e| e == "txt");
        replace::with(file, |out| if as_text { text::write(traces, out) } else { chrome::write(traces, out) })
    }
}

/// What lanes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// These lanes of the warp.
    Lanes(u32),
    Barrier(u32),
    Cluster,
    Mbarrier {
        offset: u32,
        phase: u32,
    },
    /// The other warps of the warpgroup.
    Warpgroup,
    /// The CTA's pool of registers.
    Registers,
    Sleep,
}

/// What an operation changed at an mbarrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub phase: u32,
    pub arrivals: u32,
    pub announced: u64,
    pub landed: u64,
    /// Arrivals still pending, of how many.
    pub pending: u32,
    pub expected: u32,
    /// Bytes still pending.
    pub bytes: i64,
}

#[derive(Clone, Debug)]
enum What {
    Run { instructions: u64, last: u32 },
    Wait(Reason),
    Instruction { times: u64 },
    Arrival(Change),
    Phase { number: u32, expected: u32, arrivals: u32, landed: u64 },
    Barrier { threads: u32 },
    Copy { bytes: u64, barrier: Option<u32> },
    Group { products: u64 },
}

/// A span in the machine's numbers.
struct Raw {
    site: Site,
    lanes: u32,
    track: Track,
    begin: u64,
    end: Option<u64>,
    what: What,
}

/// Notes what happens.
pub struct Recorder {
    request: Request,
    /// Of each instruction: it synchronises, or starts something.
    notable: Vec<bool>,
    /// Linear numbers of the CTAs that are traced; all if empty.
    ctas: Vec<u32>,
    warps: u32,
    spans: Vec<Raw>,
    /// Step at which the limit was reached.
    cut: Option<u64>,
    /// By warp: its run, and its waits with their lanes.
    runs: HashMap<u32, usize>,
    waits: HashMap<u32, Vec<(u32, usize)>>,
    /// The last instruction that was noted of each warp.
    last: HashMap<u32, usize>,
    /// By CTA and number: the phases of barriers.
    phases: HashMap<(u32, Track), usize>,
    copies: HashMap<u32, usize>,
    /// By CTA and warpgroup: groups of wgmma, with the number of the last product.
    groups: HashMap<(u32, u32), Vec<(u64, usize)>>,
    /// The same: the first product that is in no group yet, and when and where it was issued.
    open: HashMap<(u32, u32), (u64, u64, Site)>,
    numbers: u32,
}

impl Recorder {
    /// For a launch of `warps` warps a CTA, of code with these opcodes. `linear` gives the number of a CTA.
    pub fn new<'c>(
        request: &Request,
        warps: u32,
        opcodes: impl Iterator<Item = &'c str>,
        linear: impl Fn([u32; 3]) -> u32,
    ) -> Recorder {
        let notable = |opcode: &str| {
            let background = opcode.starts_with("wgmma") || opcode.contains(".async") || opcode.starts_with("tensormap");
            background || Class::of(opcode) == Class::Synchronize || Class::of(opcode) == Class::Copy
        };
        Recorder {
            notable: opcodes.map(notable).collect(),
            ctas: request.ctas.iter().map(|c| linear(*c)).collect(),
            warps,
            request: request.clone(),
            spans: Vec::new(),
            cut: None,
            runs: HashMap::new(),
            waits: HashMap::new(),
            last: HashMap::new(),
            phases: HashMap::new(),
            copies: HashMap::new(),
            groups: HashMap::new(),
            open: HashMap::new(),
            numbers: 0,
        }
    }

    fn wanted(&self, step: u64, warp: u32) -> bool {
        step >= self.request.from && self.cut.is_none() && (self.ctas.is_empty() || self.ctas.contains(&(warp / self.warps)))
    }

    /// Adds a span unless there are too many.
    fn push(&mut self, step: u64, site: Site, lanes: u32, track: Track, what: What) -> Option<usize> {
        if self.spans.len() >= self.request.limit {
            self.cut.get_or_insert(step);
            return None;
        }
        self.spans.push(Raw { site, lanes, track, begin: step, end: None, what });
        Some(self.spans.len() - 1)
    }

    fn instant(&mut self, step: u64, site: Site, lanes: u32, track: Track, what: What) -> Option<usize> {
        let i = self.push(step, site, lanes, track, what)?;
        self.spans[i].end = Some(step);
        Some(i)
    }

    fn close(&mut self, step: u64, span: Option<usize>) {
        // What the cut left open stays so.
        if let Some(i) = span.filter(|_| self.cut.is_none()) {
            self.spans[i].end = Some(step);
        }
    }

    fn track(&self, warp: u32) -> Track {
        Track::Warp(warp % self.warps)
    }

    /// Lanes execute an instruction.
    pub fn issue(&mut self, step: u64, site: Site, lanes: u32) {
        let warp = site.warp;
        if !self.wanted(step, warp) {
            return;
        }
        match self.runs.get(&warp) {
            Some(&i) => {
                if let What::Run { instructions, last } = &mut self.spans[i].what {
                    (*instructions, *last) = (*instructions + 1, site.pc);
                }
            }
            None => {
                let run = self.push(step, site, lanes, self.track(warp), What::Run { instructions: 1, last: site.pc });
                run.map(|i| self.runs.insert(warp, i));
            }
        }
        if !self.notable[site.pc as usize] {
            return;
        }
        // A loop that asks again and again is one entry.
        if let Some(&i) = self.last.get(&warp)
            && self.spans[i].site.pc == site.pc
            && let What::Instruction { times } = &mut self.spans[i].what
        {
            *times += 1;
            return;
        }
        let noted = self.instant(step, site, lanes, self.track(warp), What::Instruction { times: 1 });
        noted.map(|i| self.last.insert(warp, i));
    }

    /// Lanes begin to wait.
    pub fn wait(&mut self, step: u64, site: Site, lanes: u32, reason: Reason) {
        if !self.wanted(step, site.warp) {
            return;
        }
        let run = self.runs.remove(&site.warp);
        self.close(step, run);
        if let Some(i) = self.push(step, site, lanes, self.track(site.warp), What::Wait(reason)) {
            self.waits.entry(site.warp).or_default().push((lanes, i));
        }
    }

    /// Lanes go on.
    pub fn resume(&mut self, step: u64, warp: u32, lanes: u32) {
        let Some(waits) = self.waits.get_mut(&warp) else { return };
        let over: Vec<usize> = waits.extract_if(.., |(waiting, _)| *waiting & lanes != 0).map(|(_, i)| i).collect();
        over.into_iter().for_each(|i| self.close(step, Some(i)));
        // What comes after a wait is no repetition of what came before.
        self.last.remove(&warp);
    }

    /// A warp has ended; `last`: and with it its CTA.
    pub fn leave(&mut self, step: u64, warp: u32, last: bool) {
        self.resume(step, warp, u32::MAX);
        let run = self.runs.remove(&warp);
        self.close(step, run);
        if last {
            let over: Vec<usize> = self.phases.extract_if(|(cta, _), _| *cta == warp / self.warps).map(|(_, i)| i).collect();
            over.into_iter().for_each(|i| self.close(step, Some(i)));
        }
    }

    /// An mbarrier of the CTA of warp `owner` begins a phase.
    pub fn begin_phase(&mut self, step: u64, owner: Site, offset: u32, number: u32, expected: u32) {
        if !self.wanted(step, owner.warp) {
            return;
        }
        let track = Track::Mbarrier(offset);
        let key = (owner.warp / self.warps, track);
        let what = What::Phase { number, expected, arrivals: 0, landed: 0 };
        if let Some(i) = self.push(step, owner, 0, track, what) {
            self.phases.insert(key, i);
        }
    }

    /// Something came to an mbarrier of the CTA of warp `owner`; `done`: that completed its phase.
    pub fn change(&mut self, step: u64, site: Site, owner: u32, offset: u32, change: Change, done: bool) {
        let track = Track::Mbarrier(offset);
        let key = (owner / self.warps, track);
        if let Some(&i) = self.phases.get(&key)
            && let What::Phase { arrivals, landed, .. } = &mut self.spans[i].what
        {
            *arrivals += change.arrivals;
            *landed += change.landed;
        }
        if self.wanted(step, owner) {
            // Lanes of one instruction arrive together.
            let last = self.spans.last_mut();
            match last.map(|s| (s.begin, s.site.pc, s.site.warp, s.track, &mut s.what)) {
                Some((at, pc, warp, same, What::Arrival(before)))
                    if (at, pc, warp, same) == (step, site.pc, site.warp, track) && before.phase == change.phase =>
                {
                    *before = Change {
                        arrivals: before.arrivals + change.arrivals,
                        announced: before.announced + change.announced,
                        landed: before.landed + change.landed,
                        ..change
                    };
                }
                _ => {
                    let i = self.instant(step, site, 0, track, What::Arrival(change));
                    // The arrival is shown where the barrier is.
                    if let Some(i) = i {
                        self.spans[i].lanes = owner / self.warps;
                    }
                }
            }
        }
        if done {
            let phase = self.phases.remove(&key);
            self.close(step, phase);
        }
    }

    /// Threads came to a named barrier; `done`: that completed it.
    pub fn barrier(&mut self, step: u64, site: Site, id: u32, came: u32) {
        if !self.wanted(step, site.warp) {
            return;
        }
        let track = Track::Barrier(id);
        let key = (site.warp / self.warps, track);
        match self.phases.get(&key) {
            Some(&i) => {
                if let What::Barrier { threads } = &mut self.spans[i].what {
                    *threads += came;
                }
            }
            None => {
                let i = self.push(step, site, 0, track, What::Barrier { threads: came });
                i.map(|i| self.phases.insert(key, i));
            }
        }
    }

    /// A named barrier of the CTA of a warp completed.
    pub fn complete(&mut self, step: u64, warp: u32, id: u32) {
        let phase = self.phases.remove(&(warp / self.warps, Track::Barrier(id)));
        self.close(step, phase);
    }

    /// A copy of so many bytes is issued, which may complete on an mbarrier: its number, for [`Recorder::land`]. 0: it is not traced.
    pub fn copy(&mut self, step: u64, site: Site, lanes: u32, bytes: u64, barrier: Option<u32>) -> u32 {
        if !self.wanted(step, site.warp) {
            return 0;
        }
        self.numbers += 1;
        let number = self.numbers;
        let i = self.push(step, site, lanes, Track::Copy(number), What::Copy { bytes, barrier });
        i.map_or(0, |i| {
            self.copies.insert(number, i);
            number
        })
    }

    /// One more lane of a copy.
    pub fn widen(&mut self, number: u32, lane: u32, more: u64) {
        if let Some(&i) = self.copies.get(&number)
            && let What::Copy { bytes, .. } = &mut self.spans[i].what
        {
            *bytes += more;
            self.spans[i].lanes |= 1 << lane;
        }
    }

    /// A copy has landed, or a part of it: the last part counts.
    pub fn land(&mut self, step: u64, number: u32) {
        if let Some(&i) = self.copies.get(&number) {
            self.close(step, Some(i));
        }
    }

    /// A warp issues product `number` of its warpgroup.
    pub fn product(&mut self, step: u64, site: Site, number: u64) {
        if self.wanted(step, site.warp) {
            let key = (site.warp / self.warps, site.warp % self.warps / 4);
            if number >= self.committed(key) {
                self.open.entry(key).or_insert((number, step, site));
            }
        }
    }

    /// A warp commits what its warpgroup issued, up to product `end`.
    pub fn commit(&mut self, step: u64, warp: u32, end: u64) {
        let key = (warp / self.warps, warp % self.warps / 4);
        if !self.wanted(step, warp) {
            return;
        }
        // The other warps commit the same.
        let Some(&(first, begin, site)) = self.open.get(&key) else { return };
        if end <= first.max(self.committed(key)) {
            return;
        }
        self.open.remove(&key);
        self.numbers += 1;
        let i = self.push(begin, site, u32::MAX, Track::Wgmma(self.numbers), What::Group { products: end - first });
        if let Some(i) = i {
            self.groups.entry(key).or_default().push((end, i));
        }
    }

    /// The end of the last group of a warpgroup.
    fn committed(&self, key: (u32, u32)) -> u64 {
        self.groups.get(&key).and_then(|groups| groups.last()).map_or(0, |group| group.0)
    }

    /// All products of the warpgroup below `end` are computed.
    pub fn computed(&mut self, step: u64, warp: u32, end: u64) {
        let key = (warp / self.warps, warp % self.warps / 4);
        let Some(groups) = self.groups.get(&key) else { return };
        let over: Vec<usize> = groups.iter().filter(|(e, i)| *e <= end && self.spans[*i].end.is_none()).map(|g| g.1).collect();
        over.into_iter().for_each(|i| self.close(step, Some(i)));
    }

    /// The trace of a launch that took so many steps, given where instructions and warps are.
    pub fn finish<'c>(
        self,
        kernel: &str,
        steps: u64,
        mut place: impl FnMut(Site) -> Place,
        opcode: impl Fn(u32) -> &'c str,
    ) -> Trace {
        let end = self.cut.unwrap_or(steps);
        let warps = self.warps;
        let mut spans: Vec<Span> = Vec::with_capacity(self.spans.len());
        for raw in &self.spans {
            let Place { ptx_line, source, cta, .. } = place(raw.site);
            // An arrival may come from another CTA of the cluster.
            let arrival = matches!(raw.what, What::Arrival(_));
            let cta = if arrival { place(Site::new(raw.site.pc, raw.lanes * warps, 0)).cta } else { cta };
            let (kind, name, numbers) = raw.words(warps, &opcode, &mut |pc| place(Site::new(pc, raw.site.warp, 0)).ptx_line);
            let (at, ended) = (raw.end.unwrap_or(end).max(raw.begin), raw.end.is_some());
            spans.push(Span { cta, track: raw.track, kind, begin: raw.begin, end: at, ended, name, ptx_line, source, numbers });
        }
        spans.sort_by_key(|s| s.begin);
        let limit = self.request.limit;
        let cut = self.cut.map(|step| {
            format!(
                "the trace was cut at step {step} of {steps}, after {limit} spans; trace one CTA, begin later, or allow more spans"
            )
        });
        Trace { kernel: kernel.to_string(), steps, spans, cut }
    }
}

impl Raw {
    /// Kind, name and numbers.
    fn words<'c>(
        &self,
        warps: u32,
        opcode: &impl Fn(u32) -> &'c str,
        line: &mut dyn FnMut(u32) -> u32,
    ) -> (Kind, String, Vec<(&'static str, u64)>) {
        let lanes = ("lanes", u64::from(self.lanes));
        let op = opcode(self.site.pc);
        match &self.what {
            What::Run { instructions, last } => {
                let last = line(*last).into();
                (Kind::Run, "runs".into(), vec![("instructions", *instructions), ("last_ptx_line", last)])
            }
            What::Wait(reason) => {
                let (name, mut numbers) = match *reason {
                    Reason::Lanes(u32::MAX) => ("waits for the rest of its warp".into(), vec![]),
                    Reason::Lanes(members) => (format!("waits for lanes {members:#010x} of its warp"), vec![]),
                    Reason::Barrier(id) => (format!("waits at barrier {id}"), vec![("barrier", id.into())]),
                    Reason::Cluster => ("waits at barrier.cluster".into(), vec![]),
                    Reason::Mbarrier { offset, phase } => (
                        format!("waits for phase {phase} of mbarrier {offset:#x}"),
                        vec![("mbarrier", offset.into()), ("phase", phase.into())],
                    ),
                    Reason::Warpgroup => ("waits for the other warps' wgmma".into(), vec![]),
                    Reason::Registers => ("waits for registers".into(), vec![]),
                    Reason::Sleep => ("sleeps".into(), vec![]),
                };
                numbers.push(lanes);
                (Kind::Wait, name, numbers)
            }
            What::Instruction { times } => (Kind::Instruction, op.into(), vec![lanes, ("times", *times)]),
            What::Arrival(c) => {
                let mut parts = Vec::new();
                if c.arrivals > 0 {
                    parts.push(format!("{} arrive", c.arrivals));
                }
                if c.announced > 0 {
                    parts.push(format!("{} bytes announced", c.announced));
                }
                if c.landed > 0 {
                    parts.push(format!("{} bytes land", c.landed));
                }
                let by = self.site.warp % warps;
                let name = format!(
                    "{} by warp {by}; pending {} of {} arrivals, {} bytes",
                    parts.join(", "),
                    c.pending,
                    c.expected,
                    c.bytes
                );
                let numbers = vec![
                    ("phase", c.phase.into()),
                    ("arrivals", c.arrivals.into()),
                    ("bytes_announced", c.announced),
                    ("bytes_landed", c.landed),
                    ("pending_arrivals", c.pending.into()),
                    ("expected_arrivals", c.expected.into()),
                ];
                (Kind::Arrival, name, numbers)
            }
            What::Phase { number, expected, arrivals, landed } => (
                Kind::Phase,
                format!("phase {number}"),
                vec![
                    ("phase", (*number).into()),
                    ("parity", (number % 2).into()),
                    ("expected_arrivals", (*expected).into()),
                    ("arrivals", (*arrivals).into()),
                    ("bytes_landed", *landed),
                ],
            ),
            What::Barrier { threads } => (Kind::Phase, "gathers".into(), vec![("threads", (*threads).into())]),
            What::Copy { bytes, barrier } => {
                let mut numbers = vec![("bytes", *bytes), lanes];
                numbers.extend(barrier.map(|b| ("mbarrier", b.into())));
                (Kind::Copy, op.into(), numbers)
            }
            What::Group { products } => (Kind::Group, format!("{products} wgmma"), vec![("products", *products)]),
        }
    }
}
