//! [`Source`]: where a case's choices and values come from.
//!
//! A specification draws by calling [`Source::pick`], [`Source::size`], [`Source::float`] and so on, like reading dice. The
//! dice are words from proptest; word 0 always means the simplest choice (size 1, contiguous, value 0 or the lower bound),
//! so that shrinking the words shrinks the case, however it was drawn.

use crate::array::{Array, for_each_index};
use crate::input::{Input, Placement};
use crate::precision::{Precision, round_to};
use tensor::DType;

/// How large and how nice the drawn cases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Small shapes; values that tie and sit on the special points now and then.
    Small,
    /// Small shapes that are not empty; values from a continuous range, for finite differences.
    Smooth,
    /// Dimensions of 33 to 70: enough work for several threads and full vector registers.
    Large,
    /// Small shapes; every other value is one at the end of the dtype's range: see [`Precision::extremes`](crate::Precision::extremes).
    Extreme,
}

/// A stream of choices and a stream of values.
#[derive(Clone, Debug)]
pub struct Source {
    choices: std::vec::IntoIter<u32>,
    values: std::vec::IntoIter<u32>,
    seed: u64,
    /// The dtype of the case's float (or number) operands.
    pub dtype: DType,
    /// What kind of case.
    pub draw: Draw,
}

impl Source {
    /// Words for choices and values; where the values' run out, `seed` makes more.
    pub fn new(choices: Vec<u32>, values: Vec<u32>, seed: u64, dtype: DType, draw: Draw) -> Source {
        Source { choices: choices.into_iter(), values: values.into_iter(), seed, dtype, draw }
    }

    /// A source that needs no words.
    pub fn seeded(mut seed: u64, dtype: DType, draw: Draw) -> Source {
        let choices = (0..64).map(|_| splitmix(&mut seed)).collect();
        Source::new(choices, Vec::new(), seed, dtype, draw)
    }

    /// One of `0..n`.
    pub fn pick(&mut self, n: usize) -> usize {
        self.choices.next().unwrap_or(0) as usize % n
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.pick(n) == n - 1
    }

    /// A coin.
    pub fn coin(&mut self) -> bool {
        self.one_in(2)
    }

    /// The size of a dimension that may be empty.
    pub fn size(&mut self) -> usize {
        match self.draw {
            Draw::Large => 33 + self.pick(38),
            Draw::Smooth => 1 + self.pick(4),
            Draw::Small | Draw::Extreme => match self.pick(24) {
                23 => 0,
                22 => 17 + self.pick(24),
                n => 1 + n % 5,
            },
        }
    }

    /// The size of a dimension that is not empty.
    pub fn some(&mut self) -> usize {
        self.size().max(1)
    }

    /// A shape of `lo` to `hi` dimensions (in large draws: `lo` to 3, at least 2 if allowed).
    pub fn shape(&mut self, lo: usize, hi: usize) -> Vec<usize> {
        let (lo, hi) = if self.draw == Draw::Large { (lo.max(2.min(hi)), hi.min(3).max(lo)) } else { (lo, hi) };
        let rank = lo + self.pick(hi - lo + 1);
        (0..rank).map(|_| self.size()).collect()
    }

    /// A dimension of `rank` (at least 1), counted from either end.
    pub fn dim(&mut self, rank: usize) -> isize {
        let d = self.pick(rank) as isize;
        if self.coin() { d - rank as isize } else { d }
    }

    /// Some dimensions, none twice; none at all means all of them.
    pub fn dims(&mut self, rank: usize) -> Vec<isize> {
        let mut dims = Vec::new();
        for d in 0..rank as isize {
            if self.coin() {
                dims.push(if self.coin() { d - rank as isize } else { d });
            }
        }
        if self.coin() {
            dims.reverse();
        }
        dims
    }

    /// A shape that broadcasts to `shape`: some sizes replaced by 1, some leading dimensions left out.
    pub fn broadcastable(&mut self, shape: &[usize]) -> Vec<usize> {
        let keep = if self.one_in(3) { self.pick(shape.len() + 1) } else { 0 };
        shape[keep..].iter().map(|&n| if self.one_in(4) { 1 } else { n }).collect()
    }

