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

use crate::common::{Temp, micro_with};

/// A run that takes a moment.
const NANO: &str = "
[base]
steps = 2
batch_size = 4
long_every = 2
long_batch_size = 1
long_attempts = [1, 2]
[rl]
steps = 2
questions = 2
num_generations = 2
max_completion_length = [{ from_step = 0, limit = 6 }, { from_step = 1, limit = 8 }]
[eval]
every = 1
problems = 1
chain_sum_problems = 1
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
    let integers = [0, -1, 1, 1 << 31, 1 << 32, 1_000_000_000_000, 1 << 53, i64::MAX, i64::MIN].map(Value::Integer);
    let floats = [0.0, -1.0, 1.0, 5e-324, 1e-41, 1e-30, 1e30, 1e300, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let words = ["", "none", "1"].map(|text| Value::String(text.into()));
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
