//! Random numbers for data: small, seekable, the same on every machine.

use std::collections::BTreeMap;

/// A SplitMix64 generator whose start is a function of `(seed, stream, index)`.
///
/// Everything random about data is drawn from `Rng::new(seed, "name of the use", step)`, so the batch of any step can
/// be made again from its number alone. There is no state to save, and a resumed run sees the data it would have seen.
///
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function: a bijection in which every input bit reaches every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A state in which `word` has been mixed with all before it: another word leads to another state.
pub(crate) fn absorb(state: u64, word: u64) -> u64 {
    mix((state ^ word).wrapping_add(GOLDEN))
}

impl Rng {
    /// The generator of item `index` of the stream called `stream`.
    pub fn new(seed: u64, stream: &str, index: u64) -> Rng {
        // FNV-1a gives each name its number.
        let name =
            stream.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Rng { state: absorb(absorb(absorb(0, seed), name), index) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `true` with the given probability: 0 is never, 1 is always.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Uniform in `0..n`, without bias (Lemire's multiplication with rejection).
    ///
    /// # Panics
    /// If `n` is 0.
    #[track_caller]
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "Rng::below: nothing to draw from an empty range");
        let n = n as u64;
        let rejected = n.wrapping_neg() % n; // 2^64 mod n low products would be drawn once too often
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= rejected {
                return (product >> 64) as usize;
            }
        }
    }

    /// Uniform in `low..=high`.
    ///
    /// # Panics
    /// If `low > high`.
    #[track_caller]
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "Rng::between: {low} is above {high}");
        low + self.below((high - low + 1) as usize) as i64
    }

    /// One of `items`, each as likely as another.
    ///
    /// # Panics
    /// If `items` is empty.
    #[track_caller]
    pub fn choose<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

/// A key of a map of weights, each with a chance in proportion to its weight. Of a single one nothing is drawn.
///
/// # Panics
/// If the map is empty.
#[track_caller]
pub(crate) fn weighted<'a>(weights: &'a BTreeMap<String, f64>, rng: &mut Rng) -> &'a str {
    let (last, _) = weights.last_key_value().expect("a draw from no weights");
    if weights.len() == 1 {
        return last;
    }
    let mut at = rng.uniform() * weights.values().sum::<f64>();
    let chosen = weights.iter().find(|(_, weight)| {
        at -= **weight;
        at < 0.0
    });
    chosen.map_or(last, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_function_is_the_published_splitmix64() {
        // First outputs of the reference implementation (prng.di.unimi.it/splitmix64.c) seeded with 1234567.
        let mut rng = Rng { state: 1_234_567 };
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn seed_stream_and_index_each_matter() {
        let first = |seed, stream, index| Rng::new(seed, stream, index).next_u64();
        assert_eq!(first(1, "a", 2), first(1, "a", 2));
        let all = [first(1, "a", 2), first(2, "a", 2), first(1, "b", 2), first(1, "a", 1), first(2, "a", 1)];
        let distinct: std::collections::HashSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn draws_are_uniform() {
        // 60,000 draws into 6 bins: the standard deviation of a bin is sqrt(60000 · 1/6 · 5/6) = 91.3; allow 5 of them.
        let mut rng = Rng::new(7, "dice", 0);
        let mut bins = [0i64; 6];
        for _ in 0..60_000 {
            bins[rng.below(6)] += 1;
        }
        assert!(bins.iter().all(|&count| (count - 10_000).abs() < 457), "{bins:?}");
        // The same for the place of one item in a shuffled three: sd of a bin is sqrt(30000 · 2/9) = 81.6.
        let mut places = [0i64; 3];
        for _ in 0..30_000 {
            let mut items = [0, 1, 2];
            rng.shuffle(&mut items);
            places[items.iter().position(|&item| item == 0).unwrap()] += 1;
        }
        assert!(places.iter().all(|&count| (count - 10_000).abs() < 409), "{places:?}");
    }

    #[test]
    fn weights_are_chances() {
        let weights: BTreeMap<String, f64> = [("a".into(), 1.0), ("b".into(), 0.0), ("c".into(), 3.0)].into();
        let mut rng = Rng::new(3, "weights", 0);
        let mut counts = BTreeMap::new();
        (0..10_000).for_each(|_| *counts.entry(weighted(&weights, &mut rng)).or_insert(0) += 1);
        // Four standard errors of 2500.
        assert!(counts.len() == 2 && (counts["a"] - 2500i64).abs() < 174, "{counts:?}");
        let (one, before) = ([("z".to_owned(), 0.5)].into(), rng.clone().next_u64());
        assert_eq!((weighted(&one, &mut rng), rng.next_u64()), ("z", before));
    }

    #[test]
    fn ranges_include_their_ends() {
        let mut rng = Rng::new(0, "ends", 0);
        let drawn: std::collections::BTreeSet<i64> = (0..200).map(|_| rng.between(-2, 2)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
        assert!(!rng.chance(0.0) && rng.chance(1.0));
    }
}
