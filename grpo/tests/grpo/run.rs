//! Whole runs of a very small configuration.

use std::fs;
use std::path::{Path, PathBuf};

use grpo::config::RunConfig;
use grpo::policy;
use grpo::run::Run;
use grpo::rundir::RunDir;
use grpo::setup::Setup;
use grpo::state::{self, Snapshot};
use nn::{DeepseekV3ForCausalLM, Module};
use serde_json::Value;
use tensor::{DType, Device};

use crate::common::{Temp, adamw, bits, micro, micro_with, model};

fn train(config: RunConfig, folder: &Path) {
    create(config, folder).train().unwrap();
}

fn create(config: RunConfig, folder: &Path) -> Run {
    Run::create(Setup::new(config, None, None, Device::cpu()).unwrap(), folder).unwrap().0
}

fn from_base(base: &Path, config: RunConfig, folder: &Path) -> Result<Run, String> {
    let setup = Setup::new(config, None, Some(base.into()), Device::cpu()).unwrap();
    Run::create(setup, folder).map(|(run, _)| run).map_err(|e| e.to_string())
}

/// The records of a run, without what depends on the clock.
fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let record = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        for clock in ["seconds", "tokens_per_second"] {
            record.as_object_mut().unwrap().remove(clock);
        }
        record
    };
    text.lines().map(record).filter(|record| record["event"] != "format").collect()
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model/model.safetensors")).unwrap()
}

/// The scores of `summary.json`.
fn scores(folder: &Path) -> Value {
    let summary: Value = serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap();
    summary["measured"].clone()
}

#[test]
fn threads_change_nothing() {
    let temp = Temp::new();
    let folders = [1, 3].map(|threads| {
        let folder = temp.join(&threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(micro(), &folder));
        folder
    });
    let [one, three] = folders.each_ref().map(|f| (metrics(f), weights(f), scores(f)));
    assert!(one.1 == three.1, "the models differ");
    assert_eq!(one.0, three.0);
    assert_eq!(one.2, three.2);
    // It was worth comparing: both stages moved the weights.
    let steps = |stage: &str| one.0.iter().filter(|r| r["event"] == "step" && r["stage"] == stage).cloned().collect::<Vec<_>>();
    assert_eq!((steps("base").len(), steps("r1_zero").len()), (micro().base.steps, micro().rl.steps));
    for stage in ["base", "r1_zero"] {
        assert!(steps(stage).iter().any(|r| r["grad_norm"].as_f64().unwrap() > 1e-3), "{stage} learned nothing");
    }
    assert!(steps("r1_zero").iter().any(|r| r["reward_std"].as_f64().unwrap() > 0.0), "no group had variance");
    assert!(steps("r1_zero").iter().all(|r| r["logprob_max_diff"] == 0.0));
    assert!(weights(&folders[0]) != fs::read(folders[0].join("base/model.safetensors")).unwrap());
}

#[test]
fn a_run_goes_on_where_it_began() {
    let temp = Temp::new();
    let folder = temp.join("run");
    drop(create(micro(), &folder));
    // As if another device had been there.
    let (began, _) = state::load(&folder, &Device::cpu()).unwrap();
    let text = fs::read_to_string(folder.join("setup.json")).unwrap();
    fs::write(folder.join("setup.json"), text.replace("\"cpu\"", "\"cuda:1\"")).unwrap();
    let began = state::RunState { files: state::files(&folder).unwrap(), ..began };
    let (dir, policy) = (RunDir::resume(&folder).unwrap(), model(0));
    Snapshot::of(&began, [("policy", &policy)], &adamw(&policy)).write(&dir).unwrap();
    drop(dir);
    let error = Run::resume(&folder, Device::cpu()).err().expect("another device").to_string();
    assert!(error.contains("cuda:1") && error.contains("cpu"), "{error}");
}

