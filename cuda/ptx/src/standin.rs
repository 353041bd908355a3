//! What the command `ptxi exec` asks of the library that stands in for CUDA inside a program, and what that answers: [`Order`] goes
//! through the environment, a [`Line`] of JSON for each launch comes back in a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hazard::Hazard;
use crate::request::Options;

/// The variable of the environment that holds the [`Order`].
pub const VARIABLE: &str = "PTXI_EXEC";

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// How launches are run, and what is seen of those that are chosen.
    pub options: Options,
    /// A file of hazards not to report (see [`suppress`](crate::suppress)).
    pub suppress: Option<PathBuf>,
    /// A folder that gets a launch file of each chosen launch.
    pub capture: Option<PathBuf>,
    /// Chosen launches are captured, not run.
    pub capture_only: bool,
    /// Choose kernels whose name contains this.
    pub only: Option<String>,
    /// Choose the launch with this number; the first is 1.
    pub launch: Option<u64>,
    /// The file that gets what the options have traced.
    pub trace: Option<PathBuf>,
    /// The file that gets a [`Line`] for each launch.
    pub report: Option<PathBuf>,
}

impl Order {
    /// Whether a launch is one of those that are looked at and captured.
    pub fn chooses(&self, kernel: &str, number: u64) -> bool {
        self.only.as_ref().is_none_or(|name| kernel.contains(name.as_str())) && self.launch.is_none_or(|n| n == number)
    }
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A launch.
    Launch(Box<Record>),
    /// What the stand-in could not do: a function that is not offered, a kernel whose PTX is not taken. Each is told once.
    Refused(String),
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number; the first is 1.
    pub launch: u64,
    /// The kernel.
    pub kernel: String,
    /// CTAs.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// Thread-instructions executed.
    pub instructions: u64,
    /// How long it took here.
    pub seconds: f64,
    /// What was found wrong.
    pub hazards: Vec<Hazard>,
    /// What breaks the letter of the ISA and nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub strict: Vec<Hazard>,
    /// How many were suppressed.
    #[serde(default)]
    pub suppressed: u64,
    /// What ended it early.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<String>,
    /// Counters, if wanted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counters: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_way_and_chooses() {
        let options = Options { hazards: false, ..Options::default() };
        let order = Order { options, only: Some("gemm".into()), launch: Some(2), ..Order::default() };
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
        assert!(order.chooses("my_gemm_kernel", 2) && !order.chooses("my_gemm_kernel", 1) && !order.chooses("add", 2));
        assert!(Order::default().chooses("add", 7));
    }
}
