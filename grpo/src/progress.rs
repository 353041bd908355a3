//! What a run says while it goes: a bar on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::chart::Unit;
use crate::console::say;
use crate::metrics::{Answer, StepMetrics};

/// Plain lines come at most this often.
const EVERY: Duration = Duration::from_secs(5);
/// Time left is judged by so many of the last steps, for a longer length limit makes them slower.
const WINDOW: usize = 12;
/// Columns that a sample answer may take.
const WIDTH: usize = 100;

/// The progress of one stage, on standard error.
#[derive(Debug)]
pub struct StageProgress {
    stage: String,
    total: usize,
    done: usize,
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    recent: VecDeque<f64>,
}

impl StageProgress {
    /// Begins a stage of `total` steps of which `done` were made before (0, unless a run is resumed).
    pub fn new(stage: &str, total: usize, done: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix:>8.bold} {bar:24.cyan/dim} {pos}/{len}  {msg}";
            let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━━─");
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_prefix(stage.to_owned());
            bar.set_position(done as u64);
            bar
        });
        Self { stage: stage.to_owned(), total, done, bar, last_line: None, recent: VecDeque::new() }
    }

    /// Shows a step that has just been made.
    pub fn step(&mut self, step: &StepMetrics) {
        self.recent.push_back(step.get("seconds").unwrap_or(0.0));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let a_step = self.recent.iter().sum::<f64>() / self.recent.len() as f64;
        let left = a_step * self.total.saturating_sub(step.step) as f64;
        self.done = step.step;
        self.show(format!("{}  {} left", describe(step), duration(left)), self.done == self.total);
    }

    /// Shows what is being done between two steps; what is done `first` in any case.
    pub fn status(&mut self, words: String, first: bool) {
        self.show(words, first);
    }

    /// `now`: a plain line, even if the last one was just written.
    fn show(&mut self, words: String, now: bool) {
        if let Some(bar) = &self.bar {
            bar.set_message(words);
            bar.set_position(self.done as u64);
        } else if now || self.last_line.is_none_or(|t| t.elapsed() >= EVERY) {
            say(format_args!("{} {}/{}  {words}", self.stage, self.done, self.total));
            self.last_line = Some(Instant::now());
        }
    }

    /// Says a line above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// Shows an answer above the bar; a long one loses its middle.
    pub fn sample(&self, answer: &Answer) {
        let sign = if answer.correct { "✓" } else { "✗" };
        let text = answer.text.trim_end_matches("<eos>");
        let question = &answer.question;
        self.say(&format!("  {sign} {question}  {}", shortened(text, WIDTH.saturating_sub(question.chars().count()))));
    }

    /// Ends the stage; the bar stays on the screen.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.abandon();
        }
    }
}

/// How a value is shown.
type Show = fn(f64) -> String;

/// The values of a step that say how it goes, if it has them: their names, and how they are shown.
const SHOWN: [(&str, Show); 8] = [
    ("reward", |v| format!("reward {v:.2}")),
    ("accuracy", |v| format!("right {}", Unit::Share.format(v))),
    ("consistency", |v| format!("consistent {}", Unit::Share.format(v))),
    ("pairs_right", |v| format!("pairs right {}", Unit::Share.format(v))),
    ("kept", |v| format!("kept {v:.0}")),
    ("completion_length", |v| format!("length {v:.0}")),
    ("failed_checks", |v| format!("failed checks {v:.1}")),
    ("tokens_per_second", |v| format!("{v:.0} tokens/s")),
];

fn describe(s: &StepMetrics) -> String {
    let mut words = Vec::new();
    // Of reinforcement it says nothing.
    if let (Some(loss), None) = (s.get("loss"), s.get("reward")) {
        words.push(format!("loss {loss:.3}"));
    }
    words.extend(SHOWN.iter().filter_map(|(name, show)| s.get(name).map(show)));
    if s.get("frac_reward_zero_std") == Some(1.0) {
        words.insert(words.len() - 1, "each question's answers all got the same reward: nothing to learn from".into());
    }
    words.join("  ")
}

fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02} h", s / 3600, s / 60 % 60),
    }
}

fn shortened(text: &str, most: usize) -> String {
    let n = text.chars().count();
    if n <= most {
        return text.into();
    }
    let half = most.saturating_sub(3) / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(n - half).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Values;

    #[test]
    fn a_step_in_a_line() {
        let of = |values: Values| describe(&StepMetrics { stage: "r1_zero".into(), step: 3, values });
        let speed = ("tokens_per_second", 8123.4);
        let values = Values::new().with("loss", 0.01).with("reward", 0.5).with("accuracy", 0.481).with("completion_length", 83.4);
        assert_eq!(of(values.with(speed.0, speed.1)), "reward 0.50  right 48.1\u{202f}%  length 83  8123 tokens/s");
        let values = Values::new().with("reward", 0.0).with("frac_reward_zero_std", 1.0).with(speed.0, speed.1);
        assert_eq!(of(values).split("  ").nth(1), Some("each question's answers all got the same reward: nothing to learn from"));
        assert_eq!(of(Values::new().with("loss", 0.25).with(speed.0, speed.1)), "loss 0.250  8123 tokens/s");
        assert_eq!([9.6, 75.0, 3700.0].map(duration), ["10 s", "1:15", "1:01 h"]);
    }

    #[test]
    fn a_long_answer_keeps_its_ends() {
        let text = "1+2=3?4x".repeat(40);
        let short = shortened(&text, 40);
        assert!(short.chars().count() <= 40 && short.starts_with("1+2=3") && short.ends_with("?4x"), "{short}");
        assert_eq!(shortened("ab", 40), "ab");
    }
}
