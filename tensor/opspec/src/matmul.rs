//! Matrix products.

use crate::array::{Array, Expected, broadcast};
use crate::case::{FLOATS, Spec};
use crate::family::{Family, elements, operations};
use crate::precision::Precision;
use crate::{Draw, Op, Source};
use tensor::Tensor;

operations! {
    /// A matrix product.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Product {
        /// `[a, b]` with vectors promoted and leading dimensions broadcast.
        Matmul = "matmul",
        /// `[a, b]`, two matrices.
        Mm = "mm",
        /// `[a, b]`, two batches of matrices.
        Bmm = "bmm",
        /// `[x, weight]` or `[x, weight, bias]`.
        Linear = "linear",
    }
}

use Product::*;

impl Family for Product {
    fn apply(&self, x: &[Tensor]) -> Vec<Tensor> {
        vec![match self {
            Matmul => x[0].matmul(&x[1]),
            Mm => x[0].mm(&x[1]),
            Bmm => x[0].bmm(&x[1]),
            Linear => x[0].linear(&x[1], x.get(2)),
        }]
    }

    fn reference(&self, x: &[Array]) -> Vec<Expected> {
        match self {
            Matmul | Mm | Bmm => vec![product(&x[0], &x[1])],
            Linear => {
                let (out, inner) = (x[1].shape[0], x[1].shape[1]);
                let transposed = Array::from_fn(x[1].dtype, &[inner, out], |ix| x[1].at(&[ix[1], ix[0]]));
                let mut y = product(&x[0], &transposed);
                if let Some(bias) = x.get(2) {
                    let p = Precision::of(x[0].dtype);
                    for (i, (y, e)) in y.array.data.iter_mut().zip(&mut y.bound).enumerate() {
                        *y += bias.data[i % out];
                        *e += p.u * y.abs();
                    }
                }
                vec![y]
            }
        }
    }

    fn differentiable(&self) -> Vec<usize> {
        match self {
            Matmul | Mm | Bmm => vec![0, 1],
            Linear => vec![0, 1, 2],
        }
    }

    fn flops(&self, x: &[Array], out: &[Expected]) -> u64 {
        let bias = if *self == Linear && x.len() == 3 { 1 } else { 0 };
        elements(out) * (2 * x[0].shape[x[0].rank() - 1] as u64 + bias)
    }
}

/// The product with NumPy's rules; the error of a sum of `k` products is `γₖ Σ|a||b|` in any order.
pub(crate) fn product(a: &Array, b: &Array) -> Expected {
    let p = Precision::of(a.dtype);
    let a2 = if a.rank() == 1 { a.reshaped(&[1, a.shape[0]]) } else { a.clone() };
    let b2 = if b.rank() == 1 { b.reshaped(&[b.shape[0], 1]) } else { b.clone() };
    let (ra, rb) = (a2.rank(), b2.rank());
    let (m, k, n) = (a2.shape[ra - 2], a2.shape[ra - 1], b2.shape[rb - 1]);
    let batch = broadcast(&a2.shape[..ra - 2], &b2.shape[..rb - 2]);
    let shape = [&batch[..], &[m, n]].concat();
    let rank = shape.len();
    // The first element of a matrix; its rows follow.
    let start = |t: &Array, batch: &[usize]| {
        let lead = t.rank() - 2;
        let at = t.shape[..lead].iter().zip(&batch[batch.len() - lead..]);
        at.fold(0, |o, (&n, &i)| o * n + if n == 1 { 0 } else { i }) * t.shape[lead] * t.shape[lead + 1]
    };
    let mut y = Expected::from_fn(a.dtype, &shape, |ix| {
        let (sa, sb) = (start(&a2, &ix[..rank - 2]), start(&b2, &ix[..rank - 2]));
        let (mut sum, mut size) = (0.0, 0.0);
        for l in 0..k {
            let term = a2.data[sa + ix[rank - 2] * k + l] * b2.data[sb + l * n + ix[rank - 1]];
            sum += term;
            size += term.abs();
        }
        (sum, p.dot(k) * size)
    });
    let mut out = batch;
    if a.rank() > 1 {
        out.push(m);
    }
    if b.rank() > 1 {
        out.push(n);
    }
    y.array.shape = out;
    y
}

pub(crate) fn specs() -> Vec<Spec> {
    let value = |s: &mut Source, shape: &[usize]| s.input(shape, -3.0, 3.0);
    vec![
        Spec::new("matmul", FLOATS, move |s| {
            let (m, k, n) = (s.size(), inner(s), s.size());
            let lead = if s.draw == Draw::Large { vec![2, 3] } else { s.shape(0, 2) };
            let (mut a, mut b) = match s.pick(4) {
                0 => (vec![], vec![]),
                1 => (lead.clone(), s.broadcastable(&lead)),
                2 => (s.broadcastable(&lead), lead),
                _ => (lead, vec![]),
            };
            a.extend([m, k]);
            b.extend([k, n]);
            // Vectors, on either side.
            if s.one_in(6) {
                a = vec![k];
            }
            if s.one_in(6) {
                b = vec![k];
            }
            let (x, y) = (value(s, &a), value(s, &b));
            (Op::Product(Matmul), vec![x, y])
        }),
        Spec::new("mm", FLOATS, move |s| {
            let (m, k, n) = (s.size(), inner(s), s.size());
            let (x, y) = (value(s, &[m, k]), value(s, &[k, n]));
            (Op::Product(Mm), vec![x, y])
        }),
        Spec::new("bmm", FLOATS, move |s| {
            let (b, m, k, n) = (s.size(), s.size(), inner(s), s.size());
            let (x, y) = (value(s, &[b, m, k]), value(s, &[b, k, n]));
            (Op::Product(Bmm), vec![x, y])
        }),
        Spec::new("linear", FLOATS, move |s| {
            let (k, n) = (inner(s), s.some());
            let mut shape = s.shape(0, 3);
            shape.push(k);
            let mut inputs = vec![value(s, &shape), value(s, &[n, k])];
            if s.coin() {
                inputs.push(value(s, &[n]));
            }
            (Op::Product(Linear), inputs)
        }),
    ]
}

/// The length of a sum of products: now and then beyond any block of a kernel.
fn inner(s: &mut Source) -> usize {
    if s.draw != Draw::Smooth && s.one_in(10) { 200 + s.pick(400) } else { s.size() }
}
