use super::{Countdown, CountdownTask};
use crate::example::Example;
use crate::rng::Rng;
use crate::task::Pool;
use crate::tasks::arithmetic::{Calculation, Notation};

/// Share of the drills whose last attempt hits the target.
const HITS: f64 = 0.5;
/// Of the others, the share with a target close to the value reached.
const NEAR_MISSES: f64 = 0.3;
/// How far a near miss is off: by one digit or a little.
const NEAR: [i64; 6] = [-10, -2, -1, 1, 2, 10];

impl CountdownTask {
    /// A drill of a few attempts: the loss is on results, on repeating the target, on verdicts and on copying a hit as the answer.
    pub(super) fn drill(&self, pool: &Pool, rng: &mut Rng) -> Example {
        self.drill_of(self.habits.drill_attempts, false, pool, rng)
    }

    /// A full-length drill, which teaches to work at positions that traces never reach: all but the last attempt are in the
    /// loss, save each one's first token.
    pub(super) fn long_drill(&self, pool: &Pool, rng: &mut Rng) -> Example {
        self.drill_of(self.habits.long_attempts, true, pool, rng)
    }

    /// Given attempts, one after the other, each checked; if the last of them hits, it is the answer.
    ///
    /// The loss leaves out every token at which a solver *decides*: whether to check (`?`), and, after the verdict, whether to
    /// begin another attempt (its first digit) or to stop (`</think>`). Only this first token tells the two apart (what follows it
    /// is an attempt, or an answer, either way), so leaving it out of the loss is what keeps drills from teaching persistence.
    fn drill_of(&self, attempts: [usize; 2], proposals: bool, pool: &Pool, rng: &mut Rng) -> Example {
        let (problem, attempts) = self.drawn(attempts, pool, rng);
        let target = problem.target();
        let mut example = pool.example(&problem.into());
        let mut push = |text: &str, counts: &dyn Fn(usize) -> bool| example.push(pool.tokenizer(), text, counts);
        for (index, (notation, attempt)) in attempts.iter().enumerate() {
            let counts = match proposals && index + 1 < attempts.len() {
                true => vec![true; attempt.working.len()],
                false => notation.results(&attempt.working),
            };
            push(&attempt.working, &|i| i > 0 && counts[i]);
            let hit = attempt.value == target;
            push(&format!("?{target}{}", if hit { 'v' } else { 'x' }), &|i| i > 0);
            if hit {
                push(&format!("</think><answer>{}</answer><eos>", attempt.expression), &|i| i > 0);
                break;
            }
        }
        example
    }

