//! Labels: shared objects without code that have the name and the version of a library and need another one.
//!
//! A program asks for `cudaMalloc@libcudart.so.13`: the symbol with the version that NVIDIA's library gives it. The loader checks, when
//! the program starts, that the library of that name *defines* such a version, and warns on standard error where it defines none; for the
//! symbol itself it takes the first of that name, of any version where its object has no versions at all. So the stand-in exports plain
//! names, once for all versions, and a few hundred bytes of ELF with a version definition stand between: rustc gives a `cdylib` a version
//! script of its own, beside which the linker takes no other, and a link step after rustc's would need a linker where programs run.

/// Addresses are offsets in the file, which is loaded whole.
const HEADER: usize = 64;
const SEGMENT: usize = 56;

/// The ELF of a shared object called `name`, which defines the version `name` and needs the library at the path `needed`.
pub fn shared_object(name: &str, needed: &[u8]) -> Vec<u8> {
    let name = name.as_bytes();
    let mut strings = vec![0];
    let mut string = |text: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text);
        strings.push(0);
        at
    };
    let (soname, needed) = (string(name), string(needed));

    let mut at = HEADER + 2 * SEGMENT;
    let mut place = |bytes: usize| {
        let start = at;
        at = (at + bytes).next_multiple_of(8);
        start as u64
    };
    let symbols = place(24);
    let hash = place(16);
    let versions = place(2);
    let definitions = place(56);
    let text = place(strings.len());
    // Pairs of a tag and a value: NEEDED, SONAME, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, VERSYM, VERDEF, VERDEFNUM.
    let dynamic: [(u64, u64); 11] = [
        (1, needed),
        (14, soname),
        (4, hash),
        (5, text),
        (6, symbols),
        (10, strings.len() as u64),
        (11, 24),
        (0x6fff_fff0, versions),
        (0x6fff_fffc, definitions),
        (0x6fff_fffd, 2),
        (0, 0),
    ];
    let dynamic_at = place(16 * dynamic.len());
    let mut out = vec![0; at];
    let mut write = |at: u64, bytes: &[u8]| out[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);

    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    write(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    write(16, &3u16.to_le_bytes());
    write(18, &machine.to_le_bytes());
    write(20, &1u32.to_le_bytes());
    write(32, &(HEADER as u64).to_le_bytes());
    write(52, &(HEADER as u16).to_le_bytes());
    write(54, &(SEGMENT as u16).to_le_bytes());
    write(56, &2u16.to_le_bytes());
    // LOAD, readable and, for the loader's relocation of the dynamic section, writable; DYNAMIC.
    for (i, (kind, start, bytes)) in [(1u32, 0, at as u64), (2, dynamic_at, 16 * dynamic.len() as u64)].into_iter().enumerate() {
        let head = (HEADER + i * SEGMENT) as u64;
        write(head, &kind.to_le_bytes());
        write(head + 4, &6u32.to_le_bytes());
        for (field, value) in [start, start, start, bytes, bytes, 4096].into_iter().enumerate() {
            write(head + 8 + 8 * field as u64, &value.to_le_bytes());
        }
    }
    // One bucket, one symbol: the empty one.
    write(hash, &1u32.to_le_bytes());
    write(hash + 4, &1u32.to_le_bytes());
    // The object itself, and the version: revision, flags, index, names; hash, offset of the name, offset of the next.
    for (i, (flags, next)) in [(1u16, 28u32), (0, 0)].into_iter().enumerate() {
        let head = definitions + 28 * i as u64;
        for (field, value) in [1, flags, i as u16 + 1, 1].into_iter().enumerate() {
            write(head + 2 * field as u64, &value.to_le_bytes());
        }
        for (field, value) in [elf_hash(name), 20, next, soname as u32, 0].into_iter().enumerate() {
            write(head + 8 + 4 * field as u64, &value.to_le_bytes());
        }
    }
    write(text, &strings);
    for (i, (tag, value)) in dynamic.into_iter().enumerate() {
        write(dynamic_at + 16 * i as u64, &tag.to_le_bytes());
        write(dynamic_at + 16 * i as u64 + 8, &value.to_le_bytes());
    }
    out
}

/// The hash of the System V ABI.
fn elf_hash(name: &[u8]) -> u32 {
    name.iter().fold(0u32, |hash, &byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_abi() {
        // glibc's own: readelf -V shows it for GLIBC_2.2.5.
        assert_eq!(elf_hash(b"GLIBC_2.2.5"), 0x0969_1a75);
    }
}
