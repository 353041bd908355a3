//! Launch files: a kernel launch, or several, written as JSON, so that a kernel can be run, checked and compared with a real
//! card from the command line (`ptxi run LAUNCH.json`).
//!
//! ```json
//! {
//!   "ptx": "k.ptx", "entry": "name",
//!   "grid": [2, 1, 1], "block": [128, 1, 1], "cluster": [1, 1, 1], "shared_bytes": 0,
//!   "buffers": {
//!     "a": {"file": "a.bin"},
//!     "b": {"bytes": 4096, "random": {"dtype": "bf16", "seed": 1, "low": -1, "high": 1}},
//!     "c": {"bytes": 4096},
//!     "d": {"bytes": 64, "fill": 0}
//!   },
//!   "tensor_maps": {
//!     "ta": {"buffer": "a", "dtype": "bf16", "dims": [64, 32], "strides_bytes": [128], "box": [64, 8],
//!            "element_strides": [1, 1], "swizzle": "128B", "interleave": "none", "l2_promotion": "none", "oob_fill": "zero"}
//!   },
//!   "args": [{"buffer": "a", "offset": 64}, {"tensor_map": "ta"}, {"tensor_map_pointer": "ta"}, {"u32": 1}, {"f32": 1.0},
//!            {"bytes": "0102ff"},
//!            {"struct": {"bytes": 192, "fields": [{"at": 0, "f32": 1.5}, {"at": 8, "buffer": "b"}, {"at": 64, "tensor_map": "ta"}]}}],
//!   "variables": {"coefficients": {"hex": "0000803f"}},
//!   "dump": {"c": "c.bin"},
//!   "compare": {"c": {"dtype": "f32", "abs": 1e-6, "rel": 1e-5}}
//! }
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `ptx`, `entry` | the module and the kernel in it |
//! | `grid`, `block`, `cluster` | three positive integers each; `cluster` is what the kernel demands, or `[1, 1, 1]`, if not given |
//! | `shared_bytes` | dynamic shared memory; 0 if not given |
//! | `cooperative` | `true`: all CTAs are resident at once and `grid.sync()` works |
//! | `dependent` | `true`: the launch may begin before the one before it has ended (programmatic dependent launch) |
//! | `registers` | registers of a thread, as `ptxas -v` prints them |
//! | `step_limit` | warp instructions after which the launch is given up |
//! | `time_limit` | seconds after which it is given up |
//! | `args` | the parameters in order, each a *value*; they are checked against the kernel's `.param`s |
//! | `buffers` | global memory, each with *contents* |
//! | `variables` | *contents* of `__constant__` and `__device__` variables by their names in the PTX, set before the launch; at the top level beside `launches`: once, before the first. What they do not say stays as it is |
//! | `tensor_maps` | as for `cuTensorMapEncodeTiled`, innermost dimension first: `dims` and `box` and `element_strides` (1 if not given) have an entry per dimension, `strides_bytes` one fewer; `swizzle` is `none`, `32B`, `64B` or `128B`; `interleave` `none`, `16B` or `32B`; `l2_promotion` `none`, `64B`, `128B` or `256B`; `oob_fill` `zero` or `nan`; `offset` bytes into the buffer |
//! | `dump` | buffers to write to files afterwards |
//! | `compare` | how far a buffer may be from the card's with `--on both`: \|x − y\| ≤ `abs` + `rel` · \|y\|; bit for bit without a `dtype` |
//!
//! **Contents** are so many `bytes`, with what is in them at first: nothing (uninitialised; zeros in a struct), or a `fill` (a
//! byte), or `random` (`low` ≤ x < `high`, by default -1 and 1, in one of `u8`, `u32`, `i32`, `f16`, `bf16`, `f32`, `f64`,
//! `e4m3`), or those of a `file`, or `hex`adecimal digits. The last two say by themselves how many there are; with more
//! `bytes`, those behind them are as if there were none. `fields` then lays values over them: `{"at": BYTES, …}` with a value
//! beside, so that structs and arrays may hold pointers and tensor maps.
//!
//! A **value** is one of
//!
//! | | |
//! |---|---|
//! | `buffer`, perhaps with `offset` | an address in a buffer |
//! | `variable`, perhaps with `offset` | an address in a module variable |
//! | `tensor_map` | the 128 bytes of a tensor map |
//! | `tensor_map_pointer` | the address of a copy of them in global memory |
//! | `u8` … `u64`, `i8` … `i64`, `f16`, `bf16`, `f32`, `f64` | a number; `"nan"`, `"inf"` and `"-inf"` are floating-point numbers, too |
//! | `bytes`, `file` | bytes as hexadecimal digits, or those of a file |
//! | `struct` | contents, with or without `bytes` (as many as the parameter has) |
//!
//! Several launches stand in a list under `"launches"` and share all buffers and tensor maps; a key that one of them lacks is
//! taken from the top level. `{"include": ["a.json", "b.json"]}` runs other launch files, each with memory of its own. Paths are
//! relative to the file that names them. A key that is not known is refused.

