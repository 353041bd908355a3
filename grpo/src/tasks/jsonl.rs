//! Problems from JSON lines with `question`, `answer` and `metadata`, as reasoning-gym and GSM8K have them: a template makes the
//! prompt, a verifier, called by its name, says what is right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::example::Example;
use crate::jsonl::{self, DataError, Row, brief};
use crate::rng::Rng;
use crate::task::{LONGEST_PROMPT, Lesson, Pool, Problem, Question, Task};
use crate::tokenizer::{CHARACTERS, Tokenizer};
use crate::verify::{Expression, Rational, Uses, check_expression, parse_number};

/// What stands before the final answer in GSM8K's solutions.
const FINAL: &str = "####";

/// `[[jsonl]]`: a task from files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// Its name, for `tasks`, metrics and report.
    pub name: String,
    /// Problems to train on.
    pub train: PathBuf,
    /// Problems that nobody trains on.
    pub test: PathBuf,
    /// What makes an answer right.
    pub verifier: Verifier,
    /// The prompt, in which `{question}`, `{answer}`, `{working}` (an answer's text before `####`) and the keys of the metadata, such
    /// as `{numbers}`, stand for their values.
    #[serde(default = "question")]
    pub prompt: String,
    /// What an example to imitate has between its thinking tags, as `prompt`.
    #[serde(default)]
    pub thinking: String,
    /// How a `countdown` verifier lets numbers be used.
    #[serde(default)]
    pub uses: Uses,
    /// The characters that the tokenizer needs beside its own; without this key those of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<String>,
}

fn question() -> String {
    "{question}".into()
}

/// What makes an answer right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// It is the same number as the row's answer: `1,234.50`, `1234.5`, `2469/2`.
    Numeric,
    /// It is an expression of the value that the row's answer has.
    Expression,
    /// It is the row's answer, but for spaces around it.
    Exact,
    /// It is an expression that makes `metadata.target` from `metadata.numbers`.
    Countdown,
}

/// What an answer is held against.
#[derive(Clone, Debug)]
enum Truth {
    Number(Rational),
    Value(Rational),
    Text(String),
    Target(Vec<i64>, i64, Uses),
}

/// A problem of a file.
#[derive(Clone, Debug)]
struct Written {
    text: String,
    thinking: String,
    answer: String,
    truth: Truth,
}

impl Question for Written {
    fn text(&self) -> String {
        self.text.clone()
    }

    fn is_right(&self, answer: &str) -> bool {
        match &self.truth {
            Truth::Number(truth) => parse_number(answer) == Ok(*truth),
            Truth::Value(truth) => Expression::parse(answer).is_ok_and(|expression| expression.value == *truth),
            Truth::Text(truth) => answer.trim() == truth,
            Truth::Target(numbers, target, uses) => check_expression(answer, numbers, *target, *uses).is_ok(),
        }
    }

    fn right_answer(&self) -> Option<String> {
        (!matches!(self.truth, Truth::Target(..))).then(|| self.answer.clone())
    }

    fn vote(&self, answer: &str) -> Option<String> {
        match self.truth {
            Truth::Number(_) => Some(parse_number(answer).ok()?.to_string()),
            Truth::Value(_) => Some(Expression::parse(answer).ok()?.value.to_string()),
            Truth::Text(_) | Truth::Target(..) => Some(answer.trim().to_owned()),
        }
    }
}

/// A task whose problems were read from files.
#[derive(Clone, Debug)]
pub struct JsonlTask {
    config: JsonlConfig,
    alphabet: String,
    train: Vec<Written>,
    test: Vec<Written>,
}

impl JsonlTask {
    /// The task of two files, given by their contents; the configuration's paths are for messages.
    ///
    /// # Errors
    /// The first line that is no problem, by its number: not JSON, without what the template or the verifier asks for, or with a
    /// character that the tokenizer would not have.
    pub fn new(config: &JsonlConfig, train: &[u8], test: &[u8]) -> Result<JsonlTask, DataError> {
        let read = |text: &[u8], path: &Path, tokenizer: Option<&Tokenizer>| {
            jsonl::read(text, path, |row| {
                let problem = config.problem(row)?;
                tokenizer.map_or(Ok(()), |tokenizer| problem.check(tokenizer))?;
                Ok(problem)
            })
        };
        let alphabet = match &config.alphabet {
            Some(alphabet) => alphabet.clone(),
            None => characters(&[read(train, &config.train, None)?, read(test, &config.test, None)?].concat()),
        };
        let tokenizer = Tokenizer::with(&alphabet);
        let train = read(train, &config.train, Some(&tokenizer))?;
        let test = read(test, &config.test, Some(&tokenizer))?;
        Ok(JsonlTask { config: config.clone(), alphabet, train, test })
    }
}

