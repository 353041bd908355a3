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
//! | `Cispo` | as `Dapo`, and in the place of the minimum stands `sg(clip(ρ_it, 1 − ε, 1 + ε)) A_i log π`, whose weight has no gradient (arXiv:2506.13585) |
//!
//! The R1 paper writes one ratio for a whole answer, the product of its tokens'; GSPO takes their geometric mean (arXiv:2507.18071, goes
//! with `Grpo`); DeepSeekMath and every trainer use one per token. All are here, see [`ImportanceSampling`].
//!
//! Ratios are exponentials, and a policy may move as far as it likes. Loss and gradient are finite for every finite log-probability:
//! a ratio is the paper's up to e^81 in f32 (e^702 in f64) and stays there beyond, with a gradient of 0, as a clipped one has (but for
//! CISPO's, which is clipped in order to keep it).

use autograd::Var;
use tensor::{DType, Device, Tensor};

use crate::config::{ImportanceSampling, LossType, RlConfig, ScaleRewards};

/// Added to the standard deviation of a group's rewards.
const STD_EPS: f64 = 1e-4;
/// A group whose rewards spread less than this has no variance.
const NO_SPREAD: f64 = 1e-8;
/// Log-probabilities that are further apart count as this far apart, so that the differences of a whole answer can be added.
const FAR: f64 = 1e30;
/// No ratio and no token's term of the loss is larger than the largest number over this, so that advantages, β and sums have room.
const HEADROOM: f64 = 1024.0;

/// The largest finite number of a floating-point type.
fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        // A bfloat16 has the range of an f32, and 8 bits.
        DType::BF16 => f64::from(f32::MAX) * (1.0 - 1.0 / 256.0),
        _ => f64::from(f32::MAX),
    }
}

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
/// `limit` each; without tokens there is nothing to weigh, and it is 0.
pub fn token_weight(loss_type: LossType, length: usize, answers: usize, tokens: usize, limit: usize) -> f64 {
    let shared_by = match loss_type {
        LossType::Grpo => answers * length,
        LossType::Dapo | LossType::Cispo => tokens,
        LossType::DrGrpo => answers * limit,
    };
    if shared_by == 0 { 0.0 } else { 1.0 / shared_by as f64 }
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
    /// One ratio per token or one per answer.
    pub importance_sampling: ImportanceSampling,
    /// What is made of the ratio; the weights of [`Fixed`] are the caller's.
    pub loss_type: LossType,
}

impl From<&RlConfig> for Objective {
    fn from(rl: &RlConfig) -> Self {
        Objective {
            epsilon: rl.epsilon,
            epsilon_high: rl.epsilon_high.unwrap_or(rl.epsilon),
            beta: rl.beta,
            importance_sampling: rl.importance_sampling_level,
            loss_type: rl.loss_type,
        }
    }
}

impl Objective {
    /// The loss of answers whose tokens have the log-probabilities `logp` `[answers, tokens]` under the policy; halves are
    /// computed with as f32. Masked tokens get a gradient of exactly 0, and without a reference so do answers of advantage 0.
    ///
    /// # Panics
    /// If shapes differ.
    #[track_caller]
    pub fn loss(&self, logp: &Var, fixed: &Fixed) -> Loss {
        let dtype = logp.dtype().accumulator();
        let [old, advantages, weights, mask] =
            [&fixed.old, &fixed.advantages, &fixed.weights, &fixed.mask].map(|t| t.to_dtype(dtype));
        let most = largest(dtype) / HEADROOM;
        let most_exponent = most.ln().floor();
        let most_term = most.min(largest(logp.dtype()));
        let (logp, mask_var) = (logp.to_dtype(dtype), Var::from(&mask));
        let log_ratio = |of: &Var, to: &Var| of.sub(to).clamp(-FAR, FAR).mul(&mask_var);

        let difference = log_ratio(&logp, &Var::from(&old));
        let ratio = match self.importance_sampling {
            ImportanceSampling::Token => difference.clone(),
            ImportanceSampling::Sequence => {
                // Divided first: a sum of many may be too large.
                let lengths = Var::from(&mask.sum(1, true).clamp_min(1.0));
                difference.div(&lengths).sum(1, true).broadcast_to(logp.shape().to_vec())
            }
            ImportanceSampling::Product => difference.sum(1, true).broadcast_to(logp.shape().to_vec()),
        };
        let ratio = ratio.clamp_max(most_exponent).exp();
        let a = Var::from(&advantages);
        let clipped = ratio.clamp(1.0 - self.epsilon, 1.0 + self.epsilon_high);
        let surrogate = match self.loss_type {
            LossType::Cispo => Var::from(&clipped.value()).mul(&a).mul(&logp),
            _ => ratio.mul(&a).minimum(&clipped.mul(&a)),
        };
        let (mut penalty, mut kl) = (surrogate.neg(), 0.0);
        if let Some(reference) = &fixed.reference {
            let d = log_ratio(&Var::from(&reference.to_dtype(dtype)), &logp).clamp_max(most_exponent);
            let k3 = d.exp().sub(&d).sub(1.0);
            kl = total(&k3.value());
            penalty = penalty.add(&k3.mul(self.beta));
        }
        let r = ratio.value();
        let (above, below) = (r.gt(1.0 + self.epsilon_high), r.lt(1.0 - self.epsilon));
        let clips = match self.loss_type {
            LossType::Cispo => above.logical_or(&below),
            _ => above.logical_and(&advantages.gt(0.0)).logical_or(&below.logical_and(&advantages.lt(0.0))),
        };
        Loss {
            loss: penalty.clamp(-most_term, most_term).mul(&Var::from(&weights)).sum((), false),
            kl,
            clipped: total(&clips.to_dtype(dtype).mul(&mask)),
            max_diff: difference.value().to_f64_vec().iter().fold(0.0, |most, d| d.abs().max(most)),
        }
    }
}

/// The sum of all elements, in f64: of large ones it is finite, too.
fn total(x: &Tensor) -> f64 {
    x.to_f64_vec().iter().sum()
}

/// Rows of different lengths as one tensor `[rows, width]`, padded with 0 at the end and shifted right by `shift[i]`.
pub fn padded(rows: &[(usize, &[f32])], width: usize, device: &Device) -> Tensor {
    let mut flat = vec![0.0f32; rows.len() * width];
    for (row, (shift, values)) in flat.chunks_exact_mut(width.max(1)).zip(rows) {
        row[*shift..*shift + values.len()].copy_from_slice(values);
    }
    Tensor::from_vec(flat, [rows.len(), width], device)
}
