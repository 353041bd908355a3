//! CUDA's driver (`libcuda.so.1`) and runtime (`libcudart.so.12` and `.13`) for a machine without a GPU: a program that is linked with
//! them runs its kernels on the interpreter of the crate `ptx`. `ptxi exec` puts this library where the program finds it.
//!
//! From the ground up:
//!
//! - `status` and `call`: what calls return, and how they are declared; `host`: the program's memory;
//!   `types`: NVIDIA's structures; `handles`: what the program holds of things.
//! - `fatbin`: PTX out of a program; `memory`, `modules`, `graph`, `session`; `properties` and `occupancy`: what the device
//!   says of itself and of kernels.
//! - `device`: all of it behind one lock, and work for it; `launch`, and `capture`, which writes one to files.
//! - `runtime` and `driver`: two thin faces, a list of functions each; `entry` finds the driver's by name.
//!
//! `unsafe` is in `host` alone, beside the export of names.

mod call;
mod capture;
mod device;
mod driver;
mod entry;
mod fatbin;
mod graph;
mod handles;
mod host;
mod launch;
mod memory;
mod modules;
mod occupancy;
mod properties;
mod runtime;
mod session;
mod status;
mod types;