    /// A problem that is not held out, and attempts of which the last hits, nearly misses or just misses (by chance also hits). The
    /// others miss: chance would end most drills early, and few would be long.
    fn drawn(&self, [fewest, most]: [usize; 2], pool: &Pool, rng: &mut Rng) -> (Countdown, Vec<(Notation, Calculation)>) {
        let hit = rng.chance(HITS);
        let near = rng.chance(NEAR_MISSES);
        loop {
            let problem = self.problem(pool, rng);
            let count = rng.between(fewest as i64, most as i64);
            let mut attempts: Vec<_> = (0..count).map(|_| self.attempt(problem.numbers(), rng)).collect();
            let reached = attempts.last().map_or(0, |(_, attempt)| attempt.value);
            let target = match (hit, near) {
                (true, _) => reached,
                (false, true) => (reached + rng.choose(&NEAR)).clamp(1, self.range.max_target),
                (false, false) => problem.target(),
            };
            let problem = Countdown::new(problem.numbers(), target);
            if (1..=self.range.max_target).contains(&target) && !pool.is_held_out(&problem.text()) {
                let (_, others) = attempts.split_last_mut().expect("a drill has an attempt");
                for attempt in others.iter_mut().filter(|(_, attempt)| attempt.value == target) {
                    let mut again = (0..20).map(|_| self.attempt(problem.numbers(), rng));
                    // Some problems can hardly be missed.
                    if let Some(another) = again.find(|(_, other)| other.value != target) {
                        *attempt = another;
                    }
                }
                return (problem, attempts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::Response;
    use crate::config::BaseConfig;
    use crate::task::{Lesson, Question};
    use crate::tasks::{Behaviour, Habits, TaskConfig};
    use crate::tokenizer::{Tokenizer, token};

    fn pool(p_second_notation: f64) -> Pool {
        let habits = Habits { p_second_notation, ..BaseConfig::default().habits() };
        let task = CountdownTask::new(&TaskConfig::default(), habits).unwrap();
        Pool::new(Arc::new(task), &Tokenizer::new()).unwrap()
    }

    fn results(working: &str) -> Vec<bool> {
        Notation::Infix.results(working)
    }

    /// Draws `count` drills, long or not, and shows each with its parts.
    fn for_each_drill(long: bool, count: usize, mut look: impl FnMut(&Example, &Countdown, &Response)) {
        let pool = pool(0.0);
        let tokenizer = Tokenizer::new();
        let mut rng = Rng::new(8, "test", u64::from(long));
        for _ in 0..count {
            let drill = pool.lesson(if long { Lesson::LongDrill } else { Lesson::Drill }, &mut rng).unwrap();
            let open = drill.tokens.iter().position(|&id| id == token::THINK).unwrap();
            let problem = Countdown::parse(&tokenizer.decode(&drill.tokens[1..open])).unwrap();
            let response = Response::from_tokens(&tokenizer, &drill.tokens[open + 1..]);
            look(&drill, &problem, &response);
        }
    }

    /// The tokens that count, the others as dots.
    fn learned(example: &Example) -> String {
        let shown = example.tokens.iter().zip(&example.loss_mask);
        let tokenizer = Tokenizer::new();
        shown.map(|(&id, &counts)| if counts { tokenizer.decode(&[id]) } else { ".".into() }).collect()
    }

    #[test]
    fn no_drill_teaches_to_go_on_or_to_stop() {
        for long in [false, true] {
            let mut after_a_failure = 0;
            for_each_drill(long, 3000, |drill, _, _| {
                let pairs = drill.tokens.windows(2).zip(&drill.loss_mask[1..]);
                for (pair, &counts) in pairs {
                    if pair[0] == token::WRONG {
                        after_a_failure += 1;
                        assert!(!counts);
                    }
                    // Nor to begin at all, or to check.
                    let check = Tokenizer::new().encode("?").unwrap()[0];
                    assert!(!(counts && (pair[0] == token::THINK || pair[1] == check)));
                }
                // A hit is followed by the answer; that it is, is not taught either.
                let stop = drill.tokens.iter().position(|&id| id == token::END_THINK);
                assert!(stop.is_none_or(|at| !drill.loss_mask[at] && drill.tokens[at - 1] == token::RIGHT));
                assert_eq!(stop.is_some(), drill.tokens.contains(&token::RIGHT));
            });
            // The property was put to the test: three thousand short drills retry some thousands of times.
            assert!(after_a_failure > 3000, "{after_a_failure}");
        }
    }

    #[test]
    fn the_loss_is_on_results_and_verdicts() {
        let pool = pool(0.0);
        let drill = |lesson, rng: &mut Rng| pool.lesson(lesson, rng).unwrap();
        let tokenizer = Tokenizer::new();
        let pieces = |example: &Example| {
            let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
            let text = tokenizer.decode(&example.tokens[open + 1..]);
            let shown = learned(example).split_off(open + 1);
            (text, shown)
        };
        for step in 0..200 {
            let (text, shown) = pieces(&drill(Lesson::Drill, &mut Rng::new(1, "short", step)));
            let (text, answer) =
                text.split_once("</think>").map_or((&*text, None), |(thinking, answer)| (thinking, Some(answer)));
            assert!(answer.is_none_or(|answer| shown.ends_with(&format!(".{answer}"))), "{shown}");
            for (attempt, shown) in text.split_inclusive(['x', 'v']).zip(split_like(text, &shown)) {
                let (working, check) = attempt.split_once('?').unwrap();
                let expected: String = working.chars().zip(results(working)).map(|(c, on)| if on { c } else { '.' }).collect();
                assert_eq!(shown, format!("{expected}.{check}"));
            }
            let (text, shown) = pieces(&drill(Lesson::LongDrill, &mut Rng::new(1, "long", step)));
            let text = text.split("</think>").next().unwrap();
            let attempts: Vec<&str> = text.split_inclusive(['x', 'v']).collect();
            for (attempt, shown) in attempts[..attempts.len() - 1].iter().zip(split_like(text, &shown)) {
                let (working, check) = attempt.split_once('?').unwrap();
                assert_eq!(shown, format!(".{}.{check}", &working[1..]));
            }
        }
    }

    /// Cuts `shown` where `text` has its verdicts.
    fn split_like<'a>(text: &str, shown: &'a str) -> Vec<&'a str> {
        let mut rest = shown;
        let cut = |attempt: &str| {
            let (piece, after) = rest.split_at(attempt.len());
            rest = after;
            piece
        };
        text.split_inclusive(['x', 'v']).map(cut).collect()
    }

    #[test]
    fn drills_tell_the_truth_and_half_of_them_hit() {
        for (long, fewest, most) in [(false, 1, 4), (true, 8, 33)] {
            let count = 4000;
            let (mut hits, mut lengths) = (0.0, 0);
            for_each_drill(long, count, |drill, problem, response| {
                let behaviour = Behaviour::of(problem.target(), response);
                assert_eq!(behaviour.steps, behaviour.right_steps);
                assert_eq!(behaviour.steps, 3 * behaviour.attempts);
                assert_eq!(behaviour.verdicts.right(), behaviour.attempts);
                assert!((fewest..=most).contains(&behaviour.attempts));
                assert!(behaviour.verdicts.accepted_right <= 1);
                let right = response.answer().map(|answer| problem.is_right(answer));
                assert_eq!(right, (behaviour.verdicts.accepted_right == 1).then_some(true));
                hits += behaviour.verdicts.accepted_right as f64 / count as f64;
                lengths = lengths.max(drill.tokens.len());
            });
            // Half are made to hit, and of the others a few do by chance.
            assert!((0.5..0.6).contains(&hits), "{hits}");
            assert!(if long { lengths > 580 } else { lengths < 160 }, "{lengths}");
        }
    }

    #[test]
    fn drills_are_written_in_both_notations() {
        let pool = pool(0.3);
        let mut rng = Rng::new(2, "test", 0);
        let mut counts = Behaviour::default();
        for _ in 0..1000 {
            let drill = pool.lesson(Lesson::Drill, &mut rng).unwrap();
            let open = drill.tokens.iter().position(|&id| id == token::THINK).unwrap();
            let tokenizer = Tokenizer::new();
            let problem = Countdown::parse(&tokenizer.decode(&drill.tokens[1..open])).unwrap();
            let behaviour = Behaviour::of(problem.target(), &Response::from_tokens(&tokenizer, &drill.tokens[open + 1..]));
            assert_eq!((behaviour.steps, behaviour.verdicts.right()), (behaviour.right_steps, behaviour.attempts));
            counts += behaviour;
        }
        let (all, second) = (counts.steps as f64 / 3.0, counts.notations[1] as f64 / 3.0);
        // Attempts are of one notation each: four standard errors of their share.
        assert!((second / all - 0.3).abs() < 4.0 * (0.21 / all).sqrt(), "{second} of {all}");
    }
}
