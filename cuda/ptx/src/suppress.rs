//! Hazards that a user knows and does not want to hear of: a JSON file that names them by kernel, kind and line.
//!
//! ```json
//! [
//!   {"kernel": "histogram*", "kind": "global_race", "why": "counts may be off by a few"},
//!   {"line": "reduce.cuh:120"},
//!   {"kernel": "fill", "kind": "uninitialized_read", "line": 57}
//! ]
//! ```
//!
//! A hazard is suppressed by the first rule of which every key fits: `kernel` is the kernel's name as the PTX has it, with `*` for any
//! text; `kind` the word that reports have; `line` a line of the PTX by its number, or a line of the source as `FILE:LINE`, where
//! FILE is the end of the path that `.loc` gives. `why` is for readers. A fault (a trap, a deadlock) is never suppressed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::hazard::{Hazard, HazardKind};

/// Why a file of suppressions is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SuppressError {
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a list of rules.
    #[error("{}: {message}", file.display())]
    Rule {
        /// The file.
        file: PathBuf,
        /// What was expected, and where.
        message: String,
    },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    kernel: Option<String>,
    kind: Option<HazardKind>,
    line: Option<Line>,
    why: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a line is a number of the PTX or \"FILE:LINE\" of the source")]
enum Line {
    Ptx(u32),
    Source(String),
}

impl Rule {
    fn fits(&self, hazard: &Hazard) -> bool {
        let line = |line: &Line| match line {
            Line::Ptx(n) => hazard.at.ptx_line == *n,
            Line::Source(place) => hazard.at.source.as_ref().is_some_and(|s| {
                let whole = format!("{}:{}", s.file, s.line);
                whole.strip_suffix(place.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', '\\']))
            }),
        };
        self.kernel.as_ref().is_none_or(|pattern| matches(pattern, &hazard.kernel))
            && self.kind.is_none_or(|kind| kind == hazard.kind)
            && self.line.as_ref().is_none_or(line)
    }

    fn describe(&self) -> String {
        let line = self.line.as_ref().map(|line| match line {
            Line::Ptx(n) => format!("PTX line {n}"),
            Line::Source(place) => place.clone(),
        });
        let kind = self.kind.map(|kind| kind.what().to_string());
        let parts: Vec<String> = [self.kernel.clone(), kind, line].into_iter().flatten().collect();
        match &self.why {
            Some(why) => format!("{} ({why})", parts.join(", ")),
            None => parts.join(", "),
        }
    }
}

/// Whether `name` is `pattern` with some text for each `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The rules of a file, and how often each was of use.
#[derive(Clone, Debug, Default)]
pub struct Suppressions {
    rules: Vec<(Rule, u64)>,
}

impl Suppressions {
    /// Reads a file of rules.
    pub fn read(file: &Path) -> Result<Suppressions, SuppressError> {
        let text = std::fs::read_to_string(file).map_err(|source| SuppressError::Io { file: file.to_path_buf(), source })?;
        Self::parse(&text).map_err(|message| SuppressError::Rule { file: file.to_path_buf(), message })
    }

    fn parse(text: &str) -> Result<Suppressions, String> {
        let rules: Vec<Rule> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if let Some(i) = rules.iter().position(|r| r.kernel.is_none() && r.kind.is_none() && r.line.is_none()) {
            return Err(format!("rule {i} would suppress everything; it needs a \"kernel\", a \"kind\" or a \"line\""));
        }
        Ok(Suppressions { rules: rules.into_iter().map(|rule| (rule, 0)).collect() })
    }

    /// Whether a rule suppresses this hazard, which is then counted.
    pub fn take(&mut self, hazard: &Hazard) -> bool {
        match self.rules.iter_mut().find(|(rule, _)| rule.fits(hazard)) {
            Some((_, used)) => {
                *used += 1;
                true
            }
            None => false,
        }
    }

    /// Hazards suppressed so far.
    pub fn suppressed(&self) -> u64 {
        self.rules.iter().map(|(_, used)| used).sum()
    }

    /// The rules that suppressed nothing, in words.
    pub fn unused(&self) -> Vec<String> {
        self.rules.iter().filter(|(_, used)| *used == 0).map(|(rule, _)| rule.describe()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazard::{Level, Place, SourceLine};

    fn hazard(kernel: &str, kind: HazardKind, ptx_line: u32, source: Option<(&str, u32)>) -> Hazard {
        let source = source.map(|(file, line)| SourceLine { file: file.into(), line });
        let at = Place { ptx_line, source, thread: [0; 3], cta: [0; 3] };
        let (message, kernel) = (String::new(), kernel.to_string());
        Hazard { kind, level: Level::Error, kernel, message, at, other: None, address: None, count: 1 }
    }

    #[test]
    fn a_rule_fits_where_every_key_does() {
        let mut rules = Suppressions::parse(
            r#"[{"kernel": "_Z*hist*", "kind": "global_race", "why": "counts"}, {"line": 57}, {"line": "dir/a.cu:5"},
                {"kernel": "never", "kind": "deadlock", "line": 3, "why": "gone"}]"#,
        )
        .unwrap();
        let race = HazardKind::GlobalRace;
        assert!(rules.take(&hazard("_Z4histPi", race, 1, None)));
        assert!(
            !rules.take(&hazard("_Z4histPi", HazardKind::SharedRace, 1, None)) && !rules.take(&hazard("hist", race, 1, None))
        );
        assert!(rules.take(&hazard("k", race, 57, None)) && !rules.take(&hazard("k", race, 58, None)));
        assert!(rules.take(&hazard("k", race, 1, Some(("/home/dir/a.cu", 5)))));
        assert!(!rules.take(&hazard("k", race, 1, Some(("/home/mydir/a.cu", 5)))));
        assert!(!rules.take(&hazard("k", race, 1, Some(("dir/a.cu", 55)))));
        assert_eq!((rules.suppressed(), rules.unused()), (3, vec!["never, deadlock, PTX line 3 (gone)".to_string()]));
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("k", "k", true),
            ("k", "kk", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*b*c", "a1b2bc", true),
            ("a*b*c", "acb", false),
            ("*b", "ab", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (text, says) in [
            (r#"{"kernel": "k"}"#, "expected a sequence"),
            (r#"[{"why": "all"}]"#, "rule 0 would suppress everything"),
            (r#"[{"kind": "racy"}]"#, "unknown variant `racy`"),
            (r#"[{"file": "k"}]"#, "unknown field `file`"),
            (r#"[{"line": true}]"#, "a line is a number of the PTX"),
        ] {
            let message = Suppressions::parse(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }
}
