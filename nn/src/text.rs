//! Text files as people have them: what an editor put before the text, and what a broken download put in its place.

/// Bytes that are not the text that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}, expected {expected}")]
pub struct TextError {
    found: String,
    expected: &'static str,
}

/// The text of a file in UTF-8, without the byte order mark that editors on Windows put in front.
///
/// # Errors
/// As [`unmarked`], or if it is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, TextError> {
    std::str::from_utf8(unmarked(bytes)?).map_err(|e| refused(&format!("this is not UTF-8 ({e})")))
}

fn refused(found: &str) -> TextError {
    TextError { found: found.into(), expected: "text in UTF-8" }
}

/// The bytes of a file that should be UTF-8 without the byte order mark, for a reader that goes line by line.
///
/// # Errors
/// If it is text in UTF-16 or UTF-32, a Git LFS pointer or another kind of file, each called by its name.
pub fn unmarked(bytes: &[u8]) -> Result<&[u8], TextError> {
    // Of text in other encodings, the first character is nearly always ASCII: it has zeros beside it, or the mark is there.
    let other = match *bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => Some("this is UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some("this is UTF-16"),
        _ => masquerade(bytes),
    };
    match other {
        Some(other) => Err(refused(other)),
        None => Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
    }
}

/// What a file is whose download or conversion went wrong, if it is one of the common ones.
pub(crate) fn masquerade(bytes: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 8] = [
        (
            b"version https://git-lfs.github.com/spec/",
            "this is a Git LFS pointer and not the file that it stands for (`git lfs pull` fetches that)",
        ),
        (b"<!doctype html", "this is an HTML page"),
        (b"<html", "this is an HTML page"),
        (b"<?xml", "this is an XML page, such as a server's error"),
        (b"PK\x03\x04", "this is a zip archive, as PyTorch's .bin and .pt files are"),
        (b"\x80\x02", "this is a Python pickle, as PyTorch's older .bin and .pt files are"),
        (b"\x1f\x8b", "this is a gzip archive"),
        (b"GGUF", "this is a GGUF file"),
    ];
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let starts = |start: &[u8]| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    STARTS.iter().find(|(start, _)| starts(start)).map(|(_, what)| *what)
}
