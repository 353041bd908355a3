//! The families of kernels: PTX text that is committed beside its source, see `cargo xtask ptx`.

/// A family's name and its PTX; a kernel is found by the family and its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Family {
    /// The source is `cuda/kernels/NAME.cu`.
    pub name: &'static str,
    /// What was generated from it.
    pub ptx: &'static str,
}

macro_rules! families {
    ($($constant:ident $name:literal),*) => {
        $(
            pub const $constant: Family = Family { name: $name, ptx: include_str!(concat!("../kernels/", $name, ".ptx")) };
        )*
    };
}

families!(
    ATTENTION "attention",
    BINARY "binary",
    CREATE "create",
    INDEX "index",
    MATMUL "matmul",
    MATMUL_HOPPER "matmul/hopper",
    NORM "norm",
    OPTIM "optim",
    REDUCE "reduce",
    ROPE "rope",
    SOFTMAX "softmax",
    SORT "sort",
    UNARY "unary"
);
