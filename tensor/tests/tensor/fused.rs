//! Fused operations: a device without kernels for them computes their definitions, within the same bounds.

use opspec::{Case, Op, holds};
use proptest::prelude::*;
use tensor::cpu::CpuBuffer;
use tensor::{
    Backend, BinaryOp, DType, Device, DeviceError, Distribution, Fused, Generator, Layout, ReduceOp, Scalar, Shape, Storage,
    Tensor, UnaryOp, WeakDevice,
};

/// The CPU without its fused kernels.
#[derive(Debug)]
struct Plain(WeakDevice);

impl Plain {
    /// The CPU's result as this device's.
    fn own(&self, t: Tensor) -> Tensor {
        let storage = self.upload(t.to_bytes()).expect("memory");
        Tensor::from_parts(storage, Layout::contiguous(t.shape().clone()), t.dtype())
    }
}

/// Methods that the CPU computes.
macro_rules! by_the_cpu {
    ($($name:ident($($x:ident: $type:ty),*);)*) => {$(
        fn $name(&self, $($x: $type),*) -> Tensor {
            self.own(Device::cpu().$name($($x),*))
        }
    )*};
}

impl Backend for Plain {
    fn name(&self) -> String {
        "plain".into()
    }
    fn upload(&self, bytes: Vec<u8>) -> Result<Storage, DeviceError> {
        let mut buffer = CpuBuffer::new(bytes.len()).expect("memory");
        buffer.as_mut_slice().copy_from_slice(&bytes);
        Ok(Storage::new(buffer, self.0.upgrade().expect("a device in use")))
    }
    fn download(&self, storage: &Storage, bytes: usize) -> Result<Vec<u8>, DeviceError> {
        Device::cpu().download(storage, bytes)
    }
    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn write_rows(&self, cache: &mut Tensor, positions: &[usize], src: &Tensor) {
        Device::cpu().write_rows(cache, positions, src);
        *cache = self.own(cache.clone());
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> (Tensor, Tensor) {
        let (values, positions) = Device::cpu().sort(x, dim, descending);
        (self.own(values), self.own(positions))
    }
    by_the_cpu! {
        full(shape: &Shape, value: Scalar, dtype: DType);
        arange(start: i64, step: i64, len: usize, dtype: DType);
        random(shape: &Shape, dtype: DType, distribution: Distribution, seed: u64, offset: u64);
        copy(x: &Tensor, dtype: DType);
        unary(op: UnaryOp, x: &Tensor);
        binary(op: BinaryOp, a: &Tensor, b: &Tensor);
        where_(condition: &Tensor, a: &Tensor, b: &Tensor);
        reduce(op: ReduceOp, x: &Tensor, dims: &[usize]);
        arg_reduce(largest: bool, x: &Tensor, dim: usize);
        cumsum(x: &Tensor, dim: usize);
        softmax(x: &Tensor, log: bool);
        matmul(a: &Tensor, b: &Tensor);
        gather(x: &Tensor, dim: usize, index: &Tensor);
        scatter(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, add: bool);
        index_select(x: &Tensor, dim: usize, index: &Tensor);
        index_add(x: &Tensor, dim: usize, index: &Tensor, src: &Tensor, alpha: Scalar);
        cat(parts: &[Tensor], dim: usize);
        tri(x: &Tensor, k: i64, upper: bool);
    }
}

#[test]
fn definitions_hold_to_the_specifications() {
    let plain = Device::new_cyclic(Plain);
    let mut checked = vec![];
    for spec in opspec::all() {
        let seed = opspec::Source::seeded(1, DType::F32, opspec::Draw::Small);
        let Op::Fused(op) = spec.draw(&mut { seed }).op else { continue };
        checked.push(op.name());
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            let check = |case: Case| case.verify(&plain).map_err(|e| TestCaseError::fail(e.to_string()));
            holds(32, &spec.strategy(dtype), check).unwrap_or_else(|e| panic!("{} {dtype}: {e}", spec.name));
        }
    }
    assert_eq!(checked.len(), Fused::VARIANTS.len(), "{checked:?}");
}

#[test]
fn methods_apply_the_operation_of_their_name() {
    let mut rng = Generator::new(1);
    let mut draw = |shape: &[usize]| rng.normal(shape, 0.0, 1.0, DType::F32, &Device::cpu());
    let (x, y, w) = (draw(&[2, 3, 4]), draw(&[2, 3, 4]), draw(&[3, 4]));
    let (cos, sin) = (draw(&[3, 2]), draw(&[3, 2]));
    let same = |a: Tensor, op: Fused, x: &[&Tensor]| assert!(a.to_bytes() == op.apply(x)[0].to_bytes(), "{op:?}");
    same(x.swiglu(&y), Fused::Swiglu, &[&x, &y]);
    same(x.rope(&cos, &sin), Fused::Rope { inverse: false }, &[&x, &cos, &sin]);
    same(x.rms_norm(&[3, 4], Some(&w), Some(0.1)), Fused::RmsNorm { dims: 2, eps: 0.1 }, &[&x, &w]);
    same(x.rms_norm(&[4], None, None), Fused::RmsNorm { dims: 1, eps: DType::F32.epsilon() }, &[&x]);
}

