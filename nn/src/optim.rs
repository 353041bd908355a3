//! [`AdamW`], gradient clipping and learning-rate schedules.

use crate::init::accumulator;
use crate::module::once;
use autograd::Var;
use std::collections::{BTreeMap, HashSet};
use tensor::{DType, Tensor};

/// Why an optimizer refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimError {
    /// No backward pass has reached a parameter. A module left out on purpose is not handed to the optimizer.
    #[error("parameter `{0}` has no gradient")]
    NoGradient(String),
    /// A gradient holds NaN or infinity.
    #[error("the gradient of `{0}` is not finite")]
    NotFinite(String),
    /// A saved state lacks an entry, or has one that fits no parameter.
    #[error("optimizer state: `{key}` {problem}")]
    State {
        /// The entry.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The settings of [`AdamW`], under PyTorch's names and with its defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled: a step multiplies parameters by `1 − lr·weight_decay`.
    pub weight_decay: f64,
    /// Leave parameters of fewer than two dimensions (norms, biases) undecayed.
    pub decay_matrices_only: bool,
}

impl AdamWConfig {
    /// The numbers of one step with learning rate `lr`.
    fn at(&self, lr: f64, step: u64) -> tensor::AdamW {
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = *self;
        tensor::AdamW { lr, beta1, beta2, eps, weight_decay, step, grad_scale: 1.0 }
    }
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decay_matrices_only: false }
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101) over named parameters. Moments (see
/// [`tensor::AdamW::moments`] for a very small `eps`) and, for parameters of a half type, a master copy are kept in f32.
///
/// ```
/// use autograd::Var;
/// use nn::{AdamW, AdamWConfig};
/// use tensor::{Device, Tensor};
/// let w = Var::parameter(Tensor::from_slice(&[1.0f32, -2.0], 2, &Device::cpu()));
/// let mut adamw = AdamW::new(vec![("w".into(), w.clone())], AdamWConfig { weight_decay: 0.0, ..Default::default() });
/// w.square().sum((), false).backward();
/// adamw.step(0.1)?;
/// adamw.zero_grad();
/// let moved = w.value().to_vec::<f32>(); // the first step is lr in the direction of the sign
/// assert!((moved[0] - 0.9).abs() < 1e-6 && (moved[1] + 1.9).abs() < 1e-6);
/// # Ok::<(), nn::OptimError>(())
/// ```
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    entries: Vec<Entry>,
    steps: u64,
}

#[derive(Debug)]
struct Entry {
    name: String,
    var: Var,
    master: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

impl Entry {
    fn decayed(&self, config: &AdamWConfig) -> bool {
        !config.decay_matrices_only || self.master.rank() >= 2
    }
}

impl AdamW {
    /// An optimizer of these parameters, as [`Module::named_parameters`](crate::Module::named_parameters) gives them. One that is
    /// listed twice (two modules share it) is stepped once and has the first name.
    ///
    /// # Panics
    /// Names a setting that is out of its range (see [`tensor::AdamW::check`]), or a name that two different parameters have.
    #[track_caller]
    pub fn new(parameters: Vec<(String, Var)>, config: AdamWConfig) -> Self {
        let step = config.at(0.0, 1);
        step.check();
        let entry = |(mut names, var): (Vec<String>, Var)| {
            let name = names.swap_remove(0);
            let master = var.value().to_dtype(accumulator(var.dtype()));
            let zeros = || Tensor::zeros(master.shape(), step.moments(master.dtype()), master.device());
            Entry { name, var, exp_avg: zeros(), exp_avg_sq: zeros(), master }
        };
        AdamW { config, entries: once("AdamW", parameters, Var::id).into_iter().map(entry).collect(), steps: 0 }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The parameters.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.entries.iter().map(|e| (&*e.name, &e.var))
    }

    /// One step with learning rate `lr`. Nothing is changed if it fails.
    ///
    /// # Errors
    /// Names the first parameter without a gradient, or whose gradient is not finite.
    pub fn step(&mut self, lr: f64) -> Result<(), OptimError> {
        grad_norm(self.parameters())?;
        self.apply(lr, 1.0)
    }

    /// Scales the gradients so that their norm is at most `max_norm`, then steps. Returns the norm before. The same as
    /// [`clip_grad_norm`] and [`AdamW::step`], without writing the scaled gradients.
    ///
    /// # Errors
    /// As [`AdamW::step`].
    pub fn step_clipped(&mut self, lr: f64, max_norm: f64) -> Result<f64, OptimError> {
        let norm = grad_norm(self.parameters())?;
        self.apply(lr, clip_factor(norm, max_norm))?;
        Ok(norm)
    }

    /// Every gradient has been looked at before anything is written here.
    fn apply(&mut self, lr: f64, grad_scale: f64) -> Result<(), OptimError> {
        self.steps += 1;
        for e in &mut self.entries {
            let weight_decay = if e.decayed(&self.config) { self.config.weight_decay } else { 0.0 };
            let step = tensor::AdamW { weight_decay, grad_scale, ..self.config.at(lr, self.steps) };
            let grad = e.var.grad().ok_or_else(|| OptimError::NoGradient(e.name.clone()))?.to_dtype(e.master.dtype());
            if e.var.dtype() == e.master.dtype() {
                e.master = e.var.value(); // whoever set the parameter is heard
            }
            (e.master, e.exp_avg, e.exp_avg_sq) = step.apply(&e.master, &grad, &e.exp_avg, &e.exp_avg_sq);
            e.var.set_value(e.master.to_dtype(e.var.dtype()));
        }
        Ok(())
    }

    /// Forgets all gradients.
    pub fn zero_grad(&self) {
        self.entries.iter().for_each(|e| e.var.zero_grad());
    }

