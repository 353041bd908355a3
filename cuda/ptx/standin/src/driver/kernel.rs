//! Modules, functions and launches.

use std::ffi::c_char;

use crate::call::{Result, failure, offer};
use crate::device::{Device, Work, healthy, submit};
use crate::host;
use crate::launch::{Request, attributes};
use crate::modules::Kernel;
use crate::occupancy;
use crate::runtime::library::{global, kernel, kernels, load, load_file};
use crate::runtime::set_attribute;
use crate::status::Status;
use crate::types::{Dim3, DriverLaunchConfig, LaunchAttribute};

/// A launch of either form.
struct Asked {
    function: u64,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: u64,
}

/// Ends of the list that `extra` is, and what comes before a value in it.
const EXTRA_END: u64 = 0;
const EXTRA_POINTER: u64 = 1;
const EXTRA_SIZE: u64 = 2;

/// The block of parameters as `extra` gives it.
fn packed(extra: *const u64) -> Result<Vec<u8>> {
    let (mut pointer, mut size) = (0, 0u64);
    let mut at = extra;
    loop {
        match host::get(at)? {
            EXTRA_END => break,
            EXTRA_POINTER => pointer = host::get(at.wrapping_add(1))?,
            EXTRA_SIZE => size = host::get(host::get(at.wrapping_add(1))? as *const u64)?,
            other => return Err(failure(Status::INVALID_VALUE, format!("{other} in the list of extra options"))),
        }
        at = at.wrapping_add(2);
    }
    Ok(host::bytes(pointer, size as usize).to_vec())
}

fn launch(asked: Asked, list: &[LaunchAttribute], cooperative: bool, params: *const u64, extra: *const u64) -> Result {
    let with = attributes(list)?;
    let request = healthy(|d: &mut Device| {
        let kernel = d.modules.find(asked.function)?;
        let block = if extra.is_null() { d.params(kernel, params)? } else { packed(extra)? };
        Ok(Request {
            kernel,
            grid: asked.grid,
            block: asked.block,
            cluster: with.cluster,
            shared_bytes: asked.shared_bytes,
            cooperative: cooperative || with.cooperative,
            dependent: with.dependent,
            params: block,
        })
    })?;
    submit(asked.stream, Work::Launch(request))
}

fn described<T>(function: u64, work: impl FnOnce(&mut Kernel, ptx::KernelInfo) -> Result<T>) -> Result<T> {
    healthy(|d| d.described(function, work))
}

fn attribute(function: u64, number: u32) -> Result<i32> {
    described(function, |kernel, info| {
        let cluster = info.reqnctapercluster.unwrap_or_default();
        Ok(match number {
            0 => occupancy::max_threads(&info) as i32,
            1 => info.static_shared as i32,
            2 | 7 | 15 => 0,
            3 => info.local as i32,
            4 => occupancy::registers(&info) as i32,
            5 | 6 => 90,
            8 => kernel.max_dynamic_shared as i32,
            9 => kernel.carveout,
            10 => i32::from(info.explicit_cluster && info.reqnctapercluster.is_none()),
            11..=13 => cluster[number as usize - 11] as i32,
            14 => i32::from(kernel.large_clusters),
            _ => return Err(failure(Status::INVALID_VALUE, format!("{number} is no attribute of a function"))),
        })
    })
}

fn occupy(out: *mut i32, function: u64, threads: i32, shared_bytes: u64) -> Result {
    let held = described(function, |_, info| Ok(occupancy::blocks(&info, threads.max(0) as u32, shared_bytes as u32)))?;
    host::put(out, held as i32)
}

