//! The mbarrier object: 8 bytes of shared memory that count arrivals and bytes.
//!
//! The ISA leaves the layout open. Ours: bits 0-19 the arrivals still pending in this phase, 20-39 those that the next phase
//! will expect, 40-60 the transaction count in two's complement, 61 the phase's parity, 62-63 a mark by which
//! a live object is told from other bytes.
//!
//! A phase completes when no arrival is pending and the transaction count is zero. The count may be negative
//! in between: bytes can land before they are expected.

/// The largest number of arrivals that a phase can expect.
pub const MAX_COUNT: u32 = (1 << 20) - 1;
/// The largest transaction count, in absolute value.
pub const MAX_TX: i64 = (1 << 20) - 1;

const MARK: u64 = 0b10;

/// An mbarrier, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbarrier {
    /// Arrivals that the current phase still expects.
    pub pending: u32,
    /// Arrivals that the next phase will expect.
    pub expected: u32,
    /// Bytes that the current phase still expects; negative if more have landed than were expected so far.
    pub tx: i32,
    /// Parity of the current phase: false for the first.
    pub parity: bool,
}

/// What an mbarrier cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// An initial count out of range.
    #[error("count {0} is not in 1 to 2^20 - 1")]
    Count(u32),
    /// More arrivals than the phase still expects.
    #[error("{count} arrivals where the phase expects {pending} more")]
    TooManyArrivals {
        /// The arrivals.
        count: u32,
        /// What is pending.
        pending: u32,
    },
    /// The transaction count left its range.
    #[error("transaction count {0} is beyond 2^20 - 1")]
    Tx(i64),
    /// `noComplete` arrived last.
    #[error("an arrive.noComplete completed the phase")]
    Completed,
}

impl Mbarrier {
    /// A new object, which expects `count` arrivals in each phase.
    pub fn init(count: u32) -> Result<Mbarrier, Misuse> {
        if count == 0 || count > MAX_COUNT {
            return Err(Misuse::Count(count));
        }
        Ok(Mbarrier { pending: count, expected: count, tx: 0, parity: false })
    }

    /// Reads an object; `None` if the bytes hold none.
    pub fn decode(bits: u64) -> Option<Mbarrier> {
        (bits >> 62 == MARK).then_some(Mbarrier {
            pending: bits as u32 & MAX_COUNT,
            expected: (bits >> 20) as u32 & MAX_COUNT,
            tx: ((bits << 3) as i64 >> 43) as i32,
            parity: bits >> 61 & 1 == 1,
        })
    }

    /// The bytes of the object.
    pub fn encode(self) -> u64 {
        let tx = self.tx as u32 as u64 & 0x1F_FFFF;
        u64::from(self.pending) | u64::from(self.expected) << 20 | tx << 40 | u64::from(self.parity) << 61 | MARK << 62
    }

    /// Completes the phase if nothing is missing; whether it did.
    fn settle(&mut self) -> bool {
        let done = self.pending == 0 && self.tx == 0;
        if done {
            self.pending = self.expected;
            self.parity = !self.parity;
        }
        done
    }

    fn add_tx(&mut self, bytes: i64) -> Result<(), Misuse> {
        let tx = i64::from(self.tx) + bytes;
        if tx.abs() > MAX_TX {
            return Err(Misuse::Tx(tx));
        }
        self.tx = tx as i32;
        Ok(())
    }

    /// `expect_tx`: the phase waits for `bytes` more.
    pub fn expect_tx(&mut self, bytes: u32) -> Result<(), Misuse> {
        self.add_tx(bytes.into())
    }

    /// `complete_tx`: `bytes` have landed. Whether that completed the phase.
    pub fn complete_tx(&mut self, bytes: u32) -> Result<bool, Misuse> {
        self.add_tx(-i64::from(bytes))?;
        Ok(self.settle())
    }

    /// `arrive`, and with `drop` `arrive_drop`: `count` arrivals, which the next phases then no longer expect. Whether that
    /// completed the phase.
    pub fn arrive(&mut self, count: u32, drop: bool) -> Result<bool, Misuse> {
        if count == 0 || count > self.pending {
            return Err(Misuse::TooManyArrivals { count, pending: self.pending });
        }
        self.pending -= count;
        if drop {
            self.expected -= count;
        }
        Ok(self.settle())
    }

    /// `arrive.noComplete`: must not be the last arrival of the phase.
    pub fn arrive_no_complete(&mut self, count: u32, drop: bool) -> Result<(), Misuse> {
        if self.arrive(count, drop)? { Err(Misuse::Completed) } else { Ok(()) }
    }

    /// What `cp.async.mbarrier.arrive` without `.noinc` does at once: one more arrival is expected in this phase.
    pub fn increase_pending(&mut self) -> Result<(), Misuse> {
        if self.pending == MAX_COUNT {
            return Err(Misuse::Count(self.pending + 1));
        }
        self.pending += 1;
        Ok(())
    }