    /// Everything beside the parameters that the next step depends on: `step`, and for each parameter `NAME.exp_avg`,
    /// `NAME.exp_avg_sq` and, where it is of a half type, `NAME.master`. Continuing from it continues bit for bit.
    pub fn state_dict(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for e in &self.entries {
            state.insert(format!("{}.exp_avg", e.name), e.exp_avg.clone());
            state.insert(format!("{}.exp_avg_sq", e.name), e.exp_avg_sq.clone());
            if e.var.dtype() != e.master.dtype() {
                state.insert(format!("{}.master", e.name), e.master.clone());
            }
        }
        let device = tensor::Device::cpu();
        state.insert("step".into(), Tensor::scalar(self.steps as i64, DType::I64, &device));
        state
    }

    /// Continues from a state. Nothing is changed if it fails.
    ///
    /// # Errors
    /// Names the first entry that is missing, of another shape or dtype, or of no parameter.
    pub fn load_state_dict(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        let wrong = |key: &str, problem: String| OptimError::State { key: key.into(), problem };
        let own = self.state_dict();
        for (key, old) in &own {
            let new = state.get(key).ok_or_else(|| wrong(key, "is missing".into()))?;
            if new.shape() != old.shape() || new.dtype() != old.dtype() {
                return Err(wrong(key, format!("is {} {}, expected {} {}", new.dtype(), new.shape(), old.dtype(), old.shape())));
            }
        }
        if let Some(key) = state.keys().find(|key| !own.contains_key(*key)) {
            return Err(wrong(key, "belongs to no parameter".into()));
        }
        let steps = state["step"].item::<i64>();
        self.steps = u64::try_from(steps).map_err(|_| wrong("step", format!("is {steps}")))?;
        for e in &mut self.entries {
            let get = |what: &str| state.get(&format!("{}.{what}", e.name)).map(|t| t.to_device(e.master.device()));
            (e.exp_avg, e.exp_avg_sq) = (get("exp_avg").expect("checked above"), get("exp_avg_sq").expect("checked above"));
            if let Some(master) = get("master") {
                e.master = master;
            }
        }
        Ok(())
    }
}

/// Each parameter once, under the first of its names.
fn distinct<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a Var)>) -> impl Iterator<Item = (&'a str, &'a Var)> {
    let mut seen = HashSet::new();
    parameters.into_iter().filter(move |(_, var)| seen.insert(var.id()))
}

/// The Euclidean norm of all gradients together, summed in f64. A parameter that is listed twice counts once.
///
/// # Errors
/// Names the first parameter without a gradient, or whose gradient is not finite.
pub fn grad_norm<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a Var)>) -> Result<f64, OptimError> {
    let mut total = 0.0;
    for (name, var) in distinct(parameters) {
        let grad = var.grad().ok_or_else(|| OptimError::NoGradient(name.into()))?;
        let square = grad.to_dtype(DType::F64).square().sum((), false).item::<f64>();
        if !square.is_finite() {
            return Err(OptimError::NotFinite(name.into()));
        }
        total += square;
    }
    Ok(total.sqrt())
}

fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if norm > max_norm { max_norm / norm } else { 1.0 }
}

/// Scales all gradients so that their norm together is at most `max_norm` (Pascanu et al., 2013). Returns the norm before.
///
/// # Errors
/// As [`grad_norm`].
pub fn clip_grad_norm(parameters: &[(String, Var)], max_norm: f64) -> Result<f64, OptimError> {
    let named = || parameters.iter().map(|(name, var)| (&**name, var));
    let norm = grad_norm(named())?;
    let factor = clip_factor(norm, max_norm);
    if factor < 1.0 {
        for (_, var) in distinct(named()) {
            var.set_grad(var.grad().map(|g| g.mul(factor)));
        }
    }
    Ok(norm)
}

/// How the learning rate goes over the steps of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Rises linearly over `warmup` steps, then stays.
    Constant {
        /// Steps until the full rate.
        warmup: u64,
    },
    /// Rises linearly, stays, and falls linearly over the last `decay` of `total` steps.
    WarmupStableDecay {
        /// Steps until the full rate.
        warmup: u64,
        /// Steps of the fall.
        decay: u64,
        /// Steps in all.
        total: u64,
        /// The share of the full rate at the end.
        floor: f64,
    },
    /// Rises linearly, then falls along half a cosine until `total`.
    Cosine {
        /// Steps until the full rate.
        warmup: u64,
        /// Steps in all.
        total: u64,
        /// The share of the full rate at the end.
        floor: f64,
    },
}

impl Schedule {
    /// What the full rate is multiplied by at a step, counted from 0. The first step of a warm-up of `n` has `1/n`, and the step
    /// after the last one has the floor.
    pub fn factor(&self, step: u64) -> f64 {
        let (Schedule::Constant { warmup } | Schedule::WarmupStableDecay { warmup, .. } | Schedule::Cosine { warmup, .. }) =
            *self;
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        /// Where `step` lies between `from` (0) and `to` (1).
        fn progress(step: u64, from: u64, to: u64) -> f64 {
            match step {
                _ if step >= to => 1.0,
                _ if step <= from => 0.0,
                _ => (step - from) as f64 / (to - from) as f64,
            }
        }
        match *self {
            Schedule::Constant { .. } => 1.0,
            Schedule::WarmupStableDecay { decay, total, floor, .. } => {
                1.0 - (1.0 - floor) * progress(step, total.saturating_sub(decay).max(warmup), total)
            }
            Schedule::Cosine { warmup, total, floor } => {
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress(step, warmup, total)).cos())
            }
        }
    }
}
