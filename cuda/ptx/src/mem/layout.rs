//! How bulk tensor copies laid out the bytes of a shared memory: by which swizzle, for each chunk of 16 bytes that nothing else has
//! written since.

use crate::matrix::swizzle::Swizzle;

/// Bytes that a swizzle moves as a whole.
const CHUNK: usize = 16;
const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

/// The layout of each chunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layouts {
    /// The copy's instruction plus one, times four, and the swizzle's number; 0: not known. Empty until a tensor copy comes.
    tags: Vec<u32>,
}

/// A chunk as a tensor copy laid it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub swizzle: Swizzle,
    /// Instruction of the copy.
    pub pc: u32,
}

impl Layout {
    /// Whether who takes the chunk at `address` to be laid out by `swizzle`, with the pattern starting at line `base`, takes it for
    /// another one than it is.
    pub fn is_misread(self, address: u32, swizzle: Swizzle, base: u32) -> bool {
        self.swizzle != swizzle || swizzle.apply(address, 0) != swizzle.apply(address, base)
    }
}

impl Layouts {
    /// A tensor copy writes these bytes of a memory of `size`.
    pub fn set(&mut self, at: usize, len: usize, size: usize, layout: Layout) {
        if self.tags.is_empty() {
            self.tags = vec![0; size.div_ceil(CHUNK)];
        }
        let code = SWIZZLES.iter().position(|s| *s == layout.swizzle).expect("every swizzle is listed") as u32;
        self.tags[at / CHUNK..(at + len).div_ceil(CHUNK)].fill((layout.pc + 1) << 2 | code);
    }

    /// Something else writes them.
    #[inline]
    pub fn forget(&mut self, at: usize, len: usize) {
        if !self.tags.is_empty() {
            self.tags[at / CHUNK..(at + len).div_ceil(CHUNK)].fill(0);
        }
    }

    /// The layout of the chunk at an address.
    pub fn of(&self, at: usize) -> Option<Layout> {
        let tag = *self.tags.get(at / CHUNK)?;
        (tag != 0).then(|| Layout { swizzle: SWIZZLES[(tag & 3) as usize], pc: (tag >> 2) - 1 })
    }
}
