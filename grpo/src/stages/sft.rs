use nn::AdamW;

use super::{adamw, set_expert_load};
use crate::config::SftConfig;
use crate::example::Example;
use crate::metrics::Values;
use crate::policy::Size;
use crate::pretrain;
use crate::rng::{Rng, weighted};
use crate::stage::{BeginError, POLICY, Stage, Stepped, Workspace};
use crate::step::StepError;
use crate::task::Lesson;

/// Steps between two saved states.
const SAVE_EVERY: usize = 25;

/// Supervised fine-tuning: curated examples of tasks and samples that stages kept. Distillation is the same with a student.
#[derive(Clone, Debug)]
pub struct Sft {
    pub name: String,
    pub sft: SftConfig,
    pub seed: u64,
    /// Most tokens of an answer when it is measured.
    pub limit: usize,
}

impl Sft {
    /// The example of one place in a batch.
    fn example(&self, work: &Workspace, rng: &mut Rng) -> Example {
        let source = weighted(&self.sft.mix, rng);
        if let Some(pool) = work.setup.pools.iter().find(|pool| pool.name() == source) {
            // So many distinct ones, however often they are seen.
            let index = rng.below(self.sft.examples) as u64;
            let mut rng = Rng::new(self.seed, "curated", index);
            let lesson = pool.lesson(Lesson::Curated, &mut rng).or_else(|| pool.lesson(Lesson::Trace, &mut rng));
            return lesson.expect("checked when the setup was made");
        }
        let kept = &work.samples[source];
        kept[rng.below(kept.len())].example(&work.setup.tokenizer)
    }
}

impl Stage for Sft {
    fn name(&self) -> &str {
        &self.name
    }

    fn steps(&self) -> usize {
        self.sft.steps
    }

    fn save_every(&self) -> usize {
        SAVE_EVERY
    }

    fn limit(&self, _: usize) -> usize {
        self.limit
    }

    fn begin(&self, work: &mut Workspace) -> Result<(), BeginError> {
        let empty = |source: &&String| work.samples.get(*source).is_some_and(|kept| kept.is_empty());
        match self.sft.mix.keys().find(empty) {
            Some(source) => Err(BeginError::NoSamples { source_stage: source.clone() }),
            None => Ok(()),
        }
    }

    fn optimizer(&self, work: &Workspace) -> AdamW {
        adamw(work, &[POLICY], self.sft.betas, self.sft.weight_decay)
    }

    fn step(&self, work: &mut Workspace, step: usize) -> Result<Stepped, StepError> {
        let base = self.sft.imitation();
        let mut rng = Rng::new(self.seed, "fine-tuning", step as u64);
        let examples: Vec<Example> = (0..self.sft.batch_size).map(|_| self.example(work, &mut rng)).collect();
        let lr = base.lr_at(step);
        let policy = &work.models[POLICY];
        let made = pretrain::step(policy, &mut work.optimizer, &examples, lr, &base)?;
        let mut values = Values::new().with("loss", made.loss).with("grad_norm", made.grad_norm).with("lr", lr);
        set_expert_load(&mut values, &made.expert_load);
        let flops = 3 * Size::of(policy).forward_flops(examples.iter().map(|e| e.tokens.len()));
        Ok(Stepped { values, tokens: made.tokens, flops, shown: None })
    }
}
