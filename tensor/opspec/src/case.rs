//! [`Case`]: an operation with operands, and the check of a result.

use crate::array::{Array, Expected, for_each_index};
use crate::input::Input;
use crate::precision::{Precision, round_to};
use crate::{Draw, Fused, Op, Source};
use proptest::prelude::*;
use std::fmt;
use std::sync::Arc;
use tensor::{DType, Device, Tensor};

/// An operation with its arguments and operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Operation and arguments.
    pub op: Op,
    /// Operands in the order of the method's parameters.
    pub inputs: Vec<Input>,
}

/// What an operation costs at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; an elementary function counts as one.
    pub flops: u64,
    /// Bytes read and written if every element is touched once.
    pub bytes: u64,
}

/// Where and how a result differs from what the specification demands.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Mismatch {}

impl Case {
    /// The operands as tensors, in their layouts.
    pub fn tensors(&self, device: &Device) -> Vec<Tensor> {
        self.inputs.iter().map(|i| i.tensor(device)).collect()
    }

    /// The operands as arrays.
    pub fn arrays(&self) -> Vec<Array> {
        self.inputs.iter().map(|i| i.array.clone()).collect()
    }

    /// Runs the operation.
    pub fn apply(&self, tensors: &[Tensor]) -> Vec<Tensor> {
        self.op.family().apply(tensors)
    }

    /// The results demanded, with the bounds of their errors.
    pub fn reference(&self) -> Vec<Expected> {
        self.op.family().reference(&self.arrays())
    }

    /// Which operands a gradient flows to.
    pub fn differentiable(&self) -> Vec<usize> {
        let mut which = self.op.family().differentiable();
        which.retain(|&i| i < self.inputs.len() && self.inputs[i].array.dtype.is_float());
        which
    }

    /// How far the operands are from the nearest point where a derivative jumps; infinite if there is none.
    pub fn kink(&self) -> f64 {
        self.op.family().kink(&self.arrays())
    }

    /// Operations and bytes.
    pub fn cost(&self) -> Cost {
        let (x, out) = (self.arrays(), self.reference());
        let bytes = |a: &Array| (a.numel() * a.dtype.size()) as u64;
        let moved = x.iter().map(bytes).sum::<u64>() + out.iter().map(|e| bytes(&e.array)).sum::<u64>();
        Cost { flops: self.op.family().flops(&x, &out), bytes: moved }
    }

    /// The same case with every operand in row-major order.
    pub fn contiguous(&self) -> Case {
        let inputs = self.inputs.iter().map(|i| Input::contiguous(i.array.clone())).collect();
        Case { op: self.op.clone(), inputs }
    }

    /// Holds results to the reference: number, shapes, dtypes, and each element within its bound.
    ///
    /// # Errors
    /// The first difference, by place and size.
    pub fn check(&self, outputs: &[Tensor]) -> Result<(), Mismatch> {
        let expected = self.reference();
        if outputs.len() != expected.len() {
            return Err(self.mismatch(format!("{} results, expected {}", outputs.len(), expected.len())));
        }
        for (i, (got, want)) in outputs.iter().zip(&expected).enumerate() {
            let (shape, dtype) = (&want.array.shape, want.array.dtype);
            if got.dims() != &shape[..] || got.dtype() != dtype {
                return Err(self.mismatch(format!("result {i} is {got:?}, expected {dtype} {shape:?}")));
            }
            let values = got.to_f64_vec();
            let mut at = 0;
            let mut wrong = None;
            for_each_index(shape, |ix| {
                let (value, bound) = (want.array.data[at], want.bound[at]);
                if wrong.is_none() && !within(dtype, values[at], value, bound) {
                    let error = (values[at] - value).abs();
                    wrong = Some(format!(
                        "result {i} at {ix:?} is {:?}, expected {value:?} (error {error:e}, allowed {:e})",
                        values[at],
                        allowed(dtype, value, bound)
                    ));
                }
                at += 1;
            });
            if let Some(message) = wrong {
                return Err(self.mismatch(message));
            }
        }
        Ok(())
    }

    /// The error that [`Case::check`] lets each element of each result have; 0 where only the nearest value will do.
    pub fn allowed(&self) -> Vec<Vec<f64>> {
        let of = |e: &Expected| e.array.data.iter().zip(&e.bound).map(|(&v, &b)| allowed(e.array.dtype, v, b)).collect();
        self.reference().iter().map(of).collect()
    }

    /// Runs the operation on a device and checks the results.
    ///
    /// # Errors
    /// As [`Case::check`].
    pub fn verify(&self, device: &Device) -> Result<(), Mismatch> {
        self.check(&self.apply(&self.tensors(device)))
    }

