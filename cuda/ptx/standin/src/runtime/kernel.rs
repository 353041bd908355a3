//! Launches, and what is asked and set of kernels.

use std::ffi::c_char;

use crate::call::{Result, failure, offer};
use crate::device::{Work, healthy, submit};
use crate::host;
use crate::launch::{Request, attributes};
use crate::modules::Kernel;
use crate::occupancy;
use crate::properties::BLOCK_SHARED;
use crate::status::Status;
use crate::types::{Dim3, FuncAttributes, LaunchConfig};

/// Launches what a function of the program stands for.
fn launch(
    function: u64,
    [grid, block]: [Dim3; 2],
    args: *const u64,
    (shared_bytes, stream): (u64, u64),
    cooperative: bool,
) -> Result {
    let request = healthy(|d| {
        let kernel = d.modules.find(function)?;
        let params = d.params(kernel, args)?;
        Ok(Request {
            kernel,
            grid: grid.array(),
            block: block.array(),
            cluster: [1, 1, 1],
            shared_bytes: small(shared_bytes)?,
            cooperative,
            dependent: false,
            params,
        })
    })?;
    submit(stream, Work::Launch(request))
}

fn small(bytes: u64) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| failure(Status::INVALID_VALUE, format!("{bytes} bytes of shared memory")))
}

fn described<T>(function: u64, work: impl FnOnce(&mut Kernel, ptx::KernelInfo) -> Result<T>) -> Result<T> {
    healthy(|d| d.described(function, work))
}

/// Sets an attribute that may be set.
pub fn set_attribute(kernel: &mut Kernel, info: ptx::KernelInfo, attribute: u32, value: i32) -> Result {
    match attribute {
        8 => {
            if value < 0 || value as u32 + info.static_shared > BLOCK_SHARED {
                let why = format!(
                    "{}: {value} bytes of dynamic shared memory beside {} static ones; {BLOCK_SHARED} together at most",
                    kernel.name, info.static_shared
                );
                return Err(failure(Status::INVALID_VALUE, why));
            }
            kernel.max_dynamic_shared = value as u32;
        }
        9 => kernel.carveout = value,
        14 => kernel.large_clusters = value != 0,
        15 => {}
        _ => return Err(failure(Status::INVALID_VALUE, format!("{attribute} is no attribute that can be set"))),
    }
    Ok(())
}

