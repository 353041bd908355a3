//! The flagship as its user meets it: the example's binary, run from a shell.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scratchwork::grpo::Tokenizer;
use scratchwork::nn::DeepseekV3ForCausalLM;
use scratchwork::tensor::{DType, Device, Tensor};
use serde_json::Value;

/// A model and a run of a second.
pub const MICRO: &str = include_str!("../fixtures/micro.toml");

/// A folder of one test, in which the program runs; gone with the guard.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Place {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("scratchwork-flagship-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        let place = Place(path);
        place.write("micro.toml", MICRO);
        place
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.join(name).parent().unwrap()).unwrap();
        fs::write(self.join(name), content).unwrap();
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = super::example("grpo_r1");
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    /// Runs the program with arguments that hold no spaces.
    fn run(&self, args: &str) -> Output {
        self.command(args.split_whitespace()).output().unwrap()
    }

    pub fn succeed(&self, args: &str) -> Output {
        let output = self.run(args);
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Every file and folder here.
    fn listing(&self) -> BTreeSet<PathBuf> {
        fn walk(folder: &Path, all: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, all);
                }
                all.insert(path);
            }
        }
        let mut all = BTreeSet::new();
        walk(&self.0, &mut all);
        all
    }

    /// Runs the program, which must refuse: one error, whose first line holds `words`, a failing exit code, and not a file more or
    /// less than before. Returns all it said.
    fn refuse(&self, args: &str, words: &[&str]) -> String {
        let before = self.listing();
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code().is_some_and(|code| code != 0), "{args}: {} {said}", output.status);
        assert!(output.stdout.is_empty(), "{args}");
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && !said.contains("panicked"), "{args}: {said}");
        for word in words {
            assert!(first.contains(word), "{args}: {word:?} is not in {said}");
        }
        assert_eq!(self.listing(), before, "{args}");
        said
    }

    /// As [`Place::refuse`], in one line.
    fn refuse_in_a_line(&self, args: &str, words: &[&str]) {
        let said = self.refuse(args, words);
        assert_eq!(said.lines().count(), 1, "{args}: {said}");
        assert!(said.len() < 400, "{args}: {said}");
    }

    /// The records of a run, without what depends on the clock.
    fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.join(run).join("metrics.jsonl")).unwrap();
        let record = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            for clock in ["seconds", "tokens_per_second"] {
                record.as_object_mut().unwrap().remove(clock);
            }
            record
        };
        text.lines().map(record).collect()
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.join(file)).unwrap()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PROBLEM: &str = r#"{"question": "?", "answer": "1 + 2 + 3 + 4", "metadata": {"numbers": [1, 2, 3, 4], "target": 10}}"#;

#[test]
fn impossible_flags_are_refused() {
    let place = Place::new();
    place.refuse("--learning-rate 3", &["--learning-rate"]);
    place.refuse("--control foo", &["foo", "--control", "no-limit-jump"]);
    place.refuse("--seed many", &["--seed", "many"]);
    place.refuse("--steps -3", &["-3"]);
    place.refuse("--resume there --seed 3", &["--resume", "--seed"]);
    place.refuse("nonsense", &["nonsense"]);
    place.refuse_in_a_line("--device cuda:1000", &["--device cuda:1000"]); // without a driver, or without that card
    place.refuse_in_a_line("--device gpu", &["--device", "`gpu`", "cpu", "interpreted"]);
    place.refuse_in_a_line("--seed 18446744073709551615", &["seed", "out of range"]);
    place.refuse_in_a_line("--price nan", &["price", "NaN"]);
    for control in ["no-drills", "no-retries"] {
        place.refuse_in_a_line(&format!("--control {control} --base micro.toml"), &[control, "--base"]);
    }
}

#[test]
fn impossible_configurations_are_refused() {
    let place = Place::new();
    place.write("unknown.toml", "[rl]\nlr = 1e-4\nlearning_rate = 1e-4");
    place.write("range.toml", "[rl]\nepsilon = -0.2");
    place.write("words.toml", "this is no TOML");
    place.write("type.toml", "[base]\nsteps = \"many\"");
    let said = place.refuse("--config unknown.toml", &["unknown.toml", "line 3"]);
    assert!(said.contains("unknown field `learning_rate`"), "{said}");
    place.refuse("--config words.toml", &["words.toml", "line 1"]);
    place.refuse("--config type.toml", &["type.toml", "line 2"]);
    place.refuse_in_a_line("--config range.toml", &["rl.epsilon = -0.2", "more than 0"]);
    place.refuse_in_a_line("--config missing.toml", &["missing.toml", "No such file"]);
    place.refuse_in_a_line("--config .", &["cannot read"]);
}

