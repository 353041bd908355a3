//! Misuse panics at the caller's line and names the operation and what did not fit.

use crate::blame::{Walk, public_functions, refuses};
use std::path::Path;
use tensor::cpu::CpuBackend;
use tensor::{
    AdamW, Attention, BinaryOp, CrossEntropy, DType, Device, Dims, Fused, Gelu, Generator, Layout, Repeats, Shape, Tensor,
    UnaryOp,
};

#[test]
fn panics_name_the_operation_and_the_callers_line() {
    let cpu = Device::cpu();
    let f = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu);
    let ids = |v: &[i64]| Tensor::from_slice(v, v.len(), &cpu);
    let x8 = f(&[2, 3]).to_dtype(DType::F8E4M3);
    let (x, y, one) = (f(&[2, 3]), f(&[4, 3]), f(&[1, 1]));
    // Three queries and four keys; the gradient, or the keys and values, are what the calls vary.
    let (q, k, lse) = (f(&[1, 2, 3, 5]), f(&[1, 2, 4, 5]), f(&[1, 2, 3]));
    let step = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 1, grad_scale: 1.0 };
    #[track_caller]
    fn backward(grad: &Tensor, q: &Tensor, k: &Tensor, out: &Tensor, lse: &Tensor) -> Vec<Tensor> {
        Fused::AttentionCausalBackward { scale: 1.0 }.apply(&[grad, q, k, k, out, lse])
    }
    #[track_caller]
    fn masked(x: &Tensor, mask: &Tensor) -> Tensor {
        let mask = mask.narrow(1, 0, 2);
        Tensor::scaled_dot_product_attention(x, x, x, &Attention { mask: Some(&mask), ..Default::default() })
    }
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    refuses! { (refused, wrong)
        x.add(&y) => "add", "[2, 3]", "[4, 3]";
        &x * &y => "mul", "[2, 3]", "[4, 3]";
        x.matmul(&y) => "matmul", "[2, 3]", "[4, 3]";
        x.matmul(&x.t().to_dtype(DType::F64)) => "matmul", "f32", "f64";
        x.mm(&f(&[3])) => "mm", "[2, 3]", "[3]";
        x.bmm(&y) => "bmm", "[2, 3]", "[4, 3]";
        x.linear(&f(&[5, 4]), None) => "linear", "[2, 3]";
        x.sum(2, false) => "sum", "2";
        x.sum([0, -2], false) => "sum", "twice";
        f(&[2, 0]).amax(1, false) => "amax", "[2, 0]";
        x.to_dtype(DType::I64).mean((), false) => "mean", "i64";
        x.softmax(5) => "softmax", "5";
        x.reshape(&[4, -1]) => "reshape", "[2, 3]", "[4, -1]";
        x.permute(&[0, 0]) => "permute", "[0, 0]";
        x.transpose(0, 3) => "transpose", "3";
        x.expand(&[2, 4]) => "expand", "[2, 3]", "[2, 4]";
        x.narrow(1, 2, 2) => "narrow", "[2, 3]";
        x.narrow(0, 0, usize::MAX) => "narrow", "[2, 3]";
        x.narrow(0, 1, usize::MAX) => "narrow", "[2, 3]";
        x.narrow(0, isize::MAX, 1) => "narrow", "[2, 3]";
        x.narrow(0, isize::MIN, 1) => "narrow", "[2, 3]";
        x.reshape(&[-2, 3]) => "reshape", "[-2, 3]", "[2, 3]";
        x.reshape(&[-1, -1]) => "reshape", "[-1, -1]";
        x.reshape(&[1 << 62, 1 << 62, -1]) => "reshape", "[2, 3]";
        x.narrow(0, 0, 0).reshape(&[0, -1]) => "reshape", "[0, 3]";
        x.narrow(0, 0, 0).reshape(&[1 << 40, 1 << 40, 0]) => "reshape", "[0, 3]";
        one.expand(&[(1 << 60) + 1, 1]) => "expand", "[1152921504606846977, 1]";
        one.expand(&[1 << 62, 1 << 62]) => "expand", "elements";
        one.broadcast_to([1 << 47, 2]) => "broadcast_to", "[140737488355328, 2]";
        one.expand(&[1 << 40, 1]).matmul(&one.expand(&[1, 1 << 40])) => "matmul", "[1099511627776, 1099511627776]";
        one.expand(&[1 << 40, 1, 1]).matmul(&one.expand(&[1, 1 << 40])) => "matmul", "[1099511627776, 1, 1099511627776]";
        Tensor::zeros([1 << 40, 1 << 40], DType::F32, &cpu) => "[1099511627776, 1099511627776]";
        Tensor::full([1 << 40, 1 << 40, 0], 1.0, DType::F32, &cpu) => "full", "[1099511627776, 1099511627776, 0]";
        Tensor::from_slice(&[0f32; 0], [1 << 40, 1 << 40], &cpu) => "from_slice", "[1099511627776, 1099511627776]";
        x.select(0, 2) => "select", "position 2", "[2, 3]";
        x.select(0, -3) => "select", "position -3", "[2, 3]";
        x.sum((), false).select(0, 0) => "select", "[]";
        x.unsqueeze(4) => "unsqueeze", "4";
        Tensor::cat(&[x.clone(), f(&[2, 4])], 0) => "cat", "[2, 3]", "[2, 4]";
        Tensor::stack(&[x.clone(), y.clone()], 0) => "stack", "[2, 3]", "[4, 3]";
        x.gather(0, &ids(&[0])) => "gather", "[1]", "[2, 3]";
        x.index_select(1, &ids(&[0, 3])) => "index_select", "3";
        x.index_select(1, &x) => "index_select", "f32";
        Tensor::embedding(&x, &ids(&[-1])) => "embedding", "-1", "[2, 3]";
        Tensor::embedding(&x, &x) => "embedding", "f32";
        x.take_along_dim(&ids(&[3]).unsqueeze(1), Some(0)) => "take_along_dim", "position 3", "[2, 3]";
        x.take_along_dim(&x, Some(0)) => "take_along_dim", "f32";
        x.argmin(Some(2), false) => "argmin", "2";
        x.to_dtype(DType::F8E4M3).argmin(Some(0), false) => "argmin", "f8e4m3";
        x.to_dtype(DType::F8E4M3).sum((), false) => "sum", "f8e4m3";
        x.to_dtype(DType::F8E4M3).topk(1, 0, true, true) => "topk", "f8e4m3";
        x.to_dtype(DType::F8E4M3).cumsum(0) => "cumsum", "f8e4m3";
        x.to_dtype(DType::F8E4M3).logsumexp(0, false) => "logsumexp", "f8e4m3";
        x.scatter_add(0, &ids(&[0]).unsqueeze(0), &f(&[1, 1]).to_dtype(DType::F64)) => "scatter_add", "f64", "f32";
        x.topk(4, -1, true, true) => "topk", "4", "3";
        x.rms_norm(&[2], None, None) => "rms_norm", "[2, 3]", "[2]";
        f(&[2, 3, 5]).rope(&x, &x) => "rope", "[2, 3, 5]";
        x.swiglu(&y) => "swiglu", "[2, 3]", "[4, 3]";
        x.cross_entropy(&ids(&[0, 3]), &CrossEntropy::default()) => "cross_entropy", "position 3", "[2, 3]";
        Fused::Swiglu.apply(&[&x]) => "swiglu", "1 operands", "2";
        Fused::SwigluBackward.apply(&[&y, &x, &x]) => "swiglu_backward", "[2, 3]", "[4, 3]";
        Fused::SwigluBackward.apply(&[&x.to_dtype(DType::F64), &x, &x]) => "swiglu_backward", "f64";
        Fused::RmsNorm { dims: 3, eps: 1e-6 }.apply(&[&x]) => "rms_norm", "3", "[2, 3]";
        x.rms_norm(&[3], Some(&f(&[3]).to_dtype(DType::F64)), None) => "rms_norm", "f64";
        Fused::RmsNormBackward.apply(&[&y, &x, &f(&[2, 1])]) => "rms_norm_backward", "[2, 3]", "[4, 3]";
        Fused::RmsNormBackward.apply(&[&x.to_dtype(DType::F64), &x, &f(&[2, 1])]) => "rms_norm_backward", "f64";
        Fused::RmsNormBackward.apply(&[&x, &x, &f(&[5, 1])]) => "rms_norm_backward", "[5, 1]";
        Fused::RmsNormBackward.apply(&[&x, &x, &f(&[2, 1]).to_dtype(DType::BF16)]) => "rms_norm_backward", "bf16";
        Fused::RmsNormBackward.apply(&[&x, &x, &f(&[2, 1]), &f(&[2])]) => "rms_norm_backward", "[2]";
        Tensor::attention_causal(&k, &q, &q, None, 1.0) => "attention_causal", "4 queries and 3 keys", "the first would see none";
        Tensor::attention_causal(&k, &q, &q, Some(&[4]), 1.0) => "attention_causal", "4 queries and 3 keys";
        Tensor::attention_causal(&q, &k, &k, Some(&[2]), 1.0) => "attention_causal", "visible [2]";
        backward(&q, &q, &k.to_dtype(DType::F64), &q, &lse) => "attention_causal_backward", "f64";
        backward(&q.to_dtype(DType::F64), &q, &k, &q, &lse) => "attention_causal_backward", "f64";
        backward(&q, &q, &k, &k, &lse) => "attention_causal_backward", "[1, 2, 4, 5]";
        backward(&k, &q, &k, &q, &lse) => "attention_causal_backward", "[1, 2, 4, 5]";
        backward(&q, &q, &k.narrow(2, 0, 2), &q, &lse) => "attention_causal_backward", "3 queries and 2 keys";
        backward(&q, &q, &k, &q, &f(&[1, 2, 4])) => "attention_causal_backward", "[1, 2, 4]";
        x.cross_entropy(&ids(&[0]), &CrossEntropy::default()) => "cross_entropy", "[1]", "[2, 3]";
        Tensor::where_(&x, &x, &x) => "where", "f32", "bool";
        x.masked_fill(&x, 1.0) => "bool";
        Tensor::scaled_dot_product_attention(&x, &f(&[2, 4]), &x, &Attention::default()) => "scaled_dot_product_attention", "[2, 4]";
        Tensor::attention_causal(&x, &x, &x, None, 1.0) => "attention_causal", "[2, 3]";
        masked(&x, &x.to_dtype(DType::I64)) => "scaled_dot_product_attention: the mask is ", "i64";
        masked(&x, &x.to_dtype(DType::F8E4M3)) => "scaled_dot_product_attention: the mask is ", "f8e4m3";
        x.item::<f32>() => "item", "6 elements";
        Generator::new(0).uniform([2], 3.0, 1.0, DType::F32, &cpu) => "uniform", "3", "1";
        Generator::new(0).uniform([2], f64::NAN, 1.0, DType::F32, &cpu) => "uniform", "NaN";
        Generator::new(0).uniform([2], 0.0, f64::INFINITY, DType::F32, &cpu) => "uniform", "inf";
        Generator::new(0).uniform([2], f64::MIN, f64::MAX, DType::F64, &cpu) => "uniform", "range";
        Generator::new(0).uniform([2], 0.0, 1.0, DType::I64, &cpu) => "uniform", "i64";
        Generator::new(0).uniform([1 << 40, 1 << 40], 0.0, 1.0, DType::F32, &cpu) => "uniform", "1099511627776";
        Generator::new(0).normal([2], 0.0, -2.0, DType::F32, &cpu) => "normal", "-2";
        Generator::new(0).normal([2], f64::NAN, 1.0, DType::F32, &cpu) => "normal", "NaN";
        Generator::new(0).normal([2], 0.0, 1.0, DType::Bool, &cpu) => "normal", "bool";
        Generator::new(0).randint(3, 3, [2], &cpu) => "randint", "3..3";
        Tensor::arange(0, 5, 0, DType::F32, &cpu) => "arange", "step";
        Tensor::arange(i64::MIN, i64::MAX, 1, DType::I64, &cpu) => "arange", "18446744073709551615";
        Tensor::eye(1 << 40, DType::F32, &cpu) => "eye", "1099511627776";
        x.rms_norm(&[3], None, Some(f64::INFINITY)) => "rms_norm", "eps", "inf";
        x.rms_norm(&[3], None, Some(f64::NAN)) => "rms_norm", "eps", "NaN";
        x.softplus(0.0, 20.0) => "softplus", "beta";
        x.softplus(1.0, f64::NAN) => "softplus", "NaN";
        x.var((), f64::NAN, false) => "var", "NaN";
        x.cross_entropy(&ids(&[0, 1]), &CrossEntropy { label_smoothing: 1.5, ..Default::default() }) => "cross_entropy", "1.5";
        AdamW { lr: -1.0, ..step }.apply(&x, &x, &x, &x) => "adamw", "lr", "-1";
        AdamW { beta1: 1.0, ..step }.apply(&x, &x, &x, &x) => "adamw", "beta1", "1";
        AdamW { beta2: f64::NAN, ..step }.apply(&x, &x, &x, &x) => "adamw", "beta2", "NaN";
        AdamW { eps: -1e-8, ..step }.check() => "adamw", "eps";
        AdamW { weight_decay: f64::INFINITY, ..step }.check() => "adamw", "weight_decay", "inf";
        AdamW { step: 0, ..step }.apply(&x, &x, &x, &x) => "adamw", "steps";
        step.apply(&x, &x, &x, &x.to_dtype(DType::F64)) => "adamw", "second moment", "f64";
        AdamW { eps: 1e-20, ..step }.apply(&x, &x, &x, &x) => "adamw", "first moment", "f64";
        x.to_vec::<f64>() => "to_vec", "f32", "f64";
        Tensor::from_slice(&[1.0f32], [2], &cpu) => "from_slice", "1 values", "[2]";
        x.to_dtype(DType::F8E4M3).add(1.0) => "f8e4m3";
        x.tril(0).select(0, 0).tril(0) => "tril", "[3]";
        x.flip(&[2]) => "2";
        x.repeat(&[2]) => "repeat", "[2, 3]";
    }
    refuses! { (refused, wrong)
        x8.neg() => "f8e4m3";
        x8.abs() => "f8e4m3";
        x8.exp() => "f8e4m3";
        x8.log() => "f8e4m3";
        x8.sqrt() => "f8e4m3";
        x8.rsqrt() => "f8e4m3";
        x8.sin() => "f8e4m3";
        x8.cos() => "f8e4m3";
        x8.tanh() => "f8e4m3";
        x8.sigmoid() => "f8e4m3";
        x8.silu() => "f8e4m3";
        x8.relu() => "f8e4m3";
        x8.reciprocal() => "f8e4m3";
        x8.square() => "f8e4m3";
        x8.sign() => "f8e4m3";
        x8.floor() => "f8e4m3";
        x8.erf() => "f8e4m3";
        x8.logical_not() => "f8e4m3";
        x8.gelu(Gelu::None) => "f8e4m3";
        x8.unary(UnaryOp::Exp) => "exp: ";
        x.sub(&y) => "shapes [2, 3] and [4, 3]";
        x.mul(&y) => "shapes [2, 3] and [4, 3]";
        x.div(&y) => "shapes [2, 3] and [4, 3]";
        x.pow(&y) => "shapes [2, 3] and [4, 3]";
        x.maximum(&y) => "shapes [2, 3] and [4, 3]";
        x.minimum(&y) => "shapes [2, 3] and [4, 3]";
        x.eq(&y) => "shapes [2, 3] and [4, 3]";
        x.ne(&y) => "shapes [2, 3] and [4, 3]";
        x.lt(&y) => "shapes [2, 3] and [4, 3]";
        x.le(&y) => "shapes [2, 3] and [4, 3]";
        x.gt(&y) => "shapes [2, 3] and [4, 3]";
        x.ge(&y) => "shapes [2, 3] and [4, 3]";
        x.logical_and(&y) => "shapes [2, 3] and [4, 3]";
        x.logical_or(&y) => "shapes [2, 3] and [4, 3]";
        x.binary(BinaryOp::Add, (&y).into()) => "add: shapes";
        x.clamp_max(&y) => "shapes [2, 3] and [4, 3]";
        x.clamp(1.0, &y) => "shapes [2, 3] and [4, 3]";
        x.sub_alpha(&y, 2.0) => "shapes [2, 3] and [4, 3]";
        Tensor::from_bytes(vec![0; 5], [2], DType::F32, &cpu) => "5 bytes", "8";
        Tensor::ones([1 << 40, 1 << 40], DType::F32, &cpu) => "[1099511627776, 1099511627776]";
        x.dim(2) => "dimension 2";
        x.sum((), false).dim(0) => "0-d";
        x.mean(2, false) => "dimension 2";
        x.var(2, 0.0, false) => "dimension 2";
        x.logsumexp([0, 0], false) => "twice";
        x.logsumexp(-3, false) => "dimension -3";
        x.amin(2, false) => "dimension 2";
        f(&[0]).argmax(None, false) => "nothing";
        x.argsort(2, false) => "dimension 2";
        x.log_softmax(2) => "dimension 2";
        x.scatter(1, &ids(&[3]).unsqueeze(0), 1.0) => "position 3";
        x8.scatter_add(1, &ids(&[0]).unsqueeze(0), &x8) => "f8e4m3";
        x8.index_add(0, &ids(&[0, 1]), &x8, 1) => "f8e4m3";
        x.index_add(0, &ids(&[0, 2]), &x, 1.0) => "position 2";
        x.take_along_dim(&ids(&[6]), None) => "position 6";
        x.align_along(0, &x) => "f32";
        x.squeeze([0, 2]) => "dimension 2";
        x.flatten(1, 0) => "dimension 1 lies behind 0";
        x.slice(0, 0, 1, 0) => "step is 0";
        x.slice(2, 0, 1, 1) => "dimension 2";
        x.triu(0).select(0, 0).triu(0) => "[3]";
        x.roll(&[1, 2], &[]) => "2 shifts";
        Tensor::stack(&[x.clone(), x.clone()], 3) => "dimension 3";
        Tensor::attention_weights(&x.select(0, 0), &Attention::default()) => "dimension -2";
        x.weighted_sum(&y) => "[2, 3]", "[4, 3]";
        CrossEntropy::default().coefficients(&x, &ids(&[0, 3])) => "position 3";
        Dims::from([0, 0]).resolve(2) => "twice";
        Repeats::from(&ids(&[-1])).positions(1, &cpu) => "negative";
        Shape::from([1 << 40, 1 << 40]).numel() => "[1099511627776, 1099511627776]";
        Layout::contiguous([1 << 40, 1 << 40]) => "[1099511627776, 1099511627776]";
    }
    let mut cache = f(&[1, 1, 2, 3]);
    refuses! { (refused, wrong)
        cache.write_rows(&[1], &f(&[1, 1, 2, 3])) => "write_rows", "capacity 2";
        cache.write_rows(&[0], &f(&[1, 1, 3, 3])) => "write_rows", "capacity 2";
        cache.write_rows(&[usize::MAX], &f(&[1, 1, 1, 3])) => "write_rows", "capacity 2";
    }
    // What is called is what is named, not a part of it.
    refuses! { (refused, wrong)
        x.permute(&[0, 5]) => "permute: dimension 5";
        x.roll(&[1], &[5]) => "roll: dimension 5";
        x.flip(&[5]) => "flip: dimension 5";
        x.split(1, 5) => "split: dimension 5";
        x.chunk(2, 5) => "chunk: dimension 5";
        x.repeat_interleave(2, Some(5)) => "repeat_interleave: dimension 5";
        x.repeat(&[1 << 40, 1 << 40]) => "repeat: shape";
        x.repeat_interleave(1 << 60, None) => "repeat_interleave: shape";
        x.clamp(&y, 1.0) => "clamp: shapes";
        x.clamp_min(&y) => "clamp_min: shapes";
        x.add_alpha(&y, 2.0) => "add_alpha: shapes";
        x.masked_fill(&y.eq(0.0), 1.0) => "masked_fill: shapes";
        x.linear(&f(&[5, 3]), Some(&f(&[4]))) => "linear: shapes";
        Tensor::from_vec(vec![1.0f32], [2], &cpu) => "from_vec: 1 values";
        x.sum((), false).item::<f64>() => "item: the tensor holds f32";
    }
    // 256 TiB of one element, which every result would have to hold.
    let huge = f(&[1]).broadcast_to([1 << 46]);
    let small = Tensor::zeros([1], DType::BF16, &cpu).broadcast_to([1 << 46]);
    let elsewhere = Device::new(CpuBackend);
    refuses! { (refused, wrong)
        Tensor::zeros([1 << 44], DType::F32, &cpu) => "zeros: out of memory", "70368744177664 bytes", "[17592186044416] of f32";
        Tensor::full([1 << 44], 1.0, DType::F64, &cpu) => "full: out of memory", "f64";
        huge.contiguous() => "contiguous: out of memory", "[70368744177664]";
        huge.to_dtype(DType::F64) => "to_dtype: out of memory";
        huge.zeros_like() => "zeros_like: out of memory";
        huge.ones_like() => "ones_like: out of memory";
        huge.full_like(1.0) => "full_like: out of memory";
        huge.to_device(&elsewhere) => "to_device: out of memory";
        huge.to_f64_vec() => "to_f64_vec: out of memory";
        huge.gt(0.0).to_accumulator() => "gt: out of memory";
        small.to_accumulator() => "to_accumulator: out of memory";
        small.unsqueeze(1).mean(1, false) => "mean: out of memory";
        huge.unsqueeze(1).var(1, 0.0, false) => "var: out of memory";
        huge.unsqueeze(1).logsumexp(1, false) => "logsumexp: out of memory";
        huge.clamp(0.0, 1.0) => "clamp: out of memory";
        huge.argsort(0, false) => "argsort: out of memory";
        huge.roll(&[1], &[0]) => "roll: out of memory";
        huge.flip(&[0]) => "flip: out of memory";
        huge.repeat_interleave(2, None) => "repeat_interleave: out of memory";
        huge.unsqueeze(1).linear(&one, None) => "linear: out of memory";
        huge.unsqueeze(1).cross_entropy(&huge.unsqueeze(1), &CrossEntropy::default()) => "cross_entropy: out of memory";
        huge.to_bytes() => "to_bytes: out of memory";
        huge.exp() => "exp: out of memory";
        huge.add(1.0) => "add: out of memory";
        huge.lt(1.0) => "lt: out of memory";
        huge.unsqueeze(1).amax(1, false) => "amax: out of memory";
        huge.unsqueeze(1).argmin(Some(1), false) => "argmin: out of memory";
        huge.cumsum(0) => "cumsum: out of memory";
        huge.unsqueeze(1).softmax(1) => "softmax: out of memory";
        huge.sort(0, false) => "sort: out of memory";
        huge.unsqueeze(1).tril(0) => "tril: out of memory";
        huge.unsqueeze(1).matmul(&one) => "matmul: out of memory";
        huge.index_add(0, &ids(&[0]), &f(&[1]), 1.0) => "index_add: out of memory";
        huge.unsqueeze(1).index_select(1, &ids(&[0])) => "index_select: out of memory";
        Tensor::cat(&[huge.clone(), huge.clone()], 0) => "cat: out of memory";
        Tensor::where_(&huge.to_dtype(DType::F32).eq(&huge), &huge, 0.0) => "out of memory";
        Generator::new(0).normal([1 << 45], 0.0, 1.0, DType::F32, &cpu) => "normal: out of memory";
        Tensor::arange(0, 1 << 46, 1, DType::F32, &cpu) => "arange: out of memory";
    }
    let walk = Walk {
        functions: public_functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")),
        refused: &refused,
        file: "misuse.rs",
        source: include_str!("misuse.rs"),
        aliases: &[
            ("mul", " * "),
            ("add", "binary("),
            ("exp", "unary("),
            ("swiglu", ".apply("),
            ("swiglu_backward", ".apply("),
            ("rms_norm", ".apply("),
            ("rms_norm_backward", ".apply("),
            ("attention_causal_backward", "backward("),
            ("scaled_dot_product_attention", "masked("),
            ("adamw", ".apply("),
            ("adamw", ".check("),
        ],
        sound: &[
            ("reads what is there", READERS),
            ("arithmetic that is defined for all operands", ARITHMETIC),
            ("makes a handle, or finds what one stands for", HANDLES),
            ("returns a `Result`", &["Device::synchronize"]),
            (
                "for backends, of sizes and strides that operations have made",
                &["Loops::inner", "Loops::inner_strides", "Loops::new", "Loops::over"],
            ),
            ("a view of what it is given, that always fits", &["Tensor::t", "Tensor::from_parts"]),
        ],
        unreachable: &[
            ("only if a device has no memory for a single element", &["Tensor::scalar"]),
            ("panics in the name that it is given", &["operation.rs: operation", "operation.rs: refuse"]),
        ],
    };
    wrong.extend(walk.complaints());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const READERS: &[&str] = &[
    "BinaryOp::is_predicate",
    "DType::accumulator",
    "Scalar::default_dtype",
    "DType::epsilon",
    "DType::is_float",
    "DType::is_int",
    "DType::size",
    "fused.rs: name",
    "Layout::is_contiguous",
    "Layout::offset",
    "Layout::shape",
    "Layout::strides",
    "operation.rs: running_operation",
    "AdamW::moments",
    "profile.rs: report",
    "profile.rs: start",
    "Generator::state",
    "Shape::fits",
    "Storage::device",
    "Storage::same",
    "Tensor::device",
    "Tensor::dims",
    "Tensor::dtype",
    "Tensor::is_contiguous",
    "Tensor::layout",
    "Tensor::numel",
    "Tensor::rank",
    "Tensor::shape",
    "Tensor::storage",
    "Tensor::storage_mut",
    "Tensor::strides",
    "op.rs: name",
];

const ARITHMETIC: &[&str] = &[
    "Scalar::as_f32",
    "Scalar::as_f64",
    "Scalar::as_i64",
    "F8E4M3::from_f32",
    "DType::promote",
    "Scalar::to_bits",
    "F8E4M3::to_f32",
    "AdamW::corrections",
    "random.rs: integer",
    "random.rs: last_below",
    "random.rs: normal",
    "random.rs: philox",
    "random.rs: uniform",
    "Shape::broadcast",
    "Shape::contiguous_strides",
];

const HANDLES: &[&str] = &[
    "Device::backend",
    "Device::new",
    "Device::new_cyclic",
    "WeakDevice::upgrade",
    "Generator::from_state",
    "Generator::new",
    "Storage::buffer",
    "Storage::buffer_mut",
    "Storage::new",
];
