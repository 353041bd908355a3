//! Bytes of memory and of parameters, as a launch file describes them.

use std::path::PathBuf;

use half::{bf16, f16};
use serde::{Serialize, Serializer};

use super::error::LaunchError;
use super::fill::Random;
use super::{file, is_default, write};
use crate::mem::MAX_ALLOCATION;
use crate::request::{Argument, Kind};
use crate::tensor_map::{MAP_ALIGN, MAP_BYTES};

/// What is in a buffer, a module variable or a struct at first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Contents {
    /// How many bytes; as many as the source has if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Where they come from; uninitialised (zeros in a struct) without.
    #[serde(flatten)]
    pub source: Option<Source>,
    /// Values laid over them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldSpec>,
}

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// One byte, again and again.
    Fill(u8),
    /// Numbers drawn from a seed.
    Random(Random),
    /// A file.
    File(PathBuf),
    /// Themselves.
    Hex(#[serde(serialize_with = "write::hex")] Vec<u8>),
}

/// A value at a place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldSpec {
    /// Bytes from the start.
    pub at: u64,
    /// What is there.
    #[serde(flatten)]
    pub value: Value,
}

/// An argument of a kernel, or a field of a struct or of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Value {
    /// The 128 bytes of a tensor map.
    TensorMap(String),
    /// The address of a copy of them in global memory.
    TensorMapPointer(String),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    F16(#[serde(serialize_with = "float")] f64),
    Bf16(#[serde(serialize_with = "float")] f64),
    F32(#[serde(serialize_with = "float")] f64),
    F64(#[serde(serialize_with = "float")] f64),
    /// Bytes of any type.
    Bytes(#[serde(serialize_with = "write::hex")] Vec<u8>),
    /// The bytes of a file.
    File(PathBuf),
    /// A struct.
    Struct(Contents),
    /// An address in a buffer.
    #[serde(untagged)]
    Buffer {
        buffer: String,
        #[serde(skip_serializing_if = "is_default")]
        offset: u64,
    },
    /// An address in a module variable.
    #[serde(untagged)]
    Variable {
        variable: String,
        #[serde(skip_serializing_if = "is_default")]
        offset: u64,
    },
}

/// JSON has no words for what is not finite.
fn float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        v if v.is_finite() => serializer.serialize_f64(*v),
        v if v.is_nan() => serializer.serialize_str("nan"),
        v => serializer.serialize_str(if *v > 0.0 { "inf" } else { "-inf" }),
    }
}

impl Value {
    /// An address in a buffer.
    pub fn buffer(name: impl Into<String>, offset: u64) -> Value {
        Value::Buffer { buffer: name.into(), offset }
    }

    /// The bytes of a number, or of bytes; `None` for what has an address or a file in it.
    pub(super) fn plain(&self) -> Option<Vec<u8>> {
        Some(match self {
            Value::U8(v) => vec![*v],
            Value::U16(v) => v.to_le_bytes().into(),
            Value::U32(v) => v.to_le_bytes().into(),
            Value::U64(v) => v.to_le_bytes().into(),
            Value::I8(v) => v.to_le_bytes().into(),
            Value::I16(v) => v.to_le_bytes().into(),
            Value::I32(v) => v.to_le_bytes().into(),
            Value::I64(v) => v.to_le_bytes().into(),
            Value::F16(v) => f16::from_f64(*v).to_le_bytes().into(),
            Value::Bf16(v) => bf16::from_f64(*v).to_le_bytes().into(),
            Value::F32(v) => (*v as f32).to_le_bytes().into(),
            Value::F64(v) => v.to_le_bytes().into(),
            Value::Bytes(bytes) => bytes.clone(),
            _ => return None,
        })
    }

    /// What it is, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Value::Buffer { .. } => "a buffer's address",
            Value::Variable { .. } => "a variable's address",
            Value::TensorMap(_) => "a tensor map",
            Value::TensorMapPointer(_) => "a tensor map's address",
            Value::U8(_) => "u8",
            Value::U16(_) => "u16",
            Value::U32(_) => "u32",
            Value::U64(_) => "u64",
            Value::I8(_) => "i8",
            Value::I16(_) => "i16",
            Value::I32(_) => "i32",
            Value::I64(_) => "i64",
            Value::F16(_) => "f16",
            Value::Bf16(_) => "bf16",
            Value::F32(_) => "f32",
            Value::F64(_) => "f64",
            Value::Bytes(_) | Value::File(_) => "bytes",
            Value::Struct(_) => "a struct",
        }
    }
}