#[test]
fn impossible_problems_are_refused_by_their_line() {
    let place = Place::new();
    let with = |line: &str| format!("{PROBLEM}\n{PROBLEM}\n{line}\n");
    let metadata = |numbers: &str, target: i64| with(&format!(r#"{{"metadata": {{"numbers": {numbers}, "target": {target}}}}}"#));
    place.write("json.jsonl", with("{\"question\": "));
    place.write("number.jsonl", metadata("[1, 2, 3, 11]", 10));
    place.write("zero.jsonl", metadata("[1, 2, 3, 4]", 0));
    place.write("large.jsonl", metadata("[1, 2, 3, 4]", 1000));
    place.write("five.jsonl", metadata("[1, 2, 3, 4, 5]", 15));
    place.write("unreachable.jsonl", metadata("[1, 1, 1, 1]", 24));
    place.write("text.jsonl", with(r#"{"question": "Why?", "answer": "Because."}"#));
    place.write("latin.jsonl", [PROBLEM.as_bytes(), b"\n\n\xff\n"].concat());
    place.write("empty.jsonl", "\n \n");
    place.write("good.jsonl", PROBLEM);
    for flag in ["--eval", "--problems"] {
        for (file, words) in [
            ("json", "expected a JSON object"),
            ("number", "expected numbers of 1 to 10, found 11"),
            ("zero", "expected a target of 1 to 99, found 0"),
            ("large", "expected a target of 1 to 99, found 1000"),
            ("five", "expected 4 numbers, found 5"),
            ("unreachable", "found 24"),
            ("text", "metadata.numbers"),
            ("latin", "expected UTF-8"),
        ] {
            place.refuse_in_a_line(&format!("{flag} {file}.jsonl"), &[&format!("{file}.jsonl:3: "), words]);
        }
        place.refuse_in_a_line(&format!("{flag} empty.jsonl"), &["empty.jsonl", "no problems"]);
        place.refuse_in_a_line(&format!("{flag} missing.jsonl"), &["missing.jsonl", "No such file"]);
    }
    place.refuse_in_a_line("--eval good.jsonl --problems good.jsonl", &["good.jsonl", "held out"]);
}

#[test]
fn impossible_folders_are_refused() {
    let place = Place::new();
    place.write("file", "in the way");
    place.write("thesis/chapter.txt", "not a run");
    for out in ["file", "file/below"] {
        place.refuse_in_a_line(&format!("--config micro.toml --out {out}"), &[out]);
    }
    place.refuse_in_a_line("--config micro.toml --out thesis", &["thesis", "not a run folder"]);
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "in the way");
    for folder in ["thesis", "missing", "file"] {
        place.refuse_in_a_line(&format!("--resume {folder}"), &[folder, "not a run folder"]);
    }
}

#[test]
fn broken_base_models_are_refused() {
    let place = Place::new();
    let from = |base: &str, words: &[&str]| place.refuse_in_a_line(&format!("--config micro.toml --base {base}"), words);
    from("missing", &["missing"]);
    // A checkpoint of the right shape is the base model of a run without steps.
    place.write("none.toml", format!("{MICRO}\n").replace("\nsteps = 60", "\nsteps = 0").replace("\nsteps = 4", "\nsteps = 0"));
    place.succeed("--config none.toml --out made");
    let good = fs::read(place.join("made/base/model.safetensors")).unwrap();
    let config = fs::read(place.join("made/base/config.json")).unwrap();
    for (name, weights) in
        [("garbage", &b"no safetensors at all, only words"[..]), ("cut", &good[..good.len() / 2]), ("bare", b"")]
    {
        place.write(&format!("{name}/config.json"), &config);
        place.write(&format!("{name}/model.safetensors"), weights);
        from(name, &[name, "model.safetensors", "corrupt or truncated"]);
    }
    place.write("words/config.json", "not JSON");
    place.write("words/model.safetensors", &good);
    from("words", &["config", "JSON"]);
    place.write("weightless/config.json", &config);
    from("weightless", &["weightless", "model.safetensors"]);
    place.write("deeper.toml", MICRO.replace("num_hidden_layers = 2", "num_hidden_layers = 3"));
    let args = "--config deeper.toml --base made";
    place.refuse_in_a_line(args, &["made", "num_hidden_layers is 2, expected 3"]);
}

#[test]
fn a_broken_state_is_refused_and_left_as_it_was() {
    let place = Place::new();
    place.succeed("--config micro.toml --out run --steps 1");
    let file = place.join("run/state.safetensors");
    let good = fs::read(&file).unwrap();
    for bad in [&good[..good.len() - 1], &good[..100], b""] {
        fs::write(&file, bad).unwrap();
        place.refuse_in_a_line("--resume run", &["run/state.safetensors"]);
        assert_eq!(fs::read(&file).unwrap(), bad);
    }
    fs::write(&file, &good).unwrap();
    let metrics = fs::read_to_string(place.join("run/metrics.jsonl")).unwrap();
    place.write("run/metrics.jsonl", metrics.lines().nth(1).unwrap());
    place.refuse_in_a_line("--resume run", &["run/metrics.jsonl"]);
    place.write("run/metrics.jsonl", metrics);
    place.write("run/config.toml", "[rl]\nsteps = \"few\"");
    place.refuse_in_a_line("--resume run", &["run/config.toml", "not as the run left it"]);
}

#[test]
fn a_run_that_diverges_says_where() {
    let place = Place::new();
    place.write("hot.toml", MICRO.replace("warmup_steps = 2\nlr = 2e-2", "warmup_steps = 1\nlr = 1e30"));
    let output = place.run("--config hot.toml --out run");
    assert!(output.status.code().is_some_and(|code| code != 0));
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: stage base, step 2: the gradient of `model.embed_tokens.weight` is not finite"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error")).count(), 1);
    assert!(place.join("run/state.safetensors").is_file() && !place.join("run/model").exists());
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let place = Place::new();
    place.succeed("--config micro.toml --out whole");
    let all = place.metrics("whole").len();
    assert!(place.metrics("whole").iter().any(|r| r["reward_std"].as_f64() > Some(0.0)), "RL has something to learn");
    let mut kills = 0;
    // Killed as soon as so many lines are there: before the first saved step, after it, in RL, and then let go.
    for lines in [3, 28, 64, 66, usize::MAX] {
        let args = if kills == 0 { "--config micro.toml --out cut" } else { "--resume cut" };
        let mut child = place.command(args.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let written = || fs::read(place.join("cut/metrics.jsonl")).map_or(0, |b| b.iter().filter(|&&b| b == b'\n').count());
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if written() >= lines {
                child.kill().unwrap(); // SIGKILL
                kills += 1;
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        assert_eq!(status.success(), lines == usize::MAX, "{status} at {lines} of {all} lines");
    }
    assert_eq!(kills, 4);
    assert_eq!(place.metrics("cut"), place.metrics("whole"));
    for file in ["model/model.safetensors", "base/model.safetensors", "model/config.json", "config.toml"] {
        let of = |run: &str| fs::read(place.join(run).join(file)).unwrap();
        assert!(of("cut") == of("whole"), "{file}");
    }
    let scores = |run: &str| {
        let summary = place.json(&format!("{run}/summary.json"));
        ["measured", "parameters", "seed"].map(|key| summary[key].clone())
    };
    assert_eq!(scores("cut"), scores("whole"));
}

#[test]
fn a_quick_run_leaves_what_is_promised() {
    let place = Place::new();
    let model: String = MICRO.lines().skip(2).take_while(|line| *line != "[task]").flat_map(|line| [line, "\n"]).collect();
    place.write("model.toml", model);
    place.write("mine.jsonl", format!("{PROBLEM}\n"));
    let output = place.succeed("--quick --config model.toml --eval mine.jsonl --seed 3 --price 2.5 --profile --out out/quick");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("held-out pass@1") && said.contains("out/quick/report.html"), "{said}");

    let text = fs::read_to_string(place.join("out/quick/metrics.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for stage in ["base", "r1_zero"] {
        let steps: Vec<&Value> = records.iter().filter(|r| r["event"] == "step" && r["stage"] == stage).collect();
        for (i, step) in steps.iter().enumerate() {
            for key in ["loss", "grad_norm", "lr", "tokens_per_second", "seconds"] {
                assert!(step[key].is_number(), "{stage} {key}");
            }
            for key in ["reward", "accuracy", "format", "completion_length", "kl", "entropy", "clip_ratio", "logprob_max_diff"] {
                // Where all rewards are alike no answer is trained on, and there is nothing to take a mean of.
                let untrained = step["frac_reward_zero_std"] == 1.0 && ["kl", "clip_ratio", "logprob_max_diff"].contains(&key);
                assert_eq!(step[key].is_number(), stage == "r1_zero" && !untrained, "{stage} {key}");
            }
            assert_eq!(step["step"], i + 1);
        }
        assert_eq!(steps.len(), if stage == "base" { 24 } else { 4 });
    }
    let evals: Vec<&Value> = records.iter().filter(|r| r["event"] == "eval").collect();
    assert_eq!(evals.iter().filter(|e| e["task"] == "countdown" && e["problems"] == 1).count(), 3);
    assert_eq!(evals.iter().filter(|e| e["task"] == "chain_sum" && e["cons@16"].is_number()).count(), 3);

    let summary = place.json("out/quick/summary.json");
    for (i, [stage, task]) in
        [["base", "countdown"], ["base", "chain_sum"], ["r1_zero", "countdown"], ["r1_zero", "chain_sum"]].into_iter().enumerate()
    {
        let measured = &summary["measured"][i];
        assert_eq!((&measured["stage"], &measured["task"]), (&stage.into(), &task.into()));
        for key in ["pass@1", "pass@16", "completion_length"] {
            assert!(measured[key].is_number(), "{stage} {task} {key}");
        }
        assert_eq!(measured["cons@16"].is_number(), task == "chain_sum");
    }
    let stages = summary["stages"].as_array().unwrap();
    assert_eq!(
        stages.iter().map(|s| s["name"].as_str().unwrap()).collect::<BTreeSet<_>>(),
        ["base", "evaluation", "r1_zero"].into()
    );
    for stage in stages {
        let of = |key: &str| stage[key].as_f64().unwrap_or_else(|| panic!("{stage} has no {key}"));
        assert!((of("cost_usd") - of("seconds") / 3600.0 * 2.5).abs() < 1e-9 && of("tokens") > 0.0 && of("flops") > 0.0);
    }
    assert_eq!(summary["seed"], 3);
    assert!(summary["device"].is_string());

    let report = fs::read_to_string(place.join("out/quick/report.html")).unwrap();
    assert!(report.contains("<svg") && report.trim_end().ends_with("</html>"));
    for outside in ["src=\"http", "href=\"http", "@import", "<script src", "<link"] {
        assert!(!report.contains(outside), "the report needs {outside}");
    }
    assert!(fs::read_to_string(place.join("out/quick/curve.svg")).unwrap().starts_with("<svg"));

    for folder in ["model", "base"] {
        let folder = place.join("out/quick").join(folder);
        let (model, notices) = DeepseekV3ForCausalLM::from_pretrained(&folder, DType::F32, &Device::cpu()).unwrap();
        assert!(notices.is_empty(), "{notices:?}");
        let tokenizer = Tokenizer::load(&folder).unwrap();
        let ids = tokenizer.encode("<bos>1,2,3,4:10<think>").unwrap();
        let logits = model.forward(&Tensor::from_slice(&ids, [1, ids.len()], &Device::cpu()));
        assert_eq!(logits.value().dims(), [1, ids.len(), tokenizer.vocab_size()]);
    }
    let kept = place.join("out/quick/config.toml");
    assert!(fs::read_to_string(kept).unwrap().contains("seed = 3"));
    // Nothing is left of what was being written.
    let unfinished = |path: &&PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".new") || name.ends_with(".old")
    };
    assert_eq!(place.listing().iter().find(unfinished), None);
}
