//! Typed values out of a JSON object, and what is said where one is wrong.

use serde_json::{Map, Value};
use std::path::PathBuf;

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON.
    #[error("config is not valid JSON: {0}")]
    Json(serde_json::Error),
    /// A key without which the model is not defined.
    #[error("config key `{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value that is impossible, or that this implementation does not have.
    #[error("config key `{key}`: found {found}, expected {expected}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would have been accepted.
        expected: String,
    },
    /// Any of these, in a file.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
}

/// Reads typed values out of a JSON object. A `null` counts as absent.
pub(crate) struct Keys(pub(crate) Map<String, Value>);

impl Keys {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn invalid<T>(&self, key: &str, expected: impl Into<String>) -> Result<T, ConfigError> {
        let found = self.0.get(key).map_or("nothing".into(), Value::to_string);
        Err(ConfigError::Invalid { key: key.into(), found, expected: expected.into() })
    }

    fn or_missing<T>(&self, key: &str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::Missing { key: key.into() })
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        match self.get(key).map(|v| v.as_u64().and_then(|n| usize::try_from(n).ok())) {
            None => Ok(None),
            Some(Some(n)) => Ok(Some(n)),
            Some(None) => self.invalid(key, "a non-negative integer"),
        }
    }

    pub(crate) fn size(&self, key: &str, default: Option<usize>) -> Result<usize, ConfigError> {
        let value = self.optional_size(key)?;
        self.or_missing(key, value.or(default))
    }

    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.get(key).map(Value::as_f64) {
            None => Ok(None),
            Some(Some(x)) if x.is_finite() => Ok(Some(x)),
            Some(_) => self.invalid(key, "a number"),
        }
    }

    pub(crate) fn number(&self, key: &str, default: Option<f64>) -> Result<f64, ConfigError> {
        let value = self.optional_number(key)?;
        self.or_missing(key, value.or(default))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(_) => self.invalid(key, "true or false"),
        }
    }

    pub(crate) fn choice<T: Copy>(&self, key: &str, default: Option<&str>, options: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = match self.get(key) {
            None => self.or_missing(key, default)?,
            Some(v) => v.as_str().unwrap_or(""),
        };
        match options.iter().find(|(name, _)| *name == found) {
            Some((_, value)) => Ok(*value),
            None => self.invalid(key, options.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")),
        }
    }

    /// A key that repeats what another one says.
    pub(crate) fn check_equal(&self, key: &str, value: usize, other: &str) -> Result<(), ConfigError> {
        match self.optional_size(key)? {
            Some(n) if n != value => self.invalid(key, format!("{value} as {other}")),
            _ => Ok(()),
        }
    }
}
