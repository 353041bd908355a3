//! The objective of Group Relative Policy Optimization (Shao et al., arXiv:2402.03300; DeepSeek-R1, arXiv:2501.12948, section 2.1)
//! and its relatives.
//!
//! For a question, answers `o_1 … o_G` are sampled from the policy as it then is, `π_old`. With rewards `r_i` the advantage of an
//! answer is `A_i = (r_i − mean r) / std r`; no critic is needed, the group is the baseline. The policy maximises
//!
//! ```text
//! Σ_i Σ_t w_it · [ min(ρ_it A_i, clip(ρ_it, 1 − ε, 1 + ε) A_i) − β D_it ]
//! ρ_it = π(o_it | …) / π_old(o_it | …)         D_it = π_ref/π − log(π_ref/π) − 1   (Schulman's k3 estimate of the KL divergence)
//! ```
//!
//! | [`LossType`] | `w_it` for `N` answers of lengths `|o_i|` |
//! |---|---|
//! | `Grpo` | `1 / (N·|o_i|)`: every answer counts alike |
//! | `Dapo` | `1 / Σ|o_i|`: every token counts alike (arXiv:2503.14476; its clip-higher is `epsilon_high`) |
//! | `DrGrpo` | `1 / (N·limit)`: length is no lever (arXiv:2503.20783; goes with [`ScaleRewards::None`]) |
//!
//! The R1 paper writes one ratio for a whole answer; DeepSeekMath and every trainer use one a token. Both are here, see
//! [`ImportanceSampling`].

use autograd::Var;
use tensor::{Device, Tensor};

use crate::config::{ImportanceSampling, LossType, RlConfig, ScaleRewards};

/// Added to the standard deviation of a group's rewards.
const STD_EPS: f64 = 1e-4;
/// A group whose rewards spread less than this has no variance.
const NO_SPREAD: f64 = 1e-8;

/// The sample standard deviation of a group's rewards; 0 for a single one.
pub fn spread(rewards: &[f64]) -> f64 {
    if rewards.len() < 2 {
        return 0.0;
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (rewards.len() - 1) as f64).sqrt()
}

/// Whether a group's rewards differ: else it has nothing to say about which answer is better.
pub fn has_spread(rewards: &[f64]) -> bool {
    spread(rewards) >= NO_SPREAD
}

/// The advantages of a group's answers. A group without variance teaches nothing: all are exactly 0.
///
/// ```
/// use grpo::{config::ScaleRewards, objective::advantages};
/// assert_eq!(advantages(&[0.0, 1.0, 0.0, 1.0], ScaleRewards::None), [-0.5, 0.5, -0.5, 0.5]);
/// assert_eq!(advantages(&[1.0, 1.0, 1.0], ScaleRewards::Group), [0.0, 0.0, 0.0]);
/// ```
pub fn advantages(rewards: &[f64], scale: ScaleRewards) -> Vec<f64> {
    if !has_spread(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let divisor = match scale {
        ScaleRewards::Group => spread(rewards) + STD_EPS,
        ScaleRewards::None => 1.0,
    };
    rewards.iter().map(|r| (r - mean) / divisor).collect()
}

/// The weight `w_it` of a token in an answer of `length` tokens, where `answers` answers hold `tokens` tokens in all and may hold
/// `limit` each.
pub fn token_weight(loss_type: LossType, length: usize, answers: usize, tokens: usize, limit: usize) -> f64 {
    match loss_type {
        LossType::Grpo => 1.0 / (answers * length) as f64,
        LossType::Dapo => 1.0 / tokens as f64,
        LossType::DrGrpo => 1.0 / (answers * limit) as f64,
    }
}

/// What is fixed about some answers while the policy learns from them; all `[answers, tokens]`, padded at will.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Log-probabilities under the policy that sampled them.
    pub old: Tensor,
    /// Log-probabilities under the reference, unless β is 0.
    pub reference: Option<Tensor>,
    /// `A_i` at each token of answer `i`.
    pub advantages: Tensor,
    /// `w_it`; 0 where there is no token.
    pub weights: Tensor,
    /// 1 for a token of an answer, else 0.
    pub mask: Tensor,
}

