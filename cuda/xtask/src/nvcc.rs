//! `cargo xtask nvcc`: NVIDIA's compiler of whole programs, from wheels.

use std::path::Path;
use std::process::Command;

use crate::toolchain;

/// The task: see the command's help. It ends as nvcc does.
pub fn run(args: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(|e| e.to_string())?;
    let nvcc = toolchain::nvcc(&root)?;
    let args = args.strip_prefix(&["--".to_string()]).unwrap_or(args);
    let status = Command::new(&nvcc).args(args).status().map_err(|e| format!("{}: {e}", nvcc.display()))?;
    if status.success() { Ok(()) } else { Err(format!("nvcc: {status}")) }
}
