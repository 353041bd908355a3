use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use super::{
    BaseConfig, EvalConfig, Kind, RejectConfig, RewardModelConfig, RlConfig, RunConfig, RunConfigError, SftConfig, TaskConfig,
};
use crate::tokenizer::Tokenizer;

/// More of anything than a run can have, and few enough that products of two do not overflow.
const MANY: usize = 1 << 24;
/// More attempts than any text has room for.
const ATTEMPTS: usize = 1 << 12;

impl RunConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`RunConfigError::Range`] for the first that is outside.
    pub fn validate(&self) -> Result<(), RunConfigError> {
        // TOML's integers are signed.
        require("seed", self.seed, self.seed <= i64::MAX as u64, "0 to 2^63 - 1")?;
        not_negative("price", self.price)?;
        model(&self.model)?;
        task(&self.task)?;
        base(&self.base)?;
        rl(&self.rl)?;
        sft(&self.sft)?;
        reject(&self.reject)?;
        reward_model(&self.reward_model)?;
        eval(&self.eval)?;
        tasks(self)?;
        stages(self)
    }
}

/// Every task is known, and named once.
fn tasks(config: &RunConfig) -> Result<(), RunConfigError> {
    let own: Vec<&str> = config.jsonl.iter().map(|task| task.name.as_str()).collect();
    let shown = format!("{:?}", config.tasks);
    let distinct = |names: &[&str]| (1..names.len()).all(|i| !names[..i].contains(&names[i]));
    let names: Vec<&str> = config.tasks.iter().map(String::as_str).collect();
    require("tasks", &shown, !names.is_empty() && distinct(&names), "one name or more, each once")?;
    let plain = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let fresh = |name: &&str| !crate::tasks::BUILT_IN.contains(name);
    let ok = distinct(&own) && own.iter().all(|name| plain(name) && fresh(name));
    require(
        "jsonl.name",
        format!("{own:?}"),
        ok,
        "names of letters, digits, _ and -, each once and none of a task that is built in",
    )
}

/// Names are distinct, so that checkpoints and metrics are, and each `from` names an earlier stage.
fn stages(config: &RunConfig) -> Result<(), RunConfigError> {
    // Names of other things in a run folder.
    const TAKEN: [&str; 2] = ["model", "evaluation"];
    require("stage", "[]", !config.stages.is_empty(), "one stage or more")?;
    for (i, stage) in config.stages.iter().enumerate() {
        let refuse = |message: String| Err(RunConfigError::Stage { name: stage.name.clone(), message });
        let plain = !stage.name.is_empty() && stage.name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let earlier = &config.stages[..i];
        if !plain || TAKEN.contains(&stage.name.as_str()) {
            return refuse("expected a name of letters, digits, _ and -, other than `model` and `evaluation`".into());
        }
        if earlier.iter().any(|other| other.name == stage.name) {
            return refuse("expected a name of its own, an earlier stage has this one".into());
        }
        if let Some(from) = stage.from.as_ref().filter(|from| earlier.iter().all(|other| other.name != **from)) {
            return refuse(format!("expected `from` to name an earlier stage, found `{from}`"));
        }
        match stage.kind {
            Kind::Pretrain => stage.imitation(config).map(|_| ())?,
            Kind::Reject => stage.rejection(config).map(|_| ())?,
            Kind::RewardModel => stage.preference(config).map(|_| ())?,
            Kind::Sft | Kind::Distill => {
                let mix = stage.fine_tuning(config)?.mix;
                let kept = |name: &String| earlier.iter().any(|other| other.kind == Kind::Reject && other.name == *name);
                // Names of a user's own tasks are not known here.
                let known = |name: &String| kept(name) || config.stages.iter().all(|other| other.name != *name);
                if mix.is_empty() {
                    return refuse("expected `mix` to name tasks or earlier stages of kind `reject`, found none".into());
                }
                if let Some(found) = mix.keys().find(|name| !known(name)) {
                    return refuse(format!("expected `mix` to name tasks or earlier stages of kind `reject`, found `{found}`"));
                }
            }
            Kind::Grpo | Kind::Ppo => {
                let rl = stage.reinforcement(config)?;
                let model = |name: &String| earlier.iter().any(|other| other.kind == Kind::RewardModel && other.name == *name);
                if !rl.reward_model.as_ref().map_or(rl.reward_weights.preference == 0.0, model) {
                    let words = "expected `reward_model` to name an earlier stage of kind `reward_model`, as a weight of `preference` asks";
                    return refuse(words.into());
                }
            }
        }
        stage.model(config)?;
    }
    Ok(())
}

