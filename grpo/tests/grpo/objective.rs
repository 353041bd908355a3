//! The objective against the formulas of the papers, written as plain loops over `f64`.

use autograd::Var;
use grpo::config::{ImportanceSampling, LossType, ScaleRewards};
use grpo::objective::{Fixed, Objective, advantages, has_spread, padded, spread, token_weight};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use tensor::{DType, Device, Tensor};

const LEVELS: [ImportanceSampling; 3] = [ImportanceSampling::Token, ImportanceSampling::Sequence, ImportanceSampling::Product];

/// A token of an answer.
#[derive(Clone, Copy, Debug)]
struct Token {
    logp: f64,
    old: f64,
    reference: f64,
}

/// Answers of different lengths, and where each lies in its row.
#[derive(Clone, Debug)]
struct Case {
    answers: Vec<(usize, f64, Vec<Token>)>,
    width: usize,
    limit: usize,
    loss_type: LossType,
    objective: Objective,
    has_reference: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let token = (-4.0..-0.01, -0.7..0.7, -1.5..1.5);
    let token = token.prop_map(|(logp, by, far): (f64, f64, f64)| Token { logp, old: logp + by, reference: logp + far });
    let answer = (0usize..4, prop_oneof![-2.0..2.0, Just(0.0)], prop::collection::vec(token, 1..8));
    let loss_type = prop_oneof![Just(LossType::Grpo), Just(LossType::Dapo), Just(LossType::DrGrpo), Just(LossType::Cispo)];
    let level = prop::sample::select(LEVELS.to_vec());
    let high = prop_oneof![Just(0.2), Just(0.28), Just(10.0)];
    (prop::collection::vec(answer, 1..5), 0usize..4, loss_type, level, high, 0.0..0.2, any::<bool>()).prop_map(
        |(answers, spare, loss_type, importance_sampling, epsilon_high, beta, has_reference)| {
            let width = answers.iter().map(|(shift, _, tokens)| shift + tokens.len()).max().unwrap() + spare;
            let objective = Objective { epsilon: 0.2, epsilon_high, beta, importance_sampling, loss_type };
            Case { answers, width, limit: 12, loss_type, objective, has_reference }
        },
    )
}

impl Case {
    /// `[answers, width]` with `value` at tokens and `padding` elsewhere.
    fn tensor(&self, padding: f64, value: impl Fn(&Token, f64, f64) -> f64) -> Tensor {
        let mut flat = vec![padding; self.answers.len() * self.width];
        for (row, (shift, advantage, tokens)) in flat.chunks_exact_mut(self.width).zip(&self.answers) {
            let weight = self.weight(tokens.len());
            row[*shift..].iter_mut().zip(tokens).for_each(|(x, token)| *x = value(token, *advantage, weight));
        }
        Tensor::from_vec(flat, [self.answers.len(), self.width], &Device::cpu())
    }

    fn weight(&self, length: usize) -> f64 {
        let n = self.answers.len() as f64;
        match self.loss_type {
            LossType::Grpo => 1.0 / n / length as f64,
            LossType::Dapo | LossType::Cispo => 1.0 / self.answers.iter().map(|(.., tokens)| tokens.len() as f64).sum::<f64>(),
            LossType::DrGrpo => 1.0 / n / self.limit as f64,
        }
    }

    /// Log-probabilities and what is fixed, with `padding` wherever there is no token and the mask does not show it.
    fn tensors(&self, padding: f64) -> (Var, Fixed) {
        let fixed = Fixed {
            old: self.tensor(padding, |t, _, _| t.old),
            reference: self.has_reference.then(|| self.tensor(-padding, |t, _, _| t.reference)),
            advantages: self.tensor(padding, |_, advantage, _| advantage),
            weights: self.tensor(0.0, |_, _, weight| weight),
            mask: self.tensor(0.0, |_, _, _| 1.0),
        };
        (Var::parameter(self.tensor(padding / 3.0, |t, _, _| t.logp)), fixed)
    }

