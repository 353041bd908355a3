//! What the device says of itself: an H100 SXM as its data sheet and the CUDA programming guide have it, as far as the interpreter
//! plays it. Clocks are there for programs that print a peak; nothing here takes them into account.

use crate::call::{Result, failure};
use crate::host;
use crate::memory::TOTAL;
use crate::session::session;
use crate::status::Status;

/// The device's name, which does not hide what it is.
pub const NAME: &str = "NVIDIA H100 80GB HBM3 (interpreted)";
/// Multiprocessors: as many as `ptxi exec` was asked for.
pub fn multiprocessors() -> u32 {
    session().order.options.multiprocessors
}

/// Threads that a multiprocessor holds.
pub const SM_THREADS: u32 = 2048;
/// CTAs that it holds.
pub const SM_BLOCKS: u32 = 32;
/// Its shared memory, of which each CTA costs 1 KiB more than its own.
pub const SM_SHARED: u32 = 228 << 10;
/// What a CTA costs beside its own.
pub const RESERVED_SHARED: u32 = 1 << 10;
/// The most shared memory of a CTA that asked for it.
pub const BLOCK_SHARED: u32 = 227 << 10;
/// Registers of a multiprocessor.
pub const SM_REGISTERS: u32 = 65536;

/// What one number is called in the three places where a program may ask.
struct Property {
    /// `cudaDeviceAttr` and `CUdevice_attribute`; 0 for none.
    attribute: u32,
    value: u64,
    /// Offset in `cudaDeviceProp` of CUDA 12, and of 13.
    at: [Option<u16>; 2],
    /// Bytes there.
    bytes: u8,
}

const MULTIPROCESSORS: u32 = 16;

impl Property {
    fn value(&self) -> u64 {
        if self.attribute == MULTIPROCESSORS { multiprocessors().into() } else { self.value }
    }
}

const fn p(attribute: u32, value: u64, at: [i32; 2], bytes: u8) -> Property {
    let place = [if at[0] < 0 { None } else { Some(at[0] as u16) }, if at[1] < 0 { None } else { Some(at[1] as u16) }];
    Property { attribute, value, at: place, bytes }
}