/// What a run asks of a model beside what the model asks of its config.
pub(super) fn model(m: &nn::Config) -> Result<(), RunConfigError> {
    m.validate().map_err(|e| match e {
        nn::ConfigError::Invalid { key, found, expected } => {
            RunConfigError::Range { key: format!("model.{key}").into(), value: found, expected }
        }
        other => unreachable!("validation checks ranges: {other}"),
    })?;
    let tokens = Tokenizer::new().vocab_size();
    require("model.vocab_size", m.vocab_size, m.vocab_size >= tokens, format!("at least the tokenizer's {tokens}"))?;
    require("model.n_routed_experts", m.n_routed_experts, m.n_routed_experts > 0, "1 or more")?;
    // No stage trains them.
    let n = m.num_nextn_predict_layers;
    require("model.num_nextn_predict_layers", n, n == 0, "0")
}

fn task(t: &TaskConfig) -> Result<(), RunConfigError> {
    within("task.numbers", t.numbers, 2..=6)?;
    within("task.max_value", t.max_value, 1..=99)?;
    let known = !t.operators.is_empty() && t.operators.chars().all(|c| "+-*".contains(c));
    let operators = format!("{:?}", t.operators);
    require("task.operators", operators, known, "one or more of + - *")?;
    within("task.max_target", t.max_target, 1..=999)?;
    let some = t.held_out > 0.0 && t.held_out < 1.0;
    require("task.held_out", t.held_out, some, "more than 0 and less than 1")
}

pub(super) fn base(b: &BaseConfig) -> Result<(), RunConfigError> {
    within("base.steps", b.steps, 0..=MANY)?;
    within("base.batch_size", b.batch_size, 1..=MANY)?;
    within("base.long_every", b.long_every, 0..=MANY)?;
    within("base.long_batch_size", b.long_batch_size, 1..=MANY)?;
    within("base.warmup_steps", b.warmup_steps, 0..=MANY)?;
    share("base.drill_share", b.drill_share)?;
    share("base.others_share", b.others_share)?;
    let chains = b.others_share;
    let fits = b.drill_share + chains <= 1.0;
    require("base.others_share", chains, fits, "at most 1 with drill_share")?;
    share("base.p_check", b.p_check)?;
    share("base.p_continue", b.p_continue)?;
    share("base.p_second_notation", b.p_second_notation)?;
    rising("base.drill_attempts", b.drill_attempts)?;
    rising("base.long_attempts", b.long_attempts)?;
    share("base.decay_from", b.decay_from)?;
    share("base.min_lr_ratio", b.min_lr_ratio)?;
    positive("base.lr", b.lr)?;
    betas("base.betas", b.betas)?;
    not_negative("base.weight_decay", b.weight_decay)?;
    positive("base.grad_clip", b.grad_clip)?;
    not_negative("base.bias_update_speed", b.bias_update_speed)?;
    not_negative("base.seq_aux_alpha", b.seq_aux_alpha)
}

pub(super) fn rl(rl: &RlConfig) -> Result<(), RunConfigError> {
    within("rl.steps", rl.steps, 0..=MANY)?;
    within("rl.questions", rl.questions, 1..=MANY)?;
    // An advantage compares answers.
    within("rl.num_generations", rl.num_generations, 2..=MANY)?;
    positive("rl.temperature", rl.temperature)?;
    let limits = &rl.max_completion_length;
    let schedule = limits.first().is_some_and(|l| l.from_step == 0)
        && limits.windows(2).all(|w| w[0].from_step < w[1].from_step)
        && limits.iter().all(|l| (1..=MANY).contains(&l.limit));
    let shown: Vec<_> = limits.iter().map(|l| (l.from_step, l.limit)).collect();
    let expected = format!("limits of 1 to {MANY}, the first from step 0, steps rising");
    require("rl.max_completion_length", format!("{shown:?}"), schedule, expected)?;
    not_negative("rl.reward_weights.accuracy", rl.reward_weights.accuracy)?;
    not_negative("rl.reward_weights.format", rl.reward_weights.format)?;
    not_negative("rl.reward_weights.consistency", rl.reward_weights.consistency)?;
    not_negative("rl.reward_weights.preference", rl.reward_weights.preference)?;
    within("rl.preference_steps", rl.preference_steps, 0..=MANY)?;
    mix("rl.tasks", &rl.tasks)?;
    positive("rl.epsilon", rl.epsilon)?;
    positive("rl.epsilon_high", rl.epsilon_high.unwrap_or(rl.epsilon))?;
    not_negative("rl.beta", rl.beta)?;
    share("rl.lam", rl.lam)?;
    share("rl.gamma", rl.gamma)?;
    not_negative("rl.vf_coef", rl.vf_coef)?;
    within("rl.minibatches", rl.minibatches, 1..=rl.questions * rl.num_generations)?;
    within("rl.num_iterations", rl.num_iterations, 1..=MANY)?;
    within("rl.ref_sync_steps", rl.ref_sync_steps, 0..=MANY)?;
    positive("rl.lr", rl.lr)?;
    share("rl.decay_from", rl.decay_from)?;
    share("rl.min_lr_ratio", rl.min_lr_ratio)?;
    betas("rl.betas", rl.betas)?;
    not_negative("rl.weight_decay", rl.weight_decay)?;
    positive("rl.grad_clip", rl.grad_clip)
}