mod check;
mod contents;
mod error;
mod fields;
mod file;
mod fill;
mod run;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use contents::{Contents, FieldSpec, Source, Value};
pub use error::LaunchError;
pub use file::read_text;
pub use fill::{Dtype, Random};
pub use run::{Outcome, Prepared};

use crate::tensor_map::{ElementType, Interleave, L2Promotion, OobFill, Swizzle};

/// A launch file. [`LaunchFile::read`] and [`LaunchFile::write`] are each other's inverse.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LaunchFile {
    /// Where it was read from. Paths in it are relative to the process, and relative to the file when written.
    #[serde(skip)]
    pub path: PathBuf,
    /// The launches, in order.
    pub launches: Vec<LaunchSpec>,
    /// Module variables, set once before the first launch, in each module that declares them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Contents>,
    /// Global memory.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub buffers: BTreeMap<String, Contents>,
    /// Tensor maps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tensor_maps: BTreeMap<String, MapSpec>,
    /// The buffers to write to files in the end.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dump: BTreeMap<String, PathBuf>,
    /// How far buffers may be from the card's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub compare: BTreeMap<String, Bound>,
}

/// One launch of a [`LaunchFile`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaunchSpec {
    /// The file of the module.
    pub ptx: PathBuf,
    /// The kernel's name.
    pub entry: String,
    /// CTAs.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// CTAs of a cluster.
    #[serde(skip_serializing_if = "is_one")]
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    #[serde(skip_serializing_if = "is_default")]
    pub shared_bytes: u32,
    /// All CTAs are resident at once.
    #[serde(skip_serializing_if = "is_default")]
    pub cooperative: bool,
    /// It may begin before the launch before it has ended.
    #[serde(skip_serializing_if = "is_default")]
    pub dependent: bool,
    /// Registers of a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registers: Option<u32>,
    /// Warp instructions after which it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_limit: Option<u64>,
    /// Seconds after which it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<f64>,
    /// Arguments in order.
    pub args: Vec<Value>,
    /// Module variables, set before this launch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Contents>,
}

impl LaunchSpec {
    /// One CTA of one thread, without parameters.
    pub fn new(ptx: impl Into<PathBuf>, entry: impl Into<String>) -> LaunchSpec {
        LaunchSpec {
            ptx: ptx.into(),
            entry: entry.into(),
            grid: [1; 3],
            block: [1; 3],
            cluster: [1; 3],
            shared_bytes: 0,
            cooperative: false,
            dependent: false,
            registers: None,
            step_limit: None,
            time_limit: None,
            args: Vec::new(),
            variables: BTreeMap::new(),
        }
    }
}

fn is_one(extent: &[u32; 3]) -> bool {
    *extent == [1; 3]
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A tensor map of a [`LaunchFile`]: what `cuTensorMapEncodeTiled` takes, with a buffer for its address.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapSpec {
    /// The tensor's buffer.
    pub buffer: String,
    /// Where in it the tensor begins, in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub offset: u64,
    /// Type of the elements.
    pub dtype: ElementType,
    /// Elements in each dimension, innermost first.
    pub dims: Vec<u64>,
    /// Bytes from one element to the next in each dimension but the innermost.
    pub strides_bytes: Vec<u64>,
    /// Elements of the box in each dimension.
    #[serde(rename = "box")]
    pub box_dims: Vec<u32>,
    /// Every how many-th element is taken.
    pub element_strides: Vec<u32>,
    /// Interleaved layout.
    pub interleave: Interleave,
    /// Swizzle of shared memory.
    pub swizzle: Swizzle,
    /// L2 promotion.
    pub l2_promotion: L2Promotion,
    /// Fill for what is out of bounds.
    pub oob_fill: OobFill,
}

/// How far apart two runs may be: |x - y| ≤ `abs` + `rel` · |y|, or bit for bit without a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bound {
    /// Type of the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Number>,
    /// Absolute part.
    pub abs: f64,
    /// Relative part.
    pub rel: f64,
}

/// Numbers that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Number {
    F16,
    Bf16,
    F32,
    F64,
}
