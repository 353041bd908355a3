//! The choice of a kernel: legal by rules that are written here again, cheapest, and the same for every number of rows.

use super::super::{KERNELS, Kernel, Operand, Product, choose};
use crate::Properties;
use crate::kernels::{MATMUL_REGISTERS, MATMUL_STORE};
use proptest::prelude::*;
use tensor::DType;

const H100: Properties = Properties { capability: (9, 0), multiprocessors: 132, shared_per_block: 227 << 10 };

fn operand() -> impl Strategy<Value = Operand> {
    let stride = prop_oneof![Just(1usize), Just(0), 1..64usize, (1..64usize).prop_map(|s| 8 * s), Just(1 << 40)];
    let batch = prop_oneof![Just(None), Just(Some(0usize)), (1..64usize).prop_map(Some), (1..999usize).prop_map(|s| Some(8 * s))];
    (stride.clone(), stride, batch, any::<bool>()).prop_map(|(stride, k_stride, batch_stride, aligned)| Operand {
        stride,
        k_stride,
        batch_stride,
        aligned,
    })
}

/// Whether 16 bytes at a time can be read of elements of a size, and by the copy engine.
fn legal(o: &Operand, size: usize) -> (bool, bool) {
    let multiple = |s: usize| s > 0 && (size * s).is_multiple_of(16) && size * s < 1 << 40;
    let rows = o.k_stride == 1 && multiple(o.stride) || o.stride == 1 && multiple(o.k_stride);
    let batch = o.batch_stride.is_some_and(|s| s == 0 || multiple(s));
    (rows && o.aligned, rows && o.aligned && batch)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn the_choice_is_legal_cheapest_and_the_same_for_every_row(
        a in operand(),
        b in operand(),
        m in 0..10_000usize,
        n in 0..10_000usize,
        k in 0..10_000usize,
        batch in 0..9usize,
        dtype in prop_oneof![Just(DType::BF16), Just(DType::F16), Just(DType::F32), Just(DType::I64), Just(DType::F8E4M3)],
        major in 7..11u32,
        shared_per_block in prop_oneof![Just(48u32 << 10), Just(99 << 10), Just(227 << 10)],
    ) {
        let p = Product { dtype, m, n, k, batch, a, b };
        let card = Properties { capability: (major, 0), shared_per_block, ..H100 };
        let half = matches!(dtype, DType::BF16 | DType::F16);
        let [(chunks_a, boxes_a), (chunks_b, boxes_b)] = [&a, &b].map(|o| legal(o, dtype.size()));
        let rung = if half && major == 9 && m * n * k * batch > 0 && boxes_a && boxes_b && shared_per_block == 227 << 10 {
            9
        } else if (half || dtype == DType::F32) && major >= 8 && chunks_a && chunks_b {
            3
        } else {
            2
        };
        let chosen = choose(&p, &card);
        prop_assert_eq!(chosen.map(|kernel| kernel.rung), (dtype != DType::F8E4M3).then_some(rung));
        if let Some(chosen) = chosen {
            prop_assert!(chosen.shared() <= shared_per_block as usize);
            let others = KERNELS.iter().filter(|kernel| kernel.rung == rung && kernel.accepts(&p, &card));
            for other in others {
                prop_assert!(chosen.cycles(&p, &card) <= other.cycles(&p, &card));
            }
            prop_assert_eq!(choose(&p, &card), Some(chosen));
            if m > 0 {
                let one_row = Product { m: 1, ..p };
                prop_assert_eq!(choose(&one_row, &card).map(|kernel| kernel.rung), Some(rung));
            }
        }
    }
}

/// What Rust and CUDA C++ must agree on: each kernel's entries are there, with its threads and its cluster.
#[test]
fn kernels_are_what_their_ptx_says() {
    let entry = |kernel: &Kernel, name: &str| {
        let ptx = kernel.family.ptx;
        let at = ptx.find(&format!(".entry {name}(")).unwrap_or_else(|| panic!("{} has no {name}", kernel.family.name));
        ptx[at..].split_once('{').map(|(head, _)| head).expect("a body")
    };
    for kernel in &KERNELS {
        for dtype in kernel.dtypes {
            let layouts = if kernel.layouts.is_empty() { &[""][..] } else { kernel.layouts };
            for layout in layouts {
                let between = if layout.is_empty() { "" } else { "_" };
                let head = entry(kernel, &crate::gpu::typed(&format!("{}{between}{layout}", kernel.entry), *dtype));
                assert!(head.contains(&format!(".maxntid {}, 1, 1", kernel.threads)), "{}: {head}", kernel.name());
                let cluster = format!(".reqnctapercluster {}, 1, 1", kernel.cluster);
                assert!(kernel.cluster == 1 || head.contains(&cluster), "{}: {head}", kernel.name());
            }
        }
    }
}

/// Few tiles are cut small, many large.
#[test]
fn the_tile_follows_the_shape() {
    let operand = Operand { stride: 8192, k_stride: 1, batch_stride: Some(0), aligned: true };
    let chosen = |m, n, dtype| {
        let p = Product { dtype, m, n, k: 8192, batch: 1, a: operand, b: operand };
        let kernel = choose(&p, &H100).expect("a kernel");
        (kernel.family, kernel.tile)
    };
    assert_eq!(chosen(8192, 8192, DType::BF16), (MATMUL_STORE, [128, 256]));
    assert_eq!(chosen(128, 8192, DType::BF16), (MATMUL_STORE, [128, 128]));
    assert_eq!(chosen(8192, 8192, DType::F32), (MATMUL_REGISTERS, [128, 128]));
    assert_eq!(chosen(1, 8192, DType::F32), (MATMUL_REGISTERS, [32, 32]));
}
