//! A trace as text: a line for each span.

use std::io::{self, Write};

use super::{Kind, Trace, Track};

pub fn write(traces: &[Trace], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Time is counted in steps: warp instructions of the interpreter. It says nothing about time on a card.")?;
    for trace in traces {
        writeln!(out, "\n{}: {} steps", trace.kernel, trace.steps)?;
        writeln!(out, "{:>10} {:>10}  {:<14} {:<16} what", "from", "to", "CTA", "who")?;
        for s in &trace.spans {
            let [x, y, z] = s.cta;
            let who = match s.track {
                Track::Warp(w) => format!("warp {w}"),
                Track::Barrier(id) => format!("barrier {id}"),
                Track::Mbarrier(offset) => format!("mbarrier {offset:#x}"),
                Track::Copy(n) => format!("copy {n}"),
                Track::Wgmma(n) => format!("wgmma group {n}"),
            };
            let to = match (s.kind, s.ended) {
                (Kind::Instruction | Kind::Arrival, _) => String::new(),
                (_, true) => s.end.to_string(),
                (_, false) => "never".into(),
            };
            let source = s.source.as_ref().map(|l| format!(" ({}:{})", l.file, l.line)).unwrap_or_default();
            let numbers = match s.kind {
                // Their names say it all.
                Kind::Wait | Kind::Arrival => String::new(),
                _ => (s.numbers.iter())
                    .filter(|n| n.0 != "phase" && **n != ("times", 1))
                    .map(|(k, v)| format!(", {} {}", k.replace('_', " "), number(k, *v)))
                    .collect(),
            };
            writeln!(
                out,
                "{:>10} {to:>10}  {:<14} {who:<16} {}{numbers}, PTX line {}{source}",
                s.begin,
                format!("({x},{y},{z})"),
                s.name,
                s.ptx_line
            )?;
        }
        if let Some(cut) = &trace.cut {
            writeln!(out, "{cut}")?;
        }
    }
    Ok(())
}

/// Masks and addresses in hexadecimal.
pub(super) fn number(name: &str, value: u64) -> String {
    match name {
        "lanes" => format!("{value:#010x}"),
        "mbarrier" => format!("{value:#x}"),
        _ => value.to_string(),
    }
}
