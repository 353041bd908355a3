//! Bytes of memory whose every write is noted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::probe::number;
use super::value::Element;
use crate::hazard::{Place, Site};

/// Shows every write of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// In the shared memory of CTAs, where `address` is an offset, and not in global memory.
    pub shared: bool,
    /// Where they begin.
    pub address: u64,
    /// How many.
    pub bytes: u64,
    /// How many writes are shown at most.
    pub times: u64,
}

impl Watch {
    /// How many writes are shown if nothing else is said.
    pub const TIMES: u64 = 64;
}

/// `ADDRESS` or `shared:OFFSET`, and `:BYTES`; 4 bytes if not given.
impl FromStr for Watch {
    type Err = String;

    fn from_str(text: &str) -> Result<Watch, String> {
        let (shared, rest) = text.strip_prefix("shared:").map_or((false, text), |rest| (true, rest));
        let (address, bytes) = rest.split_once(':').unwrap_or((rest, "4"));
        match (number(address), number(bytes)) {
            (Some(address), Some(bytes)) if bytes > 0 => Ok(Watch { shared, address, bytes, times: Watch::TIMES }),
            _ => Err(format!("{text:?} is not ADDRESS[:BYTES] or shared:OFFSET[:BYTES]")),
        }
    }
}

/// A write of watched bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The step.
    pub step: u64,
    /// Who, and where; of a copy, who issued it.
    pub at: Place,
    /// The CTA whose shared memory was written; `None`: global memory.
    pub shared: Option<[u32; 3]>,
    /// The first byte.
    pub address: u64,
    /// The bytes before.
    pub old: Vec<u8>,
    /// The bytes after.
    pub new: Vec<u8>,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.shared {
            Some([x, y, z]) => format!("shared memory of CTA ({x},{y},{z}) at {:#x}", self.address),
            None => format!("global memory at {:#x}", self.address),
        };
        let shown = |bytes: &[u8]| {
            let element = match bytes.len() {
                1 => Element::B8,
                2 => Element::B16,
                4 => Element::B32,
                8 => Element::B64,
                _ => return bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "),
            };
            let bits = bytes.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b));
            element.shown(bits)
        };
        write!(f, "step {}: {place}: {} becomes {}, at {}", self.step, shown(&self.old), shown(&self.new), self.at)
    }
}

/// Notes writes by the numbers of the machine.
pub struct Watches {
    watches: Vec<(Watch, u64)>,
    /// Warps of a CTA, CTAs of a cluster.
    warps: u32,
    cluster: u32,
    /// The machine's step.
    pub step: u64,
    writes: Vec<Noted>,
}

/// A write, in the machine's numbers.
struct Noted {
    step: u64,
    site: Site,
    /// The number of the CTA whose shared memory it is.
    owner: Option<u32>,
    address: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Watches {
    pub fn new(watches: &[Watch], warps: u32, cluster: u32) -> Watches {
        Watches { watches: watches.iter().map(|w| (*w, 0)).collect(), warps, cluster, step: 0, writes: Vec::new() }
    }

    /// Somebody writes `new` over `old`: in global memory at an address, or in the shared memory of `slot` at an offset.
    pub fn write(&mut self, site: Site, slot: Option<u32>, address: u64, old: &[u8], new: &[u8]) {
        let end = address + old.len() as u64;
        for (watch, count) in &mut self.watches {
            let Watch { shared, address: from, bytes, times } = *watch;
            let (low, high) = (address.max(from), end.min(from.saturating_add(bytes)));
            if shared != slot.is_some() || low >= high || *count >= times {
                continue;
            }
            *count += 1;
            let part = (low - address) as usize..(high - address) as usize;
            // The CTAs of a cluster have slots and numbers side by side.
            let cta = site.warp / self.warps;
            let owner = slot.map(|slot| cta - cta % self.cluster + slot % self.cluster);
            let (old, new) = (old[part.clone()].to_vec(), new[part].to_vec());
            self.writes.push(Noted { step: self.step, site, owner, address: low, old, new });
        }
    }

    /// The writes, given where instructions and warps are.
    pub fn finish(self, place: impl Fn(Site) -> Place) -> Vec<Write> {
        let warps = self.warps;
        let resolve = |noted: Noted| {
            let Noted { step, site, owner, address, old, new } = noted;
            let shared = owner.map(|cta| place(Site::new(site.pc, cta * warps, 0)).cta);
            Write { step, at: place(site), shared, address, old, new }
        };
        self.writes.into_iter().map(resolve).collect()
    }
}