offer! { driver;
    cuModuleLoadData | cuModuleLoadFatBinary(out: *mut u64, image: u64) { host::put(out, load(image)?) }
    cuModuleLoadDataEx(out: *mut u64, image: u64, _count: u32, _options: u64, _values: u64) { host::put(out, load(image)?) }
    cuModuleLoad(out: *mut u64, path: *const c_char) { host::put(out, load_file(path)?) }
    cuModuleUnload | cuLibraryUnload(module: u64) { healthy(|d| d.modules.remove(module)) }
    cuModuleGetLoadingMode(out: *mut u32) { host::put(out, 2) }
    cuModuleGetFunction | cuLibraryGetKernel(out: *mut u64, module: u64, name: *const c_char) { host::put(out, kernel(module, name)?) }
    cuModuleGetGlobal_v2 | cuLibraryGetGlobal | cuLibraryGetManaged(
        address: *mut u64, bytes: *mut u64, module: u64, name: *const c_char,
    ) {
        global(address, bytes, module, name)
    }
    cuModuleGetFunctionCount | cuLibraryGetKernelCount(out: *mut u32, module: u64) { host::put(out, kernels(module)?.len() as u32) }
    cuModuleEnumerateFunctions | cuLibraryEnumerateKernels(out: *mut u64, count: u32, module: u64) {
        for (i, kernel) in kernels(module)?.into_iter().take(count as usize).enumerate() {
            host::put(out.wrapping_add(i), kernel)?;
        }
        Ok(())
    }
    cuLibraryLoadData(
        out: *mut u64, code: u64, _jit: u64, _jit_values: u64, _jit_count: u32, _options: u64, _values: u64, _count: u32,
    ) {
        host::put(out, load(code)?)
    }
    cuLibraryLoadFromFile(
        out: *mut u64, path: *const c_char, _jit: u64, _jit_values: u64, _jit_count: u32, _options: u64, _values: u64, _count: u32,
    ) {
        host::put(out, load_file(path)?)
    }
    // A library and its module, a kernel and its function, are one thing here.
    cuLibraryGetModule | cuKernelGetFunction(out: *mut u64, of: u64) { host::put(out, of) }
    cuFuncGetModule | cuKernelGetLibrary(out: *mut u64, function: u64) {
        host::put(out, described(function, |kernel, _| Ok(kernel.image))?)
    }
    cuFuncGetName | cuKernelGetName(out: *mut *const c_char, function: u64) {
        let name = described(function, |kernel, _| Ok(kernel.name.clone()))?;
        host::put(out, host::keep(&name))
    }
    cuFuncGetParamInfo | cuKernelGetParamInfo(function: u64, index: u64, offset: *mut u64, bytes: *mut u64) {
        let all = healthy(|d| d.params_of(function))?;
        let Some(param) = all.get(index as usize) else { return Err(Status::INVALID_VALUE.into()) };
        host::put(offset, param.offset.into())?;
        host::put_if(bytes, param.size.into());
        Ok(())
    }
    cuFuncLoad(function: u64) { described(function, |_, _| Ok(())) }
    cuFuncIsLoaded(out: *mut u32, function: u64) { host::put(out, described(function, |_, _| Ok(1))?) }
    cuFuncGetAttribute(out: *mut i32, number: u32, function: u64) { host::put(out, attribute(function, number)?) }
    cuKernelGetAttribute(out: *mut i32, number: u32, function: u64, _device: i32) { host::put(out, attribute(function, number)?) }
    cuFuncSetAttribute(function: u64, number: u32, value: i32) {
        described(function, |kernel, info| set_attribute(kernel, info, number, value))
    }
    cuKernelSetAttribute(number: u32, value: i32, function: u64, _device: i32) {
        described(function, |kernel, info| set_attribute(kernel, info, number, value))
    }
    cuFuncSetCacheConfig | cuFuncSetSharedMemConfig(function: u64, _config: u32) { described(function, |_, _| Ok(())) }
    cuKernelSetCacheConfig(function: u64, _config: u32, _device: i32) { described(function, |_, _| Ok(())) }
    cuLaunchKernel | cuLaunchKernel_ptsz(
        function: u64, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared_bytes: u32, stream: u64, params: *const u64,
        extra: *const u64,
    ) {
        launch(Asked { function, grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes, stream }, &[], false, params, extra)
    }
    cuLaunchCooperativeKernel | cuLaunchCooperativeKernel_ptsz(
        function: u64, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared_bytes: u32, stream: u64, params: *const u64,
    ) {
        let asked = Asked { function, grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes, stream };
        launch(asked, &[], true, params, std::ptr::null())
    }
    cuLaunchKernelEx | cuLaunchKernelEx_ptsz(
        config: *const DriverLaunchConfig, function: u64, params: *const u64, extra: *const u64,
    ) {
        let DriverLaunchConfig { grid, block, shared_bytes, stream, attributes, attribute_count } = host::get(config)?;
        let list = host::list(attributes, attribute_count as usize)?;
        launch(Asked { function, grid: grid.array(), block: block.array(), shared_bytes, stream }, &list, false, params, extra)
    }
    cuOccupancyMaxActiveBlocksPerMultiprocessor(out: *mut i32, function: u64, threads: i32, shared_bytes: u64) {
        occupy(out, function, threads, shared_bytes)
    }
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: *mut i32, function: u64, threads: i32, shared_bytes: u64, _flags: u32,
    ) {
        occupy(out, function, threads, shared_bytes)
    }
    cuOccupancyAvailableDynamicSMemPerBlock(out: *mut u64, function: u64, blocks: i32, _threads: i32) {
        host::put(out, described(function, |_, info| Ok(occupancy::dynamic_shared(&info, blocks.max(1) as u32)))?.into())
    }
    cuOccupancyMaxActiveClusters(out: *mut i32, function: u64, config: *const DriverLaunchConfig) {
        let config = host::get(config)?;
        let with = attributes(&host::list(config.attributes, config.attribute_count as usize)?)?;
        let Dim3 { x, y, z } = config.block;
        let ctas = with.cluster.iter().product();
        let held = described(function, |_, info| Ok(occupancy::clusters(&info, x * y * z, config.shared_bytes, ctas)))?;
        host::put(out, held as i32)
    }
    cuOccupancyMaxPotentialClusterSize(out: *mut i32, function: u64, _config: u64) {
        host::put(out, described(function, |kernel, _| Ok(if kernel.large_clusters { 16 } else { 8 }))?)
    }
}
