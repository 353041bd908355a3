//! DeepSeekMoE: routed and shared experts (DeepSeekMoE, arXiv 2401.06066; DeepSeek-V3, arXiv 2412.19437, section 2.1.2).

use crate::config::{Config, ScoringFunc, TopkMethod};
use crate::init::{Init, accumulator};
use crate::layers::Mlp;
use crate::module::{Buffer, Module, Path, Visitor};
use autograd::{Var, is_grad_enabled};
use std::cmp::Ordering;
use tensor::Tensor;

/// A layer of routed experts, some of which each token uses, and shared ones that every token uses.
#[derive(Clone, Debug)]
pub struct Moe {
    gate: Gate,
    experts: Vec<Mlp>,
    shared_experts: Option<Mlp>,
}

impl Moe {
    /// A fresh layer.
    pub fn new(init: &mut Init, config: &Config) -> Self {
        let (hidden, width) = (config.hidden_size, config.moe_intermediate_size);
        let shared = config.n_shared_experts;
        Moe {
            gate: Gate::new(init, config),
            experts: (0..config.n_routed_experts).map(|_| Mlp::new(init, hidden, width)).collect(),
            shared_experts: (shared > 0).then(|| Mlp::new(init, hidden, shared * width)),
        }
    }

    /// The router.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// `x` `[…, hidden_size]` to the same, and how its tokens were routed.
    ///
    /// A token's result does not depend on the other tokens: its experts' outputs are added in ascending order of experts. An
    /// expert that saw no token gets a gradient of zeros.
    ///
    /// # Panics
    /// If the last size is another.
    #[track_caller]
    pub fn forward(&self, x: &Var) -> (Var, Routing) {
        let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        let tokens = x.reshape(&[-1, x.dim(-1) as isize]);
        let routing = self.gate.route(&tokens);
        let routed = self.combine(&tokens, &routing).reshape(&shape);
        let out = match &self.shared_experts {
            Some(shared) => routed.add(&shared.forward(x)),
            None => routed,
        };
        (out, routing)
    }

    /// The weighted sum of each token's experts, `[tokens, hidden_size]`.
    fn combine(&self, x: &Var, routing: &Routing) -> Var {
        // Slots (a token and one of its experts) in ascending order of experts, then tokens.
        let by_expert = routing.slots_by_expert();
        let slots: Vec<i64> = by_expert.iter().flatten().map(|&s| s as i64).collect();
        let tokens: Vec<i64> = slots.iter().map(|s| s / routing.k as i64).collect();
        let index = |at: Vec<i64>| Tensor::from_slice(&at, at.len(), &x.device());
        let (slots, tokens) = (index(slots), index(tokens));
        let sizes: Vec<usize> = by_expert.iter().map(Vec::len).collect();
        let inputs = x.index_select(0, &tokens).split_with_sizes(&sizes, 0);
        // An expert without tokens still runs where gradients are wanted, so that it gets zeros.
        let outputs: Vec<Var> = self
            .experts
            .iter()
            .zip(&inputs)
            .filter(|(_, x)| x.dim(0) > 0 || is_grad_enabled())
            .map(|(expert, x)| expert.forward(x))
            .collect();
        let weights = routing.weights.flatten(0, -1).index_select(0, &slots).unsqueeze(1);
        let y = Var::cat(&outputs, 0).to_dtype(weights.dtype()).mul(&weights).to_dtype(x.dtype());
        Var::from(x.value().zeros_like()).index_add(0, &tokens, &y, 1.0)
    }
}

impl Module for Moe {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.module("gate", &self.gate, f);
        path.within("experts", |path| {
            for (e, expert) in self.experts.iter().enumerate() {
                path.module(e, expert, f);
            }
        });
        if let Some(shared) = &self.shared_experts {
            path.module("shared_experts", shared, f);
        }
    }
}

/// The router: which experts a token uses, and with which weights. Always computed in at least f32.
#[derive(Clone, Debug)]
pub struct Gate {
    weight: Var,
    e_score_correction_bias: Option<Buffer>,
    choice: Choice,
    normalise: bool,
    factor: f64,
    scoring: ScoringFunc,
}