    /// Loss, gradient at the tokens of each answer, sum of k3, clipped tokens, largest difference, and a magnitude for errors.
    fn stated(&self) -> Stated {
        let Objective { epsilon, epsilon_high, beta, importance_sampling, .. } = self.objective;
        let mut s = Stated::default();
        for (_, a, tokens) in &self.answers {
            let (weight, n) = (self.weight(tokens.len()), tokens.len() as f64);
            let whole: f64 = tokens.iter().map(|t| t.logp - t.old).sum();
            for t in tokens {
                s.max_diff = s.max_diff.max((t.logp - t.old).abs());
                let (log_ratio, times) = match importance_sampling {
                    ImportanceSampling::Token => (t.logp - t.old, 1.0),
                    // Every token's term holds the one ratio, which every token moves.
                    ImportanceSampling::Product => (whole, n),
                    // As every token moves it by an n-th, n terms move by as much as one.
                    ImportanceSampling::Sequence => (whole / n, 1.0),
                };
                let ratio = log_ratio.exp();
                let bounded = ratio.max(1.0 - epsilon).min(1.0 + epsilon_high);
                let clipped = bounded * a < ratio * a;
                let cispo = self.loss_type == LossType::Cispo;
                let surrogate = if cispo { bounded * a * t.logp } else { (bounded * a).min(ratio * a) };
                let clipped = if cispo { bounded != ratio } else { clipped };
                s.clipped += f64::from(u8::from(clipped));
                s.loss -= weight * surrogate;
                let mut gradient = match cispo {
                    true => -weight * bounded * a,
                    false if clipped => 0.0,
                    false => -weight * times * ratio * a,
                };
                s.magnitude += if cispo { weight * bounded * a.abs() * t.logp.abs() } else { 0.0 };
                s.magnitude += weight * times * ratio.max(1.0) * (1.0 + a.abs()) * (1.0 + log_ratio.abs());
                if self.has_reference {
                    let d = t.reference - t.logp;
                    s.kl += d.exp() - d - 1.0;
                    s.loss += weight * beta * (d.exp() - d - 1.0);
                    gradient += weight * beta * (1.0 - d.exp());
                    s.magnitude += d.exp() + d.abs() + 1.0;
                }
                s.gradient.push(gradient);
            }
        }
        s
    }

    /// The entries of a `[answers, width]` tensor at tokens, and the others.
    fn split(&self, x: &Tensor) -> (Vec<f64>, Vec<f64>) {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (row, (shift, _, tokens)) in x.to_f64_vec().chunks_exact(self.width).zip(&self.answers) {
            let range = *shift..shift + tokens.len();
            row.iter().enumerate().for_each(|(i, &v)| if range.contains(&i) { inside.push(v) } else { outside.push(v) });
        }
        (inside, outside)
    }
}

#[derive(Default)]
struct Stated {
    loss: f64,
    gradient: Vec<f64>,
    kl: f64,
    clipped: f64,
    max_diff: f64,
    magnitude: f64,
}

/// Roundings on the way to a value: up to 8 tokens are added to a log-ratio, 32 terms to a loss, a dozen operations between.
const ROUNDINGS: f64 = 64.0;