    /// `test_wait.parity`: whether the phase of this parity has completed.
    pub fn is_past_parity(&self, parity: bool) -> bool {
        self.parity != parity
    }
}

/// The state that `arrive` returns: the phase that it arrived in, and the arrivals that were pending before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Number of the phase, from 0.
    pub phase: u32,
    /// Arrivals that were pending.
    pub pending: u32,
}

impl State {
    /// As the 64 bits of a register.
    pub fn encode(self) -> u64 {
        u64::from(self.phase) << 32 | u64::from(self.pending)
    }

    /// From the 64 bits of a register.
    pub fn decode(bits: u64) -> State {
        State { phase: (bits >> 32) as u32, pending: bits as u32 & MAX_COUNT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_have_limits() {
        assert_eq!(Mbarrier::init(0), Err(Misuse::Count(0)));
        assert_eq!(Mbarrier::init(1 << 20), Err(Misuse::Count(1 << 20)));
        let mut m = Mbarrier::init(MAX_COUNT).unwrap();
        assert_eq!(m.increase_pending(), Err(Misuse::Count(1 << 20)));
        assert_eq!(m.arrive(MAX_COUNT, false), Ok(true));
        m.expect_tx(MAX_TX as u32).unwrap();
        assert_eq!(m.expect_tx(1), Err(Misuse::Tx(1 << 20)));
        assert_eq!(m.complete_tx(MAX_TX as u32), Ok(false));
        assert_eq!(m.complete_tx(MAX_TX as u32), Ok(false));
        assert_eq!(m.complete_tx(1), Err(Misuse::Tx(-(1 << 20))));
        let mut m = Mbarrier::init(2).unwrap();
        assert_eq!(m.arrive(3, false), Err(Misuse::TooManyArrivals { count: 3, pending: 2 }));
        assert_eq!(m.arrive_no_complete(2, false), Err(Misuse::Completed));
        assert_eq!(Mbarrier::decode(0), None);
        assert_eq!(Mbarrier::decode(u64::MAX), None);
    }

    #[test]
    fn bytes_may_land_before_they_are_expected() {
        let mut m = Mbarrier::init(1).unwrap();
        assert_eq!(m.complete_tx(64), Ok(false));
        assert_eq!(m.tx, -64);
        m.expect_tx(64).unwrap();
        assert_eq!(m.arrive(1, false), Ok(true));
        assert!(m.is_past_parity(false) && !m.is_past_parity(true));
    }

    #[test]
    fn a_state_is_64_bits() {
        let s = State { phase: 7, pending: MAX_COUNT };
        assert_eq!(State::decode(s.encode()), s);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Arrive(u32, bool),
        Expect(u32),
        Complete(u32),
    }

    proptest! {
        /// The rule in the ISA's words: a phase is over when the arrivals it expected have come and the bytes announced have landed.
        #[test]
        fn phases_follow_the_rule(
            count in 1u32..5,
            acts in proptest::collection::vec(
                prop_oneof![
                    3 => (1u32..3, proptest::bool::weighted(0.2)).prop_map(|(n, d)| Act::Arrive(n, d)),
                    1 => (0u32..4).prop_map(|n| Act::Expect(n * 16)),
                    1 => (0u32..4).prop_map(|n| Act::Complete(n * 16)),
                ],
                0..60,
            ),
        ) {
            let mut bits = Mbarrier::init(count).unwrap().encode();
            let (mut phase, mut goal, mut next) = (0u32, count, count);
            let (mut arrived, mut announced, mut landed) = (0u32, 0i64, 0i64);
            for act in acts {
                let mut m = Mbarrier::decode(bits).unwrap();
                let done = match act {
                    Act::Arrive(n, drop) if arrived + n > goal => {
                        prop_assert_eq!(m.arrive(n, drop), Err(Misuse::TooManyArrivals { count: n, pending: goal - arrived }));
                        continue;
                    }
                    Act::Arrive(n, drop) => {
                        arrived += n;
                        next -= if drop { n } else { 0 };
                        m.arrive(n, drop).unwrap()
                    }
                    Act::Expect(n) => {
                        announced += i64::from(n);
                        m.expect_tx(n).unwrap();
                        false
                    }
                    Act::Complete(n) => {
                        landed += i64::from(n);
                        m.complete_tx(n).unwrap()
                    }
                };
                let over = arrived == goal && announced == landed && !matches!(act, Act::Expect(_));
                prop_assert_eq!(done, over);
                if over {
                    (phase, goal, arrived, announced, landed) = (phase + 1, next, 0, 0, 0);
                }
                prop_assert_eq!(m.is_past_parity(phase % 2 == 1), false);
                prop_assert_eq!(m.is_past_parity(phase % 2 == 0), true);
                prop_assert_eq!((m.pending, m.tx), (goal - arrived, (announced - landed) as i32));
                bits = m.encode();
                if next == 0 {
                    break;
                }
            }
        }
    }
}
