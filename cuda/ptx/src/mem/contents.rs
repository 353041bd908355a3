//! The bytes of a piece of memory, which of them are initialised, and where what is undefined comes from.
//!
//! Contents may be a *view* of others, which stay as they are: a page of a view is the other's until it is first written, and is
//! the other's again when it is forgotten. So clusters that run side by side each see memory as it was when the launch began,
//! and a view costs what is written to it.

use std::sync::Arc;

use super::birth::{Birth, Spots};

/// Bytes a page: the grain at which a view becomes its own.
pub(crate) const PAGE: usize = 1024;
/// A word of the initialisation says it for so many bytes.
const WORD: usize = 64;

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Contents {
    bytes: Vec<u8>,
    /// A bit a byte.
    init: Vec<u64>,
    /// Where undefined bytes come from.
    spots: Spots,
    under: Option<Under>,
}

/// What a view shows where it was not written.
#[derive(Clone, Debug)]
struct Under {
    contents: Arc<Contents>,
    /// The pages that the view has of its own.
    own: Vec<bool>,
}

impl Contents {
    /// `len` uninitialised bytes. They read as 0xFF: a NaN in every float format.
    pub(crate) fn new(len: usize) -> Self {
        Self { bytes: vec![0xFF; len], init: vec![0; len.div_ceil(WORD)], spots: Spots::default(), under: None }
    }

    /// A view of `contents`. (Zeroed memory costs nothing until it is touched.)
    pub(crate) fn view(contents: Arc<Contents>) -> Self {
        let len = contents.len();
        let own = vec![false; len.div_ceil(PAGE)];
        Self {
            bytes: vec![0; len],
            init: vec![0; len.div_ceil(WORD)],
            spots: Spots::default(),
            under: Some(Under { contents, own }),
        }
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A view gives up its own version of a page.
    pub(crate) fn forget(&mut self, page: usize) {
        if let Some(under) = &mut self.under {
            under.own[page] = false;
        }
    }

    /// Whose a page is.
    #[inline]
    fn at_page(&self, page: usize) -> &Contents {
        match &self.under {
            Some(under) if !under.own[page] => &under.contents,
            _ => self,
        }
    }

    /// Makes the pages of a range the view's own.
    #[inline]
    fn own(&mut self, at: usize, len: usize) {
        if self.under.is_some() {
            self.copy_pages(at, len);
        }
    }

    #[cold]
    fn copy_pages(&mut self, at: usize, len: usize) {
        let Some(under) = &mut self.under else { return };
        for page in at / PAGE..(at + len).div_ceil(PAGE) {
            if !std::mem::replace(&mut under.own[page], true) {
                let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(self.bytes.len()));
                self.bytes[from..to].copy_from_slice(&under.contents.bytes[from..to]);
                let words = from / WORD..to.div_ceil(WORD);
                self.init[words.clone()].copy_from_slice(&under.contents.init[words]);
            }
        }
    }

    /// Bytes of one page.
    #[inline]
    pub(crate) fn peek(&self, at: usize, len: usize) -> &[u8] {
        &self.at_page(at / PAGE).bytes[at..at + len]
    }

    /// Bytes to read.
    #[inline]
    pub(crate) fn bytes(&mut self, at: usize, len: usize) -> &[u8] {
        if self.under.is_some() && len > 0 && at / PAGE != (at + len - 1) / PAGE {
            // Some of the pages may be the view's own: then all must be, to lie side by side.
            let under = self.under.as_ref().expect("as just seen");
            if under.own[at / PAGE..(at + len).div_ceil(PAGE)].contains(&true) {
                self.copy_pages(at, len);
            }
        }
        if len == 0 { &[] } else { &self.at_page(at / PAGE).bytes[at..at + len] }
    }

