//! The mutation suite: one synchronising instruction of a correct kernel is removed or damaged, and the interpreter must notice
//! (a hazard, a deadlock, a fault, or a wrong result) within [`SEEDS`] seeds. As many seeds of the kernel as it is must show
//! nothing at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ptx::Module;

use crate::cases;
use crate::harness::*;
use crate::kernels::describe;
use crate::mutate::{Mutant, mutants};

/// A mutant counts as caught if one of so many seeds shows it.
const SEEDS: u64 = 8;

/// Mutants that change nothing observable: entry, operator, what the instruction starts with, which of those (from 0, or all), why.
const EQUIVALENT: &[(&str, &str, &str, Option<usize>, &str)] = &[
    (
        "ring",
        "removed",
        "fence.mbarrier_init",
        None,
        "a sender passes the cluster barrier and then a fence.proxy.async before it copies, which shows the copy all that the sender \
         knows, the initialisation too",
    ),
    (
        "one_lane_arrives_after_syncwarp",
        "removed",
        "fence.mbarrier_init",
        None,
        "only threads of the CTA use the mbarrier, and __syncthreads orders its initialisation before that",
    ),
    (
        "wgmma_tile",
        "count - 1",
        "mbarrier.init",
        Some(1),
        "a wgmma group is the warpgroup's: one thread that has waited for it knows that no other still reads the stage",
    ),
];

fn excused(entry: &str, mutant: &Mutant, nth: usize) -> Option<&'static str> {
    EQUIVALENT
        .iter()
        .find(|(e, operator, start, which, _)| {
            *e == entry && *operator == mutant.operator && mutant.instruction.starts_with(start) && which.is_none_or(|w| w == nth)
        })
        .map(|entry| entry.4)
}

/// What became of a mutant.
enum Fate {
    Caught { seed: u64, how: String },
    Missed,
    Refused(String),
}

fn try_out(case: &Case, text: &str, line: usize, steps: u64) -> Fate {
    let module = match Module::parse(&format!("{}.ptx", case.file), text) {
        Ok(module) => Arc::new(module),
        Err(e) => return Fate::Refused(format!("line {line}: {e}")),
    };
    for seed in 0..SEEDS {
        let end = case.run(&module, seed, Some(steps));
        if !end.is_right() {
            return Fate::Caught { seed, how: describe(&end) };
        }
    }
    Fate::Missed
}

fn suite(cases: Vec<Case>) {
    let mut jobs: Vec<(usize, Mutant, Option<&'static str>)> = Vec::new();
    let mut steps = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let module = case.module();
        let mut most = 0;
        for seed in 0..SEEDS {
            match case.run(&module, seed, None) {
                End::Right { instructions } => most = most.max(instructions),
                end => panic!("false alarm: {} with seed {seed}: {}", case.entry, describe(&end)),
            }
        }
        // A mutant that spins is stopped soon; threads of a warp count one by one.
        steps.push(20 * most + 100_000);
        let mut count: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for mutant in mutants(&kernel_text(case.file), case.entry) {
            let opcode = mutant.instruction.split_whitespace().next().unwrap_or("").to_string();
            let nth = count.entry((mutant.operator, opcode)).or_default();
            let reason = excused(case.entry, &mutant, *nth);
            *nth += 1;
            jobs.push((i, mutant, reason));
        }
    }
    let next = AtomicUsize::new(0);
    let fates = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some((i, mutant, reason)) = jobs.get(n) else { return };
                    if reason.is_none() {
                        let fate = try_out(&cases[*i], &mutant.text, mutant.line, steps[*i]);
                        fates.lock().unwrap().push((n, fate));
                    }
                }
            });
        }
    });
    let mut fates = fates.into_inner().unwrap();
    fates.sort_by_key(|(n, _)| *n);
    let (mut caught, mut late, mut missed) = (0, 0, Vec::new());
    let verbose = std::env::var_os("MUTATION_REPORT").is_some();
    for (n, fate) in &fates {
        let (i, mutant, _) = &jobs[*n];
        let name = format!(
            "{} line {} ({}.cu:{}): {}: {}",
            cases[*i].entry, mutant.line, cases[*i].file, mutant.source, mutant.operator, mutant.instruction
        );
        match fate {
            Fate::Caught { seed, how } => {
                caught += 1;
                late += usize::from(*seed > 0);
                if verbose {
                    println!("caught with seed {seed}: {name}\n        {how}");
                }
            }
            Fate::Missed => missed.push(format!("missed: {name}")),
            Fate::Refused(error) => missed.push(format!("not run, for the parser refuses it: {name}: {error}")),
        }
    }
    let excused = jobs.len() - fates.len();
    println!(
        "{caught} of {} mutants caught within {SEEDS} seeds ({late} of them not by the first), {excused} excused, 0 false alarms",
        fates.len()
    );
    missed.iter().for_each(|m| println!("{m}"));
    assert!(caught * 100 >= fates.len() * 95, "{} mutants missed", missed.len());
    assert!(!fates.is_empty(), "no mutants");
}

#[test]
fn mutants_on_the_cuda_cores() {
    suite(cases::simt());
}

#[test]
fn mutants_of_clusters_and_bulk_copies() {
    suite(cases::asynchronous());
}

#[test]
fn mutants_on_the_tensor_cores() {
    suite(cases::gemms());
}
