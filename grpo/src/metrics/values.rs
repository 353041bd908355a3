use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

/// Named values in the order in which they were set: a map in JSON. A name that has no value is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<(String, f64)>);

impl Values {
    /// No values.
    pub fn new() -> Values {
        Values::default()
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// Gives a name a value, in the place of an earlier one; `None` changes nothing.
    pub fn set(&mut self, name: impl AsRef<str>, value: impl Into<Option<f64>>) {
        let (name, Some(value)) = (name.as_ref(), value.into()) else { return };
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// The same with a name's value, as [`set`](Self::set).
    pub fn with(mut self, name: impl AsRef<str>, value: impl Into<Option<f64>>) -> Values {
        self.set(name, value);
        self
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Sets all of `other`.
    pub fn extend(&mut self, other: &Values) {
        other.iter().for_each(|(name, value)| self.set(name, value));
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Values::new();
                while let Some((name, value)) = map.next_entry::<String, f64>()? {
                    values.set(name, value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_map(Map)
    }
}