proptest! {
    #[test]
    fn loss_and_gradient_are_the_papers(case in case()) {
        let (logp, fixed) = case.tensors(0.0);
        let loss = case.objective.loss(&logp, &fixed);
        loss.loss.backward();
        let stated = case.stated();
        let bound = ROUNDINGS * f64::EPSILON * stated.magnitude;
        let value = loss.loss.value().to_f64_vec()[0];
        prop_assert!((value - stated.loss).abs() <= bound, "loss {value}, stated {}", stated.loss);
        let (gradient, padding) = case.split(&logp.grad().unwrap());
        for (got, stated) in gradient.iter().zip(&stated.gradient) {
            prop_assert!((got - stated).abs() <= bound, "gradient {gradient:?}, stated {stated:?}");
        }
        prop_assert!(padding.iter().all(|&g| g == 0.0));
        prop_assert!((loss.kl - stated.kl).abs() <= bound, "kl {}, stated {}", loss.kl, stated.kl);
        prop_assert_eq!(loss.clipped, stated.clipped);
        prop_assert!((loss.max_diff - stated.max_diff).abs() <= bound);
    }

    /// In f32, as it is trained: the same within f32's rounding, and no more.
    #[test]
    fn in_f32_within_its_rounding(case in case()) {
        let (logp, fixed) = case.tensors(0.0);
        let single = |t: &Tensor| t.to_dtype(DType::F32);
        let fixed = Fixed {
            old: single(&fixed.old),
            reference: fixed.reference.as_ref().map(single),
            advantages: single(&fixed.advantages),
            weights: single(&fixed.weights),
            mask: single(&fixed.mask),
        };
        let loss = case.objective.loss(&Var::parameter(single(&logp.value())), &fixed);
        let stated = case.stated();
        // The inputs are rounded too: log-probabilities of up to 6 by half an ulp, once more for each token of a whole answer.
        let bound = (ROUNDINGS + 8.0 * 6.0) * f64::from(f32::EPSILON) * stated.magnitude;
        prop_assert!((loss.loss.value().to_f64_vec()[0] - stated.loss).abs() <= bound);
        // k3 is not negative; what rounding leaves of a small one may be.
        prop_assert!(loss.kl >= -bound && stated.kl >= 0.0);
    }

    /// Padding may hold anything: not a bit of the loss, its gradient and its statistics moves.
    #[test]
    fn padding_never_matters(case in case(), padding in -3.0..3.0) {
        let results = [0.0, padding].map(|padding| {
            let (logp, fixed) = case.tensors(padding);
            let loss = case.objective.loss(&logp, &fixed);
            loss.loss.backward();
            let (gradient, outside) = case.split(&logp.grad().unwrap());
            assert!(outside.iter().all(|&g| g == 0.0));
            let value = loss.loss.value().to_f64_vec()[0].to_bits();
            (value, gradient, loss.kl.to_bits(), loss.clipped, loss.max_diff.to_bits())
        });
        prop_assert_eq!(&results[0], &results[1]);
    }

    #[test]
    fn advantages_are_centred_and_scaled(rewards in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), -2.0..3.0], 2..17)) {
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let mut squares = 0.0;
        for r in &rewards {
            squares += (r - mean) * (r - mean);
        }
        let std = (squares / (n - 1.0)).sqrt();
        let of = |scale| advantages(&rewards, scale);
        if std < 1e-8 {
            prop_assert!(of(ScaleRewards::Group).iter().chain(&of(ScaleRewards::None)).all(|&a| a == 0.0));
        } else {
            for ((scaled, centred), r) in of(ScaleRewards::Group).iter().zip(of(ScaleRewards::None)).zip(&rewards) {
                prop_assert!((scaled - (r - mean) / (std + 1e-4)).abs() <= 1e-12 * (1.0 + scaled.abs()));
                prop_assert!((centred - (r - mean)).abs() <= 1e-14);
            }
        }
    }
}

#[test]
fn a_group_without_variance_teaches_exactly_nothing() {
    // 0.1 is no binary fraction: the mean of seven of them is not 0.1, and dividing what is left by 1e-4 would teach noise.
    for group in [&[0.1; 7][..], &[1.0; 16], &[0.0; 2], &[0.3]] {
        assert!(!has_spread(group));
        for scale in [ScaleRewards::Group, ScaleRewards::None] {
            assert!(advantages(group, scale).iter().all(|a| a.to_bits() == 0), "{group:?}");
        }
    }
    assert!(has_spread(&[0.0, 0.0, 1e-3]));
    assert_eq!((spread(&[0.0, 1.0]), spread(&[5.0])), (0.5f64.sqrt(), 0.0));
    // One right answer of 16: (1 − 1/16) / (1/4 + 1e-4).
    let mut rewards = [0.0; 16];
    rewards[3] = 1.0;
    assert!((advantages(&rewards, ScaleRewards::Group)[3] - 0.9375 / 0.2501).abs() < 1e-12);
}

