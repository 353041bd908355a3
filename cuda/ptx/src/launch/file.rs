//! A launch file, read and checked, before anything runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::error::LaunchError;
use super::fields::Field;
use super::fill::Random;
use super::{Arg, Bound, BufferSpec, Contents, LaunchFile, LaunchSpec, MapSpec};
use crate::mem::MAX_ALLOCATION;
use crate::tensor_map::TensorMap;

const FILE_KEYS: [&str; 5] = ["launches", "buffers", "tensor_maps", "dump", "compare"];
const LAUNCH_KEYS: [&str; 7] = ["ptx", "entry", "grid", "block", "cluster", "shared_bytes", "args"];

/// How deep launch files may include others, and how many may be read in all.
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 10_000;
/// The most bytes of a launch file or of PTX.
const MAX_TEXT: u64 = 1 << 28;

/// Launch files on their way in.
#[derive(Default)]
struct Reader {
    /// The files that are open, each included by the one before.
    open: Vec<PathBuf>,
    /// How many were read.
    read: usize,
    files: Vec<LaunchFile>,
}

/// Reads a launch file, or all that an `"include"` names.
pub(super) fn read(path: &Path) -> Result<Vec<LaunchFile>, LaunchError> {
    let mut reader = Reader::default();
    reader.add(path)?;
    Ok(reader.files)
}

/// The bytes of a file of at most `most`: what has no end (a device, a pipe) is refused, not read until memory is full.
pub(super) fn contents(file: &Path, most: u64) -> Result<Vec<u8>, LaunchError> {
    let read = || {
        let opened = File::open(file)?;
        let most = if opened.metadata()?.is_file() { most } else { most.min(MAX_TEXT) };
        let mut bytes = Vec::new();
        opened.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes"))),
            false => Ok(bytes),
        }
    };
    read().map_err(|source| LaunchError::Io { file: file.to_path_buf(), source })
}

/// The text of a file of PTX, or of a launch file.
pub fn read_text(file: &Path) -> Result<String, LaunchError> {
    let text = String::from_utf8(contents(file, MAX_TEXT)?);
    let io = |e| LaunchError::Io { file: file.to_path_buf(), source: io::Error::new(io::ErrorKind::InvalidData, e) };
    text.map_err(io)
}

impl Reader {
    /// A launch file, or all that it includes.
    fn add(&mut self, path: &Path) -> Result<(), LaunchError> {
        let text = read_text(path)?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|source| LaunchError::Json { file: path.to_path_buf(), message: source.to_string() })?;
        let root = Field::root(path, &value);
        if let Some(include) = root.optional("include")? {
            root.only(&["include"])?;
            self.open.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
            for item in include.items()? {
                let included = item.path()?;
                if included.canonicalize().is_ok_and(|p| self.open.contains(&p)) {
                    return Err(item.error("a file that includes itself, directly or through others"));
                }
                self.read += 1;
                if self.open.len() > MAX_DEPTH || self.read > MAX_FILES {
                    return Err(item.error(format!("more than {MAX_DEPTH} files deep, or {MAX_FILES} files in all")));
                }
                self.add(&included)?;
            }
            self.open.pop();
            return Ok(());
        }
        self.files.push(one(path, &root)?);
        Ok(())
    }
}

fn one(path: &Path, root: &Field) -> Result<LaunchFile, LaunchError> {
    let known: Vec<&str> = FILE_KEYS.into_iter().chain(LAUNCH_KEYS).collect();
    root.only(&known)?;
    let mut file = LaunchFile {
        path: path.to_path_buf(),
        launches: Vec::new(),
        buffers: BTreeMap::new(),
        tensor_maps: BTreeMap::new(),
        dump: BTreeMap::new(),
        compare: BTreeMap::new(),
    };
    let launches = match root.optional("launches")? {
        Some(list) => list.items()?,
        None => vec![root.clone()],
    };
    let nested = root.optional("launches")?.is_some();
    shared(root, &mut file)?;
    for launch in &launches {
        if nested {
            let known: Vec<&str> = ["buffers", "tensor_maps", "dump", "compare"].into_iter().chain(LAUNCH_KEYS).collect();
            launch.only(&known)?;
            shared(launch, &mut file)?;
        }
        file.launches.push(spec(launch, root)?);
    }
    if file.launches.is_empty() {
        return Err(root.required("launches")?.error("expected at least one launch"));
    }
    check_names(&file, &launches, root)?;
    Ok(file)
}

