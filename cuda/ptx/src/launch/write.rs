//! Launch files written: what [`LaunchFile::read`] reads as the same.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serializer;

use super::error::LaunchError;
use super::{Contents, LaunchFile, Source, Value};

/// Bytes as hexadecimal digits.
pub(super) fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digit = |d: u8| char::from(b"0123456789abcdef"[usize::from(d)]);
    serializer.serialize_str(&bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect::<String>())
}

impl LaunchFile {
    /// Writes it to a file. Paths below the file's folder are written relative to it, so that the folder can be moved.
    ///
    /// # Errors
    /// If the file cannot be written, or a path is not UTF-8.
    pub fn write(&self, path: &Path) -> Result<(), LaunchError> {
        let mut file = self.clone();
        let folder = path.parent().unwrap_or(Path::new(""));
        file.paths(&mut |p| {
            if let Ok(below) = p.strip_prefix(folder) {
                *p = below.to_path_buf();
            } else if let Ok(whole) = std::path::absolute(&*p) {
                *p = whole;
            }
        });
        let io = |source| LaunchError::Io { file: path.to_path_buf(), source };
        let text = serde_json::to_string_pretty(&file).map_err(|e| io(e.into()))?;
        fs::write(path, text + "\n").map_err(io)
    }

    /// Visits every path.
    fn paths(&mut self, visit: &mut dyn FnMut(&mut PathBuf)) {
        self.dump.values_mut().for_each(&mut *visit);
        self.variables.values_mut().chain(self.buffers.values_mut()).for_each(|c| contents(c, visit));
        for launch in &mut self.launches {
            visit(&mut launch.ptx);
            launch.args.iter_mut().for_each(|v| value(v, visit));
            launch.variables.values_mut().for_each(|c| contents(c, visit));
        }
    }
}

fn contents(contents: &mut Contents, visit: &mut dyn FnMut(&mut PathBuf)) {
    if let Some(Source::File(path)) = &mut contents.source {
        visit(path);
    }
    contents.fields.iter_mut().for_each(|f| value(&mut f.value, visit));
}

fn value(value: &mut Value, visit: &mut dyn FnMut(&mut PathBuf)) {
    match value {
        Value::File(path) => visit(path),
        Value::Struct(inner) => contents(inner, visit),
        _ => {}
    }
}
