//! Renders a made-up run. `REPORT_DIR=/tmp/run cargo test -p scratchwork-grpo report` leaves the page there to be looked at.

use std::env;

use super::*;
use crate::cost::{Ledger, Measured};
use crate::eval_stats::Score;
use crate::metrics::{Answer, MetricsWriter, Scores, Values};
use crate::rundir::RunFormat;

/// A reproducible wobble in −1…1.
fn wobble(i: usize) -> f64 {
    let x = (i as f64 * 12.9898).sin() * 43758.5453;
    (x - x.floor()) * 2.0 - 1.0
}

/// The prototype's curve, about: a rise to 56 %, a plateau, a jump with the limit.
fn accuracy(step: f64) -> f64 {
    let first = 0.175 + 0.385 * (1.0 - (-step / 11.0).exp());
    if step <= 40.0 { first } else { first + 0.33 * (1.0 - (-(step - 40.0) / 9.0).exp()) }
}

fn length(step: f64) -> f64 {
    let first = 36.0 + 48.0 * (1.0 - (-step / 9.0).exp());
    if step <= 40.0 { first } else { first + 62.0 * (-(step - 41.0) / 30.0).exp() * (1.0 - 0.6 * (-(step - 40.0)).exp()) }
}

fn scores(step: usize) -> Scores {
    let (p, len) = (accuracy(step as f64), length(step as f64));
    let mut s = Scores::default();
    let interval = |value: f64, half: f64| Score { value, low: (value - half).max(0.0), high: (value + half).min(1.0) };
    s.set("pass@1", interval(p, 0.03));
    s.set("pass@4", interval((2.4 * p).min(0.97), 0.03));
    s.set("pass@16", interval((0.92 + 0.002 * step as f64).min(1.0), 0.02));
    s.set("completion_length", Score { value: len, low: len - 4.0, high: len + 4.0 });
    s.set_value("format", 0.93);
    s.set_value("clipped_ratio", 0.05);
    s.behaviour.set("failed_checks", len / 24.0 - 0.8);
    s.behaviour.set("checks", len / 24.0 - 0.3);
    s.behaviour.set("verdict_accuracy", 0.999);
    s
}

fn chain_sums(step: usize) -> Scores {
    let mut s = Scores::default();
    let drift = 0.0005 * step as f64;
    s.set("pass@1", Score { value: 0.71 + drift, low: 0.66, high: 0.77 });
    s.set("pass@16", Score { value: 0.98, low: 0.95, high: 1.0 });
    s.set("cons@16", Score { value: 0.86 + drift, low: 0.80, high: 0.93 });
    s.set("completion_length", Score { value: 14.2, low: 14.0, high: 14.4 });
    s
}

fn answers(trained: bool) -> Vec<Answer> {
    let guess = "3+8=11-7=4+2=6?20x8+7=15-3=12+2=14</think><answer>8+7-3+2</answer><eos>";
    let blind = "1+6=7+6=13+1=14</think><answer>1+6+6+1</answer><eos>";
    let lucky = "9+5=14-2=12+4=16?16v</think><answer>9+5-2+4</answer><eos>";
    let found = "3-8=-5+7=2+2=4?20x8+2=10+7=17-3=14?20x7+2=9+3=12+8=20?20v</think><answer>7+2+3+8</answer><eos>";
    let miss = "1+1=2-6=-4-6=-10?12x".repeat(9);
    let long = format!("{miss}6+6=12-1=11+1=12?12v</think><answer>6+6-1+1</answer><eos>");
    let cut = "5+9=14+2=16-4=12?16x".repeat(14) + "9+5=14-";
    let answer = |question: &str, text: &str, correct| {
        let tokens = text.chars().filter(|c| !c.is_alphabetic() || "xv".contains(*c)).count();
        Answer { question: question.into(), text: text.into(), correct, tokens }
    };
    if trained {
        vec![answer("3,8,7,2:20", found, true), answer("1,1,6,6:12", &long, true), answer("9,5,4,2:16", &cut, false)]
    } else {
        vec![answer("3,8,7,2:20", guess, false), answer("1,1,6,6:12", blind, false), answer("9,5,4,2:16", lucky, true)]
    }
}

fn eval(stage: &str, step: usize, rl_step: usize, task: &str) -> Record {
    let countdown = task == "countdown";
    Record::Eval(EvalMetrics {
        stage: stage.into(),
        step,
        task: task.into(),
        problems: 128,
        samples: 16,
        max_completion_length: if rl_step <= 40 { 120 } else { 360 },
        tokens: 100_000,
        seconds: 4.0,
        answers: if countdown { answers(rl_step > 0) } else { vec![] },
        scores: if countdown { scores(rl_step) } else { chain_sums(rl_step) },
    })
}

