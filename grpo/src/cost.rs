//! What each stage cost, as the paper's table has it: device hours, tokens, FLOPs, dollars.

use serde::{Deserialize, Serialize};

use crate::metrics::Scores;
use crate::rundir::RunFormat;

/// The bill of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// The name of the stage, or `evaluation`.
    pub name: String,
    /// Wall-clock seconds on one device.
    pub seconds: f64,
    /// Tokens through the model, sampled and trained on.
    pub tokens: u64,
    /// Floating-point operations, counted from the shapes.
    pub flops: u64,
    /// Dollars.
    pub cost_usd: f64,
}

impl StageCost {
    /// Hours of the device.
    pub fn device_hours(&self) -> f64 {
        self.seconds / 3600.0
    }
}

/// The bill of a run. It is part of the state that is saved, so that a resumed run goes on counting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Dollars per device hour.
    pub price: f64,
    /// In the order in which they began.
    pub stages: Vec<StageCost>,
}

impl Ledger {
    /// An empty bill at a price in dollars per device hour.
    pub fn new(price: f64) -> Self {
        Self { price, stages: Vec::new() }
    }

    /// Adds work to a stage.
    pub fn add(&mut self, name: &str, seconds: f64, tokens: u64, flops: u64) {
        let i = self.stages.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.stages.push(StageCost { name: name.into(), seconds: 0.0, tokens: 0, flops: 0, cost_usd: 0.0 });
            self.stages.len() - 1
        });
        let stage = &mut self.stages[i];
        stage.seconds += seconds;
        stage.tokens += tokens;
        stage.flops += flops;
        stage.cost_usd = stage.device_hours() * self.price;
    }
}

/// The sum of some stages, under the name `total`.
pub fn total(stages: &[StageCost]) -> StageCost {
    StageCost {
        name: "total".into(),
        seconds: stages.iter().map(|s| s.seconds).sum(),
        tokens: stages.iter().map(|s| s.tokens).sum(),
        flops: stages.iter().map(|s| s.flops).sum(),
        cost_usd: stages.iter().map(|s| s.cost_usd).sum(),
    }
}

/// What the policy that a stage ended with scores on a task's test set, held out from every stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The stage.
    pub stage: String,
    /// The task.
    pub task: String,
    /// What came out.
    #[serde(flatten)]
    pub scores: Scores,
}

/// `summary.json`: the run in one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the run folder; not in older files.
    #[serde(default)]
    pub format: RunFormat,
    /// The stage whose policy is the run's result.
    pub result: String,
    /// The table of stages and tasks: in the stages' order, each stage's tasks in the run's order.
    pub measured: Vec<Measured>,
    /// What it cost.
    pub stages: Vec<StageCost>,
    /// Dollars per device hour behind `cost_usd`.
    pub price: f64,
    /// The seed.
    pub seed: u64,
    /// The device, in words, with its threads.
    pub device: String,
    /// Parameters of the model, all and those active per token.
    pub parameters: [u64; 2],
    /// The most bytes of host memory at one time: that tensors held, and with what was kept for reuse. Since the run was started or
    /// resumed.
    #[serde(default)]
    pub peak_memory: [u64; 2],
    /// The control experiment, if it was one.
    pub control: Option<String>,
    /// The program and the arguments it was given.
    pub command: String,
}

impl Summary {
    /// The scores on the first task of what the run began to measure and of its result.
    pub fn first_and_last(&self) -> Option<[&Scores; 2]> {
        let first = self.measured.first()?;
        let last = self.measured.iter().find(|m| m.task == first.task && m.stage == self.result).unwrap_or(first);
        Some([&first.scores, &last.scores])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_billed_by_the_hour() {
        let mut ledger = Ledger::new(2.0);
        ledger.add("base", 1800.0, 10, 100);
        ledger.add("r1_zero", 3600.0, 1, 2);
        ledger.add("base", 1800.0, 5, 50);
        assert_eq!(ledger.stages.iter().map(|s| s.cost_usd).collect::<Vec<_>>(), [2.0, 2.0]);
        let total = total(&ledger.stages);
        assert_eq!((total.device_hours(), total.tokens, total.flops, total.cost_usd), (2.0, 16, 152, 4.0));
    }

    #[test]
    fn the_summary_has_its_promised_shape() {
        let mut scores = Scores::default();
        scores.set_value("pass@1", 0.175);
        scores.set_value("pass@16", 0.92);
        scores.set_value("completion_length", 36.5);
        let mut ledger = Ledger::new(0.1);
        ledger.add("base", 60.0, 7, 9);
        let summary = Summary {
            format: RunFormat,
            result: "base".into(),
            measured: vec![Measured { stage: "base".into(), task: "sums".into(), scores }],
            stages: ledger.stages,
            price: 0.1,
            seed: 3,
            device: "cpu".into(),
            parameters: [1_354_560, 691_008],
            peak_memory: [200 << 20, 400 << 20],
            control: None,
            command: "grpo_r1 --seed 3".into(),
        };
        let json = serde_json::to_value(&summary).unwrap();
        for key in ["pass@1", "pass@16", "completion_length"] {
            assert!(json["measured"][0][key].is_f64(), "{key}");
        }
        assert_eq!((&json["measured"][0]["stage"], &json["measured"][0]["task"]), (&"base".into(), &"sums".into()));
        assert_eq!(summary.first_and_last(), Some([&summary.measured[0].scores; 2]));
        for key in ["name", "seconds", "tokens", "flops", "cost_usd"] {
            assert!(!json["stages"][0][key].is_null(), "{key}");
        }
        assert_eq!((&json["seed"], &json["device"]), (&3.into(), &"cpu".into()));
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }
}
