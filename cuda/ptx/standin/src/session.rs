//! What `ptxi exec` asked for, and what it is told: a line on standard error of what is wrong, when it is met, and a record of it in a
//! file.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard};

use ptx::HazardKind;
use ptx::standin::{Line, Order, Record, VARIABLE};
use ptx::suppress::Suppressions;

/// A process under `ptxi exec`.
pub struct Session {
    pub order: Order,
    suppressions: Suppressions,
    hazards: HashSet<(String, HazardKind, u32)>,
    lines: HashSet<String>,
}

/// The session of this process. Who holds it asks for nothing else.
pub fn session() -> MutexGuard<'static, Session> {
    static SESSION: LazyLock<Mutex<Session>> = LazyLock::new(|| Mutex::new(Session::from_environment()));
    SESSION.lock().unwrap_or_else(|e| e.into_inner())
}

impl Session {
    /// As the environment has it; a program that was started without `ptxi exec` runs with the defaults.
    fn from_environment() -> Session {
        let mut lines = Vec::new();
        let order = match std::env::var(VARIABLE).map(|text| serde_json::from_str(&text)) {
            Ok(Ok(order)) => order,
            Ok(Err(e)) => {
                lines.push(format!("the variable {VARIABLE} is not as this library knows it ({e}); it is ignored"));
                Order::default()
            }
            Err(_) => Order::default(),
        };
        let suppressions = match order.suppress.as_deref().map(Suppressions::read) {
            Some(Err(e)) => {
                lines.push(e.to_string());
                Suppressions::default()
            }
            rules => rules.and_then(Result::ok).unwrap_or_default(),
        };
        let mut session = Session { order, suppressions, hazards: HashSet::new(), lines: HashSet::new() };
        lines.iter().for_each(|line| session.say(line));
        session
    }

    /// A line on standard error, once in a process.
    pub fn say(&mut self, line: &str) {
        if self.lines.insert(line.to_string()) {
            eprintln!("ptxi exec: {line}");
        }
    }

    /// Tells, once, of something that this library could not do for the program, which may take no notice.
    pub fn refuse(&mut self, what: &str) {
        if self.lines.insert(what.to_string()) {
            eprintln!("ptxi exec: {what}");
            self.record(&Line::Refused(what.to_string()));
        }
    }

    /// Tells of a launch: each kind of hazard once for each line of a kernel, unless it is suppressed.
    pub fn tell(&mut self, mut record: Record) {
        for list in [&mut record.hazards, &mut record.strict] {
            list.retain(|hazard| {
                let suppressed = self.suppressions.take(hazard);
                record.suppressed += u64::from(suppressed);
                if !suppressed && self.hazards.insert((hazard.kernel.clone(), hazard.kind, hazard.at.ptx_line)) {
                    eprintln!("ptxi exec: launch {} of {}: {hazard}", record.launch, short(&record.kernel));
                }
                !suppressed
            });
        }
        if let Some(fault) = &record.fault {
            eprintln!("ptxi exec: launch {} of {}: {fault}", record.launch, short(&record.kernel));
        }
        self.record(&Line::Launch(Box::new(record)));
    }

    fn record(&mut self, line: &Line) {
        let Some(path) = self.order.report.clone() else { return };
        let line = serde_json::json!(line).to_string() + "\n";
        // One write each, so that processes that share the file do not mix their lines.
        let file = OpenOptions::new().append(true).create(true).open(&path);
        if let Err(e) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            self.say(&format!("{}: {e}", path.display()));
        }
    }
}

/// A kernel's name in a line for people: those of templates can have thousands of characters. The records have it whole.
fn short(kernel: &str) -> String {
    match kernel.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &kernel[..end]),
        None => kernel.to_string(),
    }
}