    /// Bytes to write.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        self.own(at, len);
        &mut self.bytes[at..at + len]
    }

    /// Marks bytes as written (or not).
    pub(crate) fn set_initialized(&mut self, from: usize, len: usize, on: bool) {
        self.own(from, len);
        let (mut at, end) = (from, from + len);
        while at < end {
            let bits = (WORD - at % WORD).min(end - at);
            let mask = (u64::MAX >> (WORD - bits)) << (at % WORD);
            if on {
                self.init[at / WORD] |= mask;
            } else {
                self.init[at / WORD] &= !mask;
            }
            at += bits;
        }
    }

    /// Whether all these bytes were written.
    #[inline]
    pub(crate) fn initialized(&self, from: usize, len: usize) -> bool {
        let (mut at, end) = (from, from + len);
        while at < end {
            let bits = (WORD - at % WORD).min(end - at);
            let mask = (u64::MAX >> (WORD - bits)) << (at % WORD);
            if self.at_page(at / PAGE).init[at / WORD] & mask != mask {
                return false;
            }
            at += bits;
        }
        true
    }

    /// The bytes of an access of at most 16 that were not written, as a mask.
    #[inline]
    pub(crate) fn undefined(&self, from: usize, len: usize) -> u16 {
        let word = self.at_page(from / PAGE).init[from / WORD] >> (from % WORD);
        !(word as u16) & (u16::MAX >> (16 - len))
    }

    /// Marks the bytes of a naturally aligned access of at most 16 as written, but for those in `undefined`.
    #[inline]
    pub(crate) fn define(&mut self, from: usize, len: usize, undefined: u16) {
        self.own(from, len);
        let all = u64::from(u16::MAX >> (16 - len)) << (from % WORD);
        let not = u64::from(undefined) << (from % WORD);
        let word = &mut self.init[from / WORD];
        *word = (*word | all) & !not;
    }

    /// Bytes are undefined for this reason.
    pub(crate) fn note(&mut self, at: usize, len: usize, birth: Birth) {
        self.spots.note(at, len, birth);
    }

    /// Where an undefined byte comes from, if a store brought it.
    pub(crate) fn birth(&self, at: usize) -> Option<Birth> {
        self.spots.of(at).or_else(|| self.under.as_ref()?.contents.spots.of(at))
    }

    /// What was noted since the last time.
    pub(crate) fn noted(&mut self) -> Spots {
        std::mem::take(&mut self.spots)
    }

    /// Adds what was noted in a view.
    pub(crate) fn add_notes(&mut self, noted: Spots) {
        self.spots.append(noted);
    }

    /// Takes the bytes of a page that `mask` picks (a bit a byte), and whether they are initialised, from `other`.
    pub(crate) fn take(&mut self, page: usize, mask: &[u64; PAGE / WORD], bytes: &[u8], init: &[u64]) {
        let from = page * PAGE;
        for (w, &mask) in mask.iter().enumerate().filter(|(_, mask)| **mask != 0) {
            let word = from / WORD + w;
            self.init[word] = (self.init[word] & !mask) | (init[w] & mask);
            for i in (0..WORD).filter(|i| mask >> i & 1 == 1) {
                self.bytes[from + w * WORD + i] = bytes[w * WORD + i];
            }
        }
    }

    /// The bytes of a page and whether they are initialised.
    pub(crate) fn page(&self, page: usize) -> (&[u8], &[u64]) {
        let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(self.len()));
        let owner = self.at_page(page);
        (&owner.bytes[from..to], &owner.init[from / WORD..to.div_ceil(WORD)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_shows_what_is_below_until_it_is_written() {
        let mut below = Contents::new(3 * PAGE);
        below.bytes_mut(0, 3 * PAGE).fill(7);
        below.set_initialized(0, 2 * PAGE, true);
        let below = Arc::new(below);
        let mut view = Contents::view(below.clone());
        assert_eq!(view.bytes(PAGE - 2, 4), [7; 4]);
        assert!(view.initialized(0, 2 * PAGE) && !view.initialized(2 * PAGE, 1));
        view.bytes_mut(PAGE, 2).fill(9);
        view.define(2 * PAGE + 16, 16, 0);
        assert_eq!(view.bytes(PAGE - 2, 5), [7, 7, 9, 9, 7], "a range over two pages, one of them the view's own");
        assert_eq!((view.undefined(2 * PAGE + 16, 16), view.undefined(2 * PAGE, 16)), (0, u16::MAX));
        assert_eq!((below.peek(PAGE, 3), below.undefined(2 * PAGE + 16, 16)), (&[7; 3][..], u16::MAX));
        (0..3).for_each(|page| view.forget(page));
        assert_eq!(view.bytes(PAGE - 2, 5), [7; 5]);
        assert_eq!(view.undefined(2 * PAGE + 16, 16), u16::MAX);
    }

    #[test]
    fn a_page_is_taken_byte_by_byte() {
        let mut to = Contents::new(PAGE + 100);
        let mut from = Contents::new(PAGE + 100);
        from.bytes_mut(PAGE, 100).fill(5);
        from.set_initialized(PAGE, 10, true);
        let (bytes, init) = from.page(1);
        let mut mask = [0; PAGE / WORD];
        mask[0] = 0xFF0;
        to.take(1, &mask, bytes, init);
        assert_eq!(to.bytes(PAGE + 3, 10), [255, 5, 5, 5, 5, 5, 5, 5, 5, 255]);
        assert!(to.initialized(PAGE + 4, 6) && !to.initialized(PAGE + 10, 1) && !to.initialized(PAGE, 1));
    }
}
