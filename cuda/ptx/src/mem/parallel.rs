//! Global memory for clusters that run side by side: each has a view of it as the launch found it, and what they did is merged
//! if no two of them met.
//!
//! Two clusters *meet* if one wrote a byte that the other read or wrote. If none do, then the order in which they ran, whether
//! one after the other, interleaved or at the same time, makes no difference to any of them, nor to memory afterwards.
//!
//! A launch that may overlap with the one before it must know what that one accessed. So the merged accesses stay with the memory
//! ([`Accesses`]) until the next launch, which takes them for records if it is of that kind.

use std::collections::HashMap;

use super::birth::Spots;
use super::contents::PAGE;
use super::global::Global;
use super::page::Page;

/// The bytes of a page that were written, and those that were read and not written since, a bit a byte.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Access {
    pub written: [u64; PAGE / 64],
    pub read: [u64; PAGE / 64],
}

#[derive(Default)]
struct Merge {
    access: Access,
    /// Of a page that was written.
    new: Option<New>,
}

/// The bytes of a page, and whether they are initialised.
struct New {
    bytes: Box<[u8]>,
    init: Box<[u64]>,
}

/// What clusters did to memory, by allocation and page. The order in which they are taken in does not matter.
#[derive(Default)]
pub(crate) struct Merged {
    pages: HashMap<(usize, usize), Box<Merge>>,
    /// Where undefined bytes come from that a cluster stored: its number, the allocation.
    noted: Vec<(u32, usize, Spots)>,
}

/// What a launch accessed, by allocation and page.
pub(super) struct Accesses {
    launch: u32,
    pages: Vec<(usize, usize, Access)>,
}

impl Merged {
    /// Writes to memory what the clusters of a launch wrote.
    pub fn apply(mut self, launch: u32, global: &mut Global) {
        let mut pages = Vec::with_capacity(self.pages.len());
        for ((allocation, page), merge) in self.pages {
            let Merge { access, new } = *merge;
            if let Some(new) = new {
                global.allocation(allocation).segment.contents.take(page, &access.written, &new.bytes, &new.init);
            }
            pages.push((allocation, page, access));
        }
        // Two clusters may have stored undefined bytes to one word.
        self.noted.sort_by_key(|(cluster, ..)| *cluster);
        for (_, allocation, spots) in self.noted {
            global.allocation(allocation).segment.contents.add_notes(spots);
        }
        global.accesses = Some(Accesses { launch, pages });
    }

    /// Takes in what a cluster did in its view, which then shows memory as it was again. Returns whether it met no other.
    pub fn absorb(&mut self, cluster: u32, view: &mut Global) -> bool {
        let origins = view.origins();
        let mut alone = true;
        for (i, origin) in origins.into_iter().enumerate() {
            let segment = &mut view.allocation(i).segment;
            for page in segment.pages.touched.as_mut().map_or(Vec::new(), std::mem::take) {
                let Some(records) = segment.pages.list[page].take() else { continue };
                let mine = records.accessed();
                let Merge { access, new } = &mut **self.pages.entry((origin, page)).or_default();
                alone &= !access.meets(&mine);
                if mine.written.iter().any(|&w| w != 0) {
                    let (bytes, init) = segment.contents.page(page);
                    match new {
                        Some(new) => copy(new, bytes, init, &mine.written),
                        None => *new = Some(New { bytes: bytes.into(), init: init.into() }),
                    }
                }
                access.add(&mine);
                segment.contents.forget(page);
            }
            let noted = segment.contents.noted();
            if !noted.is_empty() {
                self.noted.push((cluster, origin, noted));
            }
        }
        alone
    }
}

impl Access {
    /// Whether one wrote what the other accessed.
    fn meets(&self, other: &Access) -> bool {
        let (mine, its) = (self.written.iter().zip(&self.read), other.written.iter().zip(&other.read));
        mine.zip(its).any(|((w, r), (written, read))| written & (w | r) | read & w != 0)
    }

    fn add(&mut self, other: &Access) {
        self.written.iter_mut().zip(&other.written).for_each(|(all, one)| *all |= one);
        self.read.iter_mut().zip(&other.read).for_each(|(all, one)| *all |= one);
    }
}

