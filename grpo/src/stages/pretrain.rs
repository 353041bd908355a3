use nn::AdamW;

use super::{adamw, set_expert_load};
use crate::config::BaseConfig;
use crate::corpus::Corpus;
use crate::metrics::Values;
use crate::policy::Size;
use crate::pretrain;
use crate::stage::{BeginError, POLICY, Stage, Stepped, Workspace};
use crate::step::StepError;

/// Steps between two saved states.
const SAVE_EVERY: usize = 25;

/// Next-token prediction on the corpus of the tasks.
#[derive(Clone, Debug)]
pub struct Pretrain {
    pub name: String,
    pub base: BaseConfig,
    pub seed: u64,
    /// Most tokens of an answer when it is measured.
    pub limit: usize,
}

impl Stage for Pretrain {
    fn name(&self) -> &str {
        &self.name
    }

    fn steps(&self) -> usize {
        self.base.steps
    }

    fn save_every(&self) -> usize {
        SAVE_EVERY
    }

    fn limit(&self, _: usize) -> usize {
        self.limit
    }

    fn begin(&self, _: &mut Workspace) -> Result<(), BeginError> {
        Ok(())
    }

    fn optimizer(&self, work: &Workspace) -> AdamW {
        adamw(work, &[POLICY], self.base.betas, self.base.weight_decay)
    }

    fn step(&self, work: &mut Workspace, step: usize) -> Result<Stepped, StepError> {
        let examples = Corpus::new(&self.base, &work.setup.pools, self.seed).examples(step as u64);
        let lr = self.base.lr_at(step);
        let policy = &work.models[POLICY];
        let made = pretrain::step(policy, &mut work.optimizer, &examples, lr, &self.base)?;
        let mut values = Values::new().with("loss", made.loss).with("grad_norm", made.grad_norm).with("lr", lr);
        set_expert_load(&mut values, &made.expert_load);
        let flops = 3 * Size::of(policy).forward_flops(examples.iter().map(|e| e.tokens.len()));
        Ok(Stepped { values, tokens: made.tokens, flops, shown: None })
    }
}