/// What all launches of a file share, wherever it is written.
fn shared(field: &Field, file: &mut LaunchFile) -> Result<(), LaunchError> {
    for entry in section(field, "buffers")? {
        let buffer = buffer(&entry)?;
        if file.buffers.insert(entry.name(), buffer).is_some() {
            return Err(entry.error("a buffer of this name is already there"));
        }
    }
    for entry in section(field, "tensor_maps")? {
        let map = tensor_map(&entry)?;
        if file.tensor_maps.insert(entry.name(), map).is_some() {
            return Err(entry.error("a tensor map of this name is already there"));
        }
    }
    for entry in section(field, "dump")? {
        file.dump.insert(entry.name(), entry.path()?);
    }
    for entry in section(field, "compare")? {
        entry.only(&["dtype", "abs", "rel"])?;
        let number = |name: &str| entry.optional(name)?.map_or(Ok(0.0), |f| f.f64());
        let (abs, rel) = (number("abs")?, number("rel")?);
        let bound = match entry.optional("dtype")? {
            Some(dtype) => Some(Bound { number: dtype.word()?, abs, rel }),
            None if abs == 0.0 && rel == 0.0 => None,
            None => return Err(entry.error("a bound needs the \"dtype\" of the numbers")),
        };
        file.compare.insert(entry.name(), bound);
    }
    Ok(())
}

fn section<'a>(field: &Field<'a>, name: &str) -> Result<Vec<Field<'a>>, LaunchError> {
    field.optional(name)?.map_or(Ok(Vec::new()), |section| section.entries())
}

/// One launch; a key that it lacks is taken from the file's top level.
fn spec(launch: &Field, root: &Field) -> Result<LaunchSpec, LaunchError> {
    let find = |name: &str| -> Result<Option<_>, LaunchError> {
        Ok(match launch.optional(name)? {
            Some(field) => Some(field),
            None => root.optional(name)?,
        })
    };
    let need = |name: &str| find(name)?.ok_or_else(|| launch.error(format!("the key {name:?} is missing")));
    Ok(LaunchSpec {
        ptx: need("ptx")?.path()?,
        entry: need("entry")?.text()?.to_string(),
        grid: need("grid")?.extent()?,
        block: need("block")?.extent()?,
        cluster: find("cluster")?.map_or(Ok([1, 1, 1]), |f| f.extent())?,
        shared_bytes: find("shared_bytes")?.map_or(Ok(0), |f| f.u32())?,
        args: need("args")?.list(arg)?,
    })
}

fn arg(field: &Field) -> Result<Arg, LaunchError> {
    let value = field.variant("buffer, tensor_map, tensor_map_pointer, u32, i32, u64, f32, bytes")?;
    Ok(match value.name().as_str() {
        "buffer" => Arg::Buffer(value.text()?.to_string()),
        "tensor_map" => Arg::TensorMap(value.text()?.to_string()),
        "tensor_map_pointer" => Arg::TensorMapPointer(value.text()?.to_string()),
        "u32" => Arg::Bytes(value.u32()?.to_le_bytes().to_vec()),
        "i32" => Arg::Bytes(value.i32()?.to_le_bytes().to_vec()),
        "u64" => Arg::Bytes(value.u64()?.to_le_bytes().to_vec()),
        "f32" => Arg::Bytes((value.f64()? as f32).to_le_bytes().to_vec()),
        "bytes" => Arg::Bytes(value.hex()?),
        other => return Err(field.error(format!("unknown kind of argument {other:?}"))),
    })
}