/// The sizes of the three operands multiply to 2⁶⁶.
#[test]
fn attention_has_no_bound_below_memorys() {
    let x = Generator::new(1).normal([1 << 16, 1, 1, 64], 0.0, 1.0, DType::F32, &Device::cpu());
    let (out, lse) = Tensor::attention_causal(&x, &x, &x, None, 0.5);
    let grads = Fused::AttentionCausalBackward { scale: 0.5 }.apply(&[&x, &x, &x, &x, &out, &lse]);
    // One key a row: it gets all the weight.
    assert_eq!(grads[2].to_bytes(), x.to_bytes());
    assert!(grads[..2].iter().all(|t| t.abs().amax((), false).item::<f32>() < 1e-4));
}

/// What a row does not see has no say, whatever it holds: not in the row's output, nor in its gradients, nor does a row's gradient
/// reach what it does not see. In every dtype, by the CPU's kernels and by the definitions.
#[test]
fn what_is_hidden_has_no_say() {
    let n = 6;
    let mut rng = Generator::new(3);
    let mut draw = |cols: usize| rng.normal([1, 1, n, cols], 0.0, 1.0, DType::F64, &Device::cpu());
    let clean = [draw(5), draw(3), draw(3), draw(5)];
    for device in [Device::cpu(), Device::new_cyclic(Plain)] {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                // Everything of the last position: its gradient, query, key and value.
                let last = Tensor::arange(0, n as i64, 1, DType::I64, &Device::cpu()).unsqueeze(1).eq(n as i64 - 1);
                let pass = |x: &[Tensor; 4]| {
                    let [grad, q, k, v] = x.each_ref().map(|t| t.to_dtype(dtype).to_device(&device));
                    let (out, lse) = Tensor::attention_causal(&q, &k, &v, None, 0.5);
                    let grads = Fused::AttentionCausalBackward { scale: 0.5 }.apply(&[&grad, &q, &k, &v, &out, &lse]);
                    (out, lse.unsqueeze(-1), grads[0].clone())
                };
                let rest = |t: &Tensor| t.narrow(2, 0, n - 1).to_bytes();
                let (a, b) = (pass(&clean), pass(&clean.each_ref().map(|t| t.masked_fill(&last, poison))));
                for (name, a, b) in [("out", &a.0, &b.0), ("lse", &a.1, &b.1), ("dq", &a.2, &b.2)] {
                    assert!(rest(a) == rest(b), "{name} {device} {dtype} {poison}");
                }
                assert!(!b.0.to_f64_vec()[(n - 1) * 5].is_finite());
                // The last row sees all keys; that of the first row alone must not leave the first key.
                let first = Tensor::arange(0, n as i64, 1, DType::I64, &Device::cpu()).unsqueeze(1).eq(0);
                let [grad, q, k, v] = [0, 1, 2, 3].map(|i| {
                    let x = if i < 2 { clean[i].masked_fill(&first, poison) } else { clean[i].clone() };
                    x.to_dtype(dtype).to_device(&device)
                });
                let (out, lse) = Tensor::attention_causal(&q, &k, &v, None, 0.5);
                let grads = Fused::AttentionCausalBackward { scale: 0.5 }.apply(&[&grad, &q, &k, &v, &out, &lse]);
                for d in &grads[1..] {
                    let others = d.narrow(2, 1, n - 1).to_f64_vec();
                    assert!(others.iter().all(|x| x.is_finite()), "{device} {dtype} {poison}: {others:?}");
                }
            }
        }
    }
}

#[test]
fn a_mask_hides_whatever_there_is() {
    let cpu = Device::cpu();
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let t = |x: &[f64]| Tensor::from_slice(x, [x.len() / 2, 2], &cpu).to_dtype(dtype);
        let (q, k, v) = (t(&[1.0; 4]), t(&[1.0, 1.0, f64::NAN, 1.0]), t(&[0.5, 0.25, f64::NAN, f64::INFINITY]));
        // The first row sees the first key, the second none.
        let bools = Tensor::from_slice(&[true, false, false, false], [2, 2], &cpu);
        let floats = Tensor::where_(&bools, &Tensor::zeros([2, 2], dtype, &cpu), f64::NEG_INFINITY);
        for mask in [&bools, &floats] {
            let options = tensor::Attention { mask: Some(mask), ..Default::default() };
            let y = Tensor::scaled_dot_product_attention(&q, &k, &v, &options);
            assert_eq!(y.to_f64_vec(), [0.5, 0.25, 0.0, 0.0], "{dtype} {mask:?}");
        }
        let causal = tensor::Attention { is_causal: true, ..Default::default() };
        assert_eq!(Tensor::scaled_dot_product_attention(&q, &k, &v, &causal).to_f64_vec()[..2], [0.5, 0.25]);
        // Infinities that are seen count by their sign and their weight's.
        let weights = t(&[1.0, 0.0, -1.0, 0.0, 1.0, 1.0]);
        let y = weights.weighted_sum(&t(&[f64::INFINITY, 1.0, f64::NEG_INFINITY, f64::NAN])).to_f64_vec();
        assert_eq!(y[..4], [f64::INFINITY, 1.0, f64::NEG_INFINITY, -1.0]);
        assert!(y[4].is_nan() && y[5].is_nan());
    }
}