fn records() -> Vec<Record> {
    let mut out = Vec::new();
    for step in 1..=920 {
        let loss = 0.2 + 2.4 * (-(step as f64) / 90.0).exp() + 0.03 * wobble(step) + if step % 6 == 0 { 0.08 } else { 0.0 };
        let load = 1.3 + 1.2 * (-(step as f64) / 300.0).exp() + 0.1 * wobble(step);
        let values = Values::new().with("loss", loss).with("expert_load/0", load).with("tokens_per_second", 25_000.0);
        out.push(Record::Step(StepMetrics { stage: "base".into(), step, values }));
    }
    for task in ["countdown", "chain_sum"] {
        out.push(eval("base", 920, 0, task));
    }
    for step in 1..=80 {
        let at = step as f64;
        let p = (accuracy(at) + 0.05 * wobble(step)).clamp(0.0, 1.0);
        let len = length(at) + 5.0 * wobble(step + 500);
        let clipped = if step <= 40 { 0.4 * at / 40.0 } else { 0.04 } + 0.02 * wobble(step).abs();
        let values = [
            ("reward", p),
            ("accuracy", p),
            ("completion_length", len),
            ("max_completion_length", if step <= 40 { 120.0 } else { 360.0 }),
            ("clipped_ratio", clipped),
            ("format", 0.99 - clipped),
            ("kl", 0.12 * (at % 50.0) / 50.0 + 0.004 * wobble(step).abs()),
            ("entropy", 0.225 + 0.012 * wobble(step + 9)),
            ("clip_ratio", 0.0006 + 0.0004 * wobble(step + 77)),
            ("frac_reward_zero_std", (0.3 * (at / 80.0) + 0.05 * wobble(step)).max(0.0)),
            ("logprob_max_diff", 0.0),
            ("expert_load/0", 1.4 + 0.1 * wobble(step)),
            ("expert_load/1", 1.3),
            ("loss", 0.01),
            ("grad_norm", 0.13 + 0.05 * wobble(step)),
            ("tokens_per_second", 13_000.0 + 800.0 * wobble(step)),
            ("checks", len / 24.0 - 0.3),
            ("failed_checks", len / 24.0 - 0.8),
            ("retry_rate", 0.55 + 0.43 * (1.0 - (-at / 12.0).exp())),
            ("verdict_accuracy", 0.999),
            ("arithmetic_accuracy", 0.995 + 0.002 * wobble(step)),
            ("length_right", len * 0.85),
            ("length_wrong", len * 1.6),
        ];
        let values = values.into_iter().fold(Values::new(), |all, (name, value)| all.with(name, value));
        out.push(Record::Step(StepMetrics { stage: "r1_zero".into(), step, values }));
        if step % 20 == 0 {
            out.push(eval("r1_zero", step, step, "countdown"));
        }
    }
    out.push(eval("r1_zero", 80, 80, "chain_sum"));
    out
}

fn summary() -> Summary {
    let mut ledger = Ledger::new(0.1);
    ledger.add("base", 552.0, 13_800_000, 57_000_000_000_000);
    ledger.add("r1_zero", 610.0, 9_600_000, 41_000_000_000_000);
    ledger.add("evaluation", 31.0, 1_040_000, 1_500_000_000_000);
    Summary {
        format: RunFormat,
        result: "r1_zero".into(),
        measured: [("base", "countdown", scores(0)), ("base", "chain_sum", chain_sums(0)), ("r1_zero", "countdown", scores(80))]
            .map(|(stage, task, scores)| Measured { stage: stage.into(), task: task.into(), scores })
            .into(),
        stages: ledger.stages,
        price: 0.1,
        seed: 0,
        device: "cpu, 2 threads, AVX-512".into(),
        parameters: [1_354_560, 691_008],
        peak_memory: [200 << 20, 400 << 20],
        control: None,
        command: "cargo run --release --example grpo_r1 -- --seed 0".into(),
    }
}

const SETUP: &str = r#"{"base": null, "control": null, "device": "cpu", "command": ""}"#;

