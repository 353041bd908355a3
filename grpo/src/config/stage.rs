//! `[[stage]]`: what happens in a run, in its order.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::Table;

use super::{BaseConfig, RlConfig, RunConfig, RunConfigError, merge, validate};

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Next-token prediction on the corpus of the tasks.
    Pretrain,
    /// Group Relative Policy Optimization.
    Grpo,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Pretrain => "pretrain",
            Kind::Grpo => "grpo",
        })
    }
}

/// A stage: its kind, its name, and the keys in which it differs from its kind's table, which is `[base]` for what imitates and
/// `[rl]` for what reinforces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// What it does.
    pub kind: Kind,
    /// Its name, in metrics, report and bill, and of the folder with its checkpoint.
    pub name: String,
    /// The stage whose checkpoint it begins with; without it, the policy as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The other keys.
    #[serde(flatten)]
    pub over: Table,
}

impl StageConfig {
    /// A stage as its kind's table has it.
    pub fn new(kind: Kind, name: &str) -> StageConfig {
        StageConfig { kind, name: name.into(), from: None, over: Table::new() }
    }

    /// Its hyperparameters, of a stage that imitates.
    ///
    /// # Errors
    /// A key that is unknown, or a value of another type or out of range.
    pub fn imitation(&self, run: &RunConfig) -> Result<BaseConfig, RunConfigError> {
        let config = self.laid_over(&run.base)?;
        validate::base(&config)?;
        Ok(config)
    }

    /// Its hyperparameters, of a stage that reinforces.
    ///
    /// # Errors
    /// As [`imitation`](Self::imitation).
    pub fn reinforcement(&self, run: &RunConfig) -> Result<RlConfig, RunConfigError> {
        let config = self.laid_over(&run.rl)?;
        validate::rl(&config)?;
        Ok(config)
    }

    fn laid_over<T: Serialize + DeserializeOwned>(&self, defaults: &T) -> Result<T, RunConfigError> {
        let mut table = Table::try_from(defaults).expect("a configuration is a TOML table");
        merge(&mut table, self.over.clone());
        let refuse = |e: toml::de::Error| RunConfigError::Stage { name: self.name.clone(), message: e.message().into() };
        table.try_into().map_err(refuse)
    }
}