    fn mismatch(&self, what: String) -> Mismatch {
        let inputs: Vec<String> = self.inputs.iter().map(|i| format!("{}{:?}", i.array.dtype, i.array.shape)).collect();
        Mismatch(format!("{} ({:?}) of {}: {what}", self.op.name(), self.op, inputs.join(", ")))
    }
}

/// The error that a stored result may have: its arithmetic's (in f64 once more, for the reference's), and that of rounding to
/// the dtype.
fn allowed(dtype: DType, value: f64, bound: f64) -> f64 {
    let p = Precision::of(dtype);
    let bound = if dtype == DType::F64 { 2.0 * bound } else { bound };
    if bound == 0.0 { 0.0 } else { bound + p.store * value.abs() + p.store * bound + p.tiny }
}

/// Whether `got` is `want` within the bound. An exact result (bound 0) must be the nearest representable value. NaN equals NaN;
/// near the largest finite value either side of overflow will do.
fn within(dtype: DType, got: f64, want: f64, bound: f64) -> bool {
    if bound == 0.0 || !want.is_finite() {
        let want = round_to(dtype, want);
        return got == want || (got.is_nan() && want.is_nan());
    }
    let (tolerance, max) = (allowed(dtype, want, bound), Precision::of(dtype).max);
    if got.is_infinite() {
        return want.abs() + tolerance >= max && (got > 0.0) == (want > 0.0);
    }
    (got - want).abs() <= tolerance
}

/// One operation's specification: how cases of it are drawn.
#[derive(Clone)]
pub struct Spec {
    /// The operation's name.
    pub name: &'static str,
    /// Dtypes that its number operands may have.
    pub dtypes: &'static [DType],
    draw: Arc<Drawer>,
}

/// Draws an operation with its arguments, and its operands.
type Drawer = dyn Fn(&mut Source) -> (Op, Vec<Input>) + Send + Sync;

/// f32, f64 and the half types.
pub const FLOATS: &[DType] = &[DType::F32, DType::F64, DType::BF16, DType::F16];
/// What has an order and arithmetic.
pub const NUMBERS: &[DType] = &[DType::F32, DType::F64, DType::BF16, DType::F16, DType::I64, DType::I32, DType::U8];
/// Every dtype that is computed with.
pub const ALL: &[DType] = &[DType::F32, DType::F64, DType::BF16, DType::F16, DType::I64, DType::I32, DType::U8, DType::Bool];

impl Spec {
    pub(crate) fn new(
        name: &'static str,
        dtypes: &'static [DType],
        draw: impl Fn(&mut Source) -> (Op, Vec<Input>) + Send + Sync + 'static,
    ) -> Spec {
        Spec { name, dtypes, draw: Arc::new(draw) }
    }

    /// A case from a source of choices and values.
    pub fn draw(&self, source: &mut Source) -> Case {
        let (op, inputs) = (self.draw)(source);
        Case { op, inputs }
    }

    /// Cases for proptest: any layout, now and then empty, with ties and special points.
    pub fn strategy(&self, dtype: DType) -> BoxedStrategy<Case> {
        self.words(dtype, Draw::Small)
    }

    /// Cases in f64 for finite differences: not empty, every operand at least `distance` from a kink.
    pub fn smooth(&self, distance: f64) -> BoxedStrategy<Case> {
        self.words(DType::F64, Draw::Smooth).prop_filter("near a kink", move |c| c.kink() >= distance).boxed()
    }

    /// Cases with values at the ends of the dtype's range; `None` of an operation that is not elementwise.
    pub fn extreme(&self, dtype: DType) -> Option<BoxedStrategy<Case>> {
        let op = self.draw(&mut Source::seeded(0, dtype, Draw::Extreme)).op;
        let elementwise = matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Fused(Fused::Swiglu));
        elementwise.then(|| self.words(dtype, Draw::Extreme))
    }

    /// A case large enough for several threads.
    pub fn large(&self, dtype: DType, seed: u64) -> Case {
        self.draw(&mut Source::seeded(seed, dtype, Draw::Large))
    }

    fn words(&self, dtype: DType, draw: Draw) -> BoxedStrategy<Case> {
        let spec = self.clone();
        (prop::collection::vec(any::<u32>(), 64), prop::collection::vec(any::<u32>(), 0..256), any::<u64>())
            .prop_map(move |(choices, values, seed)| spec.draw(&mut Source::new(choices, values, seed, dtype, draw)))
            .boxed()
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spec({})", self.name)
    }
}