/// A folder with a made-up run, removed unless the user named it.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(name: &str, records: &[Record], summary: Option<&Summary>) -> Self {
        let (path, keep) = match env::var_os("REPORT_DIR") {
            Some(dir) => (PathBuf::from(dir).join(name), true),
            None => (env::temp_dir().join(format!("grpo-report-{name}-{}", std::process::id())), false),
        };
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("config.toml"), RunConfig::default().to_toml()).unwrap();
        fs::write(path.join("setup.json"), SETUP).unwrap();
        let mut writer = MetricsWriter::create(&path.join("metrics.jsonl")).unwrap();
        records.iter().for_each(|r| writer.write(r).unwrap());
        if let Some(summary) = summary {
            fs::write(path.join("summary.json"), serde_json::to_vec(summary).unwrap()).unwrap();
        }
        Self { path, keep }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }
}

/// Every element that is opened is closed, in order.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1).map(|t| t.split('>').next().unwrap()) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing tag without its element");
        } else if !tag.ends_with('/') && !["!doctype", "meta"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn a_finished_run_makes_a_whole_page() {
    let folder = Folder::new("finished", &records(), Some(&summary()));
    write(&folder.path).unwrap();
    let html = fs::read_to_string(folder.path.join("report.html")).unwrap();
    assert_well_formed(&html);
    for said in [
        "17.5\u{202f}%",
        "limit 120 → 360 tokens",
        "3, 8, 7, 2 → 20",
        "more attempts",
        "cons@16",
        "$0.033",
        "agree bit for bit",
        "probability 0.55",
        "--seed 0",
        "num_generations = 16",
    ] {
        assert!(html.contains(said), "{said:?} is not on the page");
    }
    for outside in ["http://", "https://", "<script", "<link", "url("] {
        let html = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains(outside), "{outside:?} is on the page");
    }
    assert!(!html.contains("NaN") && !html.contains("inf\""), "a coordinate is not finite");
    let svg = fs::read_to_string(folder.path.join("curve.svg")).unwrap();
    assert_well_formed(&svg);
    assert!(svg.contains("prefers-color-scheme") && svg.contains("held out"));
}

#[test]
fn a_summary_of_another_format_is_refused_and_an_older_one_is_read() {
    let folder = Folder::new("format", &records(), Some(&summary()));
    let path = folder.path.join(SUMMARY);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\":2,", "")).unwrap();
    assert_eq!(Recorded::load(&folder.path).unwrap().summary, Some(summary()));
    // It may lack what is asked for here.
    fs::write(&path, "{\"format\": 3}").unwrap();
    let said = Recorded::load(&folder.path).unwrap_err().to_string();
    assert!(said.contains("summary.json: it has the format 3, this program reads format 2"), "{said}");
}

#[test]
fn about_a_base_model_made_elsewhere_nothing_is_claimed() {
    let with_base = |name: &str, setup: &str, steps: usize| {
        let mut records = records();
        records.retain(|r| name == "own" || !matches!(r, Record::Step(s) if s.stage == "base"));
        let folder = Folder::new(&format!("{name}-base"), &records, Some(&summary()));
        fs::write(folder.path.join("setup.json"), setup).unwrap();
        let mut config = RunConfig::default();
        config.base.steps = steps;
        fs::write(folder.path.join("config.toml"), config.to_toml()).unwrap();
        write(&folder.path).unwrap();
        fs::read_to_string(folder.path.join("report.html")).unwrap()
    };
    let own = with_base("own", SETUP, 850);
    let given = with_base("given", &SETUP.replacen("null", "\"other\"", 1), 850);
    let untrained = with_base("no", SETUP, 0);
    for other in [&given, &untrained] {
        assert_well_formed(other);
        for claim in ["with probability", "traces of uneven quality", "Taught in the base corpus", "drills", "to reason by"] {
            let before_config = |html: &str| html.split("Every hyperparameter").next().unwrap().contains(claim);
            assert!(before_config(&own) && !before_config(other), "{claim}");
        }
        assert!(other.contains("The table [base] is of a stage that this run did not have") && !own.contains("The table [base]"));
    }
    assert!(given.contains("made elsewhere") && given.contains("RL does not train on") && !given.contains("no stage trains on"));
    assert!(untrained.contains("random weights") && untrained.contains("no stage trains on"));
    assert!(!own.contains("made elsewhere") && !untrained.contains("made elsewhere"));
}

fn of_rl(record: &mut Record) -> Option<&mut StepMetrics> {
    match record {
        Record::Step(s) if s.stage == "r1_zero" => Some(s),
        _ => None,
    }
}