#[test]
fn weights_are_those_of_their_papers() {
    // Three answers of 2, 6 and 12 tokens where 16 are allowed.
    let of = |loss_type| [2, 6, 12].map(|length| token_weight(loss_type, length, 3, 20, 16));
    assert_eq!(of(LossType::Grpo), [1.0 / 6.0, 1.0 / 18.0, 1.0 / 36.0]);
    assert_eq!(of(LossType::Dapo), [1.0 / 20.0; 3]);
    assert_eq!(of(LossType::DrGrpo), [1.0 / 48.0; 3]);
}

#[test]
fn at_the_first_step_the_ratio_is_one_and_nothing_is_clipped() {
    let row = [-0.5f32, -1.25, -3.0];
    let make = |values: &[f32]| padded(&[(1, values), (0, &values[..2])], 5, &Device::cpu());
    let fixed = Fixed {
        old: make(&row),
        reference: Some(make(&row)),
        advantages: make(&[2.0, 2.0, 2.0]),
        weights: make(&[0.2, 0.2, 0.2]),
        mask: make(&[1.0, 1.0, 1.0]),
    };
    assert_eq!(fixed.old.to_vec::<f32>(), [0.0, -0.5, -1.25, -3.0, 0.0, -0.5, -1.25, 0.0, 0.0, 0.0]);
    for importance_sampling in LEVELS {
        let loss_type = LossType::Dapo;
        let objective = Objective { epsilon: 0.2, epsilon_high: 0.28, beta: 0.1, importance_sampling, loss_type };
        let loss = objective.loss(&Var::parameter(make(&row)), &fixed);
        assert_eq!((loss.kl, loss.clipped, loss.max_diff), (0.0, 0.0, 0.0));
        assert_eq!(loss.loss.value().to_vec::<f32>(), [-2.0]);
    }
}

/// A distance between two log-probabilities: any finite one, small ones and those around the limits of f32, f64 and the clip most often.
fn distance() -> impl Strategy<Value = f64> {
    let size = prop_oneof![
        0.0..1.0,
        0.0..100.0,
        (-40.0..38.4).prop_map(|power: f64| 10f64.powf(power)),
        prop::sample::select(vec![0.0, 80.0, 81.0, 82.0, 87.0, 88.0, 89.0, 95.0, 103.0, 104.0, 702.0, 703.0, 710.0, 3.4e38]),
    ];
    (size, any::<bool>()).prop_map(|(size, negative): (f64, bool)| if negative { -size } else { size })
}

/// One answer, its log-probabilities as far from the sampler's and the reference's as can be.
#[derive(Clone, Debug)]
struct Far {
    dtype: DType,
    logp: Vec<f64>,
    old: Vec<f64>,
    reference: Vec<f64>,
    advantage: f64,
    importance_sampling: ImportanceSampling,
    loss_type: LossType,
}

fn far() -> impl Strategy<Value = Far> {
    let dtype = prop::sample::select(vec![DType::F32, DType::F32, DType::F64, DType::BF16, DType::F16]);
    let advantage = prop_oneof![Just(1.0), Just(-1.0), Just(0.0), -4.0..4.0];
    let level = prop::sample::select(LEVELS.to_vec());
    let tokens = prop::collection::vec((prop_oneof![Just(0.0), distance()], distance(), distance()), 1..4);
    (dtype, tokens, advantage, level).prop_map(|(dtype, tokens, advantage, importance_sampling)| {
        // Each as the dtype holds it, and finite.
        let most = if dtype == DType::F16 { 65504.0 } else { 3.38e38 };
        let held = |x: f64| Tensor::from_slice(&[x.clamp(-most, most)], [1], &Device::cpu()).to_dtype(dtype).to_f64_vec()[0];
        let of = |f: &dyn Fn(&(f64, f64, f64)) -> f64| tokens.iter().map(|t| held(f(t))).collect();
        let [logp, old, reference] = [of(&|t| t.0), of(&|t| t.0 - t.1), of(&|t| t.0 + t.2)];
        Far { dtype, logp, old, reference, advantage: held(advantage), importance_sampling, loss_type: LossType::Dapo }
    })
}

