//! N-dimensional strided tensors, the [`Backend`] trait and a multi-threaded vectorised CPU backend.
//!
//! Read in this order: [`Shape`] and [`Layout`] (a view is arithmetic on strides), [`Tensor`] (a
//! view of shared memory), [`backend`] (what a device must do), then any file of [`ops`]: each holds an operation's docs,
//! shape rule, definition and CPU kernel together. The low-level loops (matrix multiplication, vector mathematics, run-time
//! choice of instruction set) are in [`cpu`].
//!
//! Names and semantics are PyTorch's. Misuse (shapes, dtypes, devices that do not fit) panics at the caller's line and names
//! the operation and both shapes.
//!
//! ```
//! use tensor::{DType, Device, Tensor};
//! let cpu = Device::cpu();
//! let x = Tensor::arange(0, 6, 1, DType::F32, &cpu).reshape(&[2, 3]);
//! let y = (&x * 2.0 + 1.0).softmax(-1);
//! assert_eq!(y.dims(), [2, 3]);
//! println!("{y}");
//! ```

pub mod backend;
pub mod cpu;
mod device;
mod display;
mod dtype;
mod fused;
pub mod layout;
mod op;
mod operation;
pub mod ops;
pub mod profile;
pub mod random;
pub mod shape;
mod storage;
mod tensor;

pub use backend::{Backend, DeviceError, Distribution};
pub use device::{Device, WeakDevice};
pub use dtype::{DType, Element, F8E4M3, Scalar};
pub use fused::{AdamW, Fused};
pub use half::{bf16, f16};
pub use layout::Layout;
pub use op::{BinaryOp, Gelu, ReduceOp, UnaryOp};
pub use operation::{operation, refuse, running_operation};
pub use ops::attention::Attention;
pub use ops::binary::Operand;
pub use ops::index::Repeats;
pub use ops::loss::{CrossEntropy, Reduction};
pub use random::Generator;
pub use shape::{Dims, Shape};
pub use storage::{Buffer, Storage};
pub use tensor::Tensor;