fn buffer(field: &Field) -> Result<BufferSpec, LaunchError> {
    field.only(&["file", "bytes", "fill", "random"])?;
    if let Some(file) = field.optional("file")? {
        field.only(&["file"])?;
        return Ok(BufferSpec { bytes: None, contents: Contents::File(file.path()?) });
    }
    let size = field.required("bytes")?;
    let bytes = size.u64()?;
    if bytes > MAX_ALLOCATION {
        return Err(size.error(format!("{bytes} bytes; a buffer has {MAX_ALLOCATION} at most")));
    }
    let contents = match (field.optional("fill")?, field.optional("random")?) {
        (Some(_), Some(random)) => return Err(random.error("a buffer has either \"fill\" or \"random\"")),
        (Some(fill), None) => Contents::Fill(fill.u8()?),
        (None, Some(random)) => Contents::Random(Random::read(&random)?),
        (None, None) => Contents::Uninitialized,
    };
    Ok(BufferSpec { bytes: Some(bytes), contents })
}

fn tensor_map(field: &Field) -> Result<MapSpec, LaunchError> {
    field.only(&[
        "buffer",
        "dtype",
        "dims",
        "strides_bytes",
        "box",
        "element_strides",
        "swizzle",
        "interleave",
        "l2_promotion",
        "oob_fill",
    ])?;
    let dims = field.required("dims")?.list(Field::u64)?;
    let rank = dims.len();
    let strides = field.optional("strides_bytes")?.map_or(Ok(Vec::new()), |f| f.list(Field::u64))?;
    let box_dims = field.required("box")?.list(Field::u32)?;
    let element_strides = field.optional("element_strides")?.map_or(Ok(vec![1; rank]), |f| f.list(Field::u32))?;
    let lengths = [
        ("strides_bytes", strides.len(), rank.saturating_sub(1)),
        ("box", box_dims.len(), rank),
        ("element_strides", element_strides.len(), rank),
    ];
    if let Some((name, len, want)) = lengths.into_iter().find(|(_, len, want)| len != want) {
        return Err(field.error(format!("{name} has {len} entries, and dims of rank {rank} need {want}")));
    }
    let map = TensorMap {
        element: field.required("dtype")?.word()?,
        // The buffer's address is known only when it is allocated.
        address: 0,
        dims,
        strides,
        box_dims,
        element_strides,
        interleave: default_word(field, "interleave")?,
        swizzle: default_word(field, "swizzle")?,
        l2_promotion: default_word(field, "l2_promotion")?,
        oob_fill: default_word(field, "oob_fill")?,
    };
    map.check().map_err(|e| field.error(e.to_string()))?;
    Ok(MapSpec { buffer: field.required("buffer")?.text()?.to_string(), map })
}

/// One of some words, the first if the key is not there.
fn default_word<T: Default + for<'a> Deserialize<'a>>(field: &Field, name: &str) -> Result<T, LaunchError> {
    field.optional(name)?.map_or(Ok(T::default()), |f| f.word())
}

/// Every name that is used exists.
fn check_names(file: &LaunchFile, launches: &[Field], root: &Field) -> Result<(), LaunchError> {
    let buffer = |field: &Field, name: &str| match file.buffers.contains_key(name) {
        true => Ok(()),
        false => Err(field.error(format!("no buffer is called {name:?}"))),
    };
    for (spec, field) in file.launches.iter().zip(launches) {
        let args = match field.optional("args")? {
            Some(args) => args.items()?,
            None => root.required("args")?.items()?,
        };
        for (arg, field) in spec.args.iter().zip(&args) {
            match arg {
                Arg::Buffer(name) => buffer(field, name)?,
                Arg::TensorMap(name) | Arg::TensorMapPointer(name) if !file.tensor_maps.contains_key(name) => {
                    return Err(field.error(format!("no tensor map is called {name:?}")));
                }
                _ => {}
            }
        }
    }
    let maps = file.tensor_maps.iter().map(|(name, map)| ("tensor_maps", name, &map.buffer));
    let dumps = file.dump.keys().map(|name| ("dump", name, name));
    let compared = file.compare.keys().map(|name| ("compare", name, name));
    for (section, name, used) in maps.chain(dumps).chain(compared) {
        if !file.buffers.contains_key(used) {
            let key = format!("{section}.{name}");
            return Err(LaunchError::Field { file: file.path.clone(), key, message: format!("no buffer is called {used:?}") });
        }
    }
    Ok(())
}
