//! `ptxi exec --capture DIR`: a launch as a launch file, with its PTX and all memory that it can reach, as they are before it.
//!
//! A word that holds an address of the device's memory is taken for a pointer, in parameters, in buffers and in variables of the module;
//! what it points into is captured, too, and so on. So is a tensor map where its bytes lie at a multiple of 64. Bytes that nothing wrote
//! are left out behind the last one that is written; between others they are captured as 0xFF, and count as written in the launch file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ptx::Gpu;
use ptx::launch::{Contents, FieldSpec, LaunchFile, LaunchSpec, MapSpec, Source, Value};
use ptx::tensor_map::{MAP_ALIGN, MAP_BYTES, TensorMap};

use crate::call::{Result, failure};
use crate::launch::Request;
use crate::memory::Blocks;
use crate::modules::{Kernel, Loaded};
use crate::status::Status;

/// More bytes than this have a file of their own.
const MOST_HEX: usize = 64;

/// A capture under way.
struct Capture<'a> {
    gpu: &'a Gpu,
    blocks: &'a Blocks,
    /// Address, bytes and name of the module's variables.
    variables: Vec<(u64, u64, String)>,
    /// Start addresses of the blocks that were met.
    met: BTreeSet<u64>,
    maps: BTreeMap<String, MapSpec>,
}

/// Writes `DIR/launch_N.json`, the PTX of its module, and a folder `DIR/launch_N` with its buffers.
pub fn capture(
    folder: &Path,
    number: u64,
    (kernel, loaded): (&Kernel, &Loaded),
    request: &Request,
    gpu: &Gpu,
    blocks: &Blocks,
) -> Result {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| failure(Status::UNKNOWN, format!("capture: {path}: {e}"))
    };
    let stem = format!("launch_{number}");
    let data = folder.join(&stem);
    fs::create_dir_all(&data).map_err(io(&data))?;
    let ptx = folder.join(format!("{}.ptx", loaded.name.replace(' ', "_")));
    fs::write(&ptx, loaded.text.as_bytes()).map_err(io(&ptx))?;

    let named = loaded.module.variables().filter_map(|(name, _)| {
        let variable = gpu.variable(loaded.handle, name)?;
        Some((variable.ptr(), variable.bytes(), name.to_string()))
    });
    let mut capture = Capture { gpu, blocks, variables: named.collect(), met: BTreeSet::new(), maps: BTreeMap::new() };
    let mut spec = LaunchSpec {
        grid: request.grid,
        block: request.block,
        cluster: request.cluster,
        shared_bytes: request.shared_bytes,
        cooperative: request.cooperative,
        dependent: request.dependent,
        ..LaunchSpec::new(ptx, kernel.name.clone())
    };
    for param in loaded.params(&kernel.name) {
        let bytes = &request.params[param.offset as usize..][..param.size as usize];
        spec.args.push(capture.value(bytes));
    }
    let store = |name: &str, bytes: &[u8]| -> Result<Source> {
        if bytes.len() <= MOST_HEX {
            return Ok(Source::Hex(bytes.to_vec()));
        }
        let path = data.join(format!("{name}.bin"));
        fs::write(&path, bytes).map_err(io(&path))?;
        Ok(Source::File(path))
    };
    for (address, bytes, name) in capture.variables.clone() {
        spec.variables.insert(name.clone(), capture.memory(address, bytes, |b| store(&file_name(&name), b))?);
    }
    let mut buffers = BTreeMap::new();
    while let Some(&address) = capture.met.iter().find(|a| !buffers.contains_key(&buffer(**a))) {
        let Some(block) = blocks.find(address) else { break };
        let contents = capture.memory(block.address, block.bytes, |b| store(&buffer(address), b))?;
        buffers.insert(buffer(address), contents);
    }
    let file = LaunchFile { launches: vec![spec], buffers, tensor_maps: capture.maps, ..LaunchFile::default() };
    let path = folder.join(format!("{stem}.json"));
    file.write(&path).map_err(|e| failure(Status::UNKNOWN, format!("capture: {e}")))
}

