//! The driver API: what programs link as `libcuda.so.1`, or find by name.

mod context;
mod kernel;
mod memory;
mod refused;
mod stream;
mod tensor_map;
