//! What is held out stays out: of the corpus, of the drills and of the RL stage.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use grpo::config::{Control, RunConfig};
use grpo::run::Run;
use grpo::rundir::RunDir;
use grpo::setup::{Setup, SetupError};
use grpo::tasks::{ChainSum, Countdown};
use grpo::{Corpus, Problem, Tokenizer};
use tensor::Device;

use crate::common::{Temp, micro, micro_with};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/countdown.jsonl")
}

/// The first problems of the fixture, as it says itself.
const FIRST: [([i64; 4], i64); 3] = [([1, 2, 3, 4], 10), ([2, 3, 6, 9], 8), ([1, 5, 5, 10], 19)];

/// What RL asks in a step.
fn questions(setup: &Setup, step: usize) -> Vec<Problem> {
    setup.problems(&setup.config.rl.tasks, setup.config.rl.questions, setup.config.seed, step)
}

fn setup(config: RunConfig) -> Setup {
    Setup::new(config, None, None, Device::cpu()).unwrap()
}

fn setup_with(control: Option<Control>) -> Setup {
    Setup::new(four(), control, None, Device::cpu()).unwrap()
}

/// Every problem that pre-training shows in its first steps, drills of both kinds among them.
fn shown(setup: &Setup, steps: u64) -> HashSet<Problem> {
    let (corpus, tokenizer) = (Corpus::new(&setup.config.base, &setup.pools, setup.config.seed), Tokenizer::new());
    let problem = |tokens: &[i64]| {
        let text = tokenizer.decode(tokens);
        let question = text.strip_prefix("<bos>").and_then(|t| t.split_once("<think>")).expect("a prompt").0;
        let sum = || ChainSum::parse(question).map(Problem::from);
        Countdown::parse(question).map(Problem::from).or_else(sum).unwrap_or_else(|| panic!("{text} asks nothing"))
    };
    (0..steps).flat_map(|step| corpus.examples(step)).map(|example| problem(&example.tokens)).collect()
}

/// Of the range of the fixture.
fn four() -> RunConfig {
    micro_with("[task]\nnumbers = 4")
}

/// A small range, so that a problem which is not held out is soon seen.
fn small() -> RunConfig {
    let mut config = micro();
    (config.task.numbers, config.task.max_value, config.base.batch_size) = (3, 4, 64);
    config
}

#[test]
fn held_out_problems_are_never_trained_on() {
    let setup = setup(small());
    let held_out: HashSet<Problem> = setup.pools[0].held_out().iter().cloned().collect();
    let sums: HashSet<Problem> = setup.pools[1].held_out().iter().cloned().collect();
    let seen = shown(&setup, 60);
    let asked: HashSet<Problem> = (0..200).flat_map(|step| questions(&setup, step)).collect();
    assert!(!held_out.is_empty() && seen.is_disjoint(&held_out) && asked.is_disjoint(&held_out));
    assert!(!sums.is_empty() && seen.is_disjoint(&sums) && seen.iter().any(|p| p.text().ends_with('=')));
    // Nearly everything else is seen: that nothing held out is among it is no accident.
    assert!(asked.len() > 3 * held_out.len(), "{} asked, {} held out", asked.len(), held_out.len());
    let countdowns = seen.iter().filter(|p| p.text().contains(':')).count();
    assert!(countdowns > 3 * held_out.len(), "{countdowns} seen, {} held out", held_out.len());
}

#[test]
fn a_users_problems_are_held_out_whole() {
    let setup = setup(four()).evaluated_on(&fixture()).unwrap();
    assert_eq!(setup.pools[0].held_out().len(), 10);
    assert_eq!(setup.pools[0].held_out()[..3], FIRST.map(|(numbers, target)| Problem::from(Countdown::new(numbers, target))));
    let theirs: HashSet<Problem> = setup.pools[0].held_out().iter().cloned().collect();
    assert!(shown(&setup, 200).is_disjoint(&theirs));
    assert!((0..500).all(|step| questions(&setup, step).iter().all(|q| !theirs.contains(q))));
    // Without the file some of them are asked: the draws do reach them.
    let without = Setup::new(four(), None, None, Device::cpu()).unwrap();
    assert!((0..500).any(|step| questions(&without, step).iter().any(|q| theirs.contains(q))));
}

