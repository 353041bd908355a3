//! The stages of R1 on a very small configuration: each does what it says, and a run of all of them goes on bit for bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use grpo::config::RunConfig;
use grpo::run::Run;
use grpo::samples::Kept;
use grpo::setup::Setup;
use grpo::stage::{POLICY, REWARD, Stage, Workspace};
use grpo::stages::build;
use grpo::task::{Lesson, Pool, Question, Task};
use grpo::tasks::{Behaviour, Countdown};
use grpo::{Example, Problem, Response, Rng, preference};
use nn::{AdamW, AdamWConfig};
use serde_json::Value;
use tensor::Device;

use crate::common::{Temp, adamw, bits, copy_of, micro, micro_with, model, noise, ragged_problems, sample};

/// Every kind of stage, a step or two each. What an untrained policy writes is hardly ever right: the SFT stages imitate curated
/// examples beside what was kept.
const R1: &str = r#"
[base]
steps = 3
p_second_notation = 0.5
[rl]
steps = 2
[sft]
steps = 2
batch_size = 4
examples = 8
[reject]
steps = 2
questions = 3
num_generations = 2
max_completion_length = 12
[reward_model]
steps = 2
questions = 3
num_generations = 4
max_completion_length = 12
[eval]
every = 0
problems = 2
others_problems = 1
samples = 2
k = [1, 2]
[[stage]]
kind = "pretrain"
name = "base"
[[stage]]
kind = "grpo"
name = "r1_zero"
[[stage]]
kind = "ppo"
name = "ppo"
from = "base"
[[stage]]
kind = "sft"
name = "dev1"
from = "base"
mix = { countdown = 1.0 }
[[stage]]
kind = "grpo"
name = "dev2"
reward_weights = { accuracy = 1.0, format = 0.5, consistency = 0.2 }
tasks = { countdown = 0.5, chain_sum = 0.5 }
[[stage]]
kind = "reject"
name = "kept"
[[stage]]
kind = "reward_model"
name = "preference"
[[stage]]
kind = "grpo"
name = "r1"
reward_model = "preference"
reward_weights = { accuracy = 1.0, format = 0.5, preference = 0.5 }
preference_steps = 1
[[stage]]
kind = "distill"
name = "student"
mix = { chain_sum = 1.0 }
model = { hidden_size = 12, first_k_dense_replace = 2 }
"#;

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
    text.lines().map(record).collect()
}

fn r1() -> RunConfig {
    micro_with(R1)
}

fn run(folder: &Path) -> Run {
    Run::create(Setup::new(r1(), None, None, Device::cpu()).unwrap(), folder).unwrap().0
}

