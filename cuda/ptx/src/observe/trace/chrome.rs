//! A trace in the format of Chrome's tracing (JSON), which <https://ui.perfetto.dev> opens: a process for each CTA, a thread for each
//! warp, asynchronous tracks for barriers, copies and groups of wgmma. A microsecond stands for a step.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{Kind, Span, Trace, Track, text};

/// Rows that a warp may have: lanes that part run and wait at the same time.
const ROWS: u32 = 64;

pub fn write(traces: &[Trace], out: &mut dyn Write) -> io::Result<()> {
    let cuts: Vec<&String> = traces.iter().filter_map(|t| t.cut.as_ref()).collect();
    let other = json!({
        "time": "A microsecond stands for a step: a warp instruction of the interpreter. It says nothing about time on a card.",
        "kernels": traces.iter().map(|t| &t.kernel).collect::<Vec<_>>(),
        "cut": cuts,
    });
    let mut events = Events::begin(out, &other)?;
    let (mut processes, mut start) = (0, 0);
    for (launch, trace) in traces.iter().enumerate() {
        let mut of_cta: BTreeMap<[u32; 3], u32> = BTreeMap::new();
        trace.spans.iter().for_each(|s| _ = of_cta.insert(s.cta, 0));
        for ([x, y, z], pid) in &mut of_cta {
            processes += 1;
            *pid = processes;
            let name = format!("launch {launch} {}: CTA ({x},{y},{z})", trace.kernel);
            events.put(&json!({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}))?;
            events.put(&json!({"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}))?;
        }
        // Until when each row of a warp is taken.
        let mut rows: BTreeMap<(u32, u32), Vec<u64>> = BTreeMap::new();
        for span in &trace.spans {
            let pid = of_cta[&span.cta];
            let row = match (span.track, span.kind) {
                (Track::Warp(w), Kind::Run | Kind::Wait) => {
                    let taken = rows.entry((pid, w)).or_default();
                    let free = taken.iter().position(|until| *until <= span.begin).unwrap_or(taken.len());
                    if free == taken.len() {
                        let apart = if free == 0 { String::new() } else { format!(", lanes apart {free}") };
                        let tid = w * ROWS + free as u32;
                        let name = format!("warp {w}{apart}");
                        events.thread(pid, tid, &name)?;
                        taken.push(0);
                    }
                    taken[free] = span.end;
                    free as u32
                }
                _ => 0,
            };
            events.span(span, pid, row, start)?;
        }
        start += trace.steps + 1;
    }
    events.end()
}

/// The events of a file, one after the other.
pub(crate) struct Events<'o> {
    out: &'o mut dyn Write,
    first: bool,
}

impl<'o> Events<'o> {
    /// Begins a file with what there is to say about all of it.
    pub fn begin(out: &'o mut dyn Write, other: &Value) -> io::Result<Events<'o>> {
        write!(out, "{{\"displayTimeUnit\": \"ms\", \"otherData\": {other}, \"traceEvents\": [")?;
        Ok(Events { out, first: true })
    }

    /// Ends the file.
    pub fn end(self) -> io::Result<()> {
        write!(self.out, "\n]}}\n")
    }

    /// Names a thread of a process, and puts it in its place among the others.
    pub fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        self.put(&json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}))?;
        self.put(&json!({"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}))
    }

    /// Writes an event.
    pub fn put(&mut self, event: &Value) -> io::Result<()> {
        let comma = if std::mem::replace(&mut self.first, false) { "" } else { "," };
        write!(self.out, "{comma}\n{event}")
    }

    fn span(&mut self, span: &Span, pid: u32, row: u32, start: u64) -> io::Result<()> {
        let mut args = Map::new();
        args.insert("ptx_line".into(), span.ptx_line.into());
        if let Some(source) = &span.source {
            args.insert("source".into(), format!("{}:{}", source.file, source.line).into());
        }
        for (name, value) in &span.numbers {
            let hexadecimal = matches!(*name, "lanes" | "mbarrier");
            let value = if hexadecimal { text::number(name, *value).into() } else { Value::from(*value) };
            args.insert((*name).into(), value);
        }
        if !span.ended {
            args.insert("unfinished".into(), true.into());
        }
        let (begin, end) = (span.begin + start, span.end + start);
        let (category, id, name) = match span.track {
            Track::Warp(w) => {
                let tid = w * ROWS + row;
                let kind = format!("{:?}", span.kind).to_lowercase();
                let mut event = json!({"cat": kind, "name": span.name, "pid": pid, "tid": tid, "ts": begin, "args": args});
                if span.kind == Kind::Instruction {
                    event["ph"] = json!("i");
                    event["s"] = json!("t");
                } else {
                    event["ph"] = json!("X");
                    event["dur"] = json!(end - begin);
                }
                return self.put(&event);
            }
            Track::Barrier(id) => ("barrier", id, format!("barrier {id} {}", span.name)),
            Track::Mbarrier(at) => ("mbarrier", at, format!("mbarrier {at:#x} {}", span.name)),
            Track::Copy(n) => ("copy", n, span.name.clone()),
            Track::Wgmma(n) => ("wgmma", n, span.name.clone()),
        };
        let id = format!("{pid}.{category}.{id:#x}");
        let event =
            |ph: &str, ts: u64| json!({"ph": ph, "cat": category, "id": id, "name": name, "pid": pid, "tid": 0, "ts": ts});
        let begins = if span.kind == Kind::Arrival { "n" } else { "b" };
        let mut first = event(begins, begin);
        first["args"] = Value::Object(args);
        self.put(&first)?;
        if span.kind == Kind::Arrival { Ok(()) } else { self.put(&event("e", end)) }
    }
}
