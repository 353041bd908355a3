//! Checksums of what a run goes on from: they notice accidents (a flipped bit, an edited line), not intent.

use crate::rng::absorb;

/// A 64-bit checksum of `bytes`, going on from that of what came before (0 for nothing): a change within any eight bytes is always
/// noticed, a larger one but for one in 2⁶⁴.
pub fn checksum(before: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(absorb(before, bytes.len() as u64), |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        absorb(sum, u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_counts_and_so_does_the_order() {
        let bytes: Vec<u8> = (0..21).collect();
        let of = |bytes: &[u8]| checksum(0, bytes);
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of(&flipped), of(&bytes), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_ne!(of(&bytes[..cut]), of(&bytes));
        }
        assert_ne!(of(&[0; 7]), of(&[0; 8]));
        assert_ne!(checksum(of(b"a"), b"b"), checksum(of(b"b"), b"a"));
    }
}
