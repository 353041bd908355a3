//! A launch file, read and checked, before anything runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;

use super::error::LaunchError;
use super::fields::Field;
use super::fill::Random;
use super::{Bound, Contents, FieldSpec, LaunchFile, LaunchSpec, MapSpec, Source, Value};
use crate::mem::MAX_ALLOCATION;

/// What launches share, wherever it is written.
const SHARED_KEYS: [&str; 4] = ["buffers", "tensor_maps", "dump", "compare"];
/// What one launch says.
const LAUNCH_KEYS: [&str; 13] = [
    "ptx",
    "entry",
    "grid",
    "block",
    "cluster",
    "shared_bytes",
    "cooperative",
    "dependent",
    "registers",
    "step_limit",
    "time_limit",
    "args",
    "variables",
];

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
pub(super) fn read_bytes(file: &Path, most: u64) -> Result<Vec<u8>, LaunchError> {
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
    let text = String::from_utf8(read_bytes(file, MAX_TEXT)?);
    let io = |e| LaunchError::Io { file: file.to_path_buf(), source: io::Error::new(io::ErrorKind::InvalidData, e) };
    text.map_err(io)
}

impl Reader {
    /// A launch file, or all that it includes.
    fn add(&mut self, path: &Path) -> Result<(), LaunchError> {
        let text = read_text(path)?;
        let value: Json = serde_json::from_str(&text)
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
    let known: Vec<&str> = ["launches"].into_iter().chain(SHARED_KEYS).chain(LAUNCH_KEYS).collect();
    root.only(&known)?;
    let mut file = LaunchFile { path: path.to_path_buf(), ..LaunchFile::default() };
    shared(root, &mut file)?;
    match root.optional("launches")? {
        Some(list) => {
            file.variables = named(root, "variables", contents)?;
            for launch in list.items()? {
                launch.only(&known[1..])?;
                shared(&launch, &mut file)?;
                file.launches.push(spec(&launch, root)?);
            }
        }
        None => file.launches.push(spec(root, root)?),
    }
    if file.launches.is_empty() {
        return Err(root.required("launches")?.error("expected at least one launch"));
    }
    file.check_names()?;
    Ok(file)
}

/// What all launches of a file share, wherever it is written.
fn shared(field: &Field, file: &mut LaunchFile) -> Result<(), LaunchError> {
    for entry in section(field, "buffers")? {
        if file.buffers.insert(entry.name(), buffer(&entry)?).is_some() {
            return Err(entry.error("a buffer of this name is already there"));
        }
    }
    for entry in section(field, "tensor_maps")? {
        if file.tensor_maps.insert(entry.name(), tensor_map(&entry)?).is_some() {
            return Err(entry.error("a tensor map of this name is already there"));
        }
    }
    file.dump.extend(named(field, "dump", Field::path)?);
    file.compare.extend(named(field, "compare", bound)?);
    Ok(())
}

fn section<'a>(field: &Field<'a>, name: &str) -> Result<Vec<Field<'a>>, LaunchError> {
    field.optional(name)?.map_or(Ok(Vec::new()), |section| section.entries())
}

/// The entries of a section, by name.
fn named<'a, T>(
    field: &Field<'a>,
    name: &str,
    read: impl Fn(&Field<'a>) -> Result<T, LaunchError>,
) -> Result<BTreeMap<String, T>, LaunchError> {
    section(field, name)?.iter().map(|entry| Ok((entry.name(), read(entry)?))).collect()
}

fn bound(field: &Field) -> Result<Bound, LaunchError> {
    field.only(&["dtype", "abs", "rel"])?;
    let number = |name: &str| field.optional(name)?.map_or(Ok(0.0), |f| f.f64());
    let dtype = field.optional("dtype")?.map(|f| f.word()).transpose()?;
    let bound = Bound { dtype, abs: number("abs")?, rel: number("rel")? };
    match bound {
        Bound { dtype: None, abs, rel } if abs != 0.0 || rel != 0.0 => {
            Err(field.error("a bound needs the \"dtype\" of the numbers"))
        }
        bound => Ok(bound),
    }
}

/// One launch; a key that it lacks is taken from the file's top level, but for variables.
fn spec(launch: &Field, root: &Field) -> Result<LaunchSpec, LaunchError> {
    let find = |name: &str| -> Result<Option<_>, LaunchError> {
        Ok(match launch.optional(name)? {
            Some(field) => Some(field),
            None => root.optional(name)?,
        })
    };
    let need = |name: &str| find(name)?.ok_or_else(|| launch.error(format!("the key {name:?} is missing")));
    Ok(LaunchSpec {
        grid: need("grid")?.extent()?,
        block: need("block")?.extent()?,
        cluster: find("cluster")?.map_or(Ok([1, 1, 1]), |f| f.extent())?,
        shared_bytes: find("shared_bytes")?.map_or(Ok(0), |f| f.integer())?,
        cooperative: find("cooperative")?.map_or(Ok(false), |f| f.bool())?,
        dependent: find("dependent")?.map_or(Ok(false), |f| f.bool())?,
        registers: find("registers")?.map(|f| f.integer()).transpose()?,
        step_limit: find("step_limit")?.map(|f| f.u64()).transpose()?,
        time_limit: find("time_limit")?.map(|f| f.seconds()).transpose()?,
        args: need("args")?.list(|field| value(field, &[]))?,
        variables: named(launch, "variables", contents)?,
        ..LaunchSpec::new(need("ptx")?.path()?, need("entry")?.text()?)
    })
}

