//! A user's own problems: JSON lines with `question`, `answer` and `metadata`, as reasoning-gym and GSM8K have them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::file_error::{FileError, cannot};

/// Why a file of problems was not read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line that is not what it should be.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected there and what was found.
        message: String,
    },
    /// A file without problems.
    #[error("{}: no problems in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// One line of a file. Other fields than this are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Row {
    /// What is asked, in words.
    pub question: String,
    /// An answer.
    pub answer: String,
    /// Whatever the generator wrote down.
    pub metadata: Map<String, Value>,
}

impl Row {
    /// A value of the metadata; null where there is none.
    pub fn metadata(&self, key: &str) -> &Value {
        self.metadata.get(key).unwrap_or(&Value::Null)
    }
}

/// The text of a file.
///
/// # Errors
/// [`DataError::File`]
pub fn load(path: &Path) -> Result<Vec<u8>, DataError> {
    Ok(fs::read(path).map_err(cannot("read", path))?)
}

/// Reads the text of a file line by line; `problem` makes a problem of each row or says what is wrong with it. Blank lines are
/// skipped. `path` is where the text comes from, for messages.
///
/// # Errors
/// [`DataError`]: the first line that is not UTF-8, not a JSON object, or that `problem` refuses, by its number.
pub fn read<T>(text: &[u8], path: &Path, problem: impl Fn(&Row) -> Result<T, String>) -> Result<Vec<T>, DataError> {
    let refused = |line, message| DataError::Line { path: path.into(), line, message };
    let text = nn::text::unmarked(text).map_err(|error| refused(1, error.to_string()))?;
    let mut problems = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let refused = |message| refused(index + 1, message);
        let line = std::str::from_utf8(line).map_err(|error| refused(format!("expected UTF-8: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(line).map_err(|error| {
            // serde_json counts lines within the text it is given, which is one line; only the column means something.
            let error = error.to_string();
            let error = error.replace(" at line 1 column ", " at column ");
            refused(format!("expected a JSON object with metadata: {error}"))
        })?;
        problems.push(problem(&row).map_err(refused)?);
    }
    if problems.is_empty() {
        return Err(DataError::Empty { path: path.into() });
    }
    Ok(problems)
}

/// A value in an error message: all of a short one, the start of a long one.
pub(crate) fn brief(value: &Value) -> String {
    let text = if value.is_null() { "nothing".to_string() } else { value.to_string() };
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;
    use crate::config::BaseConfig;
    use crate::task::{Problem, Task};
    use crate::tasks::{self, Countdown, TaskConfig};
    use proptest::prelude::{any, prop, prop_assert, proptest};

    /// The error of a read without more.
    fn in_words<T>(result: Result<T, DataError>) -> Result<T, String> {
        result.map_err(|error| error.to_string())
    }

    /// Made once: listing the distinct problems takes most of a test's time.
    static TASK: LazyLock<Arc<dyn Task>> =
        LazyLock::new(|| tasks::built_in("countdown", &TaskConfig::default(), &BaseConfig::default().habits()).unwrap().unwrap());

    fn read_countdown(text: &[u8]) -> Result<Vec<Problem>, DataError> {
        read(text, Path::new("FILE"), |row| TASK.read(row))
    }

    fn countdown(content: &str) -> Result<Vec<Problem>, String> {
        in_words(read_countdown(content.as_bytes()))
    }

    const GOOD: &str = r#"{"question": "Using all the numbers 3, 8, 7, 2, create an expression that equals 20.", "answer": "8 + 2 + 7 + 3", "metadata": {"source_index": 0, "numbers": [3, 8, 7, 2], "target": 20, "difficulty": {"value": [1, 10]}}}"#;

    #[test]
    fn reads_countdown_rows() {
        let problems = countdown(&format!("{GOOD}\r\n\n{GOOD}\n")).unwrap();
        assert_eq!(problems, [Countdown::new([2, 3, 7, 8], 20), Countdown::new([2, 3, 7, 8], 20)].map(Problem::from));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = |line: &str| countdown(&format!("{GOOD}\n{line}\n")).unwrap_err();
        for (line, expected) in [
            (r#"{"metadata": {"numbers": [3, 8, 7, 2], "target": 250}}"#, "FILE:2: expected a target of 1 to 99, found 250"),
            (r#"{"metadata": {"numbers": [3, 8, 7, 25], "target": 20}}"#, "FILE:2: expected numbers of 1 to 10, found 25"),
            (r#"{"metadata": {"numbers": [3, 8, 7], "target": 18}}"#, "FILE:2: expected 4 numbers, found 3"),
            (
                r#"{"metadata": {"numbers": [3, 8, 7, 2.5], "target": 18}}"#,
                "FILE:2: metadata.numbers: expected an integer, found 2.5",
            ),
            (
                r#"{"metadata": {"numbers": "3 8", "target": 18}}"#,
                "FILE:2: metadata.numbers: expected a list of integers, found \"3 8\"",
            ),
            (r#"{"metadata": {"numbers": [3, 8, 7, 2]}}"#, "FILE:2: metadata.target: expected an integer, found nothing"),
            (r#"{"question": "?", "answer": "1"}"#, "FILE:2: metadata.numbers: expected a list of integers, found nothing"),
        ] {
            assert_eq!(error(line), expected);
        }
        for line in ["{\"metadata\": ", "[1]", "7", "not json", "{\"metadata\": 3}"] {
            let error = error(line);
            assert!(error.starts_with("FILE:2: expected a JSON object") && error.contains("column"), "{error}");
        }
        // As a program on Windows saves it, and what is no text at all.
        assert_eq!(countdown(&format!("\u{feff}{GOOD}\r\n{GOOD}\r\n")).unwrap().len(), 2);
        let wide: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, what) in [(&wide[..], "this is UTF-16"), (b"PK\x03\x04\x14\0", "zip archive"), (b"<html>", "an HTML page")] {
            let error = in_words(read_countdown(bytes)).unwrap_err();
            assert!(error.starts_with("FILE:1: ") && error.contains(what), "{error}");
        }
        assert_eq!(countdown("\n \n").unwrap_err(), "FILE: no problems in it");
        let error = in_words(read_countdown(b"\n\xff\xfe\n")).unwrap_err();
        assert!(error.starts_with("FILE:2: expected UTF-8"), "{error}");
        let missing = load(Path::new("/no/such/file.jsonl")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /no/such/file.jsonl: "), "{missing}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let result = read(&bytes, Path::new("FILE"), |row| if row.metadata.is_empty() { Err("nothing".into()) } else { Ok(()) });
            prop_assert!(result.is_err()); // eighty random bytes hold no metadata
        }
    }
}