/// The files that a stage leaves for others, and the models.
fn products(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = ["base", "r1_zero", "ppo", "dev1", "dev2", "preference", "model", "student"]
        .map(|stage| format!("{stage}/model.safetensors"));
    let all = names.into_iter().chain(["kept.jsonl".to_owned()]);
    all.map(|name| (name.clone(), fs::read(folder.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}")))).collect()
}

/// Whatever the moment at which a run is killed: it goes on from the state that was saved last, and ends alike.
#[test]
fn a_run_of_every_stage_goes_on_from_any_moment() {
    let temp = Temp::new();
    let whole = temp.join("whole");
    let mut moments = 0;
    let mut first = run(&whole);
    while first.advance().unwrap() {
        moments += 1;
    }
    first.train().unwrap();
    let expected = (metrics(&whole), products(&whole));
    let stages: Vec<&str> = expected.0.iter().filter(|r| r["event"] == "step").map(|r| r["stage"].as_str().unwrap()).collect();
    let counts = |name: &str| stages.iter().filter(|stage| **stage == name).count();
    let steps = ["base", "r1_zero", "ppo", "dev1", "dev2", "kept", "preference", "r1", "student"].map(counts);
    assert_eq!(steps, [3, 2, 2, 2, 2, 2, 2, 2, 2]);
    // Each step, and between two stages the end of one and the beginning of the next.
    assert_eq!(moments, 19 + 8);
    for moment in (0..=moments).step_by(2) {
        let folder = temp.join(&moment.to_string());
        let mut killed = run(&folder);
        (0..moment).for_each(|_| assert!(killed.advance().unwrap()));
        drop(killed);
        let mut resumed = Run::resume(&folder, Device::cpu()).unwrap();
        // Half of them are killed once more.
        if moment % 4 == 0 {
            (0..3).for_each(|_| _ = resumed.advance().unwrap());
            drop(resumed);
            resumed = Run::resume(&folder, Device::cpu()).unwrap();
        }
        resumed.train().unwrap();
        assert!(metrics(&folder) == expected.0, "metrics differ, killed after {moment}");
        assert!(products(&folder) == expected.1, "models or samples differ, killed after {moment}");
    }
}

fn workspace(setup: Setup, folder: &Path) -> Workspace {
    let models = [(POLICY.to_owned(), model(3))].into();
    Workspace {
        setup,
        models,
        samples: BTreeMap::new(),
        folder: folder.into(),
        optimizer: AdamW::new(Vec::new(), AdamWConfig::default()),
    }
}

fn stage(setup: &Setup, name: &str) -> Box<dyn Stage> {
    build(setup).unwrap().into_iter().find(|stage| stage.name() == name).unwrap()
}

/// The rules of rejection, on a policy that writes anything: a task of which everything is right shows what else is asked.
#[test]
fn rejection_keeps_what_is_right_short_and_different() {
    #[derive(Debug)]
    struct Anything(i64);
    impl Question for Anything {
        fn text(&self) -> String {
            self.0.to_string()
        }
        fn is_right(&self, _: &str) -> bool {
            true
        }
        fn parts(&self, response: &Response) -> Vec<(&'static str, f64)> {
            // Right without the template, which an untrained policy never keeps to.
            let short = f64::from(u8::from(response.length().is_multiple_of(2)));
            vec![("accuracy", 1.0), ("consistency", short)]
        }
    }
    #[derive(Debug)]
    struct Task1;
    impl Task for Task1 {
        fn name(&self) -> &str {
            "anything"
        }
        fn draw(&self, rng: &mut Rng) -> Problem {
            Anything(rng.between(0, 9)).into()
        }
        fn held_out(&self) -> Vec<Problem> {
            vec![Anything(0).into()]
        }
        fn parse(&self, _: &str) -> Result<Problem, String> {
            Ok(Anything(1).into())
        }
        fn lesson(&self, _: Lesson, _: &Pool, _: &mut Rng) -> Option<Example> {
            None
        }
    }
    let over = "[base]\nsteps = 0\n[[stage]]\nkind = 'pretrain'\nname = 'base'\n[[stage]]\nkind = 'reject'\nname = 'kept'\nsteps = 1\n\
                questions = 4\nnum_generations = 16\nmax_completion_length = 9";
    let setup = Setup::with_tasks(micro_with(over), vec![Arc::new(Task1)], None, Device::cpu()).unwrap();
    let temp = Temp::new();
    let stage = stage(&setup, "kept");
    let mut work = workspace(setup, &temp.join("nowhere"));
    stage.begin(&mut work).unwrap();
    let stepped = stage.step(&mut work, 0).unwrap();
    // `correct` asks for the template, and nothing that noise writes keeps to it.
    assert_eq!((work.samples["kept"].len(), stepped.values.get("kept")), (0, Some(0.0)));
    assert!(stepped.values.get("accuracy") == Some(0.0) && stepped.tokens > 0 && stepped.flops > 0);
}

#[test]
fn what_was_kept_is_an_example_to_imitate() {
    let tokenizer = grpo::Tokenizer::new();
    let kept = Kept { question: "1,2:3".into(), response: "1+2=3?3v</think><answer>1+2</answer><eos>".into() };
    let example = kept.example(&tokenizer);
    assert_eq!(tokenizer.decode(&example.tokens), format!("<bos>1,2:3<think>{}", kept.response));
    assert_eq!(example.loss_mask.iter().filter(|&&counts| counts).count(), tokenizer.encode(&kept.response).unwrap().len());
    assert!(!example.loss_mask[..7].contains(&true));
}

/// What was kept is imitated: after some steps it is the most probable thing to write. Without anything kept there is an error.
#[test]
fn fine_tuning_imitates_what_was_kept() {
    let over = "[[stage]]\nkind = 'pretrain'\nname = 'base'\nsteps = 0\n[[stage]]\nkind = 'reject'\nname = 'kept'\n[[stage]]\nkind = 'sft'\n\
                name = 'dev3'\nmix = { kept = 1.0 }\nbatch_size = 4\nlr = 1e-2\nwarmup_steps = 0\nsteps = 40";
    let setup = Setup::new(micro_with(over), None, None, Device::cpu()).unwrap();
    let temp = Temp::new();
    let stage = stage(&setup, "dev3");
    let mut work = workspace(setup, &temp.join("nowhere"));
    work.samples.insert("kept".into(), Vec::new());
    let said = stage.begin(&mut work).unwrap_err().to_string();
    assert!(said.contains("`kept` kept no answer"), "{said}");
    work.samples
        .insert("kept".into(), vec![Kept { question: "1,2:3".into(), response: "1+2</think><answer>1+2</answer><eos>".into() }]);
    stage.begin(&mut work).unwrap();
    work.optimizer = stage.optimizer(&work);
    let losses: Vec<f64> = (0..40).map(|step| stage.step(&mut work, step).unwrap().values.get("loss").unwrap()).collect();
    assert!(losses[39] < 0.2 && losses[39] < losses[0] / 10.0, "{losses:?}");
}

/// The recipes are files that are valid, and go through every stage when they are cut down.
#[test]
fn the_recipes_are_valid_and_can_be_cut_down() {
    for (name, stages) in [("r1_zero", 2), ("r1", 12), ("ppo", 4), ("own_task", 2)] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/configs/{name}.toml"));
        let config = RunConfig::default().overlay(&file).unwrap();
        assert_eq!(config.stages.len(), stages, "{name}");
        let quick = config.clone().quickened();
        quick.validate().unwrap();
        assert!(quick.stages.iter().all(|stage| stage.over.contains_key("steps")));
        if name == "r1_zero" {
            assert_eq!(config, RunConfig::default());
        }
    }
}

/// The model of the preference learns which of two kinds of answers is preferred, by its own scores.
#[test]
fn a_reward_model_learns_the_preference() {
    let policy = model(5);
    let reward = copy_of(&policy);
    let problem = &ragged_problems()[0];
    // Preferred are answers that begin with 9.
    let answer = |i: u64, good: bool| {
        let mut tokens = noise(6, i);
        tokens[0] = if good { 18 } else { 12 };
        sample(&policy, problem, tokens, 0.0)
    };
    let samples: Vec<_> = (0..32).map(|i| answer(i, i % 2 == 0)).collect();
    let fresh: Vec<_> = (100..132).map(|i| answer(i, i % 2 == 0)).collect();
    let pairs: Vec<[usize; 2]> = (0..16).map(|i| [2 * i, 2 * i + 1]).collect();
    let right = |model: &_| preference::pairs_right(&preference::scores(model, &fresh), &pairs).unwrap();
    let before = right(&reward);
    let mut optimizer = adamw(&reward);
    let losses: Vec<f64> =
        (0..40).map(|_| preference::step(&reward, &mut optimizer, &samples, &pairs, 1e-2, 1.0).unwrap().0).collect();
    assert!(losses[39] < 0.2 && losses[39] < losses[0] / 2.0, "{losses:?}");
    assert!(before < 0.9 && right(&reward) > 0.9, "{before} {}", right(&reward));
    // The first loss is that of the first scores, by the definition.
    let first = preference::scores(&policy, &samples);
    let stated: f64 = pairs.iter().map(|[a, b]| (1.0 + (first[*b] - first[*a]).exp()).ln()).sum::<f64>() / 16.0;
    assert!((losses[0] - stated).abs() < 1e-5 * (1.0 + stated), "{} {stated}", losses[0]);
    assert_eq!((preference::probability(0.0), preference::pairs_right(&first, &[])), (0.5, None));
}

/// The preference is a part of the reward in the last steps, and in no other.
#[test]
fn the_preference_counts_in_the_last_steps() {
    let temp = Temp::new();
    let folder = temp.join("run");
    run(&folder).train().unwrap();
    let steps: Vec<Value> = metrics(&folder).into_iter().filter(|r| r["event"] == "step" && r["stage"] == "r1").collect();
    let preferred = |r: &Value| r["rewards/preference/mean"].as_f64();
    assert!(preferred(&steps[0]).is_none());
    let mean = preferred(&steps[1]).unwrap();
    assert!((0.0..=1.0).contains(&mean), "{mean}");
    let part = |name: &str| steps[1][format!("rewards/{name}/mean")].as_f64().unwrap();
    let reward = part("accuracy") + 0.5 * part("format") + 0.5 * mean;
    assert!((steps[1]["reward"].as_f64().unwrap() - reward).abs() < 1e-9);
    // A student is no part of the result.
    let summary: Value = serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap();
    let order: Vec<&str> = summary["measured"].as_array().unwrap().iter().map(|m| m["stage"].as_str().unwrap()).collect();
    assert_eq!(
        order,
        ["base", "base", "r1_zero", "r1_zero", "ppo", "ppo", "dev1", "dev1", "dev2", "dev2", "r1", "r1", "student", "student"]
    );
    assert_eq!(summary["result"], "r1");
    let config = |name: &str| fs::read_to_string(folder.join(name).join("config.json")).unwrap();
    assert!(config("student").contains("\"hidden_size\": 12") && config("model").contains("\"hidden_size\": 16"));
    let html = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(html.contains("Stage by stage") && html.contains("<th>dev1</th>") && html.contains("R1 at desk scale"));
}

/// A stage that begins with an earlier one's checkpoint has its weights, and a stage that trains another model leaves the policy alone.
#[test]
fn stages_begin_where_they_say() {
    let temp = Temp::new();
    let folder = temp.join("run");
    let none = "[[stage]]\nkind = 'pretrain'\nname = 'base'\n[[stage]]\nkind = 'grpo'\nname = 'r1_zero'\n[[stage]]\nkind = 'sft'\n\
                name = 'dev1'\nfrom = 'base'\nsteps = 0\nmix = { countdown = 1.0 }\n[[stage]]\nkind = 'reward_model'\nname = 'p'\n\
                steps = 1\nquestions = 2\nnum_generations = 2\nmax_completion_length = 4\n[[stage]]\nkind = 'grpo'\nname = 'r1'\nsteps = 0";
    let config = micro_with(&format!(
        "[base]\nsteps = 2\n[rl]\nsteps = 2\nreward_weights = {{ accuracy = 1.0, consistency = 1.0 }}\n{none}"
    ));
    Run::create(Setup::new(config, None, None, Device::cpu()).unwrap(), &folder).unwrap().0.train().unwrap();
    let weights = |name: &str| fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert!(weights("r1_zero") != weights("base"), "RL learned nothing");
    assert!(weights("dev1") == weights("base") && weights("model") == weights("base"));
    assert!(weights("p") != weights("base"));
}

#[test]
fn a_reward_model_leaves_the_policy_alone() {
    let setup = Setup::new(r1(), None, None, Device::cpu()).unwrap();
    let temp = Temp::new();
    let stage = stage(&setup, "preference");
    let mut work = workspace(setup, &temp.join("nowhere"));
    stage.begin(&mut work).unwrap();
    work.optimizer = stage.optimizer(&work);
    let before = bits(work.policy());
    let stepped = stage.step(&mut work, 0).unwrap();
    assert_eq!(bits(work.policy()), before);
    assert!(stepped.values.get("pairs").unwrap() > 0.0 && bits(work.model(REWARD)) != before);
    // The last step is measured on held-out problems as well.
    assert!(stepped.values.get("held_out_pairs").is_none());
    assert!(stage.step(&mut work, 1).unwrap().values.get("held_out_pairs").is_some());
}

/// A run with a task of its user's is resumed with it, and with no other.
#[test]
fn a_users_task_is_resumed_with_it() {
    let temp = Temp::new();
    let folder = temp.join("run");
    let task = || -> Arc<dyn Task> {
        let config = micro();
        grpo::tasks::built_in("countdown", &config.task, &config.base.habits()).unwrap().unwrap()
    };
    let config = micro_with("[base]\nsteps = 2\n[rl]\nsteps = 1\n[eval]\nproblems = 2");
    drop(Run::create(Setup::with_tasks(config, vec![task()], None, Device::cpu()).unwrap(), &folder).unwrap());
    let said = Run::resume(&folder, Device::cpu()).err().expect("tasks are missing").to_string();
    assert!(said.contains("(countdown)") && said.contains("resume_with"), "{said}");
    Run::resume_with(&folder, vec![task()], Device::cpu()).unwrap().train().unwrap();
    let evals = metrics(&folder).into_iter().filter(|r| r["event"] == "eval").count();
    assert_eq!(evals, 2);
}

#[test]
fn curated_examples_are_so_many_and_in_one_notation() {
    let setup = Setup::new(r1(), None, None, Device::cpu()).unwrap();
    let pool = &setup.pools[0];
    let texts: std::collections::BTreeSet<String> = (0..30)
        .map(|i| {
            let example = pool.lesson(Lesson::Curated, &mut Rng::new(7, "curated", i % 8)).unwrap();
            setup.tokenizer.decode(&example.tokens)
        })
        .collect();
    assert_eq!(texts.len(), 8);
    for text in texts {
        let (question, response) = text.strip_prefix("<bos>").unwrap().split_once("<think>").unwrap();
        let target = Countdown::parse(question).unwrap().target();
        assert_eq!(Behaviour::of(target, &Response::from_text(response, 0)).notations[1], 0);
    }
}
