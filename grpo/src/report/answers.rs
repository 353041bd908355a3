//! Answers side by side: an attempt a line, its check beside it, the verdict in words that need no colour.

use std::fmt::Write;

use crate::chart::escape;
use crate::metrics::Answer;

/// Attempts that are shown before the rest is folded.
const SHOWN: usize = 7;

/// What a reader sees of an answer's text.
#[derive(Debug, PartialEq)]
struct Parsed<'a> {
    attempts: Vec<Attempt<'a>>,
    /// Between `<answer>` and `</answer>`; none if the limit cut the text before.
    answer: Option<&'a str>,
}

/// One line of thinking.
#[derive(Debug, PartialEq)]
struct Attempt<'a> {
    /// `2+4=6+7=13`.
    working: &'a str,
    /// What it was compared with, and whether the verdict was "right"; none if the verdict is missing.
    check: Option<(&'a str, Option<bool>)>,
}

fn parse(text: &str) -> Parsed<'_> {
    let text = text.strip_prefix("<think>").unwrap_or(text);
    let (thinking, rest) = text.split_once("</think>").unwrap_or((text, ""));
    let answer = rest.split_once("<answer>").and_then(|(_, a)| a.split_once("</answer>")).map(|(a, _)| a);
    let mut attempts = Vec::new();
    let mut start = 0;
    for (i, c) in thinking.char_indices().filter(|(_, c)| matches!(c, 'x' | 'v')) {
        attempts.push(Attempt::new(&thinking[start..i], Some(c == 'v')));
        start = i + 1;
    }
    if start < thinking.len() {
        attempts.push(Attempt::new(&thinking[start..], None));
    }
    Parsed { attempts, answer }
}

impl<'a> Attempt<'a> {
    fn new(piece: &'a str, verdict: Option<bool>) -> Self {
        match piece.split_once('?') {
            Some((working, target)) => Self { working, check: Some((target, verdict)) },
            // A verdict without a question is shown as a check of nothing.
            None => Self { working: piece, check: verdict.map(|v| ("", Some(v))) },
        }
    }

    fn html(&self, out: &mut String) {
        let _ = write!(out, r#"<div class="attempt"><code>{}</code>"#, escape(self.working));
        if let Some((target, verdict)) = self.check {
            let (class, sign) = match verdict {
                Some(true) => ("ok", "✓"),
                Some(false) => ("no", "✗"),
                None => ("cut", "…"),
            };
            let _ = write!(out, r#"<span class="check {class}">{}? {sign}</span>"#, escape(target));
        }
        out.push_str("</div>");
    }
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
    let parsed = parse(&answer.text);
    let tokens = answer.tokens;
    let _ = write!(out, r#"<div class="side"><p class="who">{name} <span>{tokens} tokens</span></p>"#);
    let n = parsed.attempts.len();
    let head = if n > SHOWN { SHOWN - 3 } else { n };
    let tail = if n > SHOWN { n - 2 } else { n };
    parsed.attempts[..head].iter().for_each(|a| a.html(out));
    if tail > head {
        let _ = write!(out, "<details><summary>{} more attempts</summary>", tail - head);
        parsed.attempts[head..tail].iter().for_each(|a| a.html(out));
        out.push_str("</details>");
    }
    parsed.attempts[tail..].iter().for_each(|a| a.html(out));
    let (class, sign) = if answer.correct { ("ok", "✓ right") } else { ("no", "✗ wrong") };
    let _ = match parsed.answer {
        Some(a) => write!(out, r#"<p class="final {class}"><code>{}</code> <b>{sign}</b></p>"#, escape(a)),
        None => write!(out, r#"<p class="final {class}">no answer <b>{sign}</b></p>"#),
    };
    out.push_str("</div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_is_cut_at_its_verdicts() {
        let text = "1+6=7+6=13?12x6+6=12?12v</think><answer>6+6</answer><eos>";
        let attempt = |working, target, verdict| Attempt { working, check: Some((target, Some(verdict))) };
        let attempts = vec![attempt("1+6=7+6=13", "12", false), attempt("6+6=12", "12", true)];
        assert_eq!(parse(text), Parsed { attempts, answer: Some("6+6") });

        let cut = parse("1+2=3?4x2+");
        assert_eq!(cut.attempts[1], Attempt { working: "2+", check: None });
        assert_eq!(cut.answer, None);
        assert_eq!(parse("</think><answer></answer>"), Parsed { attempts: vec![], answer: Some("") });
    }

    #[test]
    fn whatever_a_policy_writes_stays_text() {
        let wild = Answer { question: "1,2:3".into(), text: "<b>x?v&</think>".into(), correct: false, tokens: 3 };
        let html = before_and_after(std::slice::from_ref(&wild), std::slice::from_ref(&wild));
        assert!(html.contains("&lt;b&gt;") && html.contains("1, 2 → 3") && html.contains("no answer"), "{html}");
        assert_eq!(html.matches("<b>").count(), 2, "only our own: {html}");
    }
}