impl Value {
    /// How many bytes it has, but for a file and a struct.
    pub(super) fn size(&self) -> u64 {
        match self {
            Value::TensorMap(_) => MAP_BYTES as u64,
            other => other.plain().map_or(8, |bytes| bytes.len() as u64),
        }
    }

    /// Replaces files by what they hold.
    pub(super) fn load(&mut self) -> Result<(), LaunchError> {
        match self {
            Value::File(path) => *self = Value::Bytes(file::read_bytes(path, MAX_ALLOCATION)?),
            Value::Struct(contents) => contents.load()?,
            _ => {}
        }
        Ok(())
    }

    /// As an argument of a parameter of so many bytes; `resolve` knows addresses and tensor maps.
    pub(super) fn argument(&self, size: u32, resolve: &dyn Fn(&Value) -> Vec<u8>) -> Argument {
        let (bytes, align) = match self {
            Value::Struct(contents) => {
                let map = contents.fields.iter().any(|f| matches!(f.value, Value::TensorMap(_)));
                let bytes = contents.lay(contents.len().unwrap_or(size.into()), resolve);
                (bytes, if map { MAP_ALIGN } else { 1 })
            }
            Value::TensorMap(_) => (resolve(self), MAP_ALIGN),
            other => (other.plain().unwrap_or_else(|| resolve(self)), 1),
        };
        let kind = match self {
            Value::F32(_) | Value::F64(_) => Kind::Float,
            Value::TensorMap(_) | Value::Struct(_) | Value::Bytes(_) | Value::File(_) | Value::F16(_) | Value::Bf16(_) => {
                Kind::Bytes
            }
            _ => Kind::Integer,
        };
        Argument::new(bytes, align as u32, kind, self.name())
    }
}

impl Contents {
    /// How many bytes there are, as far as the contents say; of loaded contents.
    pub(super) fn len(&self) -> Option<u64> {
        self.bytes.or(self.base().map(|base| base.len() as u64))
    }

    /// The bytes at its start, of loaded contents.
    pub(super) fn base(&self) -> Option<&[u8]> {
        match &self.source {
            Some(Source::Hex(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Replaces every source by its bytes.
    pub(super) fn load(&mut self) -> Result<(), LaunchError> {
        let len = self.bytes.unwrap_or(0) as usize;
        match &self.source {
            Some(Source::Fill(byte)) => self.source = Some(Source::Hex(vec![*byte; len])),
            Some(Source::Random(random)) => self.source = Some(Source::Hex(random.bytes(len))),
            Some(Source::File(path)) => self.source = Some(Source::Hex(file::read_bytes(path, MAX_ALLOCATION)?)),
            Some(Source::Hex(_)) | None => {}
        }
        self.fields.iter_mut().try_for_each(|f| f.value.load())
    }

    /// So many bytes with all fields in place and zeros where nothing is said.
    fn lay(&self, len: u64, resolve: &dyn Fn(&Value) -> Vec<u8>) -> Vec<u8> {
        let mut bytes = self.base().unwrap_or_default().to_vec();
        bytes.resize(len as usize, 0);
        for FieldSpec { at, value } in &self.fields {
            let field = value.plain().unwrap_or_else(|| resolve(value));
            bytes[*at as usize..][..field.len()].copy_from_slice(&field);
        }
        bytes
    }

    /// What a file holds.
    pub fn file(path: impl Into<PathBuf>) -> Contents {
        Contents { source: Some(Source::File(path.into())), ..Contents::default() }
    }

    /// So many bytes that nothing wrote.
    pub fn uninitialized(bytes: u64) -> Contents {
        Contents { bytes: Some(bytes), ..Contents::default() }
    }
}
