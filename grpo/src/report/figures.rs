//! Which values of a run are drawn, and how they are called.

use crate::chart::{Ink, Mark, Panel, Point, Series, Unit};
use crate::metrics::{EvalMetrics, EvalTask, Stage, StepMetrics};

use super::Recorded;

/// A value of a step.
type Get = fn(&StepMetrics) -> Option<f64>;

/// Most points of a line: beyond that, neighbours are averaged.
const MOST_POINTS: usize = 160;

/// Accuracy over length, in training and held out: the picture of the paper's Figure 1 and 2.
pub fn curve(run: &Recorded) -> Vec<Panel> {
    let held_out = |key: &str| held_out(run, key);
    let accuracy = vec![
        line("in training", 0, run, |s| s.accuracy),
        Series { name: "held out".into(), color: 0, ink: Ink::Dots, points: held_out("pass@1") },
    ];
    let length = vec![
        line("in training", 1, run, |s| s.completion_length),
        Series { name: "held out".into(), color: 1, ink: Ink::Dots, points: held_out("completion_length") },
    ];
    present(vec![
        panel("Right answers (pass@1)", Unit::Share, "", limit_jumps(run), accuracy),
        panel("Tokens per answer", Unit::Number, "RL steps", unlabelled(limit_jumps(run)), length),
    ])
}

/// How answers change, each a small picture.
pub fn behaviour(run: &Recorded) -> Vec<Panel> {
    let small = |title, unit, lines: Vec<(&str, usize, Get)>| rl_panel(run, title, unit, lines);
    present(vec![
        small(
            "Checks per answer",
            Unit::Number,
            vec![("all", 2, |s| s.behaviour.checks.or(s.behaviour.failed_checks)), ("failed", 1, |s| s.behaviour.failed_checks)],
        ),
        small("Failed checks followed by a new attempt", Unit::Share, vec![("", 3, |s| s.behaviour.retry_rate)]),
        small(
            "Share right",
            Unit::Share,
            vec![
                ("verdicts", 2, |s| s.behaviour.balanced_verdict_accuracy.or(s.behaviour.verdict_accuracy)),
                ("sums", 3, |s| s.behaviour.arithmetic_accuracy),
            ],
        ),
        small(
            "Tokens of an answer",
            Unit::Number,
            vec![("right", 2, |s| s.behaviour.length_right), ("wrong", 1, |s| s.behaviour.length_wrong)],
        ),
        small("Answers cut by the limit", Unit::Share, vec![("", 1, |s| s.clipped_ratio)]),
        small("Answers in the template", Unit::Share, vec![("", 0, |s| s.format)]),
    ])
}

/// How the optimisation goes, each a small picture.
pub fn optimisation(run: &Recorded) -> Vec<Panel> {
    let small = |title, unit, get: Get| rl_panel(run, title, unit, vec![("", 0, get)]);
    let mut panels = vec![
        small("Entropy, nats per token", Unit::Number, |s| s.entropy),
        small("KL from the reference, per token", Unit::Number, |s| s.kl),
        small("Tokens clipped", Unit::Share, |s| s.clip_ratio),
        small("Gradient norm", Unit::Number, |s| Some(s.grad_norm)),
        small("Groups without variance", Unit::Share, |s| s.frac_reward_zero_std),
        small("Busiest expert's load over the mean", Unit::Number, busiest),
        small("Tokens per second", Unit::Number, |s| Some(s.tokens_per_second)),
    ];
    let points = points(run, Stage::Base, |s| Some(s.loss));
    let loss = Series { name: String::new(), color: 4, ink: Ink::Line, points }.thinned(MOST_POINTS);
    panels.push(panel("Pre-training loss, nats per token", Unit::Number, "base steps", vec![], vec![loss]));
    let points = self::points(run, Stage::Base, busiest);
    let load = Series { name: String::new(), color: 4, ink: Ink::Line, points }.thinned(MOST_POINTS);
    panels.push(panel("Busiest expert in pre-training", Unit::Number, "base steps", vec![], vec![load]));
    present(panels)
}