fn without_difference(s: &mut StepMetrics) {
    let kept = s.values.iter().filter(|(name, _)| *name != "logprob_max_diff");
    s.values = kept.fold(Values::new(), |all, (name, value)| all.with(name, value));
}

/// Of every setting only what was measured is said.
#[test]
fn what_was_not_measured_is_not_claimed() {
    let page = |name: &str, records: &[Record], summary: &Summary| {
        let folder = Folder::new(name, records, Some(summary));
        write(&folder.path).unwrap();
        fs::read_to_string(folder.path.join("report.html")).unwrap()
    };
    // Steps that trained on no answer have compared nothing.
    let mut part = records();
    part.iter_mut().filter_map(of_rl).skip(3).for_each(without_difference);
    assert!(page("part-compared", &part, &summary()).contains("0 at the 3 steps that trained on any answer"));
    part.iter_mut().filter_map(of_rl).for_each(without_difference);
    assert!(!page("not-compared", &part, &summary()).contains("bit for bit"));
    // A policy that solves more in one answer than the base model in many has found something.
    assert!(page("within", &records(), &summary()).contains("in one answer what it could find in many"));
    let mut beyond = records();
    for r in &mut beyond {
        if let Record::Eval(e) = r
            && e.stage == "base"
        {
            e.scores.set_value("pass@16", 0.5);
        }
    }
    let html = page("beyond", &beyond, &summary());
    assert!(html.contains("solves 50.0\u{202f}% of the problems") && !html.contains("what it could find in many"));
    // Without an evaluation in between there are no other dots.
    let mut ends = records();
    ends.retain(|r| !matches!(r, Record::Eval(e) if e.stage == "r1_zero" && e.step < 80));
    let html = page("ends", &ends, &summary());
    assert!(html.contains("at temperature 1. ") && !html.contains("the other dots"));
    assert!(page("between", &records(), &summary()).contains("the other dots of other held-out problems"));
}

#[test]
fn rewards_that_teach_nothing_are_said_aloud() {
    let mut records = records();
    for s in records.iter_mut().filter_map(of_rl).take(3) {
        s.values.set("reward", if s.step == 1 { 1.0 } else { 0.0 });
        s.values.set("frac_reward_zero_std", 1.0);
    }
    let folder = Folder::new("silent", &records, None);
    write(&folder.path).unwrap();
    let html = fs::read_to_string(folder.path.join("report.html")).unwrap();
    assert!(html.contains("In 3 of 80 RL steps") && html.contains("(in 2 of them 0)"));
}

#[test]
fn rewards_are_named_as_they_were() {
    let folder = Folder::new("rewards", &records(), Some(&summary()));
    let mut config = RunConfig::default();
    config.rl.reward_weights.format = 0.5;
    fs::write(folder.path.join("config.toml"), config.to_toml()).unwrap();
    write(&folder.path).unwrap();
    let html = fs::read_to_string(folder.path.join("report.html")).unwrap();
    assert!(html.contains("in the template (worth 0.5)") && !html.contains("nothing else"));
}

#[test]
fn a_run_is_shown_at_any_moment() {
    let all = records();
    for n in [0, 1, 30, 920, 921, 922, 923, 945] {
        let folder = Folder::new(&format!("moment-{n}"), &all[..n], None);
        write(&folder.path).unwrap();
        let html = fs::read_to_string(folder.path.join("report.html")).unwrap();
        assert_well_formed(&html);
        assert!(html.contains("has not ended") && !html.contains("NaN") && !html.contains("inf "), "after {n} records");
    }
}

#[test]
fn runs_are_compared_in_one_picture() {
    let whole = Folder::new("default", &records(), None);
    let mut records = records();
    for r in &mut records {
        if let Record::Eval(e) = r {
            let pass = e.scores.get("pass@1").unwrap().value * 0.6;
            e.scores.set("pass@1", Score { value: pass, low: pass - 0.03, high: pass + 0.03 });
        } else if let Record::Step(s) = r {
            s.values.set("completion_length", s.get("completion_length").map(|l| l.min(85.0)));
            s.values.set("max_completion_length", 120.0);
        }
    }
    let control = Folder::new("control", &records, None);
    let svg = compare(&[("default", &whole.path), ("no-limit-jump", &control.path)]).unwrap();
    assert_well_formed(&svg);
    assert!(svg.contains(">default<") && svg.contains(">no-limit-jump<"));
    fs::write(whole.path.join("compare.svg"), svg).unwrap();
    assert!(compare(&[("gone", &whole.path.join("gone"))]).unwrap_err().to_string().contains("gone"));
}
