//! Every operation of the specifications on `Var`: what the tests of gradients run, here and on other devices.

use autograd::{Attention, Var, VarOperand};
use opspec::{Attend, Binary, Case, Family, Index, Join, Op, Order, Product, Reduce, Softmax, View};
use tensor::{BinaryOp, CrossEntropy, DType, Fused, Tensor, UnaryOp};

/// The operation on `Var`; `None` for one that has no gradient and is computed on values. Matched without a wildcard: a new
/// operation does not compile before it has a rule or is named here.
pub fn apply(op: &Op, x: &[Var]) -> Option<Vec<Var>> {
    match op {
        Op::Unary(op) => unary(*op, &x[0]).map(|y| vec![y]),
        Op::Binary(op) => binary(*op, x).map(|y| vec![y]),
        Op::Reduce(op) => reduce(op, &x[0]).map(|y| vec![y]),
        Op::Softmax(op) => Some(vec![match *op {
            Softmax::Softmax(dim) => x[0].softmax(dim),
            Softmax::LogSoftmax(dim) => x[0].log_softmax(dim),
            Softmax::CrossEntropy { ignore_index, reduction, label_smoothing } => {
                let weight = x.get(2).map(Var::value);
                let options = CrossEntropy { weight: weight.as_ref(), ignore_index, reduction, label_smoothing };
                x[0].cross_entropy(&x[1], &options)
            }
        }]),
        Op::Product(op) => Some(vec![match op {
            Product::Matmul => x[0].matmul(&x[1]),
            Product::Mm => x[0].mm(&x[1]),
            Product::Bmm => x[0].bmm(&x[1]),
            Product::Linear => x[0].linear(&x[1], x.get(2)),
        }]),
        Op::Attend(op) => Some(vec![match op {
            Attend::ScaledDotProduct { is_causal, scale, enable_gqa } => {
                let mask = x.get(3).map(VarOperand::from);
                let options = Attention { mask, is_causal: *is_causal, scale: *scale, enable_gqa: *enable_gqa };
                Var::scaled_dot_product_attention(&x[0], &x[1], &x[2], &options)
            }
        }]),
        Op::Fused(op) => {
            let x: Vec<&Var> = x.iter().collect();
            (!op.differentiable().is_empty()).then(|| vec![Var::fused(op, &x)])
        }
        Op::Index(op) => Some(vec![index(*op, x)]),
        Op::Order(op) => match *op {
            Order::Sort { dim, descending } => Some(vec![x[0].sort(dim, descending).0]),
            Order::Topk { k, dim, largest } => Some(vec![x[0].topk(k, dim, largest, true).0]),
            Order::Argsort { .. } => None,
        },
        Op::Join(op) => Some(match *op {
            Join::Cat(dim) => vec![Var::cat(x, dim)],
            Join::Stack(dim) => vec![Var::stack(x, dim)],
            Join::Split(size, dim) => x[0].split(size, dim),
            Join::Chunk(chunks, dim) => x[0].chunk(chunks, dim),
        }),
        Op::View(op) => Some(vec![view(op, &x[0])]),
    }
}

