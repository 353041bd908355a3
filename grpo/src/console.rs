//! What a program says to who started it. A reader that has gone away, or a disk that is full, is no reason to end a run.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Writes a line to standard error. If nobody takes it, it is lost, and that is all.
pub fn say(line: impl Display) {
    // One write: lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The end of a program: its result goes to standard output. A reader that has gone away (`| head`) wanted no more of it; if
/// standard output refuses for another reason, such as a full disk, standard error gets one line and the exit code is 1.
pub fn finish(result: impl Display) -> ExitCode {
    let written = io::stdout().write_all(format!("{result}\n").as_bytes()).and_then(|()| io::stdout().flush());
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => fail(format_args!("cannot write to standard output: {e}")),
        _ => ExitCode::SUCCESS,
    }
}

/// The end of a program that may have failed: as [`finish`], or an error on standard error and the exit code 1.
pub fn exit<E: Display>(result: Result<impl Display, E>) -> ExitCode {
    result.map_or_else(fail, finish)
}

fn fail(error: impl Display) -> ExitCode {
    say(format_args!("error: {error}"));
    ExitCode::FAILURE
}