/// The same two panels as [`curve`] with a line per run.
pub fn comparison(runs: &[(&str, Recorded)]) -> Vec<Panel> {
    let mut accuracy = Vec::new();
    let mut length = Vec::new();
    for (color, (name, run)) in runs.iter().enumerate() {
        let color = color % 6;
        accuracy.push(line(name, color, run, |s| s.accuracy));
        accuracy.push(Series { name: String::new(), color, ink: Ink::Dots, points: held_out(run, "pass@1") });
        length.push(line(name, color, run, |s| s.completion_length));
    }
    // Runs share their limits, or have fewer of them: each event is said once.
    let mut marks: Vec<Mark> = runs.iter().flat_map(|(_, run)| limit_jumps(run)).collect();
    marks.sort_by(|a, b| a.x.total_cmp(&b.x));
    marks.dedup();
    present(vec![
        panel("Right answers: in training (lines), held out (dots)", Unit::Share, "", marks.clone(), accuracy),
        panel("Tokens per answer, in training", Unit::Number, "RL steps", unlabelled(marks), length),
    ])
}

fn busiest(s: &StepMetrics) -> Option<f64> {
    s.expert_load.iter().copied().reduce(f64::max)
}

fn points(run: &Recorded, stage: Stage, get: Get) -> Vec<Point> {
    let steps = run.steps(stage);
    steps.filter_map(|s| Some(Point::new(s.step as f64, get(s)?))).collect()
}

fn line(name: &str, color: usize, run: &Recorded, get: Get) -> Series {
    let points = points(run, Stage::R1Zero, get);
    Series { name: name.into(), color, ink: Ink::Line, points }.thinned(MOST_POINTS)
}

/// A score at each evaluation of the held-out problems; the base model stands at step 0.
fn held_out(run: &Recorded, key: &str) -> Vec<Point> {
    let point = |e: &EvalMetrics| {
        let score = e.scores.get(key)?;
        let x = if e.stage == Stage::Base { 0.0 } else { e.step as f64 };
        Some(Point { x, y: score.value, ci: Some([score.low, score.high]) })
    };
    let base = run.evals(EvalTask::Countdown).filter(|e| e.stage == Stage::Base).last();
    let rl = run.evals(EvalTask::Countdown).filter(|e| e.stage == Stage::R1Zero);
    base.into_iter().chain(rl).filter_map(point).collect()
}

/// Where the length limit changes.
fn limit_jumps(run: &Recorded) -> Vec<Mark> {
    let limits: Vec<_> = run.steps(Stage::R1Zero).filter_map(|s| Some((s.step, s.max_completion_length?))).collect();
    let jump = |w: &[(usize, usize)]| {
        let [(before, from), (_, to)] = [w[0], w[1]];
        (from != to).then(|| Mark { x: before as f64, label: format!("limit {from} → {to} tokens") })
    };
    limits.windows(2).filter_map(jump).collect()
}

/// Events whose names stand elsewhere.
fn unlabelled(marks: Vec<Mark>) -> Vec<Mark> {
    marks.into_iter().map(|m| Mark { label: String::new(), ..m }).collect()
}

fn rl_panel(run: &Recorded, title: &str, unit: Unit, lines: Vec<(&str, usize, Get)>) -> Panel {
    let series = lines.into_iter().map(|(name, color, get)| line(name, color, run, get)).collect();
    panel(title, unit, "RL steps", unlabelled(limit_jumps(run)), series)
}

fn panel(title: &str, unit: Unit, x_label: &str, marks: Vec<Mark>, mut series: Vec<Series>) -> Panel {
    series.retain(|s| !s.points.is_empty());
    Panel { title: title.into(), unit, x_label: x_label.into(), marks, series }
}

/// Panels that have anything to show.
fn present(mut panels: Vec<Panel>) -> Vec<Panel> {
    panels.retain(|p| !p.series.is_empty());
    panels
}
