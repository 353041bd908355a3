//! Whether a launch in which nothing happens can still get on.
//!
//! A long computation is no deadlock, however long. A launch stands still if nothing that others could see has happened for a while
//! and every warp that is resident
//! - waits for something that has not come, or
//! - is in a state (registers, and where its lanes are) in which it was before: it will be there again, for nothing that it read has
//!   changed, or
//! - polls: its strong reads, failed exchanges and tests of mbarriers are of a few places, and nobody writes to them.
//!
//! A warp that counts or reads a clock in a loop is in a new state each time. If it does not poll it may end some day, and only a
//! limit of the user's stops it.

use std::collections::HashMap;

use super::warp::Warp;

/// Warp instructions without an effect after which states are compared.
const QUIET: u64 = 20_000;

/// Polls since the last effect after which a warp counts as one that only polls.
const POLLS: u32 = 1_000;

/// The places that a warp polled last, and how often since the last effect.
#[derive(Default)]
pub struct Polls {
    places: [u64; 4],
    next: usize,
    count: u32,
    /// The step of the last effect when it was counted.
    effect: u64,
}

impl Polls {
    /// A read in vain at `place`, when the last effect was at step `effect`. Reads of ever new places are no polls.
    pub fn count(&mut self, place: u64, effect: u64) {
        if self.effect != effect {
            *self = Polls { effect, ..Polls::default() };
        }
        if self.places.contains(&place) {
            self.count += 1;
        } else {
            self.places[self.next] = place;
            self.next = (self.next + 1) % self.places.len();
            self.count = 0;
        }
    }

    fn in_vain(&self, effect: u64) -> bool {
        self.effect == effect && self.count >= POLLS
    }
}

/// How often the registers of a warp are compared with those of one state: an endless loop is soon where it was.
const COMPARISONS: u32 = 64;

/// A warp as it was, and whether it was so again.
struct State {
    places: u64,
    registers: u64,
    comparisons: u32,
    again: bool,
}

/// One number for two.
pub fn mix(a: u64, b: u64) -> u64 {
    (a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// What warps did since the last effect.
#[derive(Default)]
pub struct Standstill {
    /// The step of the effect.
    effect: u64,
    /// Steps without an effect at which states are taken anew: each time twice as many, so that one of them lies in the cycle.
    renew: u64,
    /// By warp.
    states: HashMap<u32, State>,
}

impl Standstill {
    /// A warp has run for a while; `quiet` steps ago, at step `effect`, something happened.
    pub fn observe(&mut self, warp: &Warp, quiet: u64, effect: u64) {
        if quiet < QUIET {
            return;
        }
        if self.effect != effect || quiet >= self.renew {
            self.renew = if self.effect == effect { 2 * quiet } else { 2 * QUIET };
            self.effect = effect;
            self.states.clear();
        }
        let places = warp.places();
        match self.states.get_mut(&warp.id) {
            Some(s) if s.again || s.places != places || s.comparisons == COMPARISONS => {}
            Some(s) => {
                s.comparisons += 1;
                s.again = s.registers == warp.regs.digest();
            }
            None => {
                let state = State { places, registers: warp.regs.digest(), comparisons: 0, again: false };
                self.states.insert(warp.id, state);
            }
        }
    }

    /// Whether the warp, which does not wait, will do nothing that it has not done since the last effect, unless another one does.
    pub fn holds(&self, warp: &Warp, effect: u64) -> bool {
        let again = self.effect == effect && self.states.get(&warp.id).is_some_and(|s| s.again);
        again || warp.polls.in_vain(effect)
    }
}