impl Far {
    fn tensor(&self, values: &[f64]) -> Tensor {
        Tensor::from_slice(values, [1, values.len()], &Device::cpu()).to_dtype(self.dtype)
    }

    fn run(&self, beta: f64) -> (f64, Vec<f64>, grpo::objective::Loss) {
        let n = self.logp.len();
        let fixed = Fixed {
            old: self.tensor(&self.old),
            reference: (beta > 0.0).then(|| self.tensor(&self.reference)),
            advantages: self.tensor(&vec![self.advantage; n]),
            weights: self.tensor(&vec![1.0 / n as f64; n]),
            mask: self.tensor(&vec![1.0; n]),
        };
        let Far { importance_sampling, loss_type, .. } = *self;
        let objective = Objective { epsilon: 0.2, epsilon_high: 0.28, beta, importance_sampling, loss_type };
        let logp = Var::parameter(self.tensor(&self.logp));
        let loss = objective.loss(&logp, &fixed);
        loss.loss.backward();
        (loss.loss.value().to_f64_vec()[0], logp.grad().unwrap().to_f64_vec(), loss)
    }
}

proptest! {
    /// However far the policy has moved: what is clipped has a gradient of exactly 0, what is not has the paper's as long as the
    /// dtype holds it, and everything is finite.
    #[test]
    fn ratios_of_any_size(far in far()) {
        let (loss, gradient, stats) = far.run(0.0);
        prop_assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
        prop_assert!(stats.max_diff.is_finite() && stats.clipped.is_finite());
        let (computed, holds) = match far.dtype {
            DType::F64 => (f64::EPSILON, f64::MAX / 1024.0),
            DType::F16 => (f64::from(f32::EPSILON), 65504.0),
            _ => (f64::from(f32::EPSILON), f64::from(f32::MAX) / 1024.0),
        };
        let n = far.logp.len() as f64;
        let differences: Vec<f64> = far.logp.iter().zip(&far.old).map(|(logp, old)| logp - old).collect();
        let whole: f64 = differences.iter().sum();
        let size: f64 = differences.iter().map(|d| d.abs()).sum();
        let mut expected = 0.0;
        let mut decided = true;
        for (d, g) in differences.iter().zip(&gradient) {
            let (log_ratio, error, times) = match far.importance_sampling {
                ImportanceSampling::Token => (*d, computed * (d.abs() + 8.0), 1.0),
                // A difference, and then a sum of up to three.
                ImportanceSampling::Product => (whole, 4.0 * computed * (size + 8.0), n),
                ImportanceSampling::Sequence => (whole / n, 4.0 * computed * (size + 8.0), 1.0),
            };
            let [low, high] = [log_ratio - error, log_ratio + error].map(f64::exp);
            let (a, w) = (far.advantage, 1.0 / n);
            let between = |x: f64| low <= x && x <= high;
            let edge = |x: f64| between(x) || between(x / a.abs());
            if error > 0.5 || between(1.28) || between(0.8) || edge(holds) || between(f64::exp(holds.ln().floor())) {
                decided = false; // rounding decides on which side of an edge it lies
                continue;
            }
            let ratio = log_ratio.exp();
            let clipped = if a > 0.0 { ratio > 1.28 } else { ratio < 0.8 };
            let beyond = log_ratio > holds.ln().floor().max(81.0) || ratio * a.abs() > holds;
            if a == 0.0 || clipped || beyond {
                prop_assert_eq!(*g, 0.0, "ratio e^{}", log_ratio);
            } else {
                let stated = -w * a * times * ratio;
                let tiny = if far.dtype == DType::F16 { 6e-8 } else { 1e-37 };
                let bound = stated.abs() * (2.0 * error + far.dtype.epsilon() + 16.0 * computed) + tiny;
                prop_assert!((g - stated).abs() <= bound, "ratio e^{}: gradient {}, stated {}", log_ratio, g, stated);
            }
            if beyond && !clipped {
                decided = false;
            } else {
                let term = (ratio * a).min(ratio.clamp(0.8, 1.28) * a);
                expected -= w * term;
            }
        }
        if decided {
            // The weights of a half are rounded to it: 1/3 by up to half an epsilon.
            let rounding = far.dtype.epsilon() + 64.0 * computed * (size.min(800.0) + 8.0);
            prop_assert!((loss - expected).abs() <= rounding * expected.abs().max(1.28 * far.advantage.abs()), "{} {}", loss, expected);
        }
    }

    /// CISPO's weight is clipped in order to keep the gradient: that is `−w·clip(ρ)·A` however far the policy has moved.
    #[test]
    fn a_clipped_weight_keeps_its_gradient(far in far()) {
        let far = Far { loss_type: LossType::Cispo, ..far };
        let (loss, gradient, _) = far.run(0.0);
        prop_assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
        let n = far.logp.len() as f64;
        let differences: Vec<f64> = far.logp.iter().zip(&far.old).map(|(logp, old)| logp - old).collect();
        let whole: f64 = differences.iter().sum();
        let size: f64 = differences.iter().map(|d| d.abs()).sum();
        let computed = if far.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        for ((d, g), logp) in differences.iter().zip(&gradient).zip(&far.logp) {
            let log_ratio = match far.importance_sampling {
                ImportanceSampling::Token => *d,
                ImportanceSampling::Sequence => whole / n,
                ImportanceSampling::Product => whole,
            };
            // Where the term itself is more than the dtype holds, it has no gradient.
            if size > 1e6 || (logp * far.advantage).abs() > 4e4 {
                continue;
            }
            let stated = -far.advantage / n * log_ratio.exp().clamp(0.8, 1.28);
            let tiny = if far.dtype == DType::F16 { 6e-8 } else { 1e-37 };
            let bound = stated.abs() * (8.0 * computed * (size + 8.0) + 2.0 * far.dtype.epsilon()) + tiny;
            prop_assert!((g - stated).abs() <= bound, "ratio e^{}: gradient {}, stated {}", log_ratio, g, stated);
        }
    }

    /// The same of the KL term: finite, at least 0 but for rounding, and where the dtype holds it the papers'.
    #[test]
    fn divergences_of_any_size(far in far()) {
        let (loss, gradient, stats) = far.run(0.04);
        prop_assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
        let d: Vec<f64> = far.reference.iter().zip(&far.logp).map(|(r, logp)| r - logp).collect();
        let size: f64 = d.iter().map(|d| d.abs()).sum();
        let computed = if far.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let most = if far.dtype == DType::F64 { 702.0 } else { 81.0 };
        prop_assert!(stats.kl.is_finite());
        if d.iter().all(|&d| d < most && d > -1e30) {
            let stated: f64 = d.iter().map(|d| d.exp() - d - 1.0).sum();
            let bound = d.iter().map(|d| (d.exp() + d.abs() + 1.0) * computed * (d.abs() + 8.0)).sum::<f64>();
            prop_assert!((stats.kl - stated).abs() <= bound, "{} {} {}", stats.kl, stated, size);
        }
        if far.advantage == 0.0 && far.dtype != DType::F16 {
            for (g, d) in gradient.iter().zip(&d).filter(|(_, d)| d.abs() < most - 1.0) {
                let stated = 0.04 / far.logp.len() as f64 * (1.0 - d.exp());
                let bound = 0.04 * (1.0 + d.exp()) * (computed * (d.abs() + 16.0) + 2.0 * far.dtype.epsilon());
                prop_assert!((g - stated).abs() <= bound, "e^{}: gradient {}, stated {}", d, g, stated);
            }
        }
    }

    /// A micro-batch of which nothing counts: loss and gradient are 0, whatever stands there.
    #[test]
    fn what_is_masked_has_no_gradient(far in far(), beta in prop_oneof![Just(0.0), Just(0.04)]) {
        let n = far.logp.len();
        let none = far.tensor(&vec![0.0; n]);
        let fixed = Fixed {
            old: far.tensor(&far.old),
            reference: (beta > 0.0).then(|| far.tensor(&far.reference)),
            advantages: far.tensor(&vec![far.advantage; n]),
            weights: none.clone(),
            mask: none,
        };
        let Far { importance_sampling, loss_type, .. } = far;
        let objective = Objective { epsilon: 0.2, epsilon_high: 0.2, beta, importance_sampling, loss_type };
        let logp = Var::parameter(far.tensor(&far.logp));
        let loss = objective.loss(&logp, &fixed);
        loss.loss.backward();
        prop_assert_eq!(loss.loss.value().to_f64_vec(), [0.0]);
        prop_assert!(logp.grad().unwrap().to_f64_vec().iter().all(|&g| g == 0.0));
        prop_assert_eq!((loss.kl, loss.clipped, loss.max_diff), (0.0, 0.0, 0.0));
    }
}

