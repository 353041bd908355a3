//! What memory there is, so that what cannot fit is refused before anything is allocated.

use std::fs;
use tensor::Device;

/// More memory is needed than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes {} of memory, {} are available", bytes(*needed), bytes(*available))]
pub struct TooLittleMemory {
    /// Bytes.
    pub needed: u64,
    /// Bytes.
    pub available: u64,
}

/// A number of bytes for people, such as `2.4 TiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1).ilog2() / 10) as usize;
    format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, units[unit])
}

/// The bytes that can still be allocated on a device; `None` where that is not known beforehand. On the CPU of a Linux machine it
/// is what the kernel holds possible without swapping, or what the process's group has left if that is less.
pub fn available_memory(device: &Device) -> Option<u64> {
    device.backend::<tensor::cpu::CpuBackend>()?;
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    let number = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let group = number("memory.max").zip(number("memory.current")).map(|(max, used)| max.saturating_sub(used));
    Some((kib * 1024).min(group.unwrap_or(u64::MAX)))
}

/// That `needed` bytes can be allocated on a device, as far as that is known.
///
/// # Errors
/// If they cannot.
pub fn require_memory(needed: u64, device: &Device) -> Result<(), TooLittleMemory> {
    match available_memory(device) {
        Some(available) if available < needed => Err(TooLittleMemory { needed, available }),
        _ => Ok(()),
    }
}
