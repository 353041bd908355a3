//! The compiler and assembler, from the wheels that NVIDIA publishes on PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name and version of each wheel. A newer NVRTC would write a PTX version that older drivers refuse to load.
const WHEELS: [(&str, &str); 3] =
    [("nvidia-cuda-nvrtc-cu12", "12.4.127"), ("nvidia-cuda-runtime-cu12", "12.4.127"), ("nvidia-cuda-nvcc-cu12", "12.4.131")];

/// Where the parts of the toolchain lie.
pub struct Toolchain {
    /// The NVRTC library.
    pub nvrtc: PathBuf,
    /// The assembler.
    pub ptxas: PathBuf,
    /// `cuda_fp16.h` and the like.
    pub include: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain under `target/toolchain`, installing what is missing.
    pub fn find(root: &Path) -> Result<Toolchain, String> {
        let folder = root.join("target/toolchain");
        let missing: Vec<String> = WHEELS
            .iter()
            .filter(|(name, version)| !folder.join(format!("{}-{version}.dist-info", name.replace('-', "_"))).exists())
            .map(|(name, version)| format!("{name}=={version}"))
            .collect();
        if !missing.is_empty() {
            install(&folder, &missing)?;
        }
        let nvidia = folder.join("nvidia");
        let toolchain = Toolchain {
            nvrtc: nvidia.join("cuda_nvrtc/lib/libnvrtc.so.12"),
            ptxas: nvidia.join("cuda_nvcc/bin/ptxas"),
            include: nvidia.join("cuda_runtime/include"),
        };
        for path in [&toolchain.nvrtc, &toolchain.ptxas, &toolchain.include] {
            if !path.exists() {
                return Err(format!("{} is missing; remove {} and try again", path.display(), folder.display()));
            }
        }
        Ok(toolchain)
    }
}

fn install(folder: &Path, wheels: &[String]) -> Result<(), String> {
    eprintln!("installing {} into {}", wheels.join(", "), folder.display());
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--target"])
        .arg(folder)
        .args(wheels)
        .status()
        .map_err(|e| format!("python3 cannot be run to install the CUDA compiler: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("pip could not install {}", wheels.join(", "))) }
}