/// The loss, and sums over tokens that tell how it came about.
#[derive(Clone, Debug)]
pub struct Loss {
    /// To be minimised: minus the objective.
    pub loss: Var,
    /// Sum of the k3 estimates.
    pub kl: f64,
    /// Tokens whose ratio was clipped.
    pub clipped: f64,
    /// Largest |log π − log π_old|: 0 before the first update if sampling and training agree bit for bit.
    pub max_diff: f64,
}

/// The hyperparameters of the objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Lower clip.
    pub epsilon: f64,
    /// Upper clip.
    pub epsilon_high: f64,
    /// Weight of the KL divergence.
    pub beta: f64,
    /// One ratio a token or one an answer.
    pub importance_sampling: ImportanceSampling,
}

impl From<&RlConfig> for Objective {
    fn from(rl: &RlConfig) -> Self {
        Objective {
            epsilon: rl.epsilon,
            epsilon_high: rl.epsilon_high.unwrap_or(rl.epsilon),
            beta: rl.beta,
            importance_sampling: rl.importance_sampling_level,
        }
    }
}

impl Objective {
    /// The loss of answers whose tokens have the log-probabilities `logp` `[answers, tokens]` under the policy.
    ///
    /// # Panics
    /// If shapes differ.
    #[track_caller]
    pub fn loss(&self, logp: &Var, fixed: &Fixed) -> Loss {
        let Fixed { old, advantages, weights, mask, .. } = fixed;
        let mask_var = Var::from(mask);
        let difference = logp.sub(&Var::from(old)).mul(&mask_var);
        let log_ratio = match self.importance_sampling {
            ImportanceSampling::Token => difference.clone(),
            ImportanceSampling::Sequence => difference.sum(1, true).broadcast_to(logp.shape().to_vec()),
        };
        let ratio = log_ratio.exp();
        let a = Var::from(advantages);
        let clipped = ratio.clamp(1.0 - self.epsilon, 1.0 + self.epsilon_high);
        let surrogate = ratio.mul(&a).minimum(&clipped.mul(&a));
        let (mut penalty, mut kl) = (surrogate.neg(), 0.0);
        if let Some(reference) = &fixed.reference {
            let d = Var::from(reference).sub(logp).mul(&mask_var);
            let k3 = d.exp().sub(&d).sub(1.0);
            kl = total(&k3.value());
            penalty = penalty.add(&k3.mul(self.beta));
        }
        let r = ratio.value();
        let above = r.gt(1.0 + self.epsilon_high).logical_and(&advantages.gt(0.0));
        let below = r.lt(1.0 - self.epsilon).logical_and(&advantages.lt(0.0));
        Loss {
            loss: penalty.mul(&Var::from(weights)).sum((), false),
            kl,
            clipped: total(&above.logical_or(&below).to_dtype(mask.dtype()).mul(mask)),
            max_diff: difference.value().abs().amax((), false).to_f64_vec()[0],
        }
    }
}

fn total(x: &Tensor) -> f64 {
    x.sum((), false).to_f64_vec()[0]
}

/// Rows of different lengths as one tensor `[rows, width]`, padded with 0 at the end and shifted right by `shift[i]`.
pub fn padded(rows: &[(usize, &[f32])], width: usize, device: &Device) -> Tensor {
    let mut flat = vec![0.0f32; rows.len() * width];
    for (row, (shift, values)) in flat.chunks_exact_mut(width.max(1)).zip(rows) {
        row[*shift..*shift + values.len()].copy_from_slice(values);
    }
    Tensor::from_vec(flat, [rows.len(), width], device)
}
