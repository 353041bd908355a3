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
    MATMUL_NAIVE "matmul/1_naive",
    MATMUL_SHARED_TILES "matmul/2_shared_tiles",
    MATMUL_MMA_SYNC "matmul/3_mma_sync",
    MATMUL_REGISTERS "matmul/3_registers_f32",
    MATMUL_WGMMA "matmul/4_wgmma",
    MATMUL_SPECIALISED "matmul/5_specialised",
    MATMUL_PERSISTENT "matmul/6_persistent",
    MATMUL_PARITY "matmul/7_parity",
    MATMUL_MULTICAST "matmul/8_multicast",
    MATMUL_STORE "matmul/9_store",
    NORM "norm",
    OPTIM "optim",
    REDUCE "reduce",
    ROPE "rope",
    SOFTMAX "softmax",
    SORT "sort",
    UNARY "unary"
);
