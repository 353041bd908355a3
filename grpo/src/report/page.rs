//! The page: what happened, in the order in which a reader asks.

use std::fmt::Write;

use crate::chart::{self, Panel, Unit, escape, grouped};
use crate::config::RewardWeights;
use crate::cost::{self, StageCost};
use crate::eval_stats::Score;
use crate::metrics::Scores;

use super::{Base, Recorded, answers, figures};

/// The whole document.
pub fn html(run: &Recorded) -> String {
    let mut out = String::with_capacity(1 << 18);
    let title = title(run);
    let style = [chart::STYLE, include_str!("page.css")].concat();
    let _ = write!(
        out,
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title><style>{style}</style></head><body><main>"#
    );
    header(&mut out, run);
    headline(&mut out, run);
    learning_curve(&mut out, run);
    pictures(&mut out, "What the answers do", figures::behaviour(run));
    samples(&mut out, run);
    stages(&mut out, run);
    other_tasks(&mut out, run);
    costs(&mut out, run);
    pictures(&mut out, "How the optimisation went", figures::optimisation(run));
    agreement(&mut out, run);
    meaning(&mut out, run);
    reproduce(&mut out, run);
    out.push_str("</main></body></html>\n");
    out
}

/// A run of two stages is R1-Zero, one of more is R1.
fn title(run: &Recorded) -> &'static str {
    if run.config.stages.len() > 2 { "R1 at desk scale" } else { "R1-Zero at desk scale" }
}

