//! `[[stage]]`: what happens in a run, in its order.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::Table;

use super::{BaseConfig, RejectConfig, RewardModelConfig, RlConfig, RunConfig, RunConfigError, SftConfig, merge, validate};

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Next-token prediction on the corpus of the tasks.
    Pretrain,
    /// Supervised fine-tuning on curated examples and on samples that were kept.
    Sft,
    /// Group Relative Policy Optimization.
    Grpo,
    /// Proximal Policy Optimization, with a critic.
    Ppo,
    /// Rejection sampling.
    Reject,
    /// A model of the preference.
    RewardModel,
    /// As [`Sft`](Self::Sft), of a student on the samples of its teacher.
    Distill,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Pretrain => "pretrain",
            Kind::Sft => "sft",
            Kind::Grpo => "grpo",
            Kind::Ppo => "ppo",
            Kind::Reject => "reject",
            Kind::RewardModel => "reward_model",
            Kind::Distill => "distill",
        })
    }
}

/// A stage: its kind, its name, and the keys in which it differs from its kind's table, `[base]` (pretrain), `[rl]`
/// (grpo and ppo), `[sft]` (sft and distill), `[reject]` or `[reward_model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// What it does.
    pub kind: Kind,
    /// Its name, in metrics, report and bill, and of the folder with its checkpoint.
    pub name: String,
    /// The stage whose checkpoint it begins with; without it, the policy as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Keys in which its model differs from the run's. It begins with fresh weights then, or with those of `from`.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub model: Table,
    /// The other keys.
    #[serde(flatten)]
    pub over: Table,
}

impl StageConfig {
    /// A stage as its kind's table has it.
    pub fn new(kind: Kind, name: &str) -> StageConfig {
        StageConfig { kind, name: name.into(), from: None, model: Table::new(), over: Table::new() }
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

    /// Its hyperparameters, of a stage that fine-tunes or distils.
    ///
    /// # Errors
    /// As [`imitation`](Self::imitation).
    pub fn fine_tuning(&self, run: &RunConfig) -> Result<SftConfig, RunConfigError> {
        let config = self.laid_over(&run.sft)?;
        validate::sft(&config)?;
        Ok(config)
    }

    /// Its hyperparameters, of a stage that samples and rejects.
    ///
    /// # Errors
    /// As [`imitation`](Self::imitation).
    pub fn rejection(&self, run: &RunConfig) -> Result<RejectConfig, RunConfigError> {
        let config = self.laid_over(&run.reject)?;
        validate::reject(&config)?;
        Ok(config)
    }

    /// Its hyperparameters, of a stage that models the preference.
    ///
    /// # Errors
    /// As [`imitation`](Self::imitation).
    pub fn preference(&self, run: &RunConfig) -> Result<RewardModelConfig, RunConfigError> {
        let config = self.laid_over(&run.reward_model)?;
        validate::reward_model(&config)?;
        Ok(config)
    }

    /// The config of its model.
    ///
    /// # Errors
    /// As [`imitation`](Self::imitation).
    pub fn model(&self, run: &RunConfig) -> Result<nn::Config, RunConfigError> {
        let mut table = Table::try_from(&run.model).expect("a configuration is a TOML table");
        merge(&mut table, self.model.clone());
        let refuse = |e: toml::de::Error| RunConfigError::Stage { name: self.name.clone(), message: e.message().into() };
        let config = table.try_into().map_err(refuse)?;
        validate::model(&config)?;
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