/// Every file in a folder but the lock, with its content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Whatever a run goes on from must be as the run left it.
#[test]
fn damage_is_noticed_before_anything_is_done() {
    let temp = Temp::new();
    let problem =
        |numbers: [i64; 2]| format!("{{\"metadata\": {{\"numbers\": {numbers:?}, \"target\": {}}}}}\n", numbers[0] + numbers[1]);
    let (eval, problems) = (temp.join("eval"), temp.join("problems"));
    fs::write(&eval, problem([1, 2]) + &problem([2, 5])).unwrap();
    fs::write(&problems, problem([3, 4]) + &problem([3, 5])).unwrap();
    let setup = Setup::new(micro_with("[base]\nsteps = 2\n[rl]\nsteps = 1"), None, None, Device::cpu()).unwrap();
    let setup = setup.evaluated_on(&eval).unwrap().trained_on(&problems).unwrap();
    let folder = temp.join("run");
    Run::create(setup, &folder).unwrap().0.train().unwrap();
    // The last state is that of the end, and counts every line.
    for (name, steps) in
        [("config.toml", 40), ("setup.json", 10), ("eval.jsonl", 10), ("problems.jsonl", 10), ("metrics.jsonl", 500)]
    {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        let flips = (0..whole.len()).step_by(steps).map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            flipped
        });
        let cuts = [0, 1, whole.len() / 2, whole.len() - 1].map(|end| whole[..end].to_vec());
        for damaged in flips.chain(cuts) {
            fs::write(&path, &damaged).unwrap();
            let before = contents(&folder);
            let said = Run::resume(&folder, Device::cpu()).err().expect("a damaged file").to_string();
            assert!(said.contains(name) && said.contains("begin a new run") && said.lines().count() == 1, "{name}: {said}");
            assert!(contents(&folder) == before, "{name}");
        }
        fs::remove_file(&path).unwrap();
        let said = Run::resume(&folder, Device::cpu()).err().expect("a missing file").to_string();
        assert!(said.contains(name), "{name}: {said}");
        fs::write(&path, &whole).unwrap();
    }
    Run::resume(&folder, Device::cpu()).unwrap();
}

#[test]
fn a_file_that_the_run_did_not_have_is_noticed() {
    let temp = Temp::new();
    let folder = temp.join("run");
    drop(create(micro(), &folder));
    fs::write(folder.join("eval.jsonl"), "{}").unwrap();
    let said = Run::resume(&folder, Device::cpu()).err().expect("another setup").to_string();
    assert!(said.contains("eval.jsonl") && said.contains("expected none"), "{said}");
}

/// The curve is made of other held-out problems than the summary.
#[test]
fn the_summary_is_of_problems_that_were_not_looked_at_before() {
    let temp = Temp::new();
    // The second time with more problems wanted than there are.
    for (name, problems) in [("few", 4), ("all", 500)] {
        let over = format!("[base]\nsteps = 1\n[rl]\nsteps = 2\n[eval]\nevery = 1\nshown = 500\nproblems = {problems}");
        train(micro_with(&over), &temp.join(name));
        other_problems_in_between(&temp.join(name));
    }
}

fn other_problems_in_between(folder: &Path) {
    let asked = |r: &Value| r["answers"].as_array().unwrap().iter().map(|a| a["question"].to_string()).collect::<Vec<_>>();
    let all = metrics(folder);
    let of = |stage: &str, step: usize| {
        let found =
            all.iter().find(|r| r["event"] == "eval" && r["task"] == "countdown" && r["stage"] == stage && r["step"] == step);
        asked(found.unwrap())
    };
    let (base, between, last) = (of("base", 1), of("r1_zero", 1), of("r1_zero", 2));
    assert_eq!(base, last);
    assert!(!between.is_empty() && between.iter().all(|q| !last.contains(q)), "{between:?} {last:?}");
}

/// Fifty lines that pose one problem are no fifty problems.
#[test]
fn copies_of_a_problem_are_one_problem() {
    let temp = Temp::new();
    let line = "{\"metadata\": {\"numbers\": [1, 2], \"target\": 3}}\n";
    fs::write(temp.join("fifty"), line.repeat(50)).unwrap();
    let config = micro_with("[base]\nsteps = 2\n[rl]\nsteps = 1");
    let setup = Setup::new(config, None, None, Device::cpu()).unwrap().evaluated_on(&temp.join("fifty")).unwrap();
    let folder = temp.join("run");
    let (run, notices) = Run::create(setup, &folder).unwrap();
    assert!(notices.iter().any(|n| n.0.contains("49 of 50 problems are copies")), "{notices:?}");
    run.train().unwrap();
    let evals: Vec<Value> = metrics(&folder).into_iter().filter(|r| r["task"] == "countdown").collect();
    assert_eq!(evals.len(), 2);
    for eval in evals {
        assert_eq!(eval["problems"], 1);
        let [low, high] = [0, 1].map(|end| eval["ci"]["pass@1"][end].as_f64().unwrap());
        assert!(high - low > 0.5, "{low} to {high}");
    }
    let html = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(html.contains("Held out: 1 problem that no stage trains on"));
}

#[test]
fn a_finished_run_can_be_resumed_and_is_the_same() {
    let temp = Temp::new();
    let folder = temp.join("run");
    train(micro_with("[base]\nsteps = 2\n[rl]\nsteps = 1"), &folder);
    let before = (metrics(&folder), weights(&folder), fs::read(folder.join("summary.json")).unwrap());
    Run::resume(&folder, Device::cpu()).unwrap().train().unwrap();
    assert!(before == (metrics(&folder), weights(&folder), fs::read(folder.join("summary.json")).unwrap()));
}