#[test]
fn a_clipped_ratio_beyond_f32_has_no_gradient() {
    for importance_sampling in LEVELS {
        for (old, advantage, loss) in [(-82.0, 1.0, -1.28), (-97.0, 1.0, -1.28), (-97.0, 0.0, 0.0), (-1e38, 1.0, -1.28)] {
            let far = Far {
                dtype: DType::F32,
                logp: vec![-2.0],
                old: vec![old],
                reference: vec![-2.0],
                advantage,
                importance_sampling,
                loss_type: LossType::Grpo,
            };
            let (found, gradient, _) = far.run(0.0);
            assert!((found - loss).abs() < 1e-6 && gradient == [0.0], "{old} {advantage}: {found} {gradient:?}");
        }
    }
}

#[test]
fn no_tokens_weigh_nothing() {
    for loss_type in [LossType::Grpo, LossType::Dapo, LossType::DrGrpo, LossType::Cispo] {
        assert_eq!(token_weight(loss_type, 0, 0, 0, 0), 0.0);
    }
    assert_eq!(token_weight(LossType::Grpo, 0, 3, 0, 16), 0.0);
}

/// Two answers, of 1 and of 2 tokens, whose ratios are 3/2, and 3/2 and 2/3; advantages 1 and −1.
fn by_hand(
    loss_type: LossType,
    level: ImportanceSampling,
    epsilon: f64,
    epsilon_high: f64,
    scale: [f64; 2],
) -> (f64, Vec<f64>, f64) {
    let ln = f64::ln(1.5);
    let two = |a: [f64; 2], b: [f64; 2]| Tensor::from_slice(&[a, b].concat(), [2, 2], &Device::cpu());
    let weight = |length| token_weight(loss_type, length, 2, 3, 4);
    let fixed = Fixed {
        old: two([-2.0, 0.0], [-2.0, -1.0]),
        reference: None,
        advantages: two([scale[0]; 2], [scale[1]; 2]),
        weights: two([weight(1), 0.0], [weight(2); 2]),
        mask: two([1.0, 0.0], [1.0, 1.0]),
    };
    let objective = Objective { epsilon, epsilon_high, beta: 0.0, importance_sampling: level, loss_type };
    let logp = Var::parameter(two([-2.0 + ln, 0.0], [-2.0 + ln, -1.0 - ln]));
    let loss = objective.loss(&logp, &fixed);
    loss.loss.backward();
    (loss.loss.value().to_f64_vec()[0], logp.grad().unwrap().to_f64_vec(), loss.clipped)
}