pub(super) fn sft(s: &SftConfig) -> Result<(), RunConfigError> {
    within("sft.steps", s.steps, 0..=MANY)?;
    within("sft.batch_size", s.batch_size, 1..=MANY)?;
    within("sft.examples", s.examples, 1..=MANY)?;
    mix("sft.mix", &s.mix)?;
    positive("sft.lr", s.lr)?;
    within("sft.warmup_steps", s.warmup_steps, 0..=MANY)?;
    share("sft.decay_from", s.decay_from)?;
    share("sft.min_lr_ratio", s.min_lr_ratio)?;
    betas("sft.betas", s.betas)?;
    not_negative("sft.weight_decay", s.weight_decay)?;
    positive("sft.grad_clip", s.grad_clip)
}

pub(super) fn reject(r: &RejectConfig) -> Result<(), RunConfigError> {
    within("reject.steps", r.steps, 0..=MANY)?;
    within("reject.questions", r.questions, 1..=MANY)?;
    mix("reject.tasks", &r.tasks)?;
    within("reject.num_generations", r.num_generations, 1..=MANY)?;
    positive("reject.temperature", r.temperature)?;
    within("reject.max_completion_length", r.max_completion_length, 1..=MANY)?;
    within("reject.keep", r.keep, 1..=MANY)?;
    within("reject.longest", r.longest, 1..=MANY)?;
    share("reject.min_consistency", r.min_consistency)
}

pub(super) fn reward_model(r: &RewardModelConfig) -> Result<(), RunConfigError> {
    within("reward_model.steps", r.steps, 0..=MANY)?;
    within("reward_model.questions", r.questions, 1..=MANY)?;
    mix("reward_model.tasks", &r.tasks)?;
    within("reward_model.num_generations", r.num_generations, 2..=MANY)?;
    positive("reward_model.temperature", r.temperature)?;
    within("reward_model.max_completion_length", r.max_completion_length, 1..=MANY)?;
    share("reward_model.label_noise", r.label_noise)?;
    positive("reward_model.lr", r.lr)?;
    betas("reward_model.betas", r.betas)?;
    not_negative("reward_model.weight_decay", r.weight_decay)?;
    positive("reward_model.grad_clip", r.grad_clip)
}

/// Weights of what is drawn from.
fn mix(key: &'static str, weights: &BTreeMap<String, f64>) -> Result<(), RunConfigError> {
    weights.values().try_for_each(|&weight| positive(key, weight))
}

fn eval(e: &EvalConfig) -> Result<(), RunConfigError> {
    within("eval.every", e.every, 0..=MANY)?;
    within("eval.problems", e.problems, 1..=MANY)?;
    within("eval.others_problems", e.others_problems, 0..=MANY)?;
    within("eval.samples", e.samples, 1..=MANY)?;
    within("eval.shown", e.shown, 0..=MANY)?;
    let sampled = e.k.contains(&1) && e.k.iter().all(|k| (1..=e.samples).contains(k));
    let expected = "1 among values between 1 and eval.samples";
    require("eval.k", format!("{:?}", e.k), sampled, expected)
}

fn require(key: &'static str, value: impl fmt::Display, ok: bool, expected: impl Into<String>) -> Result<(), RunConfigError> {
    let refuse = || RunConfigError::Range { key: key.into(), value: value.to_string(), expected: expected.into() };
    if ok { Ok(()) } else { Err(refuse()) }
}

fn within(key: &'static str, v: usize, range: RangeInclusive<usize>) -> Result<(), RunConfigError> {
    require(key, v, range.contains(&v), format!("{} to {}", range.start(), range.end()))
}

fn positive(key: &'static str, v: f64) -> Result<(), RunConfigError> {
    require(key, v, v > 0.0 && v.is_finite(), "more than 0")
}

fn not_negative(key: &'static str, v: f64) -> Result<(), RunConfigError> {
    require(key, v, v >= 0.0 && v.is_finite(), "0 or more")
}

fn share(key: &'static str, v: f64) -> Result<(), RunConfigError> {
    require(key, v, (0.0..=1.0).contains(&v), "0 to 1")
}

fn rising(key: &'static str, v: [usize; 2]) -> Result<(), RunConfigError> {
    let ok = 1 <= v[0] && v[0] <= v[1] && v[1] <= ATTEMPTS;
    require(key, format!("{v:?}"), ok, format!("the fewest, 1 or more, then the most, up to {ATTEMPTS}"))
}

fn betas(key: &'static str, v: [f64; 2]) -> Result<(), RunConfigError> {
    let ok = v.iter().all(|b| (0.0..1.0).contains(b));
    require(key, format!("{v:?}"), ok, "two values from 0 to below 1")
}
