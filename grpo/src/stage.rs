//! What a stage of a run is, and what stages work on.
//!
//! A run is a list of [`Stage`]s. The driver ([`run`](crate::run)) shows progress, measures, saves, resumes, bills and reports, and knows
//! no algorithm; a stage knows its algorithm, and nothing of the others. Between two steps everything that can change is in the
//! [`Workspace`], which the driver saves whole: a stage itself is a value that never changes, so that there is nothing else to
//! remember.

use std::collections::BTreeMap;

use std::path::PathBuf;

use nn::{AdamW, CheckpointError, ConfigError, DeepseekV3ForCausalLM};

use crate::metrics::{Answer, Values};
use crate::policy;
use crate::samples::Kept;
use crate::setup::Setup;
use crate::step::StepError;

/// The model that a run is about, in [`Workspace::models`].
pub const POLICY: &str = "policy";
/// The model that a policy is held near.
pub const REFERENCE: &str = "reference";
/// What says what to expect.
pub const CRITIC: &str = "critic";
/// A model of the preference.
pub const REWARD: &str = "reward";

/// Why a stage cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// A model cannot be made.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// A checkpoint of an earlier stage cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It should imitate samples of which none was kept.
    #[error("the stage `{source_stage}` kept no answer to imitate: none was right, in one notation and short enough")]
    NoSamples {
        /// The stage that should have kept some.
        source_stage: String,
    },
}

/// What stages work on.
pub struct Workspace {
    /// Configuration, problems, tokenizer and device.
    pub setup: Setup,
    /// Models by name: [`POLICY`] always, others while a stage has them.
    pub models: BTreeMap<String, DeepseekV3ForCausalLM>,
    /// The samples that stages kept, by the stages' names.
    pub samples: BTreeMap<String, Vec<Kept>>,
    /// The run folder, in which each stage has left its checkpoint under its name.
    pub folder: PathBuf,
    /// Of the stage that is under way.
    pub optimizer: AdamW,
}

impl Workspace {
    /// A model.
    ///
    /// # Panics
    /// If there is none of the name: a stage makes the models that it needs when it begins.
    pub fn model(&self, name: &str) -> &DeepseekV3ForCausalLM {
        self.models.get(name).unwrap_or_else(|| panic!("the stage has made no model `{name}`"))
    }

    /// The policy.
    pub fn policy(&self) -> &DeepseekV3ForCausalLM {
        self.model(POLICY)
    }

    /// Makes `name` a model with the weights that `of` has now.
    ///
    /// # Errors
    /// The config is refused, which that of a model is not.
    pub fn copy(&mut self, of: &str, name: &str) -> Result<(), ConfigError> {
        let (config, device) = (self.model(of).config().clone(), self.setup.device.clone());
        if self.models.get(name).is_none_or(|there| *there.config() != config) {
            self.models.insert(name.to_owned(), policy::fresh(config, 0, &device)?);
        }
        policy::copy_weights(self.model(of), self.model(name));
        Ok(())
    }
}

/// What a step did.
#[derive(Clone, Debug, Default)]
pub struct Stepped {
    /// Its metrics, without `tokens`, `tokens_per_second` and `seconds`, which the driver adds.
    pub values: Values,
    /// Tokens that went through models, sampled and trained on.
    pub tokens: u64,
    /// Floating-point operations, counted from the shapes.
    pub flops: u64,
    /// An answer to show.
    pub shown: Option<Answer>,
}

/// A stage of a run.
pub trait Stage: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// How many steps it has.
    fn steps(&self) -> usize;

    /// Steps between two states that are saved.
    fn save_every(&self) -> usize;

    /// Steps between two evaluations on the way; 0 for none. What it ends with is measured in any case.
    fn eval_every(&self) -> usize {
        0
    }

    /// Most tokens of an answer when the policy is measured after so many steps.
    fn limit(&self, steps: usize) -> usize;

    /// The name of the model that it trains: the policy is measured, and any is saved as the stage's checkpoint. None trains nothing.
    fn trains(&self) -> Option<&str> {
        Some(POLICY)
    }

    /// Makes the models that it needs, beside the policy, which is there.
    ///
    /// # Errors
    /// One cannot be made, or what an earlier stage should have left is not there.
    fn begin(&self, work: &mut Workspace) -> Result<(), BeginError>;

    /// A fresh optimizer of what it trains.
    fn optimizer(&self, work: &Workspace) -> AdamW;

    /// Makes a step, counted from 0. Everything random in it is a function of the seed and of `step`.
    ///
    /// # Errors
    /// It fails; what it has changed by then is not saved.
    fn step(&self, work: &mut Workspace, step: usize) -> Result<Stepped, StepError>;
}
