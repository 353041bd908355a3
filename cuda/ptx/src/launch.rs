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
//!   "args": [{"buffer": "a"}, {"tensor_map": "ta"}, {"tensor_map_pointer": "ta"}, {"u32": 1}, {"i32": -1}, {"u64": 1},
//!            {"f32": 1.0}, {"bytes": "0102ff"}],
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
//! | `buffers` | global memory: the bytes of a `file`, or so many `bytes`, which are uninitialised unless they have a `fill` (a byte) or are `random` (`low` ≤ x < `high`, by default -1 and 1, in one of `u8`, `u32`, `i32`, `f16`, `bf16`, `f32`, `f64`, `e4m3`) |
//! | `tensor_maps` | as for `cuTensorMapEncodeTiled`, innermost dimension first: `dims` and `box` and `element_strides` (1 if not given) have an entry per dimension, `strides_bytes` one fewer; `swizzle` is `none`, `32B`, `64B` or `128B`; `interleave` `none`, `16B` or `32B`; `l2_promotion` `none`, `64B`, `128B` or `256B`; `oob_fill` `zero` or `nan` |
//! | `args` | the parameters in order: a buffer's address, a tensor map by value (128 bytes), the address of a copy of it in global memory, or a number, or bytes in hexadecimal |
//! | `dump` | buffers to write to files afterwards |
//! | `compare` | how far a buffer may be from the card's with `--on both`: \|x − y\| ≤ `abs` + `rel` · \|y\|; bit for bit without a `dtype` |
//!
//! Several launches stand in a list under `"launches"` and share all buffers and tensor maps; a key that one of them lacks is
//! taken from the top level. `{"include": ["a.json", "b.json"]}` runs other launch files, each with memory of its own. Paths are
//! relative to the file that names them. A key that is not known is refused.

mod error;
mod fields;
mod file;
mod fill;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use error::LaunchError;
pub use file::read_text;
pub use run::{Outcome, Prepared};

use crate::tensor_map::TensorMap;

/// A launch file, read and checked.
#[derive(Clone, Debug)]
pub struct LaunchFile {
    path: PathBuf,
    launches: Vec<LaunchSpec>,
    buffers: BTreeMap<String, BufferSpec>,
    tensor_maps: BTreeMap<String, MapSpec>,
    dump: BTreeMap<String, PathBuf>,
    compare: BTreeMap<String, Option<Bound>>,
}

#[derive(Clone, Debug)]
struct LaunchSpec {
    ptx: PathBuf,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    cluster: [u32; 3],
    shared_bytes: u32,
    args: Vec<Arg>,
}

#[derive(Clone, Debug)]
enum Arg {
    Buffer(String),
    TensorMap(String),
    TensorMapPointer(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
struct BufferSpec {
    bytes: Option<u64>,
    contents: Contents,
}

#[derive(Clone, Debug)]
enum Contents {
    Uninitialized,
    Fill(u8),
    Random(fill::Random),
    File(PathBuf),
}

#[derive(Clone, Debug)]
struct MapSpec {
    buffer: String,
    map: TensorMap,
}

/// How far apart two runs may be.
#[derive(Clone, Copy, Debug)]
struct Bound {
    number: Number,
    abs: f64,
    rel: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Number {
    F16,
    Bf16,
    F32,
    F64,
}
