//! Libraries: modules that a program loads by itself.

use std::ffi::c_char;

use crate::call::{Result, failure, offer};
use crate::device::healthy;
use crate::host;
use crate::status::Status;

/// A module from memory, which must be one that can be taken.
pub fn load(image: u64) -> Result<u64> {
    healthy(|d| {
        let handle = d.modules.add(image);
        match d.modules.load(&mut d.gpu, &mut d.blocks, handle) {
            Ok(_) => Ok(handle),
            Err(e) => {
                d.modules.remove(handle)?;
                Err(e)
            }
        }
    })
}

/// A module from a file: PTX or a fat binary.
pub fn load_file(path: *const c_char) -> Result<u64> {
    let path = host::text(path)?;
    let mut bytes = std::fs::read(&path).map_err(|e| failure(Status::FILE_NOT_FOUND, format!("{path}: {e}")))?;
    bytes.push(0);
    load(bytes.as_ptr() as u64)
}

/// A kernel of a module by name.
pub fn kernel(module: u64, name: *const c_char) -> Result<u64> {
    let name = host::text(name)?;
    healthy(|d| {
        let handle = d.modules.kernel(module, name);
        d.modules.loaded(&mut d.gpu, &mut d.blocks, handle).map(|_| handle)
    })
}

/// Address and bytes of a variable of a module.
pub fn global(address: *mut u64, bytes: *mut u64, module: u64, name: *const c_char) -> Result {
    let name = host::text(name)?;
    let (at, size) = healthy(|d| d.modules.global(&mut d.gpu, &mut d.blocks, module, &name))?;
    host::put_if(address, at);
    host::put_if(bytes, size);
    Ok(())
}

/// All kernels of a module.
pub fn kernels(module: u64) -> Result<Vec<u64>> {
    healthy(|d| {
        let loaded = d.modules.load(&mut d.gpu, &mut d.blocks, module)?;
        Ok(loaded.module.kernels().map(|name| d.modules.kernel(module, name.to_string())).collect())
    })
}

offer! { runtime;
    cudaLibraryLoadData(
        out: *mut u64, code: u64, _jit: u64, _jit_values: u64, _jit_count: u32, _options: u64, _values: u64, _count: u32,
    ) {
        host::put(out, load(code)?)
    }
    cudaLibraryLoadFromFile(
        out: *mut u64, path: *const c_char, _jit: u64, _jit_values: u64, _jit_count: u32, _options: u64, _values: u64, _count: u32,
    ) {
        host::put(out, load_file(path)?)
    }
    cudaLibraryUnload(library: u64) { healthy(|d| d.modules.remove(library)) }
    cudaLibraryGetKernel(out: *mut u64, library: u64, name: *const c_char) { host::put(out, kernel(library, name)?) }
    cudaLibraryGetGlobal | cudaLibraryGetManaged(address: *mut u64, bytes: *mut u64, library: u64, name: *const c_char) {
        global(address, bytes, library, name)
    }
    cudaLibraryGetKernelCount(out: *mut u32, library: u64) { host::put(out, kernels(library)?.len() as u32) }
    cudaLibraryEnumerateKernels(out: *mut u64, count: u32, library: u64) {
        let all = kernels(library)?;
        for (i, kernel) in all.into_iter().take(count as usize).enumerate() {
            host::put(out.wrapping_add(i), kernel)?;
        }
        Ok(())
    }
}
