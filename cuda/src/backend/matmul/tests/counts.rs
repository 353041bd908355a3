//! What the kernels' heads claim of bytes, conflicts and operations, in closed form, against the interpreter's counters.

use super::super::kernel::Feed;
use super::super::{KERNELS, Major};
use super::Case;
use crate::gpu::Cuda;
use crate::{Options, interpreted_with};
use tensor::DType;

/// Bytes of a sector, the unit of global memory.
const SECTOR: u64 = 32;

#[test]
fn every_rung_moves_and_multiplies_what_its_head_says() {
    for kernel in &KERNELS {
        let dtype = if kernel.dtypes.contains(&DType::BF16) { DType::BF16 } else { DType::F32 };
        // Whole tiles, several per CTA that stays, and each stage used again.
        let [rows, columns] = kernel.tile;
        let (m, n, k) = (2 * rows * kernel.cluster, 2 * columns, 64 * (kernel.stages + 2));
        let case = Case { sizes: [m, n, k, 1], major: [Major::K, Major::Mn], shared: [false; 2], dtype };
        let gpu = interpreted_with(Options { multiprocessors: 2, counters: true, ..Options::pedantic(1) });
        let y = case.run_on(&gpu, kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.name()));
        assert!(y.is_some(), "{} does not take it", kernel.name());
        let report = gpu.backend::<Cuda>().expect("an interpreted GPU").report().expect("a report");
        let counters = report.counters.expect("counters");
        let total = &counters.total;

        let (m, n, k, element) = (m as u64, n as u64, k as u64, dtype.size() as u64);
        let flops = 2 * m * n * k;
        // Operands once per tile: of A for each column of tiles, of B for each row of them, or of clusters of them.
        let loads_a = m * k * (n / columns as u64) * element;
        let loads_b = k * n * (m / (rows * kernel.cluster) as u64) * element;
        let loads = (loads_a + loads_b) / SECTOR;
        let on_tensor_cores = kernel.rung > 1 && dtype == DType::BF16;
        let products = if on_tensor_cores { [flops, 0] } else { [0, flops] };
        assert_eq!([total.tensor_flops_16, counters.cuda_core_flops], products, "{}: products", kernel.name());
        // C by warps: a row of an 8 x 8 fragment is 16 bytes, half a sector, and on rung 2 written in two; of f32 whole sectors.
        let pairs = m * n / 8;
        let [tma, sectors] = match (kernel.feed, kernel.rung) {
            // A warp has 2 rows and 16 columns of C, a sector each: of A an element a row.
            (Feed::Elements, 1) => [0, m * n / 32 * (k * (2 + 1) + 2)],
            (Feed::Elements, _) => [0, loads + if on_tensor_cores { 2 * pairs } else { pairs }],
            (Feed::Chunks, _) => [0, loads + pairs],
            (Feed::Boxes { stores: false, .. }, _) => [loads_a + loads_b, pairs],
            (Feed::Boxes { stores: true, .. }, _) => [loads_a + loads_b + m * n * element, 0],
        };
        // Of a launch's parameters those that a loop indexes are read by generic loads: not global memory.
        let own = counters.lines.iter().filter(|line| line.opcode.contains("global"));
        let global: u64 = own.map(|line| line.counts.global_sectors).sum();
        // Rung 2 promises nothing of the banks.
        let conflicts = if kernel.rung == 2 { 0 } else { total.bank_conflicts };
        let what = "bytes by TMA, sectors of global memory, bank conflicts";
        assert_eq!([total.tma_bytes, global, conflicts], [tma, sectors, 0], "{}: {what}", kernel.name());
    }
}
