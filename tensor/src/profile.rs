//! Where the time goes: a table of the CPU backend's operations.
//!
//! Off unless [`start`] is called; then each operation adds its time, without that of operations it calls, to a counter of its
//! name. The counters are the only global state beside caches: they count and change nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static TABLE: Mutex<Option<Table>> = Mutex::new(None);

struct Table {
    since: Instant,
    /// Calls and time by operation.
    rows: BTreeMap<&'static str, (u64, Duration)>,
}

thread_local! {
    /// Time of the operations that the current one has called.
    static INNER: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Begins to count, from nothing.
pub fn start() {
    *TABLE.lock().unwrap() = Some(Table { since: Instant::now(), rows: BTreeMap::new() });
    ON.store(true, Relaxed);
}

/// Runs an operation, and counts it if anybody wants to know.
pub(crate) fn time<R>(name: &'static str, f: impl FnOnce() -> R) -> R {
    if !ON.load(Relaxed) {
        return f();
    }
    let outer = INNER.replace(Duration::ZERO);
    let start = Instant::now();
    let result = f();
    let all = start.elapsed();
    let own = all.saturating_sub(INNER.replace(outer + all));
    if let Some(table) = TABLE.lock().unwrap().as_mut() {
        let row = table.rows.entry(name).or_default();
        row.0 += 1;
        row.1 += own;
    }
    result
}

/// The table since [`start`], the longest first.
pub fn report() -> String {
    let guard = TABLE.lock().unwrap();
    let Some(table) = guard.as_ref() else { return "profiling was not started".into() };
    let all = table.since.elapsed().as_secs_f64();
    let mut rows: Vec<(&str, u64, f64)> =
        table.rows.iter().map(|(name, (calls, time))| (*name, *calls, time.as_secs_f64())).collect();
    let inside: f64 = rows.iter().map(|r| r.2).sum();
    rows.push(("outside operations", 0, (all - inside).max(0.0)));
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut text = format!("{:<28}{:>12}{:>12}{:>9}\n", "operation", "calls", "seconds", "share");
    for (name, calls, seconds) in rows {
        let calls = if calls == 0 { String::new() } else { calls.to_string() };
        writeln!(text, "{name:<28}{calls:>12}{seconds:>12.2}{:>8.1}%", 100.0 * seconds / all).expect("a string takes text");
    }
    write!(text, "{:<28}{:>12}{:>12.2}", "total", "", all).expect("a string takes text");
    text
}
