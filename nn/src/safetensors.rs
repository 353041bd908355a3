//! The safetensors format, by its specification (<https://github.com/huggingface/safetensors#format>): eight bytes with the size of
//! a JSON header, the header, the numbers.
//!
//! The crate writes. Its reader takes a whole file in memory, and says of a broken one seldom which tensor is at fault; so headers
//! are checked here, by the crate's types: a file that breaks a rule is refused in words that name the tensor.

use crate::checkpoint::CheckpointError;
use crate::files::write_atomic_with;
use crate::text;
use ::safetensors::tensor::{Dtype, SafeTensorError, TensorInfo, View};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Shape, Tensor};

/// The most that the format allows a header to have.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// The key of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// The format's dtypes that exist here. A file may hold others, but they cannot be read.
const DTYPES: [(Dtype, DType); 9] = [
    (Dtype::F64, DType::F64),
    (Dtype::F32, DType::F32),
    (Dtype::BF16, DType::BF16),
    (Dtype::F16, DType::F16),
    (Dtype::F8_E4M3, DType::F8E4M3),
    (Dtype::I64, DType::I64),
    (Dtype::I32, DType::I32),
    (Dtype::U8, DType::U8),
    (Dtype::BOOL, DType::Bool),
];

/// A JSON object in which no key occurs twice (serde keeps the last value of such a key and says nothing).
pub(crate) struct Unique<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
            type Value = Unique<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if all.contains_key(&key) {
                        return Err(A::Error::custom(format!("`{key}` occurs twice")));
                    }
                    all.insert(key, map.next_value()?);
                }
                Ok(Unique(all))
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// That a tensor's bytes are as many as its shape and dtype say.
fn check(name: &str, info: &TensorInfo) -> Result<(), String> {
    let TensorInfo { dtype, shape, data_offsets: (begin, end) } = info;
    let sizes = Shape::from(&shape[..]);
    if !sizes.fits() {
        return Err(format!("`{name}` has the shape {shape:?}, more than any memory holds"));
    }
    let bits = sizes.numel() as u128 * dtype.bitsize() as u128;
    match end.checked_sub(*begin) {
        Some(size) if size as u128 * 8 == bits => Ok(()),
        _ => Err(format!("`{name}` is {dtype} {shape:?}, {bits} bits, but has the bytes {begin} to {end}")),
    }
}

/// A safetensors file whose header has been read and checked, and whose tensors are read when they are asked for.
#[derive(Debug)]
pub struct TensorFile<R = File> {
    path: PathBuf,
    reader: R,
    /// Where the numbers begin.
    start: u64,
    header: Header,
}

#[derive(Debug, Default)]
struct Header {
    entries: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`TensorFile::new`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        TensorFile::new(path, File::open(path).map_err(io(path))?)
    }
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads the header of a file whose bytes come from `reader`; `path` is for messages.
    ///
    /// # Errors
    /// If it cannot be read, or breaks a rule of the format.
    pub fn new(path: &Path, mut reader: R) -> Result<Self, CheckpointError> {
        let size = reader.seek(SeekFrom::End(0)).map_err(io(path))?;
        let mut first = vec![0; size.min(512) as usize];
        reader.rewind().and_then(|()| reader.read_exact(&mut first)).map_err(io(path))?;
        let corrupt = |reason: String| {
            // A header begins with a brace, whatever else is wrong.
            let other = if first.get(8) == Some(&b'{') { None } else { text::masquerade(&first) };
            let reason = other.map_or(reason, |what| format!("{what}, expected a safetensors file"));
            CheckpointError::Corrupt { path: path.into(), reason }
        };
        let Some((length, rest)) = first.split_first_chunk() else {
            return Err(corrupt(format!("it ends after {size} bytes, before the header")));
        };
        let length = u64::from_le_bytes(*length);
        if length > MOST_HEADER_BYTES || length > size - 8 {
            let most = MOST_HEADER_BYTES.min(size - 8);
            return Err(corrupt(format!("its first bytes ask for a header of {length} bytes, where {most} are possible")));
        }
        if rest.first() != Some(&b'{') || length == 0 {
            return Err(corrupt("its header does not begin with {".into()));
        }
        let mut header = vec![0; length as usize];
        reader.seek(SeekFrom::Start(8)).and_then(|_| reader.read_exact(&mut header)).map_err(io(path))?;
        let header = Header::parse(&header, size - 8 - length).map_err(corrupt)?;
        Ok(TensorFile { path: path.into(), reader, start: 8 + length, header })
    }

    /// What the file's metadata say under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata.get(key).map(String::as_str)
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.entries.keys().map(String::as_str)
    }

    /// Dtype, shape and place of a tensor.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(crate) fn info(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        let missing = || CheckpointError::Missing { path: self.path.clone(), keys: vec![name.into()] };
        self.header.entries.get(name).ok_or_else(missing)
    }

    /// Reads a tensor, in its own dtype.
    ///
    /// # Errors
    /// If there is none of this name, it cannot be read, or its dtype does not exist here.
    pub fn read(&mut self, name: &str, device: &Device) -> Result<Tensor, CheckpointError> {
        let TensorInfo { dtype: found, shape, data_offsets: (begin, end) } = self.info(name)?.clone();
        let Some((_, dtype)) = DTYPES.iter().find(|(dtype, _)| *dtype == found) else {
            let (path, key, found) = (self.path.clone(), name.into(), found.to_string());
            let expected = "F64, F32, BF16, F16, F8_E4M3, I64, I32, U8 or BOOL";
            return Err(CheckpointError::DType { path, key, found, expected });
        };
        let mut bytes = vec![0; end - begin];
        let read = self.reader.seek(SeekFrom::Start(self.start + begin as u64)).and_then(|_| self.reader.read_exact(&mut bytes));
        read.map_err(io(&self.path))?;
        Ok(Tensor::from_bytes(bytes, shape, *dtype, device))
    }

    /// Reads every tensor, in its own dtype.
    ///
    /// # Errors
    /// As [`TensorFile::read`].
    pub fn read_all(&mut self, device: &Device) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        names.into_iter().map(|name| Ok((name.clone(), self.read(&name, device)?))).collect()
    }
}

