//! What attention hides has no say, whatever it holds: rows of a cache that are not visible, later keys and values, and rows that
//! see nothing. Forward and backward.

use crate::{counting, device};
use autograd::{Attention, Var};
use tensor::{DType, Device, Fused, Tensor};

const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::BF16, DType::F16];
const HEADS: usize = 2;
/// More than one block of 32 keys, and a part of one.
const KEYS: usize = 40;
const SEQ: usize = 35;

/// `[2, HEADS, rows, cols]`, each value another.
fn rows(rows: usize, cols: usize, dtype: DType, gpu: &Device) -> Tensor {
    counting(&[2, HEADS, rows, cols], gpu).to_dtype(dtype)
}

/// `t` with NaN in a range of its rows.
fn spoiled(t: &Tensor, rows: std::ops::Range<usize>) -> Tensor {
    let at = Tensor::arange(0, t.dims()[2] as i64, 1, DType::I64, t.device());
    let within = at.ge(rows.start as i64).logical_and(&at.lt(rows.end as i64));
    let shape: Vec<isize> = (0..t.rank()).map(|d| if d == 2 { -1 } else { 1 }).collect();
    t.masked_fill(&within.reshape(&shape), f64::NAN)
}

/// What differs: rows of `spoiled` must be those of `sound`, bit for bit, and finite.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare(&mut self, spoiled: &Tensor, sound: &Tensor, rows: std::ops::Range<usize>, what: String) {
        let [a, b] = [spoiled, sound].map(|t| t.narrow(2, rows.start as isize, rows.len()).contiguous());
        assert!(b.to_f64_vec().iter().all(|x| x.is_finite()), "{what}: the sound one");
        if a.to_bytes() != b.to_bytes() {
            self.0.push(what);
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

#[test]
fn a_cache_beyond_what_is_visible_has_no_say() {
    let mut differences = Differences::default();
    for (seed, dtype) in FLOATS.into_iter().enumerate() {
        let gpu = device(seed as u64);
        let (q, k, v) = (rows(3, 5, dtype, &gpu), rows(KEYS, 5, dtype, &gpu), rows(KEYS, 3, dtype, &gpu));
        for seen in [3, 31, 32, 33, KEYS - 1] {
            let attend = |k: &Tensor, v: &Tensor| Tensor::attention_causal(&q, k, v, Some(&[seen, seen]), 0.4);
            let (out, lse) = attend(&spoiled(&k, seen..KEYS), &spoiled(&v, seen..KEYS));
            let (sound, sound_lse) = attend(&k, &v);
            differences.compare(&out, &sound, 0..3, format!("{dtype}, {seen} keys"));
            differences.compare(&lse, &sound_lse, 0..3, format!("log-sum-exp in {dtype}, {seen} keys"));
        }
    }
    differences.none();
}

#[test]
fn what_a_row_does_not_see_reaches_neither_it_nor_its_gradients() {
    let mut differences = Differences::default();
    for (seed, dtype) in FLOATS.into_iter().enumerate() {
        let gpu = device(seed as u64);
        let (q, k, v) = (rows(SEQ, 5, dtype, &gpu), rows(KEYS, 5, dtype, &gpu), rows(KEYS, 3, dtype, &gpu));
        let grad = rows(SEQ, 3, dtype, &gpu).mul(0.1);
        let (out, lse) = Tensor::attention_causal(&q, &k, &v, None, 0.4);
        let backward = |x: [&Tensor; 6]| Fused::AttentionCausalBackward { scale: 0.4 }.apply(&x);
        let sound = backward([&grad, &q, &k, &v, &out, &lse]);
        // Row i sees keys 0..=KEYS - SEQ + i.
        for first in [6, 20, 32, 33, KEYS - 1] {
            let before = first - (KEYS - SEQ);
            let (k, v) = (spoiled(&k, first..KEYS), spoiled(&v, first..KEYS));
            let (y, _) = Tensor::attention_causal(&q, &k, &v, None, 0.4);
            differences.compare(&y, &out, 0..before, format!("{dtype}, keys from {first}"));
            let dq = &backward([&grad, &q, &k, &v, &out, &lse])[0];
            differences.compare(dq, &sound[0], 0..before, format!("gradient of queries in {dtype}, keys from {first}"));
        }
        for rows in [1, 2, 31, SEQ - 1] {
            let [grad, q, out, lse] = [&grad, &q, &out, &lse].map(|t| spoiled(t, 0..rows));
            let after = KEYS - SEQ + rows..KEYS;
            let d = backward([&grad, &q, &k, &v, &out, &lse]);
            differences.compare(&d[1], &sound[1], after.clone(), format!("gradient of keys in {dtype}, {rows} rows"));
            differences.compare(&d[2], &sound[2], after, format!("gradient of values in {dtype}, {rows} rows"));
        }
    }
    differences.none();
}

#[test]
fn what_a_mask_hides_has_no_say_and_a_row_that_sees_nothing_is_0() {
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    for (seed, dtype) in FLOATS.into_iter().enumerate() {
        let gpu = device(seed as u64);
        let tensor = |x: &[f64]| Tensor::from_slice(x, [2, 2], &gpu).to_dtype(dtype);
        let of = |x: &[f64]| Var::parameter(tensor(x));
        let (q, k, v) = (of(&[1.0, 2.0, nan, 1.0]), of(&[0.5, 1.0, nan, infinity]), of(&[1.0, 3.0, nan, nan]));
        // The first row sees the first key, the second none.
        let bools = Tensor::from_slice(&[true, false, false, false], [2, 2], &gpu);
        let floats = Tensor::where_(&bools, &Tensor::zeros([2, 2], dtype, &gpu), -infinity);
        for mask in [&bools, &floats] {
            [&q, &k, &v].into_iter().for_each(Var::zero_grad);
            let options = Attention { mask: Some(mask.into()), ..Default::default() };
            let y = Var::scaled_dot_product_attention(&q, &k, &v, &options);
            assert_eq!(y.value().to_f64_vec(), [1.0, 3.0, 0.0, 0.0], "{dtype}");
            y.backward_with(&tensor(&[1.0, 2.0, nan, nan]));
            let grads = [&q, &k, &v].map(|x| x.grad().expect("a gradient").to_f64_vec());
            assert_eq!(grads, [vec![0.0; 4], vec![0.0; 4], vec![1.0, 2.0, 0.0, 0.0]], "{dtype}");
        }
    }
}
