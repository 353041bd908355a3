//! Reading JSON so that an error names the file, the key and what was expected there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::{Map, Value};

use super::error::LaunchError;

/// Integer types of at most 32 bits, and 64 with a sign.
pub(super) trait Bounded {
    const LEAST: i64;
    const MOST: i64;
}

macro_rules! bounded {
    ($($t:ty)*) => {$(
        impl Bounded for $t {
            const LEAST: i64 = <$t>::MIN as i64;
            const MOST: i64 = <$t>::MAX as i64;
        }
    )*};
}
bounded! { u8 u16 u32 i8 i16 i32 i64 }

/// A JSON value, and where it stands.
#[derive(Clone)]
pub(super) struct Field<'a> {
    file: &'a Path,
    key: String,
    value: &'a Value,
}

impl<'a> Field<'a> {
    /// The whole of a file.
    pub(super) fn root(file: &'a Path, value: &'a Value) -> Field<'a> {
        Field { file, key: String::new(), value }
    }

    /// An error about this value.
    pub(super) fn error(&self, message: impl Into<String>) -> LaunchError {
        let key = if self.key.is_empty() { "the top level".to_string() } else { self.key.clone() };
        LaunchError::Field { file: self.file.to_path_buf(), key, message: message.into() }
    }

    fn expected<T>(&self, what: &str) -> Result<T, LaunchError> {
        let text = self.value.to_string();
        let found: String = if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text };
        Err(self.error(format!("expected {what}, found {found}")))
    }

    /// The last part of the key.
    pub(super) fn name(&self) -> String {
        self.key.rsplit('.').next().unwrap_or("").to_string()
    }

    fn map(&self) -> Result<&'a Map<String, Value>, LaunchError> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => self.expected("an object"),
        }
    }

    fn child(&self, name: &str, value: &'a Value) -> Field<'a> {
        let key = if self.key.is_empty() { name.to_string() } else { format!("{}.{name}", self.key) };
        Field { file: self.file, key, value }
    }

    /// Refuses keys that mean nothing here: a misspelt one would otherwise be ignored.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), LaunchError> {
        for name in self.map()?.keys() {
            if !known.contains(&name.as_str()) {
                return Err(self.error(format!("unknown key {name:?}; known are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// The value of `name`, if it is there.
    pub(super) fn optional(&self, name: &str) -> Result<Option<Field<'a>>, LaunchError> {
        Ok(self.map()?.get(name).map(|value| self.child(name, value)))
    }

    /// The value of `name`.
    pub(super) fn required(&self, name: &str) -> Result<Field<'a>, LaunchError> {
        self.optional(name)?.ok_or_else(|| self.error(format!("the key {name:?} is missing")))
    }

    /// The entries of an object, by name.
    pub(super) fn entries(&self) -> Result<Vec<Field<'a>>, LaunchError> {
        Ok(self.map()?.iter().map(|(name, value)| self.child(name, value)).collect())
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Result<Vec<Field<'a>>, LaunchError> {
        let Value::Array(items) = self.value else { return self.expected("a list") };
        let item = |(i, value)| Field { file: self.file, key: format!("{}[{i}]", self.key), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The one entry of an object such as `{"u32": 1}`, which may have some others beside it.
    pub(super) fn variant(&self, known: &[&str], beside: &[&str]) -> Result<Field<'a>, LaunchError> {
        let mut entries = self.entries()?;
        entries.retain(|entry| !beside.contains(&entry.name().as_str()));
        match <[Field; 1]>::try_from(entries) {
            Ok([entry]) if known.contains(&entry.name().as_str()) => Ok(entry),
            _ => self.expected(&format!("an object with one of the keys {}", known.join(", "))),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, LaunchError> {
        self.value.as_str().map_or_else(|| self.expected("a string"), Ok)
    }

    /// A path, relative to the folder of the file.
    pub(super) fn path(&self) -> Result<PathBuf, LaunchError> {
        Ok(self.file.parent().unwrap_or(Path::new("")).join(self.text()?))
    }

    pub(super) fn u64(&self) -> Result<u64, LaunchError> {
        self.value.as_u64().map_or_else(|| self.expected("a non-negative integer"), Ok)
    }

    pub(super) fn bool(&self) -> Result<bool, LaunchError> {
        self.value.as_bool().map_or_else(|| self.expected("true or false"), Ok)
    }

    /// An integer of one of the smaller types.
    pub(super) fn integer<T: TryFrom<i64> + Bounded>(&self) -> Result<T, LaunchError> {
        let value = self.value.as_i64().and_then(|v| T::try_from(v).ok());
        value.map_or_else(|| self.expected(&format!("an integer from {} to {}", T::LEAST, T::MOST)), Ok)
    }

    /// A number, which may be written as `"nan"`, `"inf"` or `"-inf"`.
    pub(super) fn f64(&self) -> Result<f64, LaunchError> {
        let value = match self.value.as_str() {
            Some("nan") => Some(f64::NAN),
            Some("inf") => Some(f64::INFINITY),
            Some("-inf") => Some(f64::NEG_INFINITY),
            _ => self.value.as_f64(),
        };
        value.map_or_else(|| self.expected("a number"), Ok)
    }

    /// A time.
    pub(super) fn seconds(&self) -> Result<f64, LaunchError> {
        let seconds = self.f64()?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(_) => Ok(seconds),
            Err(_) => self.expected("a number of seconds, 0 or more"),
        }
    }

    /// Bytes as hexadecimal digits.
    pub(super) fn hex(&self) -> Result<Vec<u8>, LaunchError> {
        let digits: Option<Vec<u8>> = self.text()?.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()),
            _ => self.expected("an even number of hexadecimal digits"),
        }
    }

    /// Three positive integers: a grid, a block, a cluster.
    pub(super) fn extent(&self) -> Result<[u32; 3], LaunchError> {
        let items = self.items()?;
        let values = items.iter().map(Field::integer).collect::<Result<Vec<_>, _>>()?;
        match <[u32; 3]>::try_from(values) {
            Ok(extent) if extent.iter().all(|&v| v > 0) => Ok(extent),
            _ => self.expected("three positive integers [x, y, z]"),
        }
    }

    /// A list of integers.
    pub(super) fn list<T>(&self, read: impl Fn(&Field<'a>) -> Result<T, LaunchError>) -> Result<Vec<T>, LaunchError> {
        self.items()?.iter().map(read).collect()
    }

    /// One of the words of an enum.
    pub(super) fn word<T: Deserialize<'a>>(&self) -> Result<T, LaunchError> {
        T::deserialize(self.text()?.into_deserializer()).map_err(|e: serde::de::value::Error| self.error(e.to_string()))
    }
}
