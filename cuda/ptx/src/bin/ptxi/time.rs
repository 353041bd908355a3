//! `ptxi time`.

use std::io;
use std::ops::Range;
use std::path::Path;

use ptx::launch::LaunchFile;
use ptx::time::{CARDS, Card, Device};

use crate::{Time, Verdict, note, say};

pub fn time(args: &Time) -> Result<Verdict, String> {
    let names = || CARDS.map(|c| c.name).join(", ");
    let card = Card::named(&args.card).ok_or_else(|| format!("--card {}: the cards are {}", args.card, names()))?;
    let mut verdict = Verdict::Clean;
    for file in LaunchFile::read(&args.launch).map_err(|e| e.to_string())? {
        let prepared = file.without_data().prepare().map_err(|e| e.to_string())?;
        let mut device = Device::new(card.clone());
        if args.picture.is_some() || args.trace.is_some() {
            device.watch(args.multiprocessor, args.clocks.clone());
        }
        let outcome = prepared.run(&mut device).map_err(|e| e.to_string())?;
        for foretold in device.foretold() {
            match args.json {
                true => say(serde_json::to_string(foretold).map_err(|e| e.to_string())?)?,
                false => say(foretold)?,
            }
        }
        // Of several launches the last is shown.
        if let Some(view) = device.views().last() {
            let written = |file: &Path, done: io::Result<()>| done.map_err(|e| format!("{}: {e}", file.display()));
            args.picture.iter().try_for_each(|file| written(file, view.write_picture(file)))?;
            args.trace.iter().try_for_each(|file| written(file, view.write_trace(file)))?;
        }
        if let Some(fault) = outcome.fault {
            note(format_args!("{}: {fault}\n", prepared.file().path().display()));
            verdict = Verdict::Wrong;
        }
    }
    Ok(verdict)
}

/// `FROM..TO`
pub fn clocks(text: &str) -> Result<Range<u64>, String> {
    let numbers = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match numbers {
        Some((from, to)) if from < to => Ok(from..to),
        _ => Err("expected FROM..TO, two numbers of clocks, the first below the second".into()),
    }
}
