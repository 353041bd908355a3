//! The tensor crate's operations on CUDA: hand-written kernels (`kernels/*.cu`, each with the PTX that is committed beside it),
//! on a [`Driver`]: NVIDIA's, or an interpreter that plays a Hopper GPU inside the process.
//!
//! ```no_run
//! use tensor::{DType, Tensor};
//! let gpu = cuda::device(0)?;
//! let x = Tensor::ones([2, 3], DType::BF16, &gpu);
//! println!("{}", x.matmul(&x.t()));
//! # Ok::<(), cuda::DriverError>(())
//! ```
//!
//! Read in this order: [`Driver`] (what is asked of a GPU), `context` (faults stick to the stream and are reported at the next
//! synchronisation or read-back), `args` (a launch's parameters: how a kernel learns where elements lie), `gpu` (the device), then
//! any file of `backend` with its kernels. Nothing is computed on the host: only
//! [`Tensor::from_slice`](tensor::Tensor::from_slice) and its kind copy there and only reading back copies here, which
//! [`Cuda::transfers`] counts.
//!
//! Results are deterministic and batch-invariant: there are no floating-point atomics, and the order of a sum depends on its own
//! length and on whether its terms lie closest together, alone.

mod allocator;
mod args;
mod backend;
mod context;
mod gpu;
mod kernels;

pub use allocator::Memory;
pub use backend::matmul;
pub use context::Transfers;
pub use gpu::Cuda;
pub use ptx::Report;
pub use ptx::driver::interpreted::Options;
pub use ptx::driver::{Driver, DriverError, Properties};

use context::Context;
use ptx::driver::{card::Card, interpreted::Interpreted};
use tensor::Device;

/// The card with this number, as NVIDIA's driver counts.
///
/// # Errors
/// If there is no driver, or no such card.
pub fn device(ordinal: usize) -> Result<Device, DriverError> {
    Ok(Cuda::device_over(Context::new(Box::new(Card::open(ordinal)?))))
}

/// A Hopper GPU played by an interpreter of PTX: slow, and exact about what a card may do. A data race, a read of what was never
/// written, an access out of bounds, a missing wait is a fault.
pub fn interpreted() -> Device {
    interpreted_with(Options::default())
}

/// [`interpreted`] with a seed for everything that a card leaves open, and a memory of another size.
pub fn interpreted_with(options: Options) -> Device {
    Cuda::device_over(Context::new(Box::new(Interpreted::new(options))))
}
