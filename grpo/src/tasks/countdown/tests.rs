use std::sync::Arc;

use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::*;
use crate::config::BaseConfig;
use crate::tasks::ChainSum;
use crate::tokenizer::Tokenizer;

fn pool(share: f64, seed: u64) -> Pool {
    let task = CountdownTask::holding_out(CountdownConfig::default(), share, seed, BaseConfig::default().habits());
    Pool::new(Arc::new(task), &Tokenizer::new()).unwrap()
}

#[test]
fn the_held_out_set_depends_on_its_seed_alone() {
    let habits = BaseConfig::default().habits();
    let task = CountdownTask::new(&TaskConfig::default(), habits).unwrap();
    assert_eq!(task.held_out(), pool(0.2, 0).held_out());
    assert_ne!(pool(0.2, 1).held_out(), pool(0.2, 0).held_out());
    // 4049 distinct problems exist (715 multisets, their positive signed sums); 20,000 draws find most of them.
    let count = task.held_out().len();
    assert!((720..=809).contains(&count), "{count}");
    let none = TaskConfig { held_out: 1e-6, ..TaskConfig::default() };
    assert!(CountdownTask::new(&none, habits).unwrap_err().to_string().starts_with("task.held_out"));
}

#[test]
fn a_users_problems_replace_the_held_out_ones() {
    let mine = Problem::from(Countdown::new([1, 2, 3, 4], 10));
    let set = pool(0.2, 0).holding_out(vec![mine.clone()]).unwrap();
    assert_eq!(set.held_out(), std::slice::from_ref(&mine));
    assert!(set.is_held_out(&Countdown::new([4, 3, 2, 1], 10).text()));
    assert!(set.may_be_trained_on(&Countdown::new([1, 2, 3, 4], 8).text()));
    // Out of range, and no problem at all.
    assert!(!set.may_be_trained_on("1,2,3,4:100") && !set.may_be_trained_on("1+2="));
}

#[test]
fn a_task_that_is_all_held_out_is_refused() {
    let one = CountdownConfig { numbers: 2, max_value: 1, max_target: 2, ..CountdownConfig::default() };
    let task = CountdownTask::holding_out(one, 0.0, 0, BaseConfig::default().habits());
    let set = Pool::new(Arc::new(task), &Tokenizer::new()).unwrap();
    let error = set.holding_out(vec![Countdown::new([1, 1], 2).into()]).unwrap_err();
    assert_eq!(error, TaskError::NothingLeft);
}

#[test]
fn answers_are_judged_by_the_task() {
    let countdown = Problem::from(Countdown::new([1, 2, 3, 4], 10));
    assert!(countdown.is_right("4+3+2+1") && countdown.right_answer().is_none());
    assert!(!countdown.is_right("10") && !countdown.is_right("4+3*2"));
    let sum = Problem::from(ChainSum::parse("3-8").unwrap());
    assert!(sum.is_right("-5"));
    assert!(!sum.is_right("3-8") && !sum.is_right(""));
    assert_eq!((sum.right_answer(), sum.vote(" -5.0"), sum.vote("five")), (Some("-5".into()), Some("-5".into()), None));
}

#[test]
fn a_prompt_opens_thinking() {
    let tokenizer = Tokenizer::new();
    let ids = Problem::from(Countdown::new([4, 3, 2, 10], 7)).prompt(&tokenizer).unwrap();
    assert_eq!(tokenizer.decode(&ids), "<bos>2,3,4,10:7<think>");
}

#[test]
fn keeping_to_a_notation_is_a_part_of_its_own() {
    let problem = Problem::from(Countdown::new([1, 2, 3], 6));
    let part = |think: &str| {
        let response = Response::from_text(format!("{think}</think><answer>1+2+3</answer><eos>"), 0);
        let parts = problem.parts(&response);
        assert_eq!(parts[..2], [("accuracy", 1.0), ("format", 1.0)]);
        parts[2]
    };
    assert_eq!(part("1+2=3+3=6?6v"), ("consistency", 1.0));
    assert_eq!(part("1+2=3,3+6?6v"), ("consistency", 0.5));
    assert_eq!(part("1,2+3,3+6?6v"), ("consistency", 0.0));
    assert_eq!(part(""), ("consistency", 0.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn training_never_draws_what_is_held_out(held_out_seed: u64, seed: u64, share in 0.0..0.9) {
        let set = pool(share, held_out_seed);
        let mut rng = Rng::new(seed, "test", 0);
        for _ in 0..500 {
            let problem = set.problem(&mut rng);
            prop_assert!(!set.held_out().contains(&problem));
        }
    }
}