impl Gate {
    fn new(init: &mut Init, config: &Config) -> Self {
        let experts = config.n_routed_experts;
        let with_bias = config.topk_method == TopkMethod::NoauxTc;
        Gate {
            weight: init.weight([experts, config.hidden_size]),
            e_score_correction_bias: with_bias.then(|| init.buffer([experts])),
            choice: Choice {
                experts,
                k: config.num_experts_per_tok,
                groups: config.n_group,
                chosen_groups: if config.topk_method == TopkMethod::Greedy { config.n_group } else { config.topk_group },
                group_members: if with_bias { 2 } else { 1 },
            },
            normalise: config.norm_topk_prob,
            factor: config.routed_scaling_factor,
            scoring: config.scoring_func,
        }
    }

    /// Routes tokens `[tokens, hidden_size]`.
    #[track_caller]
    pub fn route(&self, x: &Var) -> Routing {
        let wide = accumulator(x.dtype());
        let logits = x.to_dtype(wide).linear(&self.weight.to_dtype(wide), None);
        let scores = match self.scoring {
            ScoringFunc::Sigmoid => logits.sigmoid(),
            ScoringFunc::Softmax => logits.softmax(-1),
        };
        let biased = match &self.e_score_correction_bias {
            Some(bias) => scores.value().add(&bias.value().to_dtype(wide)),
            None => scores.value(),
        };
        let experts = self.choice.choose(&biased.to_f64_vec());
        let (tokens, k) = (scores.dim(0), self.choice.k);
        let index = Tensor::from_vec(experts.iter().map(|&e| e as i64).collect(), [tokens, k], &x.device());
        let mut weights = scores.gather(-1, &index);
        if self.normalise {
            weights = weights.div(&weights.sum(-1, true).add(1e-20));
        }
        Routing { scores, weights: weights.mul(self.factor), experts, k }
    }

    /// Auxiliary-loss-free load balancing (Wang et al., arXiv 2408.15664): raises the correction bias of each expert that had
    /// less than the mean load by `speed` (DeepSeek-V3: 0.001), and lowers it where the load was above. Without a bias, nothing.
    ///
    /// # Panics
    /// If there is not one load an expert.
    #[track_caller]
    pub fn update_bias(&self, load: &[u64], speed: f64) {
        assert_eq!(load.len(), self.choice.experts, "update_bias: one load an expert is needed");
        if let Some(buffer) = &self.e_score_correction_bias {
            let total: u64 = load.iter().sum();
            let step = |&n: &u64| match (n as u128 * load.len() as u128).cmp(&(total as u128)) {
                Ordering::Less => speed,
                Ordering::Equal => 0.0,
                Ordering::Greater => -speed,
            };
            let bias = buffer.value();
            let steps = Tensor::from_vec(load.iter().map(step).collect::<Vec<f64>>(), load.len(), bias.device());
            buffer.set_value(bias.add(&steps.to_dtype(bias.dtype())));
        }
    }
}

impl Module for Gate {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.parameter("weight", &self.weight, f);
        if let Some(bias) = &self.e_score_correction_bias {
            path.buffer("e_score_correction_bias", bias, f);
        }
    }
}

/// How experts are chosen, whatever the scores.
#[derive(Clone, Debug)]
struct Choice {
    experts: usize,
    k: usize,
    groups: usize,
    chosen_groups: usize,
    /// A group counts as the sum of this many of its best members.
    group_members: usize,
}

impl Choice {
    /// The `k` experts of each token, ascending, from its `experts` biased scores. Of equal scores the first is taken.
    fn choose(&self, biased: &[f64]) -> Vec<u32> {
        let mut out = Vec::with_capacity(biased.len() / self.experts * self.k);
        let size = self.experts / self.groups;
        let (mut scores, mut taken) = (vec![0.0; self.experts], Vec::new());
        for row in biased.chunks_exact(self.experts) {
            scores.copy_from_slice(row);
            if self.chosen_groups < self.groups {
                let group_score = |g: usize| {
                    let members = &row[g * size..][..size];
                    top(members, self.group_members, &mut Vec::new()).map(|i| members[i]).sum::<f64>()
                };
                let group_scores: Vec<f64> = (0..self.groups).map(group_score).collect();
                let mut open = vec![false; self.groups];
                top(&group_scores, self.chosen_groups, &mut taken).for_each(|g| open[g] = true);
                for (e, s) in scores.iter_mut().enumerate() {
                    if !open[e / size] {
                        *s = f64::NEG_INFINITY;
                    }
                }
            }
            let start = out.len();
            out.extend(top(&scores, self.k, &mut taken).map(|e| e as u32));
            out[start..].sort_unstable();
        }
        out
    }
}