const VALUES: [&str; 19] = [
    "buffer",
    "variable",
    "tensor_map",
    "tensor_map_pointer",
    "u8",
    "u16",
    "u32",
    "u64",
    "i8",
    "i16",
    "i32",
    "i64",
    "f16",
    "bf16",
    "f32",
    "f64",
    "bytes",
    "file",
    "struct",
];

/// A value, with perhaps some other keys beside it.
fn value(field: &Field, beside: &[&str]) -> Result<Value, LaunchError> {
    let offset = field.optional("offset")?;
    let value = field.variant(&VALUES, &[beside, &["offset"]].concat())?;
    let name = || value.text().map(str::to_string);
    if let Some(offset) = &offset
        && !["buffer", "variable"].contains(&value.name().as_str())
    {
        return Err(offset.error("only the address of a buffer or a variable has an offset"));
    }
    let offset = offset.map_or(Ok(0), |f| f.u64());
    Ok(match value.name().as_str() {
        "buffer" => Value::Buffer { buffer: name()?, offset: offset? },
        "variable" => Value::Variable { variable: name()?, offset: offset? },
        "tensor_map" => Value::TensorMap(name()?),
        "tensor_map_pointer" => Value::TensorMapPointer(name()?),
        "u8" => Value::U8(value.integer()?),
        "u16" => Value::U16(value.integer()?),
        "u32" => Value::U32(value.integer()?),
        "u64" => Value::U64(value.u64()?),
        "i8" => Value::I8(value.integer()?),
        "i16" => Value::I16(value.integer()?),
        "i32" => Value::I32(value.integer()?),
        "i64" => Value::I64(value.integer()?),
        "f16" => Value::F16(value.f64()?),
        "bf16" => Value::Bf16(value.f64()?),
        "f32" => Value::F32(value.f64()?),
        "f64" => Value::F64(value.f64()?),
        "bytes" => Value::Bytes(value.hex()?),
        "file" => Value::File(value.path()?),
        "struct" => Value::Struct(contents(&value)?),
        other => unreachable!("{other:?} is no value, and `variant` lets none but those pass"),
    })
}

fn contents(field: &Field) -> Result<Contents, LaunchError> {
    const SOURCES: [&str; 4] = ["fill", "random", "file", "hex"];
    field.only(&[&["bytes", "fields"], &SOURCES[..]].concat())?;
    let mut sources = Vec::new();
    for name in SOURCES {
        sources.extend(field.optional(name)?);
    }
    if sources.len() > 1 {
        return Err(sources[1].error(format!("contents have one of {}", SOURCES.join(", "))));
    }
    let source = match sources.first() {
        Some(source) => Some(match source.name().as_str() {
            "fill" | "random" if field.optional("bytes")?.is_none() => return Err(field.error("the key \"bytes\" is missing")),
            "fill" => Source::Fill(source.integer()?),
            "random" => Source::Random(Random::read(source)?),
            "file" => Source::File(source.path()?),
            _ => Source::Hex(source.hex()?),
        }),
        None => None,
    };
    let size = |field: Field| match field.u64()? {
        bytes if bytes > MAX_ALLOCATION => Err(field.error(format!("{bytes} bytes; a buffer has {MAX_ALLOCATION} at most"))),
        bytes => Ok(bytes),
    };
    let fields = field.optional("fields")?.map_or(Ok(Vec::new()), |fields| {
        fields.list(|f| Ok(FieldSpec { at: f.required("at")?.u64()?, value: value(f, &["at"])? }))
    })?;
    Ok(Contents { bytes: field.optional("bytes")?.map(size).transpose()?, source, fields })
}

/// Contents that say how many bytes there are.
fn buffer(field: &Field) -> Result<Contents, LaunchError> {
    let contents = contents(field)?;
    if !matches!(contents.source, Some(Source::File(_) | Source::Hex(_))) {
        field.required("bytes")?;
    }
    Ok(contents)
}

fn tensor_map(field: &Field) -> Result<MapSpec, LaunchError> {
    field.only(&[
        "buffer",
        "offset",
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
    let box_dims = field.required("box")?.list(Field::integer)?;
    let element_strides = field.optional("element_strides")?.map_or(Ok(vec![1; rank]), |f| f.list(Field::integer))?;
    let lengths = [
        ("strides_bytes", strides.len(), rank.saturating_sub(1)),
        ("box", box_dims.len(), rank),
        ("element_strides", element_strides.len(), rank),
    ];
    if let Some((name, len, want)) = lengths.into_iter().find(|(_, len, want)| len != want) {
        return Err(field.error(format!("{name} has {len} entries, and dims of rank {rank} need {want}")));
    }
    let spec = MapSpec {
        buffer: field.required("buffer")?.text()?.to_string(),
        offset: field.optional("offset")?.map_or(Ok(0), |f| f.u64())?,
        dtype: field.required("dtype")?.word()?,
        dims,
        strides_bytes: strides,
        box_dims,
        element_strides,
        interleave: default_word(field, "interleave")?,
        swizzle: default_word(field, "swizzle")?,
        l2_promotion: default_word(field, "l2_promotion")?,
        oob_fill: default_word(field, "oob_fill")?,
    };
    spec.at(0).check().map_err(|e| field.error(e.to_string()))?;
    Ok(spec)
}

/// One of some words, the first if the key is not there.
fn default_word<T: Default + for<'a> Deserialize<'a>>(field: &Field, name: &str) -> Result<T, LaunchError> {
    field.optional(name)?.map_or(Ok(T::default()), |f| f.word())
}