/// The characters of some problems that no tokenizer has by itself, sorted.
fn characters(problems: &[Written]) -> String {
    let all = problems.iter().flat_map(|p| [&p.text, &p.thinking, &p.answer]).flat_map(|text| text.chars());
    let new: BTreeSet<char> = all.filter(|&c| !CHARACTERS.contains(c)).collect();
    new.into_iter().collect()
}

impl JsonlConfig {
    fn problem(&self, row: &Row) -> Result<Written, String> {
        let (working, answer) = row.answer.rsplit_once(FINAL).unwrap_or(("", &row.answer));
        let (working, answer) = (working.trim(), answer.trim());
        let fill = |template: &str| filled(template, row, working, answer);
        let expected = |what: &str| format!("answer: expected {what}, found {}", brief(&Value::from(answer)));
        let truth = match self.verifier {
            Verifier::Numeric => Truth::Number(parse_number(answer).map_err(|_| expected("a number"))?),
            Verifier::Expression => Truth::Value(Expression::parse(answer).map_err(|_| expected("an expression"))?.value),
            Verifier::Exact if answer.is_empty() => return Err(expected("a text")),
            Verifier::Exact => Truth::Text(answer.to_owned()),
            Verifier::Countdown => {
                let integer = |value: &Value| value.as_i64();
                let numbers = row.metadata("numbers").as_array().and_then(|list| list.iter().map(integer).collect());
                let (numbers, target) = (numbers, integer(row.metadata("target")));
                let Some((numbers, target)) = numbers.zip(target) else {
                    return Err("metadata: expected `numbers`, a list of integers, and `target`, an integer".into());
                };
                Truth::Target(numbers, target, self.uses)
            }
        };
        Ok(Written { text: fill(&self.prompt)?, thinking: fill(&self.thinking)?, answer: answer.to_owned(), truth })
    }
}

/// A template with values in the place of `{names}`.
fn filled(template: &str, row: &Row, working: &str, answer: &str) -> Result<String, String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        text += before;
        text += &match name {
            "question" => row.question.trim().to_owned(),
            "answer" => answer.to_owned(),
            "working" => working.to_owned(),
            key => shown(row.metadata(key)).ok_or_else(|| format!("metadata.{key}: expected a value, found nothing"))?,
        };
        rest = after;
    }
    Ok(text + rest)
}

/// A value as a prompt has it: a list with commas between.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => Some(list.iter().map(shown).collect::<Option<Vec<_>>>()?.join(",")),
        other => Some(other.to_string()),
    }
}

impl Written {
    /// Refuses what the tokenizer cannot write, and what it would read as a tag of its own.
    fn check(&self, tokenizer: &Tokenizer) -> Result<(), String> {
        for (name, text) in [("prompt", &self.text), ("thinking", &self.thinking), ("answer", &self.answer)] {
            let ids = tokenizer.encode(text).map_err(|error| format!("{name}: {error}"))?;
            if ids.len() != text.chars().count() {
                return Err(format!(
                    "{name}: it holds a tag, which only the template may: {}",
                    brief(&Value::from(text.as_str()))
                ));
            }
        }
        Ok(())
    }
}

impl Task for JsonlTask {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn alphabet(&self) -> String {
        self.alphabet.clone()
    }

    fn longest_prompt(&self) -> usize {
        let tokens = |problem: &Written| problem.text.chars().count() + 2;
        self.train.iter().chain(&self.test).map(tokens).max().unwrap_or(0).max(LONGEST_PROMPT)
    }

    fn draw(&self, rng: &mut Rng) -> Problem {
        self.train[rng.below(self.train.len())].clone().into()
    }

