//! Batched generation over a key-value cache.
//!
//! Prompts may have any lengths: each sequence has its own positions from 0 on, padding lies on the right and is never seen.
//! A prompt is computed once however many completions are drawn from it, and a finished sequence leaves the batch. What a
//! sequence becomes depends on its prompt, its seed and the settings alone, and the log-probabilities recorded on the way are
//! those of [`DeepseekV3ForCausalLM::log_probs`] over the finished sequence at the same temperature, bit for bit (not so with the
//! absorbed cache).

use crate::model::{DeepseekV3ForCausalLM, log_softmax};
use autograd::{Var, no_grad};
use tensor::{DType, Device, Tensor, random};

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the most probable token.
    pub temperature: f64,
    /// Only the so many most probable tokens.
    pub top_k: Option<usize>,
    /// Only the most probable tokens that together reach this probability (Holtzman et al., 2020), after `top_k`; at least one.
    pub top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: None, top_p: 1.0 }
    }
}

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    /// Completions a prompt.
    pub num_generations: usize,
    /// Tokens a completion has at most.
    pub max_new_tokens: usize,
    /// Tokens after which a completion ends; they are part of it.
    pub stop_tokens: Vec<i64>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Of all randomness: completion `j` of prompt `i` has the seed `row_seed(row_seed(seed, i), j)`.
    pub seed: u64,
    /// Seeds of the prompts, instead of `row_seed(seed, i)`: so that a prompt's completions do not depend on its place.
    pub prompt_seeds: Option<Vec<u64>>,
    /// Cache the compressed latent: much less memory, results equal up to rounding.
    pub absorbed: bool,
}

impl Default for Generate {
    fn default() -> Self {
        Generate {
            num_generations: 1,
            max_new_tokens: 64,
            stop_tokens: Vec::new(),
            sampling: Sampling::default(),
            seed: 0,
            prompt_seeds: None,
            absorbed: false,
        }
    }
}

/// One completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Which prompt it continues.
    pub prompt: usize,
    /// The new tokens, with the stop token if there was one.
    pub tokens: Vec<i64>,
    /// Log-probability of each token under the model at the sampling temperature (1 where that is 0), nothing cut off.
    pub logprobs: Vec<f32>,
    /// Entropy (nats) of the distribution that each token comes from, likewise.
    pub entropies: Vec<f32>,
    /// Whether it ended with a stop token, and not because it was too long.
    pub stopped: bool,
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tokens that the longest sequences have got.
    pub step: usize,
    /// Sequences that go on.
    pub active: usize,
    /// Tokens generated in all sequences together.
    pub tokens: usize,
}

/// Why nothing can be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// A prompt without tokens.
    #[error("prompt {prompt} is empty")]
    EmptyPrompt {
        /// Its place.
        prompt: usize,
    },
    /// A token that the model does not have.
    #[error("prompt {prompt} holds the token {token}, but the vocabulary has {vocab_size}")]
    UnknownToken {
        /// The prompt's place.
        prompt: usize,
        /// The token.
        token: i64,
        /// Tokens of the vocabulary.
        vocab_size: usize,
    },
    /// An impossible setting.
    #[error("`{setting}` is {found}, expected {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The model gave NaN, plus infinity, or no finite logit.
    #[error("prompt {prompt}: the logits of token {position} are not finite")]
    NotFinite {
        /// The prompt's place.
        prompt: usize,
        /// Position of the token that was to be drawn.
        position: usize,
    },
}

impl GenerateError {
    /// The same error where the prompts are those from number `first` on of a longer list.
    pub fn with_prompts_from(mut self, first: usize) -> Self {
        match &mut self {
            Self::EmptyPrompt { prompt } | Self::UnknownToken { prompt, .. } | Self::NotFinite { prompt, .. } => *prompt += first,
            Self::Setting { .. } => {}
        }
        self
    }
}

/// The seed of a numbered stream within the one of `seed`.
pub fn row_seed(seed: u64, index: usize) -> u64 {
    let [a, b, ..] = random::philox(seed, index as u64);
    (a as u64) << 32 | b as u64
}