    fn word(&mut self) -> u32 {
        match self.values.next() {
            Some(w) => w,
            None => splitmix(&mut self.seed),
        }
    }

    /// One value in `lo..=hi`, exactly representable in the case's dtype.
    pub fn value(&mut self, lo: f64, hi: f64) -> f64 {
        const SPECIAL: [f64; 8] = [0.0, 1.0, -1.0, 0.5, 2.0, -0.5, -2.0, 3.0];
        let dtype = self.dtype;
        let w = self.word();
        if self.draw == Draw::Extreme && dtype.is_float() && w.is_multiple_of(2) {
            let extremes = Precision::extremes(dtype);
            return extremes[w as usize / 2 % extremes.len()];
        }
        let x = match self.draw {
            Draw::Small if w.is_multiple_of(4) => SPECIAL[(w / 4 % 8) as usize].clamp(lo, hi),
            _ => lo + (hi - lo) * (w as f64 / u32::MAX as f64),
        };
        match dtype {
            t if t.is_float() => round_to(t, x),
            DType::U8 => x.abs().round(),
            DType::Bool => (w % 2) as f64,
            _ => x.round(),
        }
    }

    /// An operand of the case's dtype with values in `lo..=hi`, in a drawn layout.
    pub fn input(&mut self, shape: &[usize], lo: f64, hi: f64) -> Input {
        let layout = self.layout(shape);
        let dtype = self.dtype;
        self.fill(dtype, shape, layout, |s| s.value(lo, hi))
    }

    /// An operand of positions in `0..n`, of an integer dtype.
    pub fn index(&mut self, shape: &[usize], n: usize) -> Input {
        let dtype = [DType::I64, DType::I64, DType::I32, DType::U8][self.pick(if n <= 256 { 4 } else { 3 })];
        let layout = self.layout(shape);
        self.fill(dtype, shape, layout, |s| (s.word() as usize % n.max(1)) as f64)
    }

    /// An operand of booleans.
    pub fn bools(&mut self, shape: &[usize]) -> Input {
        let layout = self.layout(shape);
        self.fill(DType::Bool, shape, layout, |s| (s.word() % 2) as f64)
    }

    /// An operand whose layout is drawn and whose values `f` gives.
    pub fn fill(&mut self, dtype: DType, shape: &[usize], layout: Placement, mut f: impl FnMut(&mut Source) -> f64) -> Input {
        let base: Vec<usize> = shape.iter().zip(&layout.expanded).map(|(&n, &e)| if e { 1 } else { n }).collect();
        let base = Array::from_fn(dtype, &base, |_| f(self));
        Input { array: Array::from_fn(dtype, shape, |ix| base.at(ix)), layout }
    }

    /// A layout in which every element has its own memory.
    pub fn dense_layout(&mut self, rank: usize) -> Placement {
        let mut layout = Placement::contiguous(rank);
        if self.one_in(3) {
            for d in (1..rank).rev() {
                layout.order.swap(d, self.pick(d + 1));
            }
        }
        if self.one_in(3) {
            for d in 0..rank {
                layout.slices[d] = (self.pick(3), 1 + self.pick(3), self.pick(2));
            }
        }
        layout
    }

    /// Any layout for a shape.
    pub fn layout(&mut self, shape: &[usize]) -> Placement {
        let mut layout = self.dense_layout(shape.len());
        if self.one_in(5) {
            layout.expanded = shape.iter().map(|&n| n > 0 && self.coin()).collect();
        }
        layout
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
fn splitmix(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 32) as u32
}

/// Calls `f` on every line of `shape` along `dim`: the positions of its elements.
pub fn for_each_line(shape: &[usize], dim: usize, mut f: impl FnMut(&[Vec<usize>])) {
    let mut outer = shape.to_vec();
    outer[dim] = 1;
    for_each_index(&outer, |ix| {
        let line: Vec<Vec<usize>> = (0..shape[dim])
            .map(|i| {
                let mut at = ix.to_vec();
                at[dim] = i;
                at
            })
            .collect();
        f(&line);
    });
}