#[test]
fn a_run_can_be_resumed_from_its_first_moment() {
    let temp = Temp::new();
    let config = micro_with("[base]\nsteps = 2\n[rl]\nsteps = 1");
    let (whole, cut) = (temp.join("whole"), temp.join("cut"));
    train(config.clone(), &whole);
    drop(create(config.clone(), &cut));
    Run::resume(&cut, Device::cpu()).unwrap().train().unwrap();
    assert!(metrics(&cut) == metrics(&whole) && weights(&cut) == weights(&whole));
    // Likewise from a base model, of which the folder must know.
    let (whole_rl, cut_rl) = (temp.join("whole-rl"), temp.join("cut-rl"));
    from_base(&whole, config.clone(), &whole_rl).unwrap().train().unwrap();
    drop(from_base(&whole, config, &cut_rl).unwrap());
    Run::resume(&cut_rl, Device::cpu()).unwrap().train().unwrap();
    assert!(metrics(&cut_rl) == metrics(&whole_rl) && weights(&cut_rl) == weights(&whole_rl));
    // And what starts from the base model of a run goes where that run went.
    assert!(weights(&whole_rl) == weights(&whole));
}

/// The error of a run that must fail, and the state that it leaves.
fn failed(config: RunConfig, folder: &Path) -> (String, state::RunState) {
    let error = create(config, folder).train().expect_err("it diverges").to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!folder.join("model").exists() && !folder.join("summary.json").exists());
    let (progressed, tensors) = state::load(folder, &Device::cpu()).unwrap();
    let kept = model(0);
    let config = Setup::load(folder, Device::cpu()).unwrap().config;
    assert_eq!(config.model.hidden_size, kept.config().hidden_size);
    state::restore(folder, &tensors, "policy", &kept).unwrap();
    for (name, value) in kept.state_dict() {
        assert!(value.to_f64_vec().iter().all(|x| x.is_finite()), "{name} was saved broken");
    }
    (error, progressed)
}

#[test]
fn a_run_that_diverges_stops_at_its_step() {
    let temp = Temp::new();
    // The first step makes weights of 1e30, whose squares are infinite in f32.
    let (error, state) = failed(micro_with("[base]\nlr = 1e30\nwarmup_steps = 1"), &temp.join("base"));
    assert!(error.starts_with("stage base, step 2: the gradient of `model.embed_tokens.weight` is not finite"), "{error}");
    assert!(error.contains(&temp.join("base").display().to_string()), "{error}");
    assert_eq!((state.stage.as_str(), state.step, state.metrics.lines), ("base", 0, 1));
    assert_eq!(metrics(&temp.join("base")).len(), 1);

    // With one optimizer step per rollout it is the next rollout that finds the weights ruined: the state with them is not saved.
    let (error, state) = failed(micro_with("[rl]\nlr = 1e30\nminibatches = 1"), &temp.join("one"));
    assert!(error.contains("stage r1_zero, step 2: prompt 0: the logits"), "{error}");
    assert_eq!((state.stage.as_str(), state.step), ("r1_zero", 0));

    let (error, state) = failed(micro_with("[rl]\nlr = 1e30"), &temp.join("rl"));
    assert!(error.contains("stage r1_zero, step "), "{error}");
    assert_eq!(state.stage, "r1_zero");
    // A run that failed goes on from its last good state, and fails at the same place.
    let again = Run::resume(&temp.join("rl"), Device::cpu()).unwrap().train().unwrap_err().to_string();
    assert_eq!(again, error);
}

#[test]
fn a_base_model_of_another_shape_is_refused_by_its_keys() {
    let temp = Temp::new();
    let base = temp.join("base");
    fs::create_dir(&base).unwrap();
    let config =
        nn::Config { intermediate_size: 24, n_routed_experts: 6, max_position_embeddings: 7, ..model(0).config().clone() };
    policy::fresh(config, 0, &Device::cpu()).unwrap().save_pretrained(&base).unwrap();
    let error = from_base(&base, micro(), &temp.join("run")).err().expect("another model");
    let (at, said) = error.split_once(" is another than this run's: ").unwrap();
    assert!(at.contains(&base.display().to_string()), "{error}");
    assert_eq!(said, "intermediate_size is 24, expected 20; n_routed_experts is 6, expected 4");
    assert!(!temp.join("run").exists());
}

#[test]
fn a_base_model_is_taken_bit_for_bit() {
    let temp = Temp::new();
    let (base, folder) = (temp.join("base"), temp.join("run"));
    fs::create_dir(&base).unwrap();
    let given = model(3);
    given.save_pretrained(&base).unwrap();
    from_base(&base, micro_with("[rl]\nsteps = 0"), &folder).unwrap().train().unwrap();
    let (kept, _) = DeepseekV3ForCausalLM::from_pretrained(&folder.join("model"), DType::F32, &Device::cpu()).unwrap();
    assert_eq!(bits(&kept), bits(&given));
    let steps = metrics(&folder).iter().filter(|r| r["event"] == "step").count();
    assert_eq!(steps, 0);
}
