//! PTX out of what a program carries: fat binaries as nvcc makes them, or text alone.
//!
//! A *wrapper* (in `.nvFatBinSegment`) points to a *container*: a header of 16 bytes and entries one after the other, each with a
//! header of its own that says what it is (PTX or machine code), for which architecture, and whether it is compressed: with LZ4 by
//! older toolkits (and `--compress-mode=speed`), with zstd by newer ones.

use std::io::Read;

use crate::call::{Failure, Result, failure};
use crate::host;
use crate::status::Status;

const WRAPPER: u32 = 0x4662_43b1;
const CONTAINER: u32 = 0xba55_ed50;
const ELF: u32 = 0x464c_457f;
/// The architecture that is interpreted.
const ARCH: u32 = 90;
const LZ4: u64 = 0x2000;
const ZSTD: u64 = 0x8000;

/// An entry's header, where its fields are known; what it describes begins `header` bytes after it.
struct Entry<'a> {
    /// 1 for PTX, 2 for machine code.
    kind: u16,
    /// 90 for sm_90.
    arch: u32,
    flags: u64,
    payload: &'a [u8],
    /// Bytes before compression.
    size: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The PTX in what a pointer points to: a wrapper, a container, or text with its NUL.
pub fn ptx(image: u64) -> Result<String> {
    let start: u32 = host::get(image as *const u32)?;
    match start {
        WRAPPER => ptx(host::get((image + 8) as *const u64)?),
        CONTAINER => {
            let head = host::bytes(image, 16);
            let (header, size) = (usize::from(u16_at(head, 6)), u64_at(head, 8) as usize);
            chosen(&entries(host::bytes(image + header as u64, size))?)
        }
        ELF => Err(machine_code("a cubin")),
        _ => {
            let text = host::text(image as *const _)?;
            match target(&text) {
                Some(target) if takes(target) => Ok(text),
                Some((arch, suffix)) => Err(too_new(&format!("sm_{arch}{suffix}"))),
                None => Err(failure(Status::INVALID_IMAGE, "neither a fat binary nor PTX: the text has no `.target sm_…`")),
            }
        }
    }
}

fn machine_code(what: &str) -> Failure {
    let why = format!(
        "{what} holds machine code alone, and PTX is what runs here: compile with -gencode arch=compute_90a,code=compute_90a"
    );
    failure(Status::NO_BINARY, why)
}

fn too_new(target: &str) -> Failure {
    failure(Status::NO_BINARY, format!("the PTX is for {target}; sm_90a is the newest that runs here"))
}

fn entries(mut bytes: &[u8]) -> Result<Vec<Entry<'_>>> {
    let mut all = Vec::new();
    while bytes.len() >= 64 {
        let (header, size) = (u32_at(bytes, 4) as usize, u64_at(bytes, 8) as usize);
        let (compressed, flags) = (u32_at(bytes, 16) as usize, u64_at(bytes, 40));
        let end = header.saturating_add(size);
        if header < 64 || end > bytes.len() {
            return Err(failure(Status::INVALID_IMAGE, "a fat binary whose entries do not fit it"));
        }
        let payload = &bytes[header..end];
        let payload = if compressed > 0 { &payload[..compressed.min(payload.len())] } else { payload };
        all.push(Entry { kind: u16_at(bytes, 0), arch: u32_at(bytes, 28), flags, payload, size: u64_at(bytes, 56) });
        bytes = &bytes[end..];
    }
    Ok(all)
}

/// The PTX for the highest architecture that is not above sm_90a.
fn chosen(entries: &[Entry]) -> Result<String> {
    let mut best: Option<((u32, &str), String)> = None;
    let mut newer = None;
    for entry in entries.iter().filter(|e| e.kind == 1) {
        if entry.arch > ARCH {
            newer = Some(entry.arch);
            continue;
        }
        let text = inflated(entry)?;
        let Some((arch, suffix)) = target(&text) else { continue };
        let suffix = if suffix == "a" { "a" } else { "" };
        if takes((arch, suffix)) && best.as_ref().is_none_or(|(b, _)| *b < (arch, suffix)) {
            best = Some(((arch, suffix), text));
        }
    }
    match (best, newer) {
        (Some((_, text)), _) => Ok(text),
        (None, Some(arch)) => Err(too_new(&format!("sm_{arch}"))),
        (None, None) => Err(machine_code("the fat binary")),
    }
}

/// Number and suffix of the first `.target`.
fn target(text: &str) -> Option<(u32, &str)> {
    let line = text.lines().map(str::trim_start).find_map(|l| l.strip_prefix(".target"))?;
    let word = line.trim_start().strip_prefix("sm_")?;
    let word = &word[..word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len())];
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    Some((word[..digits].parse().ok()?, &word[digits..]))
}

/// What is for one architecture alone (`a`) runs on no other.
fn takes((arch, suffix): (u32, &str)) -> bool {
    arch == ARCH || arch < ARCH && suffix.is_empty()
}

fn inflated(entry: &Entry) -> Result<String> {
    let broken = |what: &str| failure(Status::INVALID_IMAGE, format!("PTX in the fat binary that is no {what}"));
    let bytes = if entry.flags & ZSTD != 0 {
        let mut bytes = Vec::new();
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(entry.payload).map_err(|_| broken("zstd"))?;
        decoder.read_to_end(&mut bytes).map_err(|_| broken("zstd"))?;
        bytes
    } else if entry.flags & LZ4 != 0 {
        lz4_flex::block::decompress(entry.payload, entry.size as usize).map_err(|_| broken("LZ4"))?
    } else {
        entry.payload.to_vec()
    };
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| broken("text"))
}