impl Generate {
    fn check(&self, prompts: &[Vec<i64>], vocab_size: usize) -> Result<(), GenerateError> {
        let Sampling { temperature, top_k, top_p } = self.sampling;
        let setting = |setting, ok: bool, found: String, expected| match ok {
            true => Ok(()),
            false => Err(GenerateError::Setting { setting, found, expected }),
        };
        let seeds = self.prompt_seeds.as_ref().map_or(prompts.len(), Vec::len);
        setting("temperature", temperature.is_finite() && temperature >= 0.0, temperature.to_string(), "a number from 0 on")?;
        setting("top_k", top_k != Some(0), "0".into(), "at least 1")?;
        setting("top_p", top_p > 0.0 && top_p <= 1.0, top_p.to_string(), "a number above 0, at most 1")?;
        setting("num_generations", self.num_generations > 0, "0".into(), "at least 1")?;
        setting("prompt_seeds", seeds == prompts.len(), format!("{seeds} seeds"), "one a prompt")?;
        for (prompt, tokens) in prompts.iter().enumerate() {
            if tokens.is_empty() {
                return Err(GenerateError::EmptyPrompt { prompt });
            }
            if let Some(&token) = tokens.iter().find(|&&t| t < 0 || t >= vocab_size as i64) {
                return Err(GenerateError::UnknownToken { prompt, token, vocab_size });
            }
        }
        Ok(())
    }
}

/// A sequence in the making.
struct Row {
    completion: Completion,
    seed: u64,
    /// Tokens in the cache.
    len: usize,
    done: bool,
}

impl Row {
    /// Draws the next token.
    fn extend(&mut self, logits: &[f32], log_probs: &[f32], options: &Generate) -> Result<(), GenerateError> {
        let Completion { prompt, tokens, logprobs, entropies, stopped } = &mut self.completion;
        // Minus infinity forbids a token; plus infinity would be a division of infinities.
        let possible = |&x: &f32| x.is_finite() || x == f32::NEG_INFINITY;
        if !logits.iter().all(possible) || !logits.iter().any(|x| x.is_finite()) {
            return Err(GenerateError::NotFinite { prompt: *prompt, position: self.len });
        }
        let token = draw(logits, &options.sampling, random::uniform(self.seed, self.len as u64));
        tokens.push(token as i64);
        logprobs.push(log_probs[token]);
        // A token of probability 0 adds nothing.
        let terms = log_probs.iter().map(|&l| l as f64).filter(|l| l.is_finite()).map(|l| -l * l.exp());
        entropies.push(terms.sum::<f64>() as f32);
        *stopped = options.stop_tokens.contains(&(token as i64));
        self.done = *stopped || tokens.len() >= options.max_new_tokens;
        Ok(())
    }
}

/// The token that the uniform number `u` stands for.
fn draw(logits: &[f32], sampling: &Sampling, u: f64) -> usize {
    let better = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    if sampling.temperature == 0.0 {
        return (0..logits.len()).min_by(better).expect("the vocabulary is not empty");
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let mut weights: Vec<f64> = logits.iter().map(|&x| ((x as f64 - max) / sampling.temperature).exp()).collect();
    if sampling.top_k.is_some() || sampling.top_p < 1.0 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_unstable_by(better);
        let mut kept = sampling.top_k.unwrap_or(usize::MAX).min(order.len());
        let enough = sampling.top_p * order[..kept].iter().map(|&i| weights[i]).sum::<f64>();
        let mut sum = 0.0;
        let reached = order[..kept].iter().position(|&i| {
            sum += weights[i];
            sum >= enough
        });
        kept = reached.map_or(kept, |last| last + 1);
        order[kept..].iter().for_each(|&i| weights[i] = 0.0);
    }
    let target = u * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let found = weights.iter().position(|w| {
        sum += w;
        target < sum
    });
    // Rounding may leave the target at the very end.
    found.or_else(|| weights.iter().rposition(|&w| w > 0.0)).expect("the most probable token has weight 1")
}

impl DeepseekV3ForCausalLM {
    /// Continues prompts: `num_generations` completions of each, in the order of the prompts.
    ///
    /// # Errors
    /// If a prompt is empty or holds an unknown token, a setting is impossible, or the model gives logits that are not finite.
    pub fn generate(&self, prompts: &[Vec<i64>], options: &Generate) -> Result<Vec<Completion>, GenerateError> {
        self.generate_with(prompts, options, &mut |_| ())
    }

