//! The safetensors format, by its specification (<https://github.com/huggingface/safetensors#format>): eight bytes with the size of
//! a JSON header, the header, the numbers. A file that breaks a rule is refused in words that name the tensor.

use crate::checkpoint::CheckpointError;
use crate::files::write_atomic_with;
use crate::text;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Shape, Tensor};

/// The most that the format allows a header to have.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// The key of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// The format's names for the dtypes that exist here.
const DTYPES: [(&str, DType); 9] = [
    ("F64", DType::F64),
    ("F32", DType::F32),
    ("BF16", DType::BF16),
    ("F16", DType::F16),
    ("F8_E4M3", DType::F8E4M3),
    ("I64", DType::I64),
    ("I32", DType::I32),
    ("U8", DType::U8),
    ("BOOL", DType::Bool),
];

/// Its other dtypes, with their bits: a file may hold them, but they cannot be read.
const FOREIGN: [(&str, usize); 13] = [
    ("C64", 64),
    ("U64", 64),
    ("U32", 32),
    ("I16", 16),
    ("U16", 16),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F4", 4),
];

fn bits(dtype: &str) -> Option<usize> {
    let own = DTYPES.iter().find(|(name, _)| *name == dtype).map(|(_, dtype)| 8 * dtype.size());
    own.or_else(|| FOREIGN.iter().find(|(name, _)| *name == dtype).map(|(_, bits)| *bits))
}

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

/// What the header says of a tensor.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// Of the first byte and the one after the last, counted from the header's end.
    data_offsets: (u64, u64),
}

impl Entry {
    /// That the bytes are as many as shape and dtype say.
    fn check(&self, name: &str) -> Result<(), String> {
        let Entry { dtype, shape, data_offsets: (begin, end) } = self;
        let bits = bits(dtype).ok_or_else(|| format!("`{name}` has the dtype {dtype:?}, which the format does not have"))?;
        let sizes = Shape::from(&shape[..]);
        if !sizes.fits() {
            return Err(format!("`{name}` has the shape {shape:?}, more than any memory holds"));
        }
        let bits = sizes.numel() as u128 * bits as u128;
        match end.checked_sub(*begin) {
            Some(size) if u128::from(size) * 8 == bits => Ok(()),
            _ => Err(format!("`{name}` is {dtype} {shape:?}, {bits} bits, but has the bytes {begin} to {end}")),
        }
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
    entries: BTreeMap<String, Entry>,
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

    /// Name of the dtype and shape of a tensor.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(crate) fn info(&self, name: &str) -> Result<(&str, &[usize]), CheckpointError> {
        match self.header.entries.get(name) {
            Some(entry) => Ok((&entry.dtype, &entry.shape)),
            None => Err(CheckpointError::Missing { path: self.path.clone(), keys: vec![name.into()] }),
        }
    }

    /// Reads a tensor, in its own dtype.
    ///
    /// # Errors
    /// If there is none of this name, it cannot be read, or its dtype does not exist here.
    pub fn read(&mut self, name: &str, device: &Device) -> Result<Tensor, CheckpointError> {
        let (found, shape) = self.info(name)?;
        let (path, key, shape) = (self.path.clone(), name.to_owned(), shape.to_vec());
        let Some((_, dtype)) = DTYPES.iter().find(|(name, _)| *name == found) else {
            let expected = "F64, F32, BF16, F16, F8_E4M3, I64, I32, U8 or BOOL";
            return Err(CheckpointError::DType { path, key, found: found.into(), expected });
        };
        let (begin, end) = self.header.entries[name].data_offsets;
        let mut bytes = vec![0; (end - begin) as usize];
        let read = self.reader.seek(SeekFrom::Start(self.start + begin)).and_then(|_| self.reader.read_exact(&mut bytes));
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
            } else {
                let entry: Entry = serde_json::from_str(part.get()).map_err(|e| named(&name, e))?;
                entry.check(&name)?;
                header.entries.insert(name, entry);
            }
        }
        let mut order: Vec<(&String, &Entry)> = header.entries.iter().collect();
        order.sort_by_key(|(_, entry)| entry.data_offsets);
        let (mut filled, mut last) = (0, None);
        for (name, Entry { data_offsets: (begin, end), .. }) in order {
            match last {
                _ if *begin > filled => return Err(format!("no tensor has the bytes {filled} to {begin}, before `{name}`")),
                Some(last) if *begin < filled => return Err(format!("`{last}` and `{name}` overlap")),
                _ => (filled, last) = (*end, Some(name)),
            }
        }
        if filled == size { Ok(header) } else { Err(format!("its tensors take {filled} bytes, but {size} are there")) }
    }
}

/// Reads every tensor of a safetensors file, each in its own dtype.
///
/// # Errors
/// If the file cannot be read, breaks a rule of the format, or holds a dtype that does not exist here.
pub fn load_tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    TensorFile::open(path)?.read_all(device)
}

/// Writes tensors as a safetensors file, which appears whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let write = |to: &Path| {
        let mut out = BufWriter::new(File::create(to)?);
        write_tensors(&mut out, tensors, &metadata)?;
        out.flush()
    };
    write_atomic_with(path, write).map_err(io(path))
}

/// The bytes of a safetensors file of these tensors, with `metadata` in its header. Tensors of larger elements come first, equal ones
/// by name, so that each is aligned.
pub fn tensors_to_bytes(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, tensors, metadata).expect("memory takes everything");
    bytes
}

fn write_tensors(out: &mut dyn Write, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> io::Result<()> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().size()));
    let (mut header, mut filled) = (BTreeMap::from([(METADATA, serde_json::to_value(metadata)?)]), 0);
    for (name, tensor) in &order {
        let begin = filled;
        filled += (tensor.numel() * tensor.dtype().size()) as u64;
        let (dtype, _) = DTYPES.iter().find(|(_, dtype)| *dtype == tensor.dtype()).expect("every dtype has a name");
        let entry = Entry { dtype: (*dtype).into(), shape: tensor.dims().into(), data_offsets: (begin, filled) };
        header.insert(name, serde_json::to_value(entry)?);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    order.into_iter().try_for_each(|(_, tensor)| out.write_all(&tensor.to_bytes()))
}

pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io { path: path.into(), source }
}
