//! [`Array`]: values and shape, nothing else. What the references compute on; it shares no code with `tensor`.

use tensor::DType;

/// A row-major array of f64 that remembers the dtype its values stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The dtype that a tensor with these values has.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub data: Vec<f64>,
}

impl Array {
    /// From values in row-major order.
    ///
    /// # Panics
    /// If their number does not fit the shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>, data: Vec<f64>) -> Array {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "values for shape {shape:?}");
        Array { dtype, shape, data }
    }

    /// Element by element from its position.
    pub fn from_fn(dtype: DType, shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Array {
        let mut data = Vec::with_capacity(shape.iter().product());
        for_each_index(shape, |ix| data.push(f(ix)));
        Array { dtype, shape: shape.to_vec(), data }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.data.len()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The element at a position. The position may have more dimensions in front, and a dimension of size 1 takes any index:
    /// broadcasting.
    pub fn at(&self, index: &[usize]) -> f64 {
        let lead = index.len() - self.shape.len();
        let offset = self.shape.iter().zip(&index[lead..]).fold(0, |o, (&n, &i)| o * n + if n == 1 { 0 } else { i });
        self.data[offset]
    }

    /// The same values in another shape.
    pub fn reshaped(&self, shape: &[usize]) -> Array {
        Array::new(self.dtype, shape, self.data.clone())
    }

    /// The dtype of a float result: the array's own, or f32 for integers.
    pub fn float(&self) -> DType {
        if self.dtype.is_float() { self.dtype } else { DType::F32 }
    }
}

/// Calls `f` with every position of `shape` in row-major order; once with `[]` for a 0-d shape.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut ix = vec![0; shape.len()];
    loop {
        f(&ix);
        let Some(d) = (0..shape.len()).rev().find(|&d| ix[d] + 1 < shape[d]) else { return };
        ix[d] += 1;
        ix[d + 1..].fill(0);
    }
}

/// The common shape of two that broadcast.
///
/// # Panics
/// If they do not.
pub fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let size = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (size(a, i), size(b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => panic!("the specification drew shapes {a:?} and {b:?}"),
        })
        .collect()
}

/// A dimension counted from the front.
pub fn axis(dim: isize, rank: usize) -> usize {
    if dim < 0 { (dim + rank as isize) as usize } else { dim as usize }
}

/// The dimensions named by `dims`, sorted; all of them for an empty list.
pub fn axes(dims: &[isize], rank: usize) -> Vec<usize> {
    if dims.is_empty() {
        return (0..rank).collect();
    }
    let mut out: Vec<usize> = dims.iter().map(|&d| axis(d, rank)).collect();
    out.sort_unstable();
    out
}

/// A result that an implementation is held to: values, and for each how far off it may be.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Values and the dtype the result must have.
    pub array: Array,
    /// The largest absolute error allowed an element, before the final rounding to the dtype.
    pub bound: Vec<f64>,
}

impl Expected {
    /// Every bit must agree.
    pub fn exact(array: Array) -> Expected {
        Expected { bound: vec![0.0; array.numel()], array }
    }

    /// Value and bound of each element from its position.
    pub fn from_fn(dtype: DType, shape: &[usize], mut f: impl FnMut(&[usize]) -> (f64, f64)) -> Expected {
        let mut bound = Vec::new();
        let array = Array::from_fn(dtype, shape, |ix| {
            let (value, error) = f(ix);
            bound.push(error);
            value
        });
        Expected { array, bound }
    }
}