fn is_close(found: (f64, Vec<f64>, f64), loss: f64, gradient: [f64; 4], clipped: f64) {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-14;
    let ok = near(found.0, loss) && found.1.iter().zip(gradient).all(|(&a, b)| near(a, b)) && found.2 == clipped;
    assert!(ok, "{found:?}, by hand {loss} {gradient:?} {clipped}");
}

/// DAPO, equations 8 and 10: each of the three tokens weighs a third.
#[test]
fn clip_higher_by_hand() {
    let of = |high, scale| by_hand(LossType::Dapo, ImportanceSampling::Token, 0.2, high, scale);
    // 3/2 is clipped to 1.2 where it pays, 2/3 (A < 0) to 0.8: −(1.2 − 1.5 − 0.8)/3.
    is_close(of(0.2, [1.0, -1.0]), 1.1 / 3.0, [0.0, 0.0, 0.5, 0.0], 2.0);
    // With the upper clip at 1.6 it is not: −(1.5 − 1.5 − 0.8)/3, and the first token rises on.
    is_close(of(0.6, [1.0, -1.0]), 0.8 / 3.0, [-0.5, 0.0, 0.5, 0.0], 1.0);
    // The other signs: −(−1.5 + 1.2 + 2/3)/3; what got less probable although it was right is never clipped.
    is_close(of(0.2, [-1.0, 1.0]), -(-1.5 + 1.2 + 2.0 / 3.0) / 3.0, [0.5, 0.0, 0.0, -2.0 / 9.0], 1.0);
}

