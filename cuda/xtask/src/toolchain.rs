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

/// What compiles whole programs: nvcc with its host side, which the wheels have from CUDA 13 on.
const NVCC_WHEELS: [(&str, &str); 5] = [
    ("nvidia-cuda-nvcc", "13.5.37"),
    ("nvidia-cuda-crt", "13.5.37"),
    ("nvidia-nvvm", "13.5.37"),
    ("nvidia-cuda-runtime", "13.5.37"),
    ("nvidia-cuda-cccl", "13.3.5.0.6"),
];

/// The disassembler, which reads what older assemblers wrote.
const NVDISASM_WHEELS: [(&str, &str); 1] = [("nvidia-cuda-nvdisasm", "13.5.37")];

/// Finds nvdisasm under `target/toolchain13`, installing it if it is missing.
pub fn nvdisasm(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join("target/toolchain13");
    ensure(&folder, &NVDISASM_WHEELS)?;
    let tools = folder.join("nvidia/cu13/bin");
    executable(&tools)?;
    Ok(tools.join("nvdisasm"))
}

/// Finds nvcc 13 under `target/toolchain13`, installing what is missing.
pub fn nvcc(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join("target/toolchain13");
    ensure(&folder, &NVCC_WHEELS)?;
    let toolkit = folder.join("nvidia/cu13");
    for tools in ["bin", "nvvm/bin"] {
        executable(&toolkit.join(tools))?;
    }
    // The linker looks for the library by this name, which the wheel does not have.
    let link = toolkit.join("lib/libcudart.so");
    if !link.exists() {
        std::os::unix::fs::symlink("libcudart.so.13", &link).map_err(|e| format!("{}: {e}", link.display()))?;
    }
    Ok(toolkit.join("bin/nvcc"))
}

/// Lets the files of a folder be run: installers of wheels may lose that.
fn executable(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let mut permissions = fs::metadata(&path).map_err(failed)?.permissions();
        if path.is_file() && permissions.mode() & 0o111 != 0o111 {
            permissions.set_mode(permissions.mode() | 0o111);
            fs::set_permissions(&path, permissions).map_err(failed)?;
        }
    }
    Ok(())
}

/// Installs those of some wheels that a folder lacks.
fn ensure(folder: &Path, wheels: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<String> = wheels
        .iter()
        .filter(|(name, version)| !folder.join(format!("{}-{version}.dist-info", name.replace('-', "_"))).exists())
        .map(|(name, version)| format!("{name}=={version}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { install(folder, &missing) }
}

impl Toolchain {
    /// Finds the toolchain under `target/toolchain`, installing what is missing.
    pub fn find(root: &Path) -> Result<Toolchain, String> {
        let folder = root.join("target/toolchain");
        ensure(&folder, &WHEELS)?;
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
