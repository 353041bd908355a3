//! What a backend is asked for by id: [`UnaryOp`], [`BinaryOp`] and [`ReduceOp`].
//!
//! The methods of [`Tensor`](crate::Tensor) are declared from the same tables, beside their kernels in `ops`.

/// How [`Tensor::gelu`](crate::Tensor::gelu) is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Gelu {
    /// `x·Φ(x)` with the error function.
    #[default]
    None,
    /// The tanh approximation.
    Tanh,
}

/// Hands the operations of one operand to a macro. Those with arguments have methods of their own; examples stand for them in `ALL`.
macro_rules! unary_operations {
    ($declare:ident) => {
        $declare! {
            plain {
                /// `−x`; not defined for bool, which panics.
                neg => Neg;
                /// `|x|`.
                abs => Abs;
                /// `eˣ`.
                exp => Exp;
                /// Natural logarithm.
                log => Log;
                /// Square root.
                sqrt => Sqrt;
                /// `1/√x`.
                rsqrt => Rsqrt;
                /// Sine of radians.
                sin => Sin;
                /// Cosine of radians.
                cos => Cos;
                /// Hyperbolic tangent.
                tanh => Tanh;
                /// `1/(1 + e⁻ˣ)`.
                sigmoid => Sigmoid;
                /// `x·sigmoid(x)`, also called swish.
                silu => Silu;
                /// `max(x, 0)`; NaN stays NaN.
                relu => Relu;
                /// `1/x`.
                reciprocal => Reciprocal;
                /// `x²`.
                square => Square;
                /// −1, 0 or 1.
                sign => Sign;
                /// The largest integer not above `x`.
                floor => Floor;
                /// The error function `2/√π ∫₀ˣ e^(−t²) dt`.
                erf => Erf;
                /// True where `x` is zero or false; a bool tensor.
                logical_not => LogicalNot;
            }
            with_arguments {
                /// Gaussian error linear unit.
                gelu => Gelu(Gelu): UnaryOp::Gelu(Gelu::None), UnaryOp::Gelu(Gelu::Tanh);
                /// `log(1 + e^(beta·x))/beta`.
                softplus => Softplus { beta: f64, threshold: f64 }: UnaryOp::Softplus { beta: 1.0, threshold: 20.0 };
            }
        }
    };
}

/// Hands the operations of two operands to a macro.
macro_rules! binary_operations {
    ($declare:ident) => {
        $declare! {
            /// `a + b`; of bools, or.
            add => Add;
            /// `a − b`.
            sub => Sub;
            /// `a·b`; of bools, and.
            mul => Mul;
            /// `a / b`; integers divide to f32.
            div => Div;
            /// `a` to the power `b`.
            pow => Pow;
            /// The larger; NaN wins.
            maximum => Maximum;
            /// The smaller; NaN wins.
            minimum => Minimum;
            /// `a = b`, a bool tensor.
            eq => Eq;
            /// `a ≠ b`, a bool tensor.
            ne => Ne;
            /// `a < b`, a bool tensor.
            lt => Lt;
            /// `a ≤ b`, a bool tensor.
            le => Le;
            /// `a > b`, a bool tensor.
            gt => Gt;
            /// `a ≥ b`, a bool tensor.
            ge => Ge;
            /// Both are not zero; a bool tensor.
            logical_and => LogicalAnd;
            /// One of them is not zero; a bool tensor.
            logical_or => LogicalOr;
        }
    };
}
pub(crate) use {binary_operations, unary_operations};

macro_rules! unary {
    (
        plain { $($(#[$doc:meta])+ $name:ident => $op:ident;)* }
        with_arguments { $($(#[$doc_with:meta])+ $name_with:ident => $with:ident $arguments:tt: $($example:expr),+;)* }
    ) => {
        /// An elementwise operation of one operand, named after its [`Tensor`](crate::Tensor) method.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs)] // the fields are described at the methods
        pub enum UnaryOp {
            $($(#[$doc])+ $op,)*
            $($(#[$doc_with])+ $with $arguments,)*
        }

        impl UnaryOp {
            /// Every operation; those with arguments with some of them.
            pub const ALL: &'static [UnaryOp] = &[$(UnaryOp::$op,)* $($($example,)+)*];

            /// The name of its method.
            pub fn name(self) -> &'static str {
                match self {
                    $(UnaryOp::$op => stringify!($name),)*
                    $(UnaryOp::$with { .. } => stringify!($name_with),)*
                }
            }
        }
    };
}
unary_operations!(unary);

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $op:ident;)*) => {
        /// An elementwise operation of two operands, named after its [`Tensor`](crate::Tensor) method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum BinaryOp {$(
            $(#[$doc])*
            $op,
        )*}

        impl BinaryOp {
            /// Every operation.
            pub const ALL: &'static [BinaryOp] = &[$(BinaryOp::$op),*];

            /// The name of its method.
            pub fn name(self) -> &'static str {
                match self {$(
                    BinaryOp::$op => stringify!($name),
                )*}
            }
        }
    };
}
binary_operations!(binary);

impl BinaryOp {
    /// Whether the result is bool.
    pub fn is_predicate(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge | LogicalAnd | LogicalOr)
    }
}

/// A reduction over dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// Sum; 0 of nothing.
    Sum,
    /// Largest; NaN wins.
    Max,
    /// Smallest; NaN wins.
    Min,
}