/// What a block is called.
fn buffer(address: u64) -> String {
    format!("at_{address:x}")
}

/// A variable's name, without what a file's cannot have.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

impl Capture<'_> {
    /// An argument: an address, bytes, or both and tensor maps in a struct.
    fn value(&mut self, bytes: &[u8]) -> Value {
        let mut fields = self.fields(bytes);
        match fields.len() {
            0 => Value::Bytes(bytes.to_vec()),
            1 if bytes.len() == 8 || matches!(fields[0].value, Value::TensorMap(_)) && bytes.len() == MAP_BYTES => {
                fields.remove(0).value
            }
            _ => Value::Struct(Contents { bytes: None, source: Some(Source::Hex(bytes.to_vec())), fields }),
        }
    }

    /// Memory with what is in it.
    fn memory(&mut self, address: u64, len: u64, store: impl FnOnce(&[u8]) -> Result<Source>) -> Result<Contents> {
        let (bytes, written) = self.gpu.read_initialized(address, len as usize)?;
        let end = written.iter().rposition(|&w| w).map_or(0, |last| last + 1);
        if end == 0 {
            return Ok(Contents::uninitialized(len));
        }
        let fields = self.fields(&bytes[..end]);
        let source = match bytes[..end].iter().all(|&b| b == bytes[0]) {
            true if end as u64 == len => Source::Fill(bytes[0]),
            _ => store(&bytes[..end])?,
        };
        Ok(Contents { bytes: Some(len), source: Some(source), fields })
    }

    /// The addresses and tensor maps in some bytes.
    fn fields(&mut self, bytes: &[u8]) -> Vec<FieldSpec> {
        let mut fields = Vec::new();
        let mut at = 0;
        while at + 8 <= bytes.len() {
            let map = (at as u64).is_multiple_of(MAP_ALIGN).then(|| bytes.get(at..at + MAP_BYTES)).flatten();
            if let Some(name) = map.and_then(|b| self.map(b.try_into().ok()?)) {
                fields.push(FieldSpec { at: at as u64, value: Value::TensorMap(name) });
                at += MAP_BYTES;
                continue;
            }
            let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
            if let Some(value) = self.address(word) {
                fields.push(FieldSpec { at: at as u64, value });
            }
            at += 8;
        }
        fields
    }

    /// A word that is an address in a block or in a variable.
    fn address(&mut self, word: u64) -> Option<Value> {
        if !self.gpu.owns(word) {
            return None;
        }
        if let Some((address, _, name)) = self.variables.iter().find(|(a, len, _)| word.wrapping_sub(*a) < *len) {
            return Some(Value::Variable { variable: name.clone(), offset: word - address });
        }
        // An address just past a block's end is one, too: that of an iterator.
        let block = self.blocks.find(word).or_else(|| self.blocks.find(word - 1))?;
        self.met.insert(block.address);
        Some(Value::buffer(buffer(block.address), word - block.address))
    }

    /// The name of a tensor map over a block.
    fn map(&mut self, bytes: &[u8; MAP_BYTES]) -> Option<String> {
        let map = TensorMap::decode(bytes)?;
        let block = self.blocks.find(map.address)?;
        self.met.insert(block.address);
        let spec = MapSpec {
            buffer: buffer(block.address),
            offset: map.address - block.address,
            dtype: map.element,
            dims: map.dims,
            strides_bytes: map.strides,
            box_dims: map.box_dims,
            element_strides: map.element_strides,
            interleave: map.interleave,
            swizzle: map.swizzle,
            l2_promotion: map.l2_promotion,
            oob_fill: map.oob_fill,
        };
        if let Some((name, _)) = self.maps.iter().find(|(_, known)| **known == spec) {
            return Some(name.clone());
        }
        let name = format!("map_{}", self.maps.len());
        self.maps.insert(name.clone(), spec);
        Some(name)
    }
}