/// By attribute. Texture and surface limits are left at 0: they are not offered.
const PROPERTIES: &[Property] = &[
    p(0, TOTAL, [288, 288], 8),
    p(1, 1024, [320, 320], 4),
    // Block x, y, z; grid x, y, z.
    p(2, 1024, [324, 324], 4),
    p(3, 1024, [328, 328], 4),
    p(4, 64, [332, 332], 4),
    p(5, 0x7fff_ffff, [336, 336], 4),
    p(6, 65535, [340, 340], 4),
    p(7, 65535, [344, 344], 4),
    // Shared memory without asking for more, constant memory, warp, pitch, registers.
    p(8, 48 << 10, [296, 296], 8),
    p(9, 64 << 10, [352, 352], 8),
    p(10, 32, [308, 308], 4),
    p(11, 0x7fff_ffff, [312, 312], 8),
    p(12, SM_REGISTERS as u64, [304, 304], 4),
    // Clock in kHz; alignment of textures.
    p(13, 1_980_000, [348, -1], 4),
    p(14, 512, [368, 368], 8),
    // Copies overlap kernels; multiprocessors; no time limit, not integrated, maps host memory, shared compute mode.
    p(15, 1, [384, -1], 4),
    // Asked for when it is read.
    p(MULTIPROCESSORS, 0, [388, 384], 4),
    p(17, 0, [392, -1], 4),
    p(18, 0, [396, 388], 4),
    p(19, 1, [400, 392], 4),
    p(20, 0, [404, -1], 4),
    p(30, 512, [568, 552], 8),
    p(31, 1, [576, 560], 4),
    p(32, 1, [580, 564], 4),
    // PCI bus, device.
    p(33, 1, [584, 568], 4),
    p(34, 0, [588, 572], 4),
    p(35, 0, [596, 580], 4),
    // Memory clock in kHz, bus in bits, L2, threads of a multiprocessor, copy engines, one address space.
    p(36, 2_619_000, [608, -1], 4),
    p(37, 5120, [612, 592], 4),
    p(38, 50 << 20, [616, 596], 4),
    p(39, SM_THREADS as u64, [624, 604], 4),
    p(40, 3, [600, 584], 4),
    p(41, 1, [604, 588], 4),
    p(50, 0, [592, 576], 4),
    p(51, 32, [376, 376], 8),
    // Compute capability.
    p(75, 9, [360, 360], 4),
    p(76, 0, [364, 364], 4),
    p(78, 1, [628, 608], 4),
    p(79, 1, [632, 612], 4),
    p(80, 1, [636, 616], 4),
    p(81, SM_SHARED as u64, [640, 624], 8),
    p(82, SM_REGISTERS as u64, [648, 632], 4),
    // Managed memory; one board; no atomics of the host's; f32 to f64.
    p(83, 1, [652, 636], 4),
    p(84, 0, [656, 640], 4),
    p(85, 0, [660, 644], 4),
    p(86, 0, [664, 648], 4),
    p(87, 2, [668, -1], 4),
    // Kernels do not see memory that is not managed, pinned or registered, and the latter at another address.
    p(88, 0, [672, 652], 4),
    p(89, 1, [676, 656], 4),
    p(90, 1, [680, 660], 4),
    p(91, 0, [684, 664], 4),
    // Cooperative launches, on one device; shared memory of a CTA that asks for it.
    p(95, 1, [688, 668], 4),
    p(96, 0, [692, -1], 4),
    p(97, BLOCK_SHARED as u64, [696, 672], 8),
    p(99, 1, [728, 704], 4),
    p(100, 0, [704, 680], 4),
    p(101, 0, [708, 684], 4),
    p(106, SM_BLOCKS as u64, [712, 688], 4),
    p(108, 0, [620, 600], 4),
    p(109, 0, [716, 692], 4),
    p(111, RESERVED_SHARED as u64, [720, 696], 8),
    // Memory pools, clusters, function pointers of one space.
    p(115, 1, [744, 720], 4),
    p(120, 1, [772, 748], 4),
    p(0, 1, [776, 752], 4),
];

/// Attributes that exist and are 0 here: textures and surfaces, peers, interoperation with other interfaces, virtual memory.
const ABSENT: std::ops::RangeInclusive<u32> = 1..=160;

/// An attribute's value.
pub fn attribute(number: u32) -> Result<i32> {
    match PROPERTIES.iter().find(|p| p.attribute == number && number != 0) {
        Some(property) => Ok(property.value() as i32),
        None if ABSENT.contains(&number) => Ok(0),
        None => Err(failure(Status::INVALID_VALUE, format!("{number} is no attribute of a device"))),
    }
}

/// The layouts of `cudaDeviceProp`.
#[derive(Clone, Copy)]
pub enum Layout {
    Cuda12,
    Cuda13,
}

/// Writes a `cudaDeviceProp`.
pub fn write(to: u64, layout: Layout) -> Result {
    if to == 0 {
        return Err(Status::INVALID_VALUE.into());
    }
    let (which, size) = match layout {
        Layout::Cuda12 => (0, 1032),
        Layout::Cuda13 => (1, 1008),
    };
    let mut bytes = vec![0; size];
    bytes[..NAME.len()].copy_from_slice(NAME.as_bytes());
    bytes[256..272].copy_from_slice(UUID);
    for property in PROPERTIES {
        if let Some(at) = property.at[which] {
            let (at, len) = (usize::from(at), usize::from(property.bytes));
            bytes[at..at + len].copy_from_slice(&property.value().to_le_bytes()[..len]);
        }
    }
    host::write(to, &bytes);
    Ok(())
}

/// The device's identity.
pub const UUID: &[u8; 16] = b"ptxi interpreter";
