use nn::{AdamW, row_seed};

use super::adamw;
use crate::config::RewardModelConfig;
use crate::metrics::Values;
use crate::policy::Size;
use crate::preference::{self, Pair};
use crate::reward::Accuracy;
use crate::rng::Rng;
use crate::rollout::{RolloutOptions, Sample, rollout};
use crate::stage::{BeginError, POLICY, REWARD, Stage, Stepped, Workspace};
use crate::step::StepError;
use crate::task::Problem;

/// Steps between two saved states.
const SAVE_EVERY: usize = 5;
/// Steps between two measurements on pairs of held-out problems.
const MEASURE_EVERY: usize = 10;

/// A model of the preference, trained on pairs of the policy's own answers; the policy itself stays as it is.
#[derive(Clone, Debug)]
pub struct RewardModel {
    pub name: String,
    pub config: RewardModelConfig,
    pub seed: u64,
}

/// Pairs of neighbours in each group, the preferred one first: a right answer before a wrong one, one that keeps to the first notation
/// before one that mixes, and then the shorter one. Where nothing tells them apart there is no pair.
fn pairs(samples: &[Sample], num_generations: usize) -> Vec<Pair> {
    let rank = |s: &Sample| {
        let consistency = s.parts.iter().find(|(name, _)| *name == "consistency").map_or(1.0, |(_, share)| *share);
        (s.correct, (consistency * 1e6) as i64, -(s.tokens.len() as i64))
    };
    let neighbours = (0..samples.len()).step_by(2).filter(|i| i % num_generations + 1 < num_generations);
    neighbours
        .filter_map(|i| {
            let [first, second] = [i, i + 1].map(|i| rank(&samples[i]));
            (first != second).then(|| if first > second { [i, i + 1] } else { [i + 1, i] })
        })
        .collect()
}

impl RewardModel {
    fn answers(&self, work: &Workspace, problems: &[Problem], seed: u64) -> Result<Vec<Sample>, StepError> {
        let RewardModelConfig { num_generations, max_completion_length, temperature, .. } = self.config;
        let options = RolloutOptions { num_generations, max_completion_length, temperature, seed };
        Ok(rollout(work.policy(), &work.setup.tokenizer, problems, (&Accuracy, &Accuracy), &options)?)
    }
}

impl Stage for RewardModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn steps(&self) -> usize {
        self.config.steps
    }

    fn save_every(&self) -> usize {
        SAVE_EVERY
    }

    fn limit(&self, _: usize) -> usize {
        self.config.max_completion_length
    }

    fn trains(&self) -> Option<&str> {
        Some(REWARD)
    }

    fn begin(&self, work: &mut Workspace) -> Result<(), BeginError> {
        Ok(work.copy(POLICY, REWARD)?)
    }

    fn optimizer(&self, work: &Workspace) -> AdamW {
        adamw(work, &[REWARD], self.config.betas, self.config.weight_decay)
    }

    fn step(&self, work: &mut Workspace, step: usize) -> Result<Stepped, StepError> {
        let config = &self.config;
        let problems = work.setup.problems(&config.tasks, config.questions, self.seed, step);
        let samples = self.answers(work, &problems, row_seed(row_seed(self.seed, 1), step))?;
        let true_pairs = pairs(&samples, config.num_generations);
        let before = preference::scores(work.model(REWARD), &samples);
        // The labels that it learns from.
        let mut rng = Rng::new(self.seed, "labels", step as u64);
        let label = |&[a, b]: &Pair| if rng.chance(config.label_noise) { [b, a] } else { [a, b] };
        let labelled: Vec<Pair> = true_pairs.iter().map(label).collect();
        let lr = config.lr * (1.0 - step as f64 / config.steps as f64);
        let size = Size::of(work.policy());
        let mut values = Values::new().with("pairs", labelled.len() as f64);
        // Fresh answers, before they are learned from.
        values.set("pairs_right", preference::pairs_right(&before, &true_pairs));
        let mut trained = 0;
        if !labelled.is_empty() {
            let model = &work.models[REWARD];
            let (loss, grad_norm) = preference::step(model, &mut work.optimizer, &samples, &labelled, lr, config.grad_clip)?;
            values = values.with("loss", loss).with("grad_norm", grad_norm);
            trained = labelled.iter().flatten().map(|&i| samples[i].len()).sum();
        }
        let mut tokens = samples.iter().map(Sample::len).sum::<usize>() + trained;
        let mut flops = 2 * size.forward_flops(samples.iter().map(Sample::len))
            + 3 * size.forward_flops(labelled.iter().flatten().map(|&i| samples[i].len()));
        if (step + 1).is_multiple_of(MEASURE_EVERY) || step + 1 == config.steps {
            let held_out: Vec<Problem> = work.setup.pools[0].held_out().iter().take(config.questions).cloned().collect();
            // The same answers each time: the policy does not change.
            let answers = self.answers(work, &held_out, row_seed(self.seed, 2))?;
            let scores = preference::scores(work.model(REWARD), &answers);
            let pairs = pairs(&answers, config.num_generations);
            values.set("held_out_pairs_right", preference::pairs_right(&scores, &pairs));
            values.set("held_out_pairs", pairs.len() as f64);
            tokens += 2 * answers.iter().map(Sample::len).sum::<usize>();
            flops += 2 * size.forward_flops(answers.iter().map(Sample::len));
        }
        Ok(Stepped { values: values.with("lr", lr), tokens: tokens as u64, flops, shown: None })
    }
}
