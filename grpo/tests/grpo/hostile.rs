//! Every key of the configuration with values that nobody should give: each is refused by its name, or the run goes on to a result
//! or an error. None panics, and none asks for what no machine has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use grpo::config::RunConfig;
use grpo::run::Run;
use grpo::setup::Setup;
use rayon::prelude::*;
use tensor::Device;
use toml::{Table, Value};

use crate::common::{Temp, micro, micro_with};

/// A run that takes a moment.
const NANO: &str = "
[base]
steps = 2
batch_size = 4
long_every = 2
long_batch_size = 1
long_attempts = [1, 2]
[rl]
steps = 1
questions = 2
num_generations = 2
max_completion_length = [{ from_step = 0, limit = 6 }, { from_step = 1, limit = 8 }]
[eval]
every = 0
problems = 1
others_problems = 1
samples = 2
k = [1, 2]
shown = 1
";

/// Where a value stands: keys of tables and places in lists.
type Place = Vec<String>;

/// Every value that holds no other.
fn leaves(value: &Value, at: &Place, all: &mut Vec<Place>) {
    let below = |key: String| [at.clone(), vec![key]].concat();
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| leaves(value, &below(key.clone()), all)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| leaves(value, &below(i.to_string()), all)),
        _ => all.push(at.clone()),
    }
}

fn replace(value: &mut Value, at: &[String], by: &Value) {
    match (at, value) {
        ([], value) => *value = by.clone(),
        ([key, rest @ ..], Value::Table(table)) => replace(&mut table[key], rest, by),
        ([key, rest @ ..], Value::Array(list)) => replace(&mut list[key.parse::<usize>().unwrap()], rest, by),
        _ => unreachable!("a place leads through tables and lists"),
    }
}

fn hostile() -> Vec<Value> {
    let integers = [0, -1, 1, 1_000_000_000_000, i64::MAX].map(Value::Integer);
    let floats = [-1.0, 1e-41, 1e300, f64::NAN, f64::INFINITY];
    let words = ["", "none"].map(|text| Value::String(text.into()));
    let lists = [vec![], vec![Value::Integer(1); 3]].map(Value::Array);
    integers.into_iter().chain(floats.map(Value::Float)).chain(words).chain(lists).collect()
}

/// What becomes of a configuration: an error in words, or nothing.
fn outcome(config: &Value, folder: &Path) -> Result<(), String> {
    let text = toml::to_string(config).unwrap();
    let config = RunConfig::default().overlay_str(&text, Path::new("hostile.toml")).map_err(|e| e.to_string())?;
    let setup = Setup::new(config, None, None, Device::cpu()).map_err(|e| e.to_string())?;
    let (run, _) = Run::create(setup, folder).map_err(|e| e.to_string())?;
    run.train().map(drop).map_err(|e| e.to_string())
}

#[test]
fn every_key_is_checked_before_it_is_used() {
    let temp = Temp::new();
    let base = Value::Table(Table::try_from(micro_with(NANO)).unwrap());
    let mut all = Vec::new();
    leaves(&base, &Vec::new(), &mut all);
    assert!(all.len() > 60, "{} keys", all.len());
    assert_eq!(outcome(&base, &temp.join("good")), Ok(()));
    let cases: Vec<(&Place, Value)> = all.iter().flat_map(|at| hostile().into_iter().map(move |value| (at, value))).collect();
    let wrong: Vec<String> = cases
        .par_iter()
        .enumerate()
        .filter_map(|(i, (at, value))| {
            let mut config = base.clone();
            replace(&mut config, at, value);
            let folder = temp.join(&i.to_string());
            let outcome = catch_unwind(AssertUnwindSafe(|| outcome(&config, &folder)));
            let _ = std::fs::remove_dir_all(&folder);
            let key = at.join(".");
            match outcome {
                Err(panic) => Some(format!("{key} = {value}: {:?}", panic.downcast_ref::<String>())),
                Ok(Err(said)) if said.contains("Os {") || said.trim().is_empty() => Some(format!("{key} = {value}: {said:?}")),
                Ok(_) => None,
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sizes that are no nonsense one by one, and together more than a machine has.
#[test]
fn a_run_that_does_not_fit_is_refused_with_both_figures() {
    let temp = Temp::new();
    for over in [
        "[rl]\nmax_completion_length = [{ from_step = 0, limit = 16000000 }]",
        "[rl]\nquestions = 16000000\nnum_generations = 16000000",
        "[base]\nbatch_size = 16000000\ndrill_attempts = [1, 4096]",
        "[base]\nlong_batch_size = 16000000\nlong_attempts = [1, 4096]",
        "[eval]\nsamples = 16000000",
    ] {
        let setup = Setup::new(micro_with(over), None, None, Device::cpu()).unwrap();
        let said = Run::create(setup, &temp.join("run")).err().expect(over).to_string();
        assert!(said.contains("too large for this machine"), "{over}: {said}");
        assert!(said.matches("iB").count() == 2 && said.lines().count() == 1, "{over}: {said}");
        assert!(!temp.join("run").exists());
    }
    // What is foretold grows with what it is about, and of a small run it is small.
    let foretold = |config| {
        let setup = Setup::new(config, None, None, Device::cpu()).unwrap();
        grpo::memory::needed(&setup, &crate::common::model(0)).unwrap()
    };
    let small = foretold(micro());
    assert!(small < 64 << 20, "{small}");
    let larger = |over| foretold(micro_with(over)) > 2 * small;
    assert!(larger("[rl]\nquestions = 100000") && larger("[base]\nbatch_size = 100000") && larger("[eval]\nsamples = 100000"));
}