#[test]
fn rl_asks_a_users_problems_and_no_others() {
    let temp = Temp::new();
    let (eval, rest) = (temp.join("eval.jsonl"), temp.join("rest.jsonl"));
    let text = fs::read_to_string(fixture()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&eval, lines[..4].join("\n")).unwrap();
    fs::write(&rest, lines[2..].join("\n")).unwrap(); // two of them are held out
    let setup = setup(four()).evaluated_on(&eval).unwrap().trained_on(&rest).unwrap();
    assert!(setup.notices[0].0.contains("2 of 8 problems are held out"), "{:?}", setup.notices);
    let asked: HashSet<Problem> = (0..100).flat_map(|step| questions(&setup, step)).collect();
    assert_eq!(asked, setup.rl_problems.as_ref().unwrap().1.iter().cloned().collect());
    assert_eq!(asked.len(), 6);
    assert!(!asked.contains(&Countdown::new(FIRST[2].0, FIRST[2].1).into()));
    assert_eq!(questions(&setup, 3), questions(&setup, 3));
    assert_ne!(questions(&setup, 3), questions(&setup, 4));

    let error = setup.trained_on(&eval).unwrap_err();
    assert!(matches!(&error, SetupError::AllHeldOut(path) if *path == eval), "{error}");
}

#[test]
fn a_run_folder_remembers_its_setup() {
    let temp = Temp::new();
    let (eval, problems) = (temp.join("mine.jsonl"), temp.join("more.jsonl"));
    fs::copy(fixture(), &eval).unwrap();
    fs::write(&problems, r#"{"metadata": {"numbers": [4, 3, 2, 1], "target": 8}}"#).unwrap();
    let base = Some(PathBuf::from("runs/another"));
    let mut made = Setup::new(four(), Some(Control::NoLimitJump), base, Device::cpu()).unwrap();
    made = made.evaluated_on(&eval).unwrap().trained_on(&problems).unwrap();
    made.command = "grpo_r1 --seed 7".into();
    // The files may be gone when the run begins: they may lie in the older run that is moved out of its way.
    fs::remove_file(&eval).unwrap();
    fs::remove_file(&problems).unwrap();
    let dir = RunDir::create(&temp.join("run")).unwrap().0;
    made.save(&dir).unwrap();
    let read = Setup::load(dir.path(), Device::cpu()).unwrap();
    assert_eq!((&read.config, &read.base, read.control, &read.command), (&made.config, &made.base, made.control, &made.command));
    assert_eq!(read.config.rl.max_completion_length.len(), 1);
    assert_eq!(read.pools[0].held_out(), made.pools[0].held_out());
    assert_eq!((read.eval_file, read.rl_problems), (made.eval_file, made.rl_problems));

    fs::write(dir.join("setup.json"), "{\"format\": 2, \"base\": null, \"contrl\": null}").unwrap();
    let error = Setup::load(dir.path(), Device::cpu()).unwrap_err().to_string();
    assert!(error.contains("setup.json") && error.contains("contrl"), "{error}");
    fs::remove_file(dir.join("setup.json")).unwrap();
    assert!(Setup::load(dir.path(), Device::cpu()).unwrap_err().to_string().contains("setup.json"));
}

#[test]
fn a_base_model_must_have_learned_from_the_corpus_of_the_control() {
    let temp = Temp::new();
    let (plain, bare) = (temp.join("plain"), temp.join("bare"));
    fs::create_dir(&bare).unwrap();
    let check = |control, base: &PathBuf| Setup { base: Some(base.clone()), ..setup_with(control) }.check_base();
    setup_with(None).save(&RunDir::create(&plain).unwrap().0).unwrap();
    for control in Control::ALL {
        let own = temp.join(&control.to_string());
        setup_with(Some(control)).save(&RunDir::create(&own).unwrap().0).unwrap();
        assert!(check(Some(control), &own).unwrap().is_none());
        for base in [&plain, &bare] {
            assert_eq!(check(Some(control), base).is_err(), control.changes_base(), "{control} {}", base.display());
        }
        assert_eq!(check(None, &own).is_err(), control.changes_base());
    }
    let error = check(Some(Control::NoDrills), &plain).unwrap_err().to_string();
    assert!(error.contains("--control no-drills") && error.contains("plain"), "{error}");
    assert!(check(None, &plain).unwrap().is_none());
    assert!(check(None, &bare).unwrap().unwrap().0.contains("may have seen"));
}

#[test]
fn a_base_model_must_not_have_seen_what_is_measured() {
    let temp = Temp::new();
    let (plain, held) = (temp.join("plain"), temp.join("held"));
    setup_with(None).save(&RunDir::create(&plain).unwrap().0).unwrap();
    let mine = setup_with(None).evaluated_on(&fixture()).unwrap();
    mine.save(&RunDir::create(&held).unwrap().0).unwrap();
    let on = |base: &PathBuf| Setup { base: Some(base.clone()), ..mine.clone() }.check_base();
    assert!(on(&held).unwrap().is_none());
    let error = on(&plain).unwrap_err();
    assert!(matches!(error, SetupError::BaseHasSeen { held_out: 10, seen: 1..=10, .. }), "{error}");
    // Its own base model may have seen more than it did.
    let second = temp.join("second");
    Setup { base: Some(held.clone()), ..mine.clone() }.save(&RunDir::create(&second).unwrap().0).unwrap();
    assert!(on(&second).unwrap().unwrap().0.contains("came from"));
    // The other way round: what was held out for the file is not what is held out without it.
    let back = Setup { base: Some(held), ..setup_with(None) }.check_base().unwrap_err();
    assert!(matches!(back, SetupError::BaseHasSeen { .. }), "{back}");
}

#[test]
fn a_share_that_holds_nothing_out_is_refused() {
    let mut config = four();
    config.task.held_out = 1e-6;
    let error = Setup::new(config, None, None, Device::cpu()).unwrap_err().to_string();
    assert!(error.contains("task.held_out") && error.contains("0.000001"), "{error}");
}

#[test]
#[ignore = "reads ../shared/data (or $SCRATCHWORK_SHARED/data), which is no part of the repository"]
fn the_shared_problems_are_read() {
    let shared = std::env::var_os("SCRATCHWORK_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let file = shared.join("data/countdown_small/n4_max10.jsonl");
    let lines = fs::read_to_string(&file).unwrap().lines().count();
    let setup = setup(RunConfig::default()).evaluated_on(&file).unwrap();
    assert_eq!(setup.pools[0].held_out().len(), lines);
    assert!((0..50).all(|step| questions(&setup, step).iter().all(|q| !setup.pools[0].is_held_out(&q.text()))));
}

/// `[[jsonl]]`: problems of files are a task like another, whose files the run folder keeps.
#[test]
fn problems_of_files_are_a_task() {
    let temp = Temp::new();
    let line = |a: i64, b: i64| {
        format!("{{\"question\": \"{a} und {b}?\", \"answer\": \"{}\", \"metadata\": {{\"of\": [{a}, {b}]}}}}\n", a + b)
    };
    let lines = |from: i64| (from..from + 4).map(|a| line(a, 2 * a)).collect::<String>();
    let (train, test) = (temp.join("a.jsonl"), temp.join("b.jsonl"));
    fs::write(&train, lines(1) + &lines(7)).unwrap();
    fs::write(&test, lines(7)).unwrap();
    let over = format!(
        "tasks = ['sums', 'chain_sum']\n[base]\nsteps = 2\n[rl]\nsteps = 1\ntasks = {{ sums = 0.5, chain_sum = 0.5 }}\n[eval]\nevery = 0\n\
         [[jsonl]]\nname = 'sums'\ntrain = {train:?}\ntest = {test:?}\nverifier = 'numeric'\nprompt = '{{of}}; {{question}}'\nthinking = 'na'"
    );
    let made = setup(micro_with(&over));
    assert_eq!(made.tokenizer.vocab_size(), 29 + " ;adnu".len());
    let asked: HashSet<Problem> = (0..100).flat_map(|step| questions(&made, step)).collect();
    let (sums, others): (Vec<&Problem>, Vec<&Problem>) = asked.iter().partition(|p| p.text().contains(';'));
    // Four of the eight are held out.
    assert!(sums.len() == 4 && others.len() > 4 && sums.iter().all(|p| !made.pools[0].is_held_out(&p.text())), "{sums:?}");
    let folder = temp.join("run");
    let (run, _) = Run::create(made, &folder).unwrap();
    // They may be gone by now.
    fs::remove_file(&train).unwrap();
    fs::remove_file(&test).unwrap();
    drop(run);
    Run::resume(&folder, Device::cpu()).unwrap().train().unwrap();
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"task\":\"sums\"") && metrics.contains("cons@4"));
    let copy = folder.join("sums.train.jsonl");
    fs::write(&copy, fs::read_to_string(&copy).unwrap().replacen('1', "2", 1)).unwrap();
    let said = Run::resume(&folder, Device::cpu()).err().expect("another file").to_string();
    assert!(said.contains("sums.train.jsonl") && said.contains("not as the run left it"), "{said}");
    let said = Setup::new(micro_with("tasks = ['some']"), None, None, Device::cpu()).unwrap_err().to_string();
    assert!(said.contains("\"some\"") && said.contains("countdown, chain_sum"), "{said}");
}
