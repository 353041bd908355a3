//! Answers side by side: an attempt per line, its check beside it, the verdict in words that need no colour.

use std::fmt::Write;

use crate::chart::escape;
use crate::metrics::Answer;
use crate::response::Response;
use crate::tasks::behaviour::{Attempt, attempts};

/// Attempts that are shown before the rest is folded.
const SHOWN: usize = 7;

fn attempt(out: &mut String, Attempt { working, check, verdict }: Attempt<'_>) {
    let _ = write!(out, r#"<div class="attempt"><code>{}</code>"#, escape(working));
    // A verdict without a question is shown as a check of nothing.
    if check.is_some() || verdict.is_some() {
        let (class, sign) = match verdict {
            Some(true) => ("ok", "✓"),
            Some(false) => ("no", "✗"),
            None => ("cut", "…"),
        };
        let _ = write!(out, r#"<span class="check {class}">{}? {sign}</span>"#, escape(check.unwrap_or_default()));
    }
    out.push_str("</div>");
}

/// The question as a reader writes it: `3,8,7,2:20` becomes `3, 8, 7, 2 → 20`.
pub fn question(text: &str) -> String {
    escape(text).replace(',', ", ").replace(':', " → ")
}

/// The same questions answered before and after, in two columns.
pub fn before_and_after(before: &[Answer], after: &[Answer]) -> String {
    let mut out = String::new();
    for b in before {
        let Some(a) = after.iter().find(|a| a.question == b.question) else { continue };
        let _ = write!(out, r#"<article class="pair"><h3>{}</h3><div class="sides">"#, question(&b.question));
        for (name, answer) in [("base model", b), ("after RL", a)] {
            side(&mut out, name, answer);
        }
        out.push_str("</div></article>");
    }
    out
}

fn side(out: &mut String, name: &str, answer: &Answer) {
    let tokens = answer.tokens;
    let response = Response::from_text(&*answer.text, tokens);
    let attempts: Vec<Attempt<'_>> = attempts(response.think()).collect();
    let _ = write!(out, r#"<div class="side"><p class="who">{name} <span>{tokens} tokens</span></p>"#);
    let n = attempts.len();
    let head = if n > SHOWN { SHOWN - 3 } else { n };
    let tail = if n > SHOWN { n - 2 } else { n };
    attempts[..head].iter().for_each(|&a| attempt(out, a));
    if tail > head {
        let _ = write!(out, "<details><summary>{} more attempts</summary>", tail - head);
        attempts[head..tail].iter().for_each(|&a| attempt(out, a));
        out.push_str("</details>");
    }
    attempts[tail..].iter().for_each(|&a| attempt(out, a));
    let (class, sign) = if answer.correct { ("ok", "✓ right") } else { ("no", "✗ wrong") };
    let _ = match response.answer() {
        Some(a) => write!(out, r#"<p class="final {class}"><code>{}</code> <b>{sign}</b></p>"#, escape(a)),
        None => write!(out, r#"<p class="final {class}">no answer <b>{sign}</b></p>"#),
    };
    out.push_str("</div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_attempt() {
        let text = "1+6=7?12x6+6=12?12v1+".to_owned();
        let html = before_and_after(
            &[Answer {
                question: "1,6:12".into(),
                text: text.clone() + "</think><answer>6+6</answer><eos>",
                correct: true,
                tokens: 9,
            }],
            &[Answer { question: "1,6:12".into(), text, correct: false, tokens: 8 }],
        );
        for (part, times) in [
            (r#"<code>1+6=7</code><span class="check no">12? ✗</span>"#, 2),
            (r#"<code>6+6=12</code><span class="check ok">12? ✓</span>"#, 2),
            ("<code>1+</code></div>", 2),
            (r#"<code>6+6</code> <b>✓ right</b>"#, 1),
            ("no answer <b>✗ wrong</b>", 1),
        ] {
            assert_eq!(html.matches(part).count(), times, "{part} in {html}");
        }
    }

    #[test]
    fn whatever_a_policy_writes_stays_text() {
        let wild = Answer { question: "1,2:3".into(), text: "<b>x?v&</think>".into(), correct: false, tokens: 3 };
        let html = before_and_after(std::slice::from_ref(&wild), std::slice::from_ref(&wild));
        assert!(html.contains("&lt;b&gt;") && html.contains("1, 2 → 3") && html.contains("no answer"), "{html}");
        assert_eq!(html.matches("<b>").count(), 2, "only our own: {html}");
    }
}