fn unary(op: UnaryOp, x: &Var) -> Option<Var> {
    Some(match op {
        UnaryOp::Neg => x.neg(),
        UnaryOp::Abs => x.abs(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.log(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => x.rsqrt(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Sigmoid => x.sigmoid(),
        UnaryOp::Silu => x.silu(),
        UnaryOp::Gelu(approximate) => x.gelu(approximate),
        UnaryOp::Relu => x.relu(),
        UnaryOp::Softplus { beta, threshold } => x.softplus(beta, threshold),
        UnaryOp::Reciprocal => x.reciprocal(),
        UnaryOp::Square => x.square(),
        UnaryOp::Sign => x.sign(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Erf => x.erf(),
        UnaryOp::LogicalNot => return None,
    })
}

fn binary(op: Binary, x: &[Var]) -> Option<Var> {
    Some(match op {
        Binary::Plain(op) => return arithmetic(op, &x[0], (&x[1]).into()),
        Binary::Scalar(op, s) => return arithmetic(op, &x[0], s.into()),
        Binary::AddAlpha(alpha) => x[0].add_alpha(&x[1], alpha),
        Binary::SubAlpha(alpha) => x[0].sub_alpha(&x[1], alpha),
        Binary::Clamp(Some(lo), Some(hi)) => x[0].clamp(lo, hi),
        Binary::Clamp(Some(lo), None) => x[0].clamp_min(lo),
        Binary::Clamp(None, Some(hi)) => x[0].clamp_max(hi),
        Binary::Clamp(None, None) => x[0].clone(),
        Binary::ClampTensor => x[0].clamp(&x[1], &x[2]),
        Binary::Where => Var::where_(&x[0].value(), &x[1], &x[2]),
        Binary::MaskedFill(value) => x[0].masked_fill(&x[1].value(), value),
    })
}

fn arithmetic(op: BinaryOp, a: &Var, b: VarOperand<'_>) -> Option<Var> {
    Some(match op {
        BinaryOp::Add => a.add(b),
        BinaryOp::Sub => a.sub(b),
        BinaryOp::Mul => a.mul(b),
        BinaryOp::Div => a.div(b),
        BinaryOp::Pow => a.pow(b),
        BinaryOp::Maximum => a.maximum(b),
        BinaryOp::Minimum => a.minimum(b),
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::LogicalAnd
        | BinaryOp::LogicalOr => return None,
    })
}

fn reduce(op: &Reduce, x: &Var) -> Option<Var> {
    Some(match op {
        Reduce::Sum(dims, keep) => x.sum(&dims[..], *keep),
        Reduce::Mean(dims, keep) => x.mean(&dims[..], *keep),
        Reduce::Amax(dims, keep) => x.amax(&dims[..], *keep),
        Reduce::Amin(dims, keep) => x.amin(&dims[..], *keep),
        Reduce::Var(dims, correction, keep) => x.var(&dims[..], *correction, *keep),
        Reduce::Logsumexp(dims, keep) => x.logsumexp(&dims[..], *keep),
        Reduce::Cumsum(dim) => x.cumsum(*dim),
        Reduce::Argmax(..) | Reduce::Argmin(..) => return None,
    })
}

fn index(op: Index, x: &[Var]) -> Var {
    match op {
        Index::Gather(dim) => x[0].gather(dim, &x[1].value()),
        Index::Scatter(dim) => x[0].scatter(dim, &x[1].value(), &x[2]),
        Index::ScatterNumber(dim, value) => x[0].scatter(dim, &x[1].value(), value),
        Index::ScatterAdd(dim) => x[0].scatter_add(dim, &x[1].value(), &x[2]),
        Index::IndexSelect(dim) => x[0].index_select(dim, &x[1].value()),
        Index::IndexAdd(dim, alpha) => x[0].index_add(dim, &x[1].value(), &x[2], alpha),
        Index::TakeAlongDim(dim) => x[0].take_along_dim(&x[1].value(), dim),
        Index::Embedding => Var::embedding(&x[0], &x[1].value()),
        Index::RepeatInterleave(n, dim) => x[0].repeat_interleave(n, dim),
        Index::RepeatInterleaveCounts(dim) => x[0].repeat_interleave(&x[1].value(), dim),
    }
}

fn view(op: &View, x: &Var) -> Var {
    match op {
        View::ToDtype(dtype) => x.to_dtype(*dtype),
        View::Contiguous => x.contiguous(),
        View::Reshape(shape) => x.reshape(shape),
        View::Permute(dims) => x.permute(dims),
        View::Transpose(a, b) => x.transpose(*a, *b),
        View::T => x.t(),
        View::Unsqueeze(dim) => x.unsqueeze(*dim),
        View::Squeeze(dims) => x.squeeze(&dims[..]),
        View::Expand(shape) => x.expand(shape),
        View::BroadcastTo(shape) => x.broadcast_to(&shape[..]),
        View::Flatten(start, end) => x.flatten(*start, *end),
        View::Narrow(dim, start, len) => x.narrow(*dim, *start, *len),
        View::Slice(dim, start, end, step) => x.slice(*dim, *start, *end, *step),
        View::Select(dim, index) => x.select(*dim, *index),
        View::Flip(dims) => x.flip(dims),
        View::Roll(shifts, dims) => x.roll(shifts, dims),
        View::Repeat(counts) => x.repeat(counts),
        View::Tril(k) => x.tril(*k),
        View::Triu(k) => x.triu(*k),
    }
}

/// Whether a gradient can flow through the case.
pub fn differentiable(case: &Case) -> bool {
    let narrows = matches!(&case.op, Op::View(View::ToDtype(t)) if !t.is_float() || *t == DType::F8E4M3);
    let cached = matches!(&case.op, Op::Fused(Fused::AttentionCausal { visible: Some(_), .. }));
    !case.differentiable().is_empty() && !narrows && !cached
}

/// The operands, those in `which` replaced.
pub fn operands(tensors: &[Tensor], which: &[usize], vars: &[Var]) -> Vec<Var> {
    let mut x: Vec<Var> = tensors.iter().map(Var::from).collect();
    which.iter().zip(vars).for_each(|(&i, v)| x[i] = v.clone());
    x
}

/// All results in one vector, in f64, for one gradient check.
pub fn joined(outputs: &[Var]) -> Var {
    let flat: Vec<Var> = outputs.iter().map(|y| y.to_dtype(DType::F64).flatten(0, -1)).collect();
    Var::cat(&flat, 0)
}