impl Global {
    /// Makes what launch number `launch` accessed known to the next as its records, if that launch left only its accesses.
    pub(crate) fn recall(&mut self, launch: Option<u32>) {
        let Some(accesses) = self.accesses.take().filter(|a| Some(a.launch) == launch) else { return };
        for (allocation, page, access) in accesses.pages {
            // Parameters are gone by now.
            if let Some(place) = self.existing(allocation).and_then(|a| a.segment.pages.list.get_mut(page)) {
                *place = Some(Page::accessed_before(accesses.launch, &access));
            }
        }
    }
}

/// Copies the bytes that `mask` picks.
fn copy(to: &mut New, bytes: &[u8], init: &[u64], mask: &[u64; PAGE / 64]) {
    let New { bytes: to, init: to_init } = to;
    for (w, to_init) in to_init.iter_mut().enumerate() {
        let mask = mask[w];
        *to_init = (*to_init & !mask) | (init[w] & mask);
        let range = 64 * w..(64 * (w + 1)).min(bytes.len());
        if mask == u64::MAX {
            to[range.clone()].copy_from_slice(&bytes[range]);
        } else {
            range.filter(|i| mask >> (i % 64) & 1 == 1).for_each(|i| to[i] = bytes[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{By, Frozen, Home, Local, Memory, Order, Sem, Space, Tracker};

    /// Clusters that each load and store words: whether they met, and the memory afterwards.
    fn run(clusters: &[(&[u64], &[u64])]) -> (bool, Vec<u8>) {
        let mut global = Global::default();
        let at = global.alloc(4096).unwrap();
        global.fill(at, 1, 4096).unwrap();
        let frozen = Frozen::new(global);
        let mut merged = Merged::default();
        let mut alone = true;
        for (i, (reads, writes)) in clusters.iter().enumerate() {
            let mut memory = Memory::new(frozen.view(), Tracker::new(Order::new(32, 1), 1, true, 0));
            let mut order = memory.tracker.order.warp(i as u32);
            let mut local = Local::new(0);
            let home = Home { base: 0, rank: 0, size: 1 };
            let mut block = super::super::Block::default();
            for (words, write) in [(reads, false), (writes, true)] {
                for word in *words {
                    let mut by = By { warp: &mut order, home, local: &mut local, pc: 0 };
                    let addresses = [at + 4 * word; 32];
                    block.bytes = [[10 + i as u8; 16]; 32];
                    if write {
                        memory.store(&mut by, Space::Global, &addresses, 1, 4, Sem::Weak, &block).unwrap();
                    } else {
                        memory.load(&mut by, Space::Global, &addresses, 1, 4, Sem::Weak, &mut block).unwrap();
                        assert_eq!(block.bytes[0][..4], [1; 4], "memory as the launch found it");
                    }
                }
            }
            alone &= merged.absorb(i as u32, &mut memory.global);
        }
        let mut global = frozen.thaw();
        if alone {
            merged.apply(1, &mut global);
        }
        (alone, global.read(at, 4096).unwrap())
    }

    #[test]
    fn clusters_that_do_not_meet_are_merged() {
        let (alone, bytes) = run(&[(&[0, 300], &[1, 2, 255]), (&[0, 300], &[3, 256]), (&[4], &[4, 700])]);
        assert!(alone);
        assert_eq!(bytes[0..24], [[1; 4], [10; 4], [10; 4], [11; 4], [12; 4], [1; 4]].concat());
        assert_eq!((bytes[4 * 255], bytes[4 * 256], bytes[4 * 700], bytes[4 * 701]), (10, 11, 12, 1));
    }

    #[test]
    fn clusters_that_meet_leave_memory_alone() {
        for clusters in [
            [(&[][..], &[5][..]), (&[], &[5])],
            [(&[5], &[]), (&[], &[5])],
            [(&[], &[5]), (&[5], &[6])],
            [(&[5], &[5]), (&[], &[5])],
        ] {
            let (alone, bytes) = run(&clusters);
            assert!(!alone, "{clusters:?}");
            assert_eq!(bytes, [1; 4096]);
        }
        assert!(run(&[(&[5], &[]), (&[5], &[])]).0, "reads alone do not meet");
    }
}
