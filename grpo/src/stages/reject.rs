use nn::{AdamW, AdamWConfig, row_seed};

use crate::config::RejectConfig;
use crate::evaluate::{observed, share, shown};
use crate::metrics::Values;
use crate::policy::Size;
use crate::reward::Accuracy;
use crate::rollout::{RolloutOptions, Sample, rollout};
use crate::samples::Kept;
use crate::stage::{BeginError, POLICY, Stage, Stepped, Workspace};
use crate::step::StepError;

/// Rejection sampling: the policy answers, and what keeps to the rules is kept for others to imitate.
#[derive(Clone, Debug)]
pub struct Reject {
    pub name: String,
    pub reject: RejectConfig,
    pub seed: u64,
}

impl Reject {
    /// The answers of one question that are kept: right, in the first notation, not rambling; the shortest ones, each once.
    fn kept<'a>(&self, group: &'a [Sample]) -> Vec<&'a Sample> {
        let consistent = |s: &Sample| {
            let part = s.parts.iter().find(|(name, _)| *name == "consistency");
            part.is_none_or(|(_, share)| *share >= self.reject.min_consistency)
        };
        let keeps = |s: &&Sample| s.correct && consistent(s) && s.tokens.len() <= self.reject.longest;
        let mut kept: Vec<&Sample> = group.iter().filter(keeps).collect();
        kept.sort_by_key(|s| (s.tokens.len(), &s.tokens));
        kept.dedup_by(|a, b| a.tokens == b.tokens);
        kept.truncate(self.reject.keep);
        kept
    }
}

impl Stage for Reject {
    fn name(&self) -> &str {
        &self.name
    }

    fn steps(&self) -> usize {
        self.reject.steps
    }

    fn save_every(&self) -> usize {
        1
    }

    fn limit(&self, _: usize) -> usize {
        self.reject.max_completion_length
    }

    fn trains(&self) -> Option<&str> {
        None
    }

    fn begin(&self, work: &mut Workspace) -> Result<(), BeginError> {
        work.samples.insert(self.name.clone(), Vec::new());
        Ok(())
    }

    fn optimizer(&self, _: &Workspace) -> AdamW {
        AdamW::new(Vec::new(), AdamWConfig::default())
    }

    fn step(&self, work: &mut Workspace, step: usize) -> Result<Stepped, StepError> {
        let RejectConfig { questions, num_generations, max_completion_length, temperature, ref tasks, .. } = self.reject;
        let problems = work.setup.problems(tasks, questions, self.seed, step);
        let seed = row_seed(row_seed(self.seed, 1), step);
        let options = RolloutOptions { num_generations, max_completion_length, temperature, seed };
        let policy = &work.models[POLICY];
        let samples = rollout(policy, &work.setup.tokenizer, &problems, (&Accuracy, &Accuracy), &options)?;
        let all = work.samples.get_mut(&self.name).expect("made when the stage began");
        let before = all.len();
        for (problem, group) in problems.iter().zip(samples.chunks(num_generations)) {
            let of = |s: &Sample| Kept { question: problem.text(), response: s.response.text().to_owned() };
            all.extend(self.kept(group).into_iter().map(of));
        }
        let mut values = Values::new()
            .with("accuracy", share(&samples, |s| s.correct))
            .with("kept", (all.len() - before) as f64)
            .with("completion_length", samples.iter().map(|s| s.tokens.len()).sum::<usize>() as f64 / samples.len() as f64)
            .with("clipped_ratio", share(&samples, |s| !s.response.finished()));
        values.extend(&observed(&samples, &problems));
        Ok(Stepped {
            values,
            tokens: samples.iter().map(|s| s.len() as u64).sum(),
            flops: Size::of(policy).forward_flops(samples.iter().map(Sample::len)),
            shown: (step == 0).then(|| shown(&problems[0], &samples[0])),
        })
    }
}