/// The positions of the `k` largest values, the first of equal ones; always `k` different ones, whatever the values.
fn top<'a>(values: &'a [f64], k: usize, taken: &'a mut Vec<bool>) -> impl Iterator<Item = usize> {
    taken.clear();
    taken.resize(values.len(), false);
    let mut picked = Vec::with_capacity(k);
    for _ in 0..k.min(values.len()) {
        let mut best = None;
        for (i, &v) in values.iter().enumerate() {
            if !taken[i] && best.is_none_or(|b: usize| v > values[b]) {
                best = Some(i);
            }
        }
        let best = best.expect("fewer taken than there are");
        taken[best] = true;
        picked.push(best);
    }
    picked.into_iter()
}

/// How a layer's tokens were routed.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Unbiased scores `[tokens, n_routed_experts]`.
    pub scores: Var,
    /// Weights of the chosen experts `[tokens, num_experts_per_tok]`.
    pub weights: Var,
    /// The chosen experts of each token, ascending, row by row.
    pub experts: Vec<u32>,
    k: usize,
}

impl Routing {
    /// How many of the tokens each expert got; with `mask`, only tokens where it is true count.
    pub fn load(&self, mask: Option<&[bool]>) -> Vec<u64> {
        let mut load = vec![0; self.scores.dim(-1)];
        for (token, chosen) in self.experts.chunks_exact(self.k).enumerate() {
            if mask.is_none_or(|m| m[token]) {
                chosen.iter().for_each(|&e| load[e as usize] += 1);
            }
        }
        load
    }

    /// For each expert the slots `token·k + rank` that chose it, ascending.
    fn slots_by_expert(&self) -> Vec<Vec<usize>> {
        let mut slots = vec![Vec::new(); self.scores.dim(-1)];
        for (slot, &e) in self.experts.iter().enumerate() {
            slots[e as usize].push(slot);
        }
        slots
    }

    /// The sequence-wise balance loss of DeepSeek-V3 (equations 17 to 20) without its factor α, averaged over `sequences`
    /// equal runs of tokens: `Σ_e f_e·P_e` with `f_e` the share of a sequence's tokens that chose expert `e`, times
    /// `n_routed_experts / num_experts_per_tok`, and `P_e` the mean of its normalised scores. 1 at perfect balance. `f_e` counts the
    /// choice that was made, where the paper counts the best scores before correction bias and groups. With `mask`, only tokens where
    /// it is true count.
    ///
    /// # Panics
    /// If the tokens do not divide into sequences.
    #[track_caller]
    pub fn balance_loss(&self, sequences: usize, mask: Option<&[bool]>) -> Var {
        let (tokens, experts) = (self.scores.dim(0), self.scores.dim(1));
        assert!(sequences > 0 && tokens.is_multiple_of(sequences), "balance_loss: {tokens} tokens in {sequences} sequences");
        let len = tokens / sequences;
        let counts = |token: usize| mask.is_none_or(|m| m[token]);
        // Each token's share of Σ_e f_e·P_e is linear in its scores: one constant a token and expert.
        let mut coefficients = vec![0.0; tokens * experts];
        for s in 0..sequences {
            let own = s * len..(s + 1) * len;
            let real = own.clone().filter(|&t| counts(t)).count().max(1) as f64;
            let mut chosen = vec![0.0; experts];
            for t in own.clone().filter(|&t| counts(t)) {
                self.experts[t * self.k..][..self.k].iter().for_each(|&e| chosen[e as usize] += 1.0);
            }
            for t in own.filter(|&t| counts(t)) {
                for (c, n) in coefficients[t * experts..][..experts].iter_mut().zip(&chosen) {
                    *c = n * experts as f64 / (self.k as f64 * real) / real / sequences as f64;
                }
            }
        }
        let coefficients = Tensor::from_vec(coefficients, [tokens, experts], &self.scores.device()).to_dtype(self.scores.dtype());
        let normalised = self.scores.div(&self.scores.sum(-1, true).add(1e-20));
        normalised.mul(&Var::from(coefficients)).sum((), false)
    }
}
