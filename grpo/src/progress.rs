//! What a run says while it goes: a bar on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::chart::Unit;
use crate::console::say;
use crate::metrics::{Answer, Stage, StepMetrics};

/// Plain lines come at most this often.
const EVERY: Duration = Duration::from_secs(5);
/// Time left is judged by so many of the last steps, for a longer length limit makes them slower.
const WINDOW: usize = 12;
/// Columns that a sample answer may take.
const WIDTH: usize = 100;

/// The progress of one stage, on standard error.
#[derive(Debug)]
pub struct StageProgress {
    stage: Stage,
    total: usize,
    done: usize,
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    recent: VecDeque<f64>,
}

impl StageProgress {
    /// Begins a stage of `total` steps of which `done` were made before (0, unless a run is resumed).
    pub fn new(stage: Stage, total: usize, done: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix:>8.bold} {bar:24.cyan/dim} {pos}/{len}  {msg}";
            let style = ProgressStyle::with_template(style).expect("a valid template").progress_chars("━━─");
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_prefix(stage.to_string());
            bar.set_position(done as u64);
            bar
        });
        Self { stage, total, done, bar, last_line: None, recent: VecDeque::new() }
    }

    /// Shows a step that has just been made.
    pub fn step(&mut self, step: &StepMetrics) {
        self.recent.push_back(step.seconds);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let a_step = self.recent.iter().sum::<f64>() / self.recent.len() as f64;
        let left = a_step * self.total.saturating_sub(step.step) as f64;
        self.done = step.step;
        self.show(format!("{}  {} left", describe(step), duration(left)), self.done == self.total);
    }

    /// Shows what is being done between two steps.
    pub fn status(&mut self, words: String) {
        self.show(words, false);
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

/// The values of a step that say how it goes.
fn describe(s: &StepMetrics) -> String {
    let mut words = Vec::new();
    match s.stage {
        Stage::Base => words.push(format!("loss {:.3}", s.loss)),
        Stage::R1Zero => {
            if let Some(v) = s.reward {
                words.push(format!("reward {v:.2}"));
            }
            if let Some(v) = s.accuracy {
                words.push(format!("right {}", Unit::Share.format(v)));
            }
            if let Some(v) = s.completion_length {
                words.push(format!("length {v:.0}"));
            }
            if let Some(v) = s.behaviour.failed_checks {
                words.push(format!("failed checks {v:.1}"));
            }
            if s.frac_reward_zero_std == Some(1.0) {
                words.push("each question's answers all got the same reward: nothing to learn from".into());
            }
        }
    }
    words.push(format!("{:.0} tokens/s", s.tokens_per_second));
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

    #[test]
    fn a_step_in_a_line() {
        let mut s = StepMetrics::new(Stage::R1Zero, 3);
        (s.reward, s.accuracy, s.completion_length) = (Some(0.5), Some(0.481), Some(83.4));
        s.tokens_per_second = 8123.4;
        assert_eq!(describe(&s), "reward 0.50  right 48.1\u{202f}%  length 83  8123 tokens/s");
        (s.reward, s.frac_reward_zero_std) = (Some(0.0), Some(1.0));
        assert!(describe(&s).contains("all got the same reward"), "{}", describe(&s));
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