impl Header {
    /// The header of a file whose tensors fill `size` bytes: no hole, no overlap, nothing after the last.
    fn parse(bytes: &[u8], size: u64) -> Result<Header, String> {
        let named = |name: &str, error: serde_json::Error| format!("`{name}` in its header: {error}");
        let Unique(parts) = serde_json::from_slice::<Unique<&RawValue>>(bytes).map_err(|e| format!("its header: {e}"))?;
        let mut header = Header::default();
        for (name, part) in parts {
            if name == METADATA {
                header.metadata = serde_json::from_str::<Unique<String>>(part.get()).map_err(|e| named(&name, e))?.0;
            } else if !part.get().starts_with('{') {
                return Err(format!("`{name}` in its header is no object")); // serde takes an array of the fields as well
            } else {
                let info: TensorInfo = serde_json::from_str(part.get()).map_err(|e| named(&name, e))?;
                check(&name, &info)?;
                header.entries.insert(name, info);
            }
        }
        let mut order: Vec<(&String, &TensorInfo)> = header.entries.iter().collect();
        order.sort_by_key(|(_, info)| info.data_offsets);
        let (mut filled, mut last) = (0, None);
        for (name, TensorInfo { data_offsets: (begin, end), .. }) in order {
            match last {
                _ if *begin > filled => return Err(format!("no tensor has the bytes {filled} to {begin}, before `{name}`")),
                Some(last) if *begin < filled => return Err(format!("`{last}` and `{name}` overlap")),
                _ => (filled, last) = (*end, Some(name)),
            }
        }
        if filled as u64 == size { Ok(header) } else { Err(format!("its tensors take {filled} bytes, but {size} are there")) }
    }
}

/// Reads every tensor of a safetensors file, each in its own dtype.
///
/// # Errors
/// If the file cannot be read, breaks a rule of the format, or holds a dtype that does not exist here.
pub fn load_tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    TensorFile::open(path)?.read_all(device)
}

/// A tensor as the crate writes it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        DTYPES.iter().find(|(_, dtype)| *dtype == self.0.dtype()).expect("every dtype has a name").0
    }
    fn shape(&self) -> &[usize] {
        self.0.dims()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.0.to_bytes().into()
    }
    fn data_len(&self) -> usize {
        self.0.numel() * self.0.dtype().size()
    }
}

/// Writes tensors as a safetensors file, which appears whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let stored = || tensors.iter().map(|(name, tensor)| (name, Stored(tensor)));
    let write = |to: &Path| match ::safetensors::serialize_to_file(stored(), Some(metadata), to) {
        Err(SafeTensorError::IoError(e)) => Err(e),
        other => other.map_err(io::Error::other),
    };
    write_atomic_with(path, write).map_err(io(path))
}

/// The bytes of a safetensors file of these tensors, with `metadata` in its header.
///
/// # Panics
/// If the names take more than the 100 MB that the format allows a header to have.
pub fn tensors_to_bytes(tensors: &BTreeMap<String, Tensor>, metadata: HashMap<String, String>) -> Vec<u8> {
    let stored = tensors.iter().map(|(name, tensor)| (name, Stored(tensor)));
    ::safetensors::serialize(stored, Some(metadata)).expect("a header of at most 100 MB")
}

pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io { path: path.into(), source }
}
