//! Misuse panics at the caller's line and names the operation and what did not fit.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use tensor::{AdamW, Attention, CrossEntropy, DType, Device, Fused, Generator, Tensor};

static LAST: Mutex<Option<(String, u32)>> = Mutex::new(None);

thread_local! {
    /// Whether this thread is about to panic on purpose.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Message, and file and line, of the panic of `f`.
fn panic_of(f: impl FnOnce()) -> Option<(String, String, u32)> {
    EXPECTED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    EXPECTED.set(false);
    let payload = result.err()?;
    let text = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()));
    let (file, line) = LAST.lock().unwrap().take().expect("the hook ran");
    Some((text.unwrap(), file, line))
}

#[test]
fn panics_name_the_operation_and_the_callers_line() {
    let old = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if EXPECTED.get() {
            *LAST.lock().unwrap() = info.location().map(|l| (l.file().to_string(), l.line()));
        } else {
            old(info);
        }
    }));
    let cpu = Device::cpu();
    let f = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu);
    let ids = |v: &[i64]| Tensor::from_slice(v, v.len(), &cpu);
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
    let mut wrong = Vec::new();
    /// The call, and what its message must hold.
    macro_rules! refuses {
        ($($call:expr => $($part:literal),+;)*) => {$(
            let call = stringify!($call);
            let silent = || ("silence".to_string(), String::new(), 0);
            let (text, file, at) = panic_of(|| { let _ = $call; }).unwrap_or_else(silent);
            $(if !text.contains($part) {
                wrong.push(format!("{call}: {text:?} does not say {:?}", $part));
            })+
            if !file.ends_with("misuse.rs") {
                wrong.push(format!("{call}: {text:?} is blamed on {file}:{at}"));
            }
        )*};
    }
    refuses! {
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
        f(&[1 << 40, 1 << 40]) => "zeros", "[1099511627776, 1099511627776]";
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
        masked(&x, &x.to_dtype(DType::I64)) => "scaled_dot_product_attention: mask", "i64";
        masked(&x, &x.to_dtype(DType::F8E4M3)) => "scaled_dot_product_attention: mask", "f8e4m3";
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
    let mut cache = f(&[1, 1, 2, 3]);
    refuses! {
        cache.write_rows(&[1], &f(&[1, 1, 2, 3])) => "write_rows", "capacity 2";
        cache.write_rows(&[0], &f(&[1, 1, 3, 3])) => "write_rows", "capacity 2";
        cache.write_rows(&[usize::MAX], &f(&[1, 1, 1, 3])) => "write_rows", "capacity 2";
    }
    // What is called is what is named, not a part of it.
    refuses! {
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
    refuses! {
        f(&[1 << 44]) => "zeros: out of memory", "70368744177664 bytes", "[17592186044416] of f32";
        Tensor::full([1 << 44], 1.0, DType::F64, &cpu) => "full: out of memory", "f64";
        huge.contiguous() => "contiguous: out of memory", "[70368744177664]";
        huge.to_dtype(DType::F64) => "to_dtype: out of memory";
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
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
