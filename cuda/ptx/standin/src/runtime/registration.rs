//! What nvcc's code calls before `main`, and around `<<<>>>`.

use std::cell::RefCell;
use std::ffi::c_char;

use crate::call::offer;
use crate::device::{device, healthy};
use crate::host;
use crate::session::session;
use crate::status::Status;
use crate::types::Dim3;

thread_local! {
    /// What `<<<>>>` says, until the launch takes it.
    static CONFIGURATIONS: RefCell<Vec<(Dim3, Dim3, u64, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Does what cannot fail in the program's eyes.
fn quietly(name: &str, work: impl FnOnce() -> crate::call::Result) {
    if let Err(e) = work() {
        session().refuse(&format!("{name}: {}", e.why.unwrap_or_else(|| format!("status {}", e.status.0))));
    }
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaRegisterFatBinary(wrapper: u64) -> u64 {
    device(|d| Ok(d.modules.add(wrapper))).unwrap_or(0)
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaRegisterFatBinaryEnd(_image: u64) {}

/// Programs unregister at their end, when nothing can be launched any more.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaUnregisterFatBinary(_image: u64) {}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaRegisterFunction(image: u64, function: u64, _device_function: u64, name: *const c_char) {
    quietly("__cudaRegisterFunction", || {
        let name = host::text(name)?;
        device(|d| {
            d.modules.register_function(image, function, name);
            Ok(())
        })
    });
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaRegisterVar(image: u64, variable: u64, _device_address: u64, name: *const c_char) {
    quietly("__cudaRegisterVar", || {
        let name = host::text(name)?;
        device(|d| {
            d.modules.register_variable(image, variable, name);
            Ok(())
        })
    });
}

#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaRegisterManagedVar(image: u64, pointer: u64, _device_address: u64, name: *const c_char) {
    quietly("__cudaRegisterManagedVar", || {
        let name = host::text(name)?;
        device(|d| {
            d.modules.register_managed(image, pointer, name);
            Ok(())
        })
    });
}

/// The program is about to touch a `__managed__` variable, which must be there.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaInitModule(image: u64) -> c_char {
    quietly("__cudaInitModule", || device(|d| d.modules.load(&mut d.gpu, &mut d.blocks, image).map(|_| ())));
    1
}

/// Returns 0 where a launch is to follow.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "NVIDIA's name")]
pub extern "C" fn __cudaPushCallConfiguration(grid: Dim3, block: Dim3, shared_bytes: u64, stream: u64) -> u32 {
    CONFIGURATIONS.with_borrow_mut(|all| all.push((grid, block, shared_bytes, stream)));
    0
}

offer! { runtime;
    __cudaPopCallConfiguration(grid: *mut Dim3, block: *mut Dim3, shared_bytes: *mut u64, stream: *mut u64) {
        let Some((g, b, bytes, s)) = CONFIGURATIONS.with_borrow_mut(Vec::pop) else {
            return Err(Status::MISSING_CONFIGURATION.into());
        };
        host::put(grid, g)?;
        host::put(block, b)?;
        host::put(shared_bytes, bytes)?;
        host::put(stream, s)
    }
    __cudaGetKernel | cudaGetKernel | cudaGetFuncBySymbol(kernel: *mut u64, function: u64) {
        host::put(kernel, healthy(|d| d.modules.find(function))?)
    }
}
