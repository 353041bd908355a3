//! What `ptxi exec` asked for, and what it is told: a line on standard error of what is wrong, when it is met, and a record of each
//! launch in a file.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;

use ptx::HazardKind;
use ptx::standin::{Order, Record, VARIABLE};

use crate::call::complain;

/// A process under `ptxi exec`.
pub struct Session {
    pub order: Order,
    /// Launches so far.
    pub launches: u64,
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
        Session { order, launches: 0, said: HashSet::new() }
    }

    /// Tells of a launch: each kind of hazard once for each line of a kernel.
    pub fn tell(&mut self, record: &Record) {
        for hazard in &record.hazards {
            if self.said.insert((record.kernel.clone(), hazard.kind, hazard.at.ptx_line)) {
                eprintln!("ptxi exec: launch {} of {}: {hazard}", record.launch, record.kernel);
            }
        }
        if let Some(fault) = &record.fault {
            eprintln!("ptxi exec: launch {} of {}: {fault}", record.launch, record.kernel);
        }
        let Some(path) = &self.order.report else { return };
        let mut line = serde_json::json!(record).to_string();
        line.push('\n');
        // One write each, so that processes that share the file do not mix their lines.
        let written =
            OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(e) = written {
            complain(&format!("{}: {e}", path.display()));
        }
    }
}
