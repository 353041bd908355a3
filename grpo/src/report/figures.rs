//! Which values of a run are drawn, and how they are called.

use crate::chart::{Ink, Mark, Panel, Point, Series, Unit};
use crate::metrics::{EvalMetrics, StepMetrics};

use super::Recorded;

/// A value of a step.
type Get = fn(&StepMetrics) -> Option<f64>;

/// Most points of a line: beyond that, neighbours are averaged.
const MOST_POINTS: usize = 160;

/// Accuracy over length, in training and held out: the picture of the paper's Figure 1 and 2.
pub fn curve(run: &Recorded) -> Vec<Panel> {
    let held_out = |key: &str| held_out(run, key);
    let accuracy = vec![
        line("in training", 0, run, |s| s.get("accuracy")),
        Series { name: "held out".into(), color: 0, ink: Ink::Dots, points: held_out("pass@1") },
    ];
    let length = vec![
        line("in training", 1, run, |s| s.get("completion_length")),
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
            vec![("all", 2, |s| s.get("checks").or(s.get("failed_checks"))), ("failed", 1, |s| s.get("failed_checks"))],
        ),
        small("Failed checks followed by a new attempt", Unit::Share, vec![("", 3, |s| s.get("retry_rate"))]),
        small(
            "Share right",
            Unit::Share,
            vec![
                ("verdicts", 2, |s| s.get("balanced_verdict_accuracy").or(s.get("verdict_accuracy"))),
                ("sums", 3, |s| s.get("arithmetic_accuracy")),
            ],
        ),
        small(
            "Tokens of an answer",
            Unit::Number,
            vec![("right", 2, |s| s.get("length_right")), ("wrong", 1, |s| s.get("length_wrong"))],
        ),
        small(
            "Operations in the first notation",
            Unit::Share,
            vec![("", 4, |s| s.get("consistency").filter(|share| *share < 1.0))],
        ),
        small("Attempts that hit", Unit::Share, vec![("", 2, |s| s.get("hit_rate"))]),
        small("Answers cut by the limit", Unit::Share, vec![("", 1, |s| s.get("clipped_ratio"))]),
        small("Answers in the template", Unit::Share, vec![("", 0, |s| s.get("format"))]),
    ])
}

/// How the optimisation goes, each a small picture.
pub fn optimisation(run: &Recorded) -> Vec<Panel> {
    let small = |title, unit, get: Get| rl_panel(run, title, unit, vec![("", 0, get)]);
    let mut panels = vec![
        small("Entropy, nats per token", Unit::Number, |s| s.get("entropy")),
        small("KL from the reference, per token", Unit::Number, |s| s.get("kl")),
        small("Tokens clipped", Unit::Share, |s| s.get("clip_ratio")),
        small("Mean reward", Unit::Number, |s| s.get("reward")),
        small("Probability of being preferred", Unit::Share, |s| s.get("rewards/preference/mean")),
        small("Gradient norm", Unit::Number, |s| s.get("grad_norm")),
        small("Groups without variance", Unit::Share, |s| s.get("frac_reward_zero_std")),
        small("Busiest expert's load over the mean", Unit::Number, busiest),
        small("Tokens per second", Unit::Number, |s| s.get("tokens_per_second")),
    ];
    let base = |get: Get| run.steps(run.base_stage()).filter_map(|s| Some(Point::new(s.step as f64, get(s)?))).collect();
    let points = base(|s| s.get("loss"));
    let loss = Series { name: String::new(), color: 4, ink: Ink::Line, points }.thinned(MOST_POINTS);
    panels.push(panel("Pre-training loss, nats per token", Unit::Number, "base steps", vec![], vec![loss]));
    let points = base(busiest);
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
        accuracy.push(line(name, color, run, |s| s.get("accuracy")));
        accuracy.push(Series { name: String::new(), color, ink: Ink::Dots, points: held_out(run, "pass@1") });
        length.push(line(name, color, run, |s| s.get("completion_length")));
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
    s.busiest_expert()
}

fn line(name: &str, color: usize, run: &Recorded, get: Get) -> Series {
    let points = run.rl_steps().into_iter().filter_map(|(at, s)| Some(Point::new(at as f64, get(s)?))).collect();
    Series { name: name.into(), color, ink: Ink::Line, points }.thinned(MOST_POINTS)
}

/// A score at each evaluation of the held-out problems; the base model stands at step 0.
fn held_out(run: &Recorded, key: &str) -> Vec<Point> {
    let point = |e: &EvalMetrics| {
        let score = e.scores.get(key)?;
        Some(Point { x: run.place(e)? as f64, y: score.value, ci: Some([score.low, score.high]) })
    };
    let mut points: Vec<Point> = run.main_evals().filter_map(point).collect();
    // A base stage that was resumed may have been measured twice.
    points.dedup_by(|b, a| a.x == b.x);
    points
}

/// Where the length limit changes, and where one stage follows another.
fn limit_jumps(run: &Recorded) -> Vec<Mark> {
    let steps = run.rl_steps();
    let event = |w: &[(usize, &StepMetrics)]| {
        let [(before, from), (_, to)] = [w[0], w[1]];
        let label = if from.stage != to.stage {
            to.stage.clone()
        } else {
            let [from, to] = [from, to].map(|s| s.get("max_completion_length"));
            let (from, to) = from.zip(to).filter(|(from, to)| from != to)?;
            format!("limit {from} → {to} tokens")
        };
        Some(Mark { x: before as f64, label })
    };
    steps.windows(2).filter_map(event).collect()
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