/// GSPO, equations 5 to 7 and 10: the ratio of the second answer is (3/2 · 2/3)^(1/2) = 1, and answers weigh a half.
#[test]
fn gspo_by_hand() {
    let of = |epsilon, scale| by_hand(LossType::Grpo, ImportanceSampling::Sequence, epsilon, epsilon, scale);
    // −(1.2 − 1)/2; the gradient of 1 is shared by its two tokens.
    is_close(of(0.2, [1.0, -1.0]), -0.1, [0.0, 0.0, 0.25, 0.25], 1.0);
    is_close(of(0.6, [1.0, -1.0]), -0.25, [-0.75, 0.0, 0.25, 0.25], 0.0);
    is_close(of(0.2, [-1.0, 2.0]), -(-1.5 + 2.0) / 2.0, [0.75, 0.0, -0.5, -0.5], 0.0);
    // The product of the R1 paper has the same value here, and twice the gradient.
    let product = by_hand(LossType::Grpo, ImportanceSampling::Product, 0.2, 0.2, [1.0, -1.0]);
    is_close(product, -0.1, [0.0, 0.0, 0.5, 0.5], 1.0);
}

/// CISPO, equations 4 and 5: −Σ clip(ρ)·A·log π / 3, with the clipped ratios 1.2, and 1.2 and 0.8, as they stand.
#[test]
fn cispo_by_hand() {
    let of = |scale| by_hand(LossType::Cispo, ImportanceSampling::Token, 0.2, 0.2, scale);
    let ln = f64::ln(1.5);
    let [first, second, third] = [1.2 * (-2.0 + ln), 1.2 * (-2.0 + ln), 0.8 * (-1.0 - ln)];
    is_close(of([1.0, -1.0]), -(first - second - third) / 3.0, [-0.4, 0.0, 0.4, 0.8 / 3.0], 3.0);
    is_close(of([-1.0, 2.0]), -(-first + 2.0 * second + 2.0 * third) / 3.0, [0.4, 0.0, -0.8, -1.6 / 3.0], 3.0);
}