    /// As [`DeepseekV3ForCausalLM::generate`], telling how far it is after each step.
    ///
    /// # Errors
    /// The same.
    pub fn generate_with(
        &self,
        prompts: &[Vec<i64>],
        options: &Generate,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Completion>, GenerateError> {
        options.check(prompts, self.config().vocab_size)?;
        no_grad(|| self.continue_prompts(prompts, options, progress))
    }

    fn continue_prompts(
        &self,
        prompts: &[Vec<i64>],
        options: &Generate,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Completion>, GenerateError> {
        let (device, n) = (self.device(), options.num_generations);
        let mut rows: Vec<Row> = (0..prompts.len() * n).map(|r| new_row(prompts, options, r / n, r % n)).collect();
        if prompts.is_empty() || options.max_new_tokens == 0 {
            return Ok(rows.into_iter().map(|r| r.completion).collect());
        }
        let mut cache = self.cache(prompts.len(), options.absorbed);
        let first = self.prefill(prompts, &mut cache, options);
        for (r, row) in rows.iter_mut().enumerate() {
            row.extend(first.logits(r / n), first.log_probs(r / n), options)?;
        }
        // Which row each sequence of the cache belongs to.
        let mut batch: Vec<usize> = (0..rows.len()).filter(|&r| !rows[r].done).collect();
        cache.select(&positions(batch.iter().map(|r| r / n), &device));
        for step in 1.. {
            let active = batch.iter().filter(|&&r| !rows[r].done).count();
            let tokens = rows.iter().map(|row| row.completion.tokens.len()).sum();
            progress(Progress { step, active, tokens });
            if active == 0 {
                break;
            }
            if active * 4 < batch.len() * 3 {
                let kept: Vec<usize> = (0..batch.len()).filter(|&b| !rows[batch[b]].done).collect();
                cache.select(&positions(kept.iter().copied(), &device));
                batch = kept.into_iter().map(|b| batch[b]).collect();
            }
            // A finished row that is still in the batch writes its first place, sees nothing else, and is not looked at.
            let ids: Vec<i64> = batch.iter().map(|&r| *rows[r].completion.tokens.last().expect("one token was drawn")).collect();
            let starts: Vec<usize> = batch.iter().map(|&r| if rows[r].done { 0 } else { rows[r].len }).collect();
            let ids = Tensor::from_vec(ids, [batch.len(), 1], &device);
            let next = Next::new(&self.logits(&self.forward_cached(&ids, &mut cache, &starts)), options);
            for (b, &r) in batch.iter().enumerate().filter(|&(_, &r)| !rows[r].done).collect::<Vec<_>>() {
                rows[r].len += 1;
                rows[r].extend(next.logits(b), next.log_probs(b), options)?;
            }
        }
        Ok(rows.into_iter().map(|r| r.completion).collect())
    }

    /// The distributions after each prompt, and the prompts in the cache.
    fn prefill(&self, prompts: &[Vec<i64>], cache: &mut crate::cache::KvCache, options: &Generate) -> Next {
        let device = self.device();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |p: &Vec<i64>| p.iter().copied().chain(std::iter::repeat(0)).take(longest).collect::<Vec<_>>();
        let ids = Tensor::from_vec(prompts.iter().flat_map(padded).collect(), [prompts.len(), longest], &device);
        let hidden = self.forward_cached(&ids, cache, &vec![0; prompts.len()]).flatten(0, 1);
        let last = positions(prompts.iter().enumerate().map(|(i, p)| i * longest + p.len() - 1), &device);
        Next::new(&self.logits(&hidden.index_select(0, &last)), options)
    }
}

fn new_row(prompts: &[Vec<i64>], options: &Generate, prompt: usize, sample: usize) -> Row {
    let seed = options.prompt_seeds.as_ref().map_or_else(|| row_seed(options.seed, prompt), |seeds| seeds[prompt]);
    Row {
        completion: Completion { prompt, tokens: Vec::new(), logprobs: Vec::new(), entropies: Vec::new(), stopped: false },
        seed: row_seed(seed, sample),
        len: prompts[prompt].len(),
        done: false,
    }
}

fn positions(at: impl Iterator<Item = usize>, device: &Device) -> Tensor {
    let at: Vec<i64> = at.map(|i| i as i64).collect();
    Tensor::from_slice(&at, at.len(), device)
}

/// The next token's distribution in each sequence, on the host.
struct Next {
    logits: Vec<f32>,
    log_probs: Vec<f32>,
    vocab_size: usize,
}

impl Next {
    fn new(logits: &Var, options: &Generate) -> Next {
        let host = |x: &Var| x.value().to_dtype(DType::F32).to_vec::<f32>();
        let temperature = if options.sampling.temperature == 0.0 { 1.0 } else { options.sampling.temperature };
        Next { logits: host(logits), log_probs: host(&log_softmax(logits, temperature)), vocab_size: logits.dim(-1) }
    }

    fn logits(&self, b: usize) -> &[f32] {
        &self.logits[b * self.vocab_size..][..self.vocab_size]
    }

    fn log_probs(&self, b: usize) -> &[f32] {
        &self.log_probs[b * self.vocab_size..][..self.vocab_size]
    }
}
