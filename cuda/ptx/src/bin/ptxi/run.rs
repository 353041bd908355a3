//! `ptxi run`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ptx::driver::interpreted::{Interpreted, Options};
use ptx::launch::{LaunchError, LaunchFile, Outcome, Prepared};
use ptx::observe::{Interrupt, Observe, Observed};
use ptx::suppress::Suppressions;
use serde_json::{Value, json};

use crate::{On, Run, Verdict, note, say, seeing};

/// What all files and seeds gave together.
#[derive(Default)]
struct Total {
    launches: usize,
    instructions: u64,
    hazards: Vec<Value>,
    strict: Vec<Value>,
    suppressions: Suppressions,
    faults: Vec<String>,
    counters: Vec<Value>,
    differences: Vec<String>,
    observed: Vec<Observed>,
}

pub fn run(args: &Run) -> Result<Verdict, String> {
    let start = Instant::now();
    let files = LaunchFile::read(&args.launch).map_err(|e| e.to_string())?;
    let mut total = Total::default();
    if let Some(file) = &args.rules.suppress {
        total.suppressions = Suppressions::read(file).map_err(|e| e.to_string())?;
    }
    let interrupt = seeing::interrupt()?;
    for file in files {
        let prepared = file.prepare().map_err(|e| e.to_string())?;
        one(args, &prepared, &interrupt, &mut total)?;
        if interrupt.is_stopped() {
            break;
        }
    }
    let mut line = json!({
        "launches": total.launches,
        "instructions": total.instructions,
        "seconds": start.elapsed().as_secs_f64(),
        "hazards": total.hazards,
    });
    if !total.strict.is_empty() {
        line["strict"] = json!(total.strict);
    }
    if args.rules.suppress.is_some() {
        line["suppressed"] = json!(total.suppressions.suppressed());
        note(format_args!("{} hazards suppressed\n", total.suppressions.suppressed()));
        for rule in total.suppressions.unused() {
            note(format_args!("a suppression matched nothing: {rule}\n"));
        }
    }
    if !total.faults.is_empty() {
        line["faults"] = json!(total.faults);
    }
    if !total.differences.is_empty() {
        line["differences"] = json!(total.differences);
    }
    if args.counters {
        line["counters"] = json!(total.counters);
    }
    args.seeing.show(std::mem::take(&mut total.observed))?;
    say(line)?;
    if interrupt.is_stopped() {
        return Ok(Verdict::Interrupted);
    }
    let clean = total.hazards.is_empty() && total.faults.is_empty() && total.differences.is_empty();
    Ok(if clean { Verdict::Clean } else { Verdict::Wrong })
}

/// One launch file, on what was asked for.
fn one(args: &Run, prepared: &Prepared, interrupt: &Interrupt, total: &mut Total) -> Result<(), String> {
    let path = prepared.file().path().display().to_string();
    let mut first = None;
    if args.on != On::Card {
        let outcomes = schedules(args, prepared, interrupt).map_err(|e| e.to_string())?;
        let mut seen = BTreeSet::new();
        for (seed, outcome) in &outcomes {
            total.launches += outcome.launches;
            total.instructions += outcome.instructions;
            // A hazard that every seed meets is reported once.
            for (hazards, list) in [(&outcome.hazards, &mut total.hazards), (&outcome.strict, &mut total.strict)] {
                for hazard in hazards {
                    let new = seen.insert((hazard.kind, hazard.level, hazard.kernel.clone(), hazard.at.ptx_line));
                    if new && !total.suppressions.take(hazard) {
                        note(format_args!("{path}: seed {seed}: {hazard}\n"));
                        let mut value = json!(hazard);
                        value["seed"] = json!(seed);
                        list.push(value);
                    }
                }
            }
            if let Some(fault) = &outcome.fault {
                let text = format!("{path}: seed {seed}: {fault}");
                note(format_args!("{text}\n{}", outcome.standing));
                total.faults.push(text);
            }
        }
        if let Some((_, mut outcome)) = outcomes.into_iter().next() {
            note(&outcome.printed);
            total.observed.append(&mut outcome.observed);
            for counters in &outcome.counters {
                note(format_args!("{counters}\n"));
                total.counters.push(counters.to_json());
            }
            prepared.write_dumps(&outcome).map_err(|e| e.to_string())?;
            first = Some(outcome);
        }
    }
    if args.on != On::Interpreter {
        let outcome = on_card(prepared)?;
        note(&outcome.printed);
        if let Some(fault) = &outcome.fault {
            let text = format!("{path}: on the card: {fault}");
            note(format_args!("{text}\n"));
            total.faults.push(text);
        }
        match &first {
            Some(ours) => {
                for text in prepared.differences(ours, &outcome) {
                    let text = format!("{path}: {text}");
                    note(format_args!("{text}\n"));
                    total.differences.push(text);
                }
            }
            None => {
                total.launches += outcome.launches;
                prepared.write_dumps(&outcome).map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(())
}

/// Runs every seed, some of them at the same time, each on a GPU of its own; in order of seeds.
fn schedules(args: &Run, prepared: &Prepared, interrupt: &Interrupt) -> Result<Vec<(u64, Outcome)>, LaunchError> {
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let all = args.threads.unwrap_or_else(available);
    // Seeds side by side first; what is left runs the CTAs of each.
    let threads = all.min(args.schedules);
    let inner = (all / threads) as usize;
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.schedules {
                        return;
                    }
                    let seed = args.rules.seed.wrapping_add(seed);
                    // Counters do not depend on the seed enough to be worth their time more than once.
                    let counters = args.counters && seed == args.rules.seed;
                    // A kernel need not write the whole of a buffer that is dumped.
                    let (strict, election) = (args.rules.strict, args.rules.elect.into());
                    let options = Options {
                        seed,
                        counters,
                        strict,
                        election,
                        unwritten: true,
                        step_limit: args.seeing.step_limit.unwrap_or(u64::MAX),
                        time_limit: args.seeing.time_limit,
                        observe: if seed == args.rules.seed { args.seeing.observe() } else { Observe::default() },
                        interrupt: Some(interrupt.clone()),
                        threads: inner,
                        ..Options::default()
                    };
                    let mut outcome = prepared.run(&mut Interpreted::new(options));
                    // Only the first seed's buffers are compared or written.
                    if let Ok(outcome) = &mut outcome
                        && seed != args.rules.seed
                    {
                        outcome.dumps.clear();
                    }
                    outcomes.lock().unwrap_or_else(|e| e.into_inner()).push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(|e| e.into_inner());
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes.into_iter().map(|(seed, outcome)| Ok((seed, outcome?))).collect()
}

#[cfg(feature = "card")]
fn on_card(prepared: &Prepared) -> Result<Outcome, String> {
    use ptx::driver::Driver;
    let mut card = ptx::driver::card::Card::open(0).map_err(|e| e.to_string())?;
    note(format_args!("on {}\n", card.description()));
    prepared.run(&mut card).map_err(|e| e.to_string())
}

#[cfg(not(feature = "card"))]
fn on_card(_: &Prepared) -> Result<Outcome, String> {
    Err("this ptxi was built without the feature `card`; add `--features card` to cargo's flags".to_string())
}