fn header(out: &mut String, run: &Recorded) {
    let title = title(run);
    let summary = run.summary.as_ref();
    let size = summary.map_or(String::new(), |s| {
        let [all, active] = s.parameters.map(|n| Unit::Number.format((n as f64 / 1e4).round() / 100.0));
        format!(" of {all} million parameters, {active} of them active per token,")
    });
    let learns = match run.base {
        Base::Trained => "learns to write from traces of uneven quality, and then to reason by reinforcement alone",
        Base::Untrained => "learns from random weights on by reinforcement alone",
        Base::Given => "learns further by reinforcement alone",
    };
    let RewardWeights { accuracy, format, consistency, .. } = run.config.rl.reward_weights;
    let weighted = [(accuracy, "is right"), (format, "is in the template"), (consistency, "keeps to one notation")];
    let rules: Vec<String> = weighted.iter().filter(|(w, _)| *w > 0.0).map(|(w, what)| format!("{what} (worth {w})")).collect();
    let rule = match accuracy > 0.0 && rules.len() == 1 {
        true => "a rule says whether its final answer is right, nothing else".into(),
        false => format!("rules say whether its answer {}", rules.join(" and ")),
    };
    let task = run.tasks().first().map_or(String::new(), |task| format!(" The task is {}.", escape(task)));
    let _ = write!(
        out,
        "<header><p class=\"kicker\">Scratchwork · grpo_r1</p><h1>{title}</h1><p class=\"lead\">A DeepSeek-V3 model{size} \
         {learns}: {rule}.{task}</p>"
    );
    if run.base == Base::Given {
        out.push_str(
            "<p class=\"flag\">The base model was made elsewhere: what it has learned from, and whether it has seen the problems that \
             are held out here, is not recorded in this run.</p>",
        );
    }
    if let (same @ 1.., zero) = run.steps_without_advantage() {
        let steps = run.rl_steps().len();
        let _ = write!(
            out,
            "<p class=\"flag\">In {same} of {steps} RL steps the answers to each question all got the same reward (in {zero} of them 0): \
             such a step learns nothing from its rewards.</p>"
        );
    }
    if let Some(control) = summary.and_then(|s| s.control.as_deref()) {
        let _ = write!(out, r#"<p class="flag">Control experiment: <b>{}</b>.</p>"#, escape(control));
    }
    if summary.is_none() {
        out.push_str(r#"<p class="flag">This run has not ended: the page shows what there is so far.</p>"#);
    }
    out.push_str("</header>");
}

fn headline(out: &mut String, run: &Recorded) {
    let (Some(before), after) = run.main_before_and_after() else { return };
    let after = after.map(|e| &e.scores);
    out.push_str(r#"<section class="cards">"#);
    card(out, "Solved at first try (pass@1)", Unit::Share, &before.scores, after, "pass@1", |before, after| {
        let (k, was) = in_most_tries(before)?;
        let [was, is] = [was, in_most_tries(after)?.1].map(|v| Unit::Share.format(v));
        Some(format!("in {k} tries: {was} → {is}"))
    });
    card(out, "Tokens per answer", Unit::Number, &before.scores, after, "completion_length", |before, after| {
        let ratio = after.get("completion_length")?.value / before.get("completion_length")?.value;
        Some(format!("{} times as long", Unit::Number.format((ratio * 10.0).round() / 10.0)))
    });
    let behaviour = |s: &Scores| s.behaviour.get("checks").or(s.behaviour.get("failed_checks"));
    if let (Some(checks), true) = (behaviour(&before.scores), after.is_some()) {
        let now = after.and_then(behaviour);
        let true_share = after.and_then(|s| s.behaviour.get("verdict_accuracy"));
        let foot = true_share.map_or(String::new(), |v| format!("{} of the verdicts are true", Unit::Share.format(v)));
        numbers(out, "Checks per answer", &Unit::Number.format(checks), now.map(|v| Unit::Number.format(v)), &foot);
    }
    if let Some(summary) = &run.summary {
        let total = cost::total(&summary.stages);
        let foot = format!("on {}", summary.device);
        let cost = format!("${:.2}", total.cost_usd);
        numbers(out, "Time and cost", &duration(total.seconds), Some(cost), &foot);
    }
    out.push_str("</section>");
}

/// One number before and after, with the interval of the latter, and a remark.
fn card(
    out: &mut String,
    title: &str,
    unit: Unit,
    before: &Scores,
    after: Option<&Scores>,
    key: &str,
    remark: impl Fn(&Scores, &Scores) -> Option<String>,
) {
    let Some(was) = before.get(key) else { return };
    let now = after.and_then(|s| s.get(key));
    let interval = interval(unit, now.unwrap_or(was));
    let remark = after.and_then(|s| remark(before, s)).unwrap_or_default();
    let foot: Vec<String> = [interval, remark].into_iter().filter(|words| !words.is_empty()).collect();
    numbers(out, title, &unit.format(was.value), now.map(|e| unit.format(e.value)), &foot.join(" · "));
}

fn numbers(out: &mut String, title: &str, first: &str, second: Option<String>, foot: &str) {
    let second = second.map_or(String::new(), |s| {
        let sign = if s.starts_with('$') { "·" } else { "→" };
        format!("<i>{sign}</i><b>{s}</b>")
    });
    let foot = escape(foot);
    let _ =
        write!(out, r#"<div class="card"><h2>{title}</h2><p class="big">{first}{second}</p><p class="foot">{foot}</p></div>"#);
}

fn interval(unit: Unit, e: Score) -> String {
    if e.low == e.high {
        return String::new();
    }
    let [low, high] = [e.low, e.high].map(|v| unit.format(v));
    format!("95\u{202f}% CI {low} to {high}")
}

fn learning_curve(out: &mut String, run: &Recorded) {
    let panels = figures::curve(run);
    if panels.is_empty() {
        return;
    }
    // The first evaluation is of the whole test set, and so is that after the last step.
    let evals: Vec<_> = run.main_evals().collect();
    let measured = evals.first().map_or(String::new(), |e| {
        let kept = if run.base == Base::Given { "RL does not train on" } else { "no stage trains on" };
        let plural = if e.problems == 1 { "" } else { "s" };
        let between = &evals[1..evals.len() - usize::from(run.summary.is_some() && evals.len() > 1)];
        let others = match between.first() {
            None => String::new(),
            Some(other) if run.own_eval && other.problems == e.problems => String::new(),
            Some(_) => {
                let ends = if run.summary.is_some() { "the first and the last dot are" } else { "the first dot is" };
                let of = if run.own_eval { "a part of them" } else { "other held-out problems" };
                format!("; {ends} of these, the other dots of {of}")
            }
        };
        format!("Held out: {} problem{plural} that {kept}, {} answers to each at temperature 1{others}. ", e.problems, e.samples)
    });
    let _ = write!(
        out,
        "<section><h2>The curve</h2><figure class=\"wide\"><div class=\"plot\">{}</div><figcaption>{measured}In training: the problems of the step. Bars are \
         95\u{202f}% confidence intervals. The paper's DeepSeek-R1-Zero went from 15.6\u{202f}% to 77.9\u{202f}% on AIME 2024, its \
         answers grew with it, and both jumped when its length limit was raised.</figcaption></figure></section>",
        chart::svg(&panels, 1040.0, 250.0, false)
    );
}

fn pictures(out: &mut String, title: &str, panels: Vec<Panel>) {
    if panels.is_empty() {
        return;
    }
    let _ = write!(out, r#"<section><h2>{title}</h2><div class="grid">"#);
    for panel in panels {
        let _ = write!(out, "<figure>{}</figure>", chart::svg(&[panel], 340.0, 210.0, false));
    }
    out.push_str("</div></section>");
}

fn samples(out: &mut String, run: &Recorded) {
    let (Some(before), Some(after)) = run.main_before_and_after() else { return };
    let pairs = answers::before_and_after(&before.answers, &after.answers);
    if pairs.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section><h2>The same problems, before and after</h2><p>One sampled answer each, none chosen. A line is an attempt; \
         <span class=\"check no\">20? ✗</span> is a check of its result against the target, with the verdict that the model gave.</p>{pairs}</section>"
    );
}

/// The table of stages and tasks, as the paper has it, where there are more stages than two.
fn stages(out: &mut String, run: &Recorded) {
    let Some(summary) = run.summary.as_ref().filter(|_| run.config.stages.len() > 2) else { return };
    let tasks = run.tasks();
    out.push_str("<section><h2>Stage by stage</h2><table><thead><tr><th></th>");
    for task in &tasks {
        let _ = write!(out, "<th>{}: pass@1</th><th>tokens</th>", escape(task));
    }
    out.push_str("<th>consistency</th></tr></thead><tbody>");
    for stage in &run.config.stages {
        let of = |task: &str| summary.measured.iter().find(|m| m.stage == stage.name && m.task == task).map(|m| &m.scores);
        if tasks.iter().all(|task| of(task).is_none()) {
            continue;
        }
        let _ = write!(out, "<tr><th>{}</th>", escape(&stage.name));
        for task in &tasks {
            let cell = |key: &str, unit: Unit| {
                let score = of(task).and_then(|scores| scores.get(key));
                score.map_or("–".into(), |e| {
                    format!("{} <small>{}</small>", unit.format(e.value), interval(unit, e).replace("95\u{202f}% CI ", ""))
                })
            };
            let _ = write!(out, "<td>{}</td><td>{}</td>", cell("pass@1", Unit::Share), cell("completion_length", Unit::Number));
        }
        let consistency = tasks.first().and_then(|task| of(task)?.behaviour.get("consistency"));
        let _ = write!(out, "<td>{}</td></tr>", consistency.map_or("–".into(), |share| Unit::Share.format(share)));
    }
    out.push_str("</tbody></table></section>");
}

/// Of each other task, what became of it.
fn other_tasks(out: &mut String, run: &Recorded) {
    for task in run.tasks().into_iter().skip(1) {
        let (Some(before), after) = run.before_and_after(task) else { continue };
        let name = escape(task);
        let taught = match run.base {
            Base::Trained if run.config.base.others_share > 0.0 => "Taught in the base corpus",
            Base::Trained => "Not in the base corpus",
            Base::Untrained | Base::Given => "Measured",
        };
        let trained = run.config.stages.iter().filter_map(|stage| stage.reinforcement(&run.config).ok());
        let seen = if trained.into_iter().any(|rl| rl.tasks.contains_key(task)) {
            "and trained by RL."
        } else {
            "and never seen by RL."
        };
        let vote = if before.scores.values.keys().any(|key| key.starts_with("cons@")) {
            " Where only one answer is right a majority vote means something: cons@k is the accuracy of the most frequent of k answers."
        } else {
            ""
        };
        let worse = match (before.scores.get("pass@1"), after.and_then(|e| e.scores.get("pass@1"))) {
            (Some(was), Some(is)) if is.high < was.low => {
                let [was, is] = [was, is].map(|e| Unit::Share.format(e.value));
                format!(" <b>It got worse</b>: {was} at the first answer became {is}.")
            }
            _ => String::new(),
        };
        let _ = write!(out, "<section><h2>Beside it: {name}</h2><p>{taught} {seen}{worse}{vote}</p>");
        table_of_scores(out, &before.scores, after.map(|e| &e.scores));
        out.push_str("</section>");
    }
}

fn table_of_scores(out: &mut String, before: &Scores, after: Option<&Scores>) {
    out.push_str("<table><thead><tr><th></th><th>base model</th><th>after RL</th></tr></thead><tbody>");
    // pass@1 before pass@16, and both before cons@k: by name, then by number.
    let mut keys: Vec<(&str, usize)> = before
        .values
        .keys()
        .filter_map(|key| {
            let (name, k) = key.split_once('@')?;
            Some((name, k.parse().ok()?))
        })
        .collect();
    keys.sort_by_key(|&(name, k)| (name != "pass", k));
    let mut row = |name: &str, key: &str, unit: Unit| {
        let cell = |scores: Option<&Scores>| {
            scores.and_then(|s| s.get(key)).map_or("–".into(), |e| {
                format!("{} <small>{}</small>", unit.format(e.value), interval(unit, e).replace("95\u{202f}% CI ", ""))
            })
        };
        let _ = write!(out, "<tr><th>{name}</th><td>{}</td><td>{}</td></tr>", cell(Some(before)), cell(after));
    };
    for (name, k) in keys {
        let key = format!("{name}@{k}");
        row(&key, &key, Unit::Share);
    }
    row("tokens per answer", "completion_length", Unit::Number);
    out.push_str("</tbody></table>");
}

fn costs(out: &mut String, run: &Recorded) {
    let Some(summary) = &run.summary else { return };
    let _ = write!(
        out,
        "<section><h2>What it cost</h2><table><thead><tr><th>stage</th><th>device hours</th><th>tokens</th><th>tokens per second</th>\
         <th>FLOPs</th><th>cost at ${:.2} per hour</th></tr></thead><tbody>",
        summary.price
    );
    let mut row = |class: &str, s: &StageCost| {
        let (hours, tokens, flops) = (s.device_hours(), grouped(s.tokens as i64), scientific(s.flops as f64));
        let name = escape(&s.name);
        let speed = grouped((s.tokens as f64 / s.seconds.max(1e-9)) as i64);
        let cost = s.cost_usd;
        let _ = write!(
            out,
            r#"<tr class="{class}"><th>{name}</th><td>{hours:.3}</td><td>{tokens}</td><td>{speed}</td><td>{flops}</td><td>${cost:.3}</td></tr>"#
        );
    };
    summary.stages.iter().for_each(|s| row("", s));
    row("total", &cost::total(&summary.stages));
    // Nature s41586-025-09422-z, supplement: 512 H800 for 198 hours, at 2 dollars an hour.
    out.push_str(
        "<tr class=\"aside\"><th>DeepSeek-R1-Zero, for scale</th><td>101,000</td><td>–</td><td>–</td><td>–</td><td>$202,000 at $2 per H800 \
         hour</td></tr></tbody></table>",
    );
    // A run of an older version has not recorded it.
    let [used, held] = summary.peak_memory;
    if held > 0 {
        let _ = write!(out, "<p>Tensors held at most {}, with what was kept for reuse {}.</p>", nn::bytes(used), nn::bytes(held));
    }
    out.push_str("</section>");
}

const AGREE: &str = "they agree bit for bit, and the ratio of the first update is exactly 1";

/// Whether what was sampled is what was trained on.
fn agreement(out: &mut String, run: &Recorded) {
    let differences: Vec<f64> = run.rl_steps().into_iter().filter_map(|(_, s)| s.get("logprob_max_diff")).collect();
    let Some(worst) = differences.iter().copied().reduce(f64::max) else { return };
    let verdict = match (worst == 0.0, differences.len() == run.rl_steps().len()) {
        (false, _) => format!("{worst:.1e} at the worst step"),
        (true, true) => format!("0 at every step: {AGREE}"),
        (true, false) => format!("0 at the {} steps that trained on any answer: {AGREE}", differences.len()),
    };
    let _ = write!(
        out,
        "<p class=\"after-grid\">Largest difference between a token's log-probability when it was sampled and in the training pass, over the first \
         minibatch of each step, before any update: {verdict}.</p>"
    );
}

fn meaning(out: &mut String, run: &Recorded) {
    let (Some(before), Some(after)) = run.main_before_and_after() else { return };
    let _ = write!(
        out,
        "<section class=\"prose\"><h2>What this shows, and what it does not</h2>{}",
        shown(run, &before.scores, &after.scores)
    );
    let base = &run.config.base;
    if run.base != Base::Trained {
        let origin = match run.base {
            Base::Given => "what the base model has learned from is not recorded here",
            _ => "the base model had learned nothing, and writes what its random weights make likely",
        };
        let _ = write!(
            out,
            "<p><b>It does not show</b> that RL invents reasoning: {origin}, so what RL found and what it only made frequent cannot be \
             told apart. Much of such a gain can be had by blind search with verification. One run is one seed: other seeds belong \
             beside it.</p></section>",
        );
        return;
    }
    let again = if base.p_continue > 0.0 {
        format!(
            "Retrying is in the corpus: a trace checks an attempt with probability {} and tries again after a failed check with \
             probability {}, at random, whatever it has seen. RL elicits it",
            base.p_check, base.p_continue
        )
    } else {
        format!("In this run's corpus a trace checks an attempt with probability {} and never tries again", base.p_check)
    };
    let drills = if base.drill_share > 0.0 {
        "Arithmetic and honest verdicts are taught by drills beforehand; <code>--control no-drills</code> shows what becomes of RL without"
    } else {
        "This run had no drills, so its verdicts are only as good as the traces made them"
    };
    let _ = write!(
        out,
        "<p><b>It does not show</b> that RL invents reasoning. {again}. {drills}. Much of such a gain can be had by blind search with \
         verification; whether the attempts themselves get better is another question, and small sums over small numbers say little \
         about mathematics. One run is one seed: other seeds and the control experiments belong beside it.</p></section>"
    );
}

/// What the measurements of this run support, and no more.
fn shown(run: &Recorded, before: &Scores, after: &Scores) -> String {
    let (Some(was), Some(is)) = (before.get("pass@1"), after.get("pass@1")) else { return String::new() };
    if is.low <= was.high {
        return "<p><b>This run does not show the effect:</b> held-out accuracy did not rise beyond its confidence interval.</p>"
            .into();
    }
    let [first, last] = [was, is].map(|e| Unit::Share.format(e.value));
    let rule = match run.config.rl.reward_weights.format {
        0.0 => "a rule which looks at the final answer alone is enough",
        _ => "rules about the final answer and the template are enough",
    };
    let mut text = format!("<p><b>It shows</b> that {rule} to raise held-out accuracy from {first} to {last}.");
    let checks = |s: &Scores| s.behaviour.get("checks").or(s.behaviour.get("failed_checks"));
    if let (Some(was), Some(is)) = (checks(before), checks(after))
        && is > was
    {
        let [was, is] = [was, is].map(|v| Unit::Number.format(v));
        let _ = write!(text, " An answer now checks itself {is} times instead of {was}.");
    }
    if let (Some(was), Some(is)) = (before.get("completion_length"), after.get("completion_length"))
        && is.low > was.high
    {
        text.push_str(" Answers became longer although nothing rewards length.");
    }
    if let Some((k, share)) = in_most_tries(before) {
        let found = if is.value <= share { ": RL makes it find in one answer what it could find in many" } else { "" };
        let share = Unit::Share.format(share);
        let _ = write!(text, " The base model already solves {share} of the problems within {k} tries{found}.");
    }
    text + "</p>"
}

/// The largest k that pass@k was measured for, and its value.
fn in_most_tries(scores: &Scores) -> Option<(usize, f64)> {
    let k = scores.values.keys().filter_map(|key| key.strip_prefix("pass@")?.parse().ok()).max().filter(|&k| k > 1)?;
    Some((k, scores.get(&format!("pass@{k}"))?.value))
}

fn reproduce(out: &mut String, run: &Recorded) {
    let config = escape(&run.config.to_toml());
    out.push_str("<section><h2>Run it again</h2>");
    if let Some(s) = &run.summary {
        let (command, device) = (escape(&s.command), escape(&s.device));
        let _ = write!(
            out,
            "<pre><code>{command}</code></pre><p>Seed {}, on {device}. The same seed gives the same run on the same kind of device, with any \
             number of threads, and also if it is killed and resumed.</p>",
            s.seed
        );
    }
    let unused = match run.base {
        Base::Trained => "",
        _ => "<p>The table [base] is of a stage that this run did not have: it says nothing about the base model.</p>",
    };
    let _ = write!(
        out,
        "<details><summary>Every hyperparameter (config.toml)</summary>{unused}<pre><code>{config}</code></pre></details></section>"
    );
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0}\u{202f}s"),
        s if s < 5400.0 => format!("{:.0}\u{202f}min", s / 60.0),
        s => format!("{:.1}\u{202f}h", s / 3600.0),
    }
}

/// 1.2e14 as 1.2 × 10¹⁴.
fn scientific(v: f64) -> String {
    if v <= 0.0 {
        return "–".into();
    }
    let power = v.log10().floor();
    format!("{:.1}\u{202f}×\u{202f}10<sup>{power}</sup>", v / 10f64.powf(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(scientific(1.24e14), "1.2\u{202f}×\u{202f}10<sup>14</sup>");
        assert_eq!([45.0, 1230.0, 7200.0].map(duration), ["45\u{202f}s", "20\u{202f}min", "2.0\u{202f}h"]);
    }
}
