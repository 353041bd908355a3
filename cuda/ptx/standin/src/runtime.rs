//! The runtime API: what nvcc writes into programs that are linked with `-cudart shared`.

mod device;
mod graph;
mod kernel;
pub mod library;
mod memory;
mod pool;
mod refused;
mod registration;
pub mod streams;

pub use device::{limit, only};
pub use graph::{instantiate, launch as launch_graph};
pub use kernel::set_attribute;
pub use pool::{POOL, attribute as pool_attribute};
