//! What `ptxi exec` asked for, and what it is told: a line on standard error of what is wrong, when it is met, and a record of each
//! launch in a file.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;

use ptx::HazardKind;
use ptx::standin::{Order, Record, VARIABLE};
use ptx::suppress::Suppressions;

use crate::call::complain;

/// A process under `ptxi exec`.
pub struct Session {
    pub order: Order,
    /// Launches so far.
    pub launches: u64,
    suppressions: Suppressions,
    said: HashSet<(String, HazardKind, u32)>,
}

impl Session {
    /// As the environment has it; a program that was started without `ptxi exec` runs with the defaults.
    pub fn from_environment() -> Session {
        let order = match std::env::var(VARIABLE).map(|text| serde_json::from_str(&text)) {
            Ok(Ok(order)) => order,
            Ok(Err(e)) => {
                complain(&format!("the variable {VARIABLE} is not as this library knows it ({e}); it is ignored"));
                Order::default()
            }
            Err(_) => Order::default(),
        };
        let suppressions = match order.suppress.as_deref().map(Suppressions::read) {
            Some(Err(e)) => {
                complain(&e.to_string());
                Suppressions::default()
            }
            Some(Ok(rules)) => rules,
            None => Suppressions::default(),
        };
        Session { order, launches: 0, suppressions, said: HashSet::new() }
    }

    /// Tells of a launch: each kind of hazard once for each line of a kernel, unless it is suppressed.
    pub fn tell(&mut self, mut record: Record) {
        for list in [&mut record.hazards, &mut record.strict] {
            list.retain(|hazard| {
                let suppressed = self.suppressions.take(hazard);
                record.suppressed += u64::from(suppressed);
                if !suppressed && self.said.insert((hazard.kernel.clone(), hazard.kind, hazard.at.ptx_line)) {
                    eprintln!("ptxi exec: launch {} of {}: {hazard}", record.launch, record.kernel);
                }
                !suppressed
            });
        }
        if let Some(fault) = &record.fault {
            eprintln!("ptxi exec: launch {} of {}: {fault}", record.launch, record.kernel);
        }
        let Some(path) = &self.order.report else { return };
        let mut line = serde_json::json!(&record).to_string();
        line.push('\n');
        // One write each, so that processes that share the file do not mix their lines.
        let written =
            OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(e) = written {
            complain(&format!("{}: {e}", path.display()));
        }
    }
}