    fn held_out(&self) -> Vec<Problem> {
        let mut seen = BTreeSet::new();
        self.test.iter().filter(|p| seen.insert(&p.text)).cloned().map(Problem::from).collect()
    }

    fn parse(&self, text: &str) -> Result<Problem, String> {
        let known = self.train.iter().chain(&self.test).find(|problem| problem.text == text);
        known.cloned().map(Problem::from).ok_or_else(|| format!("expected a problem of the files, found {text:?}"))
    }

    fn read(&self, row: &Row) -> Result<Problem, String> {
        let problem = self.config.problem(row)?;
        problem.check(&Tokenizer::with(&self.alphabet))?;
        Ok(problem.into())
    }

    /// A row of the training file, its answer after its thinking.
    fn lesson(&self, lesson: Lesson, pool: &Pool, rng: &mut Rng) -> Option<Example> {
        if !matches!(lesson, Lesson::Trace | Lesson::Curated) {
            return None;
        }
        let problem = loop {
            let problem = &self.train[rng.below(self.train.len())];
            if !pool.is_held_out(&problem.text) {
                break problem;
            }
        };
        let mut example = pool.example(&problem.clone().into());
        let response = format!("{}</think><answer>{}</answer><eos>", problem.thinking, problem.answer);
        example.push(pool.tokenizer(), &response, |_| true);
        Some(example)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::task::TaskError;
    use crate::tokenizer::token;

    fn config(verifier: Verifier) -> JsonlConfig {
        toml::from_str::<JsonlConfig>("name = 'mine'\ntrain = 'TRAIN'\ntest = 'TEST'\nverifier = 'exact'")
            .map(|config| JsonlConfig { verifier, ..config })
            .unwrap()
    }

    fn task(config: &JsonlConfig, train: &str, test: &str) -> Result<JsonlTask, String> {
        JsonlTask::new(config, train.as_bytes(), test.as_bytes()).map_err(|e| e.to_string())
    }

    const SUM: &str = r#"{"question": "What is 3 and 4?", "answer": "3+4=7\n#### 7"}"#;
    const OTHER: &str = r#"{"question": "What is 3 and 5?", "answer": "8"}"#;

    #[test]
    fn verifiers_judge_by_their_name() {
        let right = |verifier, row: &str, answer: &str| {
            let task = task(&config(verifier), row, OTHER).unwrap();
            task.draw(&mut Rng::new(0, "test", 0)).is_right(answer)
        };
        let written = r#"{"question": "?", "answer": "1,234.50"}"#;
        for (answer, is_right) in [("1234.5", true), ("2469/2", true), (" $1,234.50 ", true), ("1234.51", false), ("", false)] {
            assert_eq!(right(Verifier::Numeric, written, answer), is_right, "{answer}");
        }
        for (answer, is_right) in [("7", true), ("3+4", true), ("14/2", true), ("3+5", false), ("seven", false)] {
            assert_eq!(right(Verifier::Expression, SUM, answer), is_right, "{answer}");
        }
        for (answer, is_right) in [("2b0", true), (" 2b0 ", true), ("2B0", false)] {
            assert_eq!(right(Verifier::Exact, r#"{"question": "?", "answer": "2b0"}"#, answer), is_right, "{answer}");
        }
        let made = r#"{"question": "?", "metadata": {"numbers": [2, 3, 7], "target": 5}}"#;
        for (answer, is_right) in [("7+3-2-3", false), ("3+2", false), ("7-2", false), ("7*2-3*3", false), ("7/(2-3)+12", false)]
        {
            let config = JsonlConfig { test: "T".into(), ..config(Verifier::Countdown) };
            let task = task(&config, made, made);
            assert_eq!(task.unwrap().draw(&mut Rng::new(0, "test", 0)).is_right(answer), is_right, "{answer}");
        }
        let loose = JsonlConfig { uses: Uses::AtMostOnce, ..config(Verifier::Countdown) };
        assert!(task(&loose, made, made).unwrap().draw(&mut Rng::new(0, "test", 0)).is_right("3+2"));
        assert!(task(&config(Verifier::Countdown), &made.replace("5}", "12}"), made).unwrap().train[0].is_right("7+3+2"));
    }

    #[test]
    fn a_template_makes_prompt_and_thinking() {
        let row = r#"{"question": "Sort: 3, 1", "answer": "1,3", "metadata": {"numbers": ["3", 1], "how": "up", "n": 2}}"#;
        let config = JsonlConfig {
            prompt: "{how} {numbers}/{n}".into(),
            thinking: "{answer}!{working}".into(),
            ..config(Verifier::Exact)
        };
        let made = task(&config, row, row).unwrap();
        assert_eq!((made.train[0].text.as_str(), made.train[0].thinking.as_str()), ("up 3,1/2", "1,3!"));
        assert_eq!(made.alphabet(), " !pu");
        let error = task(&JsonlConfig { prompt: "{which}".into(), ..config.clone() }, row, row).unwrap_err();
        assert_eq!(error, "TRAIN:1: metadata.which: expected a value, found nothing");
        let made = task(&JsonlConfig { thinking: "{working}".into(), ..self::config(Verifier::Numeric) }, SUM, OTHER).unwrap();
        assert_eq!((made.train[0].thinking.as_str(), made.train[0].answer.as_str()), ("3+4=7", "7"));
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_its_line() {
        let refused = |config: &JsonlConfig, train: &str, test: &str| task(config, train, test).unwrap_err();
        let exact = config(Verifier::Exact);
        let named = JsonlConfig { alphabet: Some("What isnd".into()), ..exact.clone() };
        let strange = r#"{"question": "Was ist größer?", "answer": "7"}"#;
        let said = "TEST:2: prompt: 'g' at position 8 is not in the vocabulary";
        assert_eq!(
            refused(&JsonlConfig { verifier: Verifier::Numeric, ..named.clone() }, SUM, &format!("{SUM}\n{strange}")),
            said
        );
        // Without the key both files are written.
        assert!(task(&exact, SUM, &format!("{SUM}\n{strange}")).unwrap().alphabet().contains('ö'));
        let named = JsonlConfig { alphabet: Some("What isd".into()), ..exact.clone() };
        assert_eq!(refused(&named, SUM, SUM), "TRAIN:1: prompt: 'n' at position 11 is not in the vocabulary");
        let tag = r#"{"question": "3<eos>", "answer": "7"}"#;
        assert!(refused(&exact, &format!("{SUM}\n{tag}"), SUM).starts_with("TRAIN:2: prompt: it holds a tag"));
        assert!(
            refused(&config(Verifier::Numeric), r#"{"question": "?", "answer": "x"}"#, SUM)
                .contains("TRAIN:1: answer: expected a number")
        );
        assert!(refused(&config(Verifier::Countdown), SUM, SUM).contains("TRAIN:1: metadata: expected `numbers`"));
    }

    #[test]
    fn lessons_and_draws_keep_away_from_the_test() {
        let train = format!("{SUM}\n{OTHER}");
        let made = task(&JsonlConfig { thinking: "{working}".into(), ..config(Verifier::Numeric) }, &train, OTHER).unwrap();
        let tokenizer = Tokenizer::with(&made.alphabet());
        let pool = Pool::new(Arc::new(made), &tokenizer).unwrap();
        let mut rng = Rng::new(0, "test", 0);
        for _ in 0..50 {
            assert_eq!(pool.problem(&mut rng).text(), "What is 3 and 4?");
            let example = pool.lesson(Lesson::Trace, &mut rng).unwrap();
            let text = tokenizer.decode(&example.tokens);
            assert_eq!(text, "<bos>What is 3 and 4?<think>3+4=7</think><answer>7</answer><eos>");
            let open = example.tokens.iter().position(|&id| id == token::THINK).unwrap();
            assert!(example.loss_mask.iter().enumerate().all(|(i, &counts)| counts == (i > open)));
        }
        assert_eq!(pool.lesson(Lesson::Drill, &mut rng), None);
        // A test that is all of the training file leaves nothing.
        let all = task(&config(Verifier::Numeric), SUM, SUM).unwrap();
        let tokenizer = Tokenizer::with(&all.alphabet());
        assert_eq!(Pool::new(Arc::new(all), &tokenizer).unwrap_err(), TaskError::NothingLeft);
    }
}