offer! { runtime;
    cudaLaunchKernel | cudaLaunchKernel_ptsz | __cudaLaunchKernel | __cudaLaunchKernel_ptsz(
        function: u64, grid: Dim3, block: Dim3, args: *const u64, shared_bytes: u64, stream: u64,
    ) {
        launch(function, [grid, block], args, (shared_bytes, stream), false)
    }
    cudaLaunchCooperativeKernel | cudaLaunchCooperativeKernel_ptsz(
        function: u64, grid: Dim3, block: Dim3, args: *const u64, shared_bytes: u64, stream: u64,
    ) {
        launch(function, [grid, block], args, (shared_bytes, stream), true)
    }
    cudaLaunchKernelExC | cudaLaunchKernelExC_ptsz(config: *const LaunchConfig, function: u64, args: *const u64) {
        let config = host::get(config)?;
        let extra = attributes(&host::list(config.attributes, config.attribute_count as usize)?)?;
        let request = healthy(|d| {
            let kernel = d.modules.find(function)?;
            let params = d.params(kernel, args)?;
            Ok(Request {
                kernel,
                grid: config.grid.array(),
                block: config.block.array(),
                cluster: extra.cluster,
                shared_bytes: small(config.shared_bytes)?,
                cooperative: extra.cooperative,
                dependent: extra.dependent,
                params,
            })
        })?;
        submit(config.stream, Work::Launch(request))
    }
    cudaFuncGetAttributes(to: *mut FuncAttributes, function: u64) {
        let attributes = described(function, |kernel, info| {
            let cluster = info.reqnctapercluster.unwrap_or_default().map(|n| n as i32);
            Ok(FuncAttributes {
                shared_bytes: info.static_shared.into(),
                const_bytes: 0,
                local_bytes: info.local.into(),
                max_threads_per_block: occupancy::max_threads(&info) as i32,
                registers: occupancy::registers(&info) as i32,
                ptx_version: 90,
                binary_version: 90,
                cache_mode_ca: 0,
                max_dynamic_shared: kernel.max_dynamic_shared as i32,
                carveout: kernel.carveout,
                cluster_must_be_set: i32::from(info.explicit_cluster && info.reqnctapercluster.is_none()),
                required_cluster: cluster,
                cluster_scheduling: 0,
                large_clusters: i32::from(kernel.large_clusters),
            })
        })?;
        host::put(to, attributes)
    }
    cudaFuncSetAttribute(function: u64, attribute: u32, value: i32) {
        described(function, |kernel, info| set_attribute(kernel, info, attribute, value))
    }
    cudaKernelSetAttributeForDevice(function: u64, attribute: u32, value: i32, _device: i32) {
        described(function, |kernel, info| set_attribute(kernel, info, attribute, value))
    }
    cudaFuncSetCacheConfig | cudaFuncSetSharedMemConfig(function: u64, _config: u32) {
        healthy(|d| d.modules.find(function).map(|_| ()))
    }
    cudaFuncGetName(name: *mut *const c_char, function: u64) {
        let text = described(function, |kernel, _| Ok(kernel.name.clone()))?;
        host::put(name, host::keep(&text))
    }
    cudaFuncGetParamCount(function: u64, count: *mut u64) {
        host::put(count, healthy(|d| d.params_of(function))?.len() as u64)
    }
    cudaFuncGetParamInfo(function: u64, index: u64, offset: *mut u64, bytes: *mut u64) {
        let all = healthy(|d| d.params_of(function))?;
        let Some(param) = all.get(index as usize) else { return Err(Status::INVALID_VALUE.into()) };
        host::put(offset, param.offset.into())?;
        host::put_if(bytes, param.size.into());
        Ok(())
    }
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks: *mut i32, function: u64, threads: i32, shared_bytes: u64) {
        occupy(blocks, function, threads, shared_bytes)
    }
    cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut i32, function: u64, threads: i32, shared_bytes: u64, _flags: u32,
    ) {
        occupy(blocks, function, threads, shared_bytes)
    }
    cudaOccupancyAvailableDynamicSMemPerBlock(bytes: *mut u64, function: u64, blocks: i32, _threads: i32) {
        let dynamic = described(function, |_, info| Ok(occupancy::dynamic_shared(&info, blocks.max(1) as u32)))?;
        host::put(bytes, dynamic.into())
    }
    cudaOccupancyMaxActiveClusters(clusters: *mut i32, function: u64, config: *const LaunchConfig) {
        let config = host::get(config)?;
        let extra = attributes(&host::list(config.attributes, config.attribute_count as usize)?)?;
        let (threads, shared_bytes) = (config.block.array().iter().product(), small(config.shared_bytes)?);
        let ctas = extra.cluster.iter().product();
        let held = described(function, |_, info| Ok(occupancy::clusters(&info, threads, shared_bytes, ctas)))?;
        host::put(clusters, held as i32)
    }
    cudaOccupancyMaxPotentialClusterSize(ctas: *mut i32, function: u64, _config: *const LaunchConfig) {
        host::put(ctas, described(function, |kernel, _| Ok(if kernel.large_clusters { 16 } else { 8 }))?)
    }
}

fn occupy(blocks: *mut i32, function: u64, threads: i32, shared_bytes: u64) -> Result {
    let shared_bytes = small(shared_bytes)?;
    host::put(blocks, described(function, |_, info| Ok(occupancy::blocks(&info, threads.max(0) as u32, shared_bytes)))? as i32)
}
