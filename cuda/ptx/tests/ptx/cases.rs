//! The correct kernels: small launches of each, with references.

use half::bf16;
use ptx::Gpu;
use ptx::matrix::swizzle::Swizzle;
use ptx::tensor_map::{ElementType, TensorMap};

use crate::harness::*;

/// A row-major matrix of `rows` x `cols`, read in boxes of `box_rows` x `box_cols`, 128-byte swizzle.
pub fn matrix_map(address: u64, element: ElementType, rows: usize, cols: usize, box_rows: u32, box_cols: u32) -> TensorMap {
    let map = TensorMap::dense(element, address, &[cols as u64, rows as u64], &[box_cols, box_rows]);
    TensorMap { swizzle: Swizzle::B128, ..map }
}

fn bf16s(rng: &mut Rng, n: usize) -> Vec<bf16> {
    rng.vec(n, |r| bf16::from_f32(r.f32()))
}

/// Kernels of control flow, each against the same steps in Rust.
pub fn control() -> Vec<Case> {
    vec![
        Case::new("control", "collatz", shape(3, 64), |gpu, seed| {
            let input = Rng::new(seed).vec(150, |r| 1 + r.below(300));
            let (a, c) = (upload(gpu, &input), gpu.alloc(600).unwrap());
            let want: Vec<u32> = input
                .iter()
                .map(|&x| {
                    let (mut x, mut steps) = (x, 0);
                    while x > 1 {
                        x = if x % 2 == 1 { 3 * x + 1 } else { x / 2 };
                        steps += 1;
                    }
                    steps
                })
                .collect();
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(150),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 150), &want)),
            }
        }),
        Case::new("control", "interpret", shape(2, 64), |gpu, seed| {
            // Six programs out of eight positions; "done" (7) only in the last word.
            let mut rng = Rng::new(seed);
            let program = rng.vec(24, |r| (0..8).fold(0, |w, i| w | (if r.below(20) == 0 { 7 } else { r.below(7) }) << (3 * i)));
            let (a, c) = (upload(gpu, &program), gpu.alloc(512).unwrap());
            let want: Vec<u32> = (0..128).map(|i| interpret(&program, i)).collect();
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(24),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 128), &want)),
            }
        }),
        Case::new("control", "jump_table", shape(2, 64), |gpu, seed| {
            let input = Rng::new(seed).vec(128, |r| r.below(100_000));
            let (a, c) = (upload(gpu, &input), gpu.alloc(512).unwrap());
            let want: Vec<u32> = input
                .iter()
                .zip(0u32..)
                .map(|(&x, i)| {
                    let (mut x, mut y) = (x, i);
                    for _ in 0..5 {
                        y = match x % 4 {
                            0 => y.wrapping_add(7),
                            1 => y.wrapping_mul(3) ^ 85,
                            2 => y ^ 85,
                            _ => y,
                        };
                        x = x / 4 + y % 5;
                    }
                    y
                })
                .collect();
            Setup { params: Params::new().ptr(a).ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 128), &want)) }
        }),
        Case::new("control", "irreducible", shape(2, 64), |gpu, seed| {
            let input = Rng::new(seed).vec(128, |r| r.below(100_000));
            let (a, c) = (upload(gpu, &input), gpu.alloc(512).unwrap());
            let want: Vec<u32> = input.iter().map(|&x| irreducible(x)).collect();
            Setup { params: Params::new().ptr(a).ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 128), &want)) }
        }),
        Case::new("control", "nested", shape(1, 96), |gpu, _| {
            let c = gpu.alloc(384).unwrap();
            let want: Vec<u32> = (0..96).map(nested).collect();
            // How many lanes are together at the end is not promised; that the lane itself is among them is.
            let check = move |gpu: &Gpu| {
                let got = download::<u32>(gpu, c, 96);
                if got.iter().any(|&v| !(1..=32).contains(&(v / 1_000_000))) {
                    return Err(format!("an active mask without its own lane: {got:?}"));
                }
                same(&got.iter().map(|v| v % 1_000_000).collect::<Vec<_>>(), &want)
            };
            Setup { params: Params::new().ptr(c), check: Box::new(check) }
        }),
        Case::new("control", "early_exit", shape(1, 128), |gpu, _| {
            let c = gpu.alloc(256).unwrap();
            let want: Vec<u32> = (0..64).map(|i| (63 - i) * (63 - i)).collect();
            Setup { params: Params::new().ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 64), &want)) }
        }),
        Case::new("control", "spin_lock", shape(2, 64), |gpu, _| {
            let (lock, counter) = (upload(gpu, &[0u32]), upload(gpu, &[5u32]));
            Setup {
                params: Params::new().ptr(lock).ptr(counter),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, counter, 1), &[5 + 128])),
            }
        }),
        Case::new("control", "calls", shape(2, 48), |gpu, _| {
            let c = gpu.alloc(4 * 96).unwrap();
            let inner = |m: u32, n: u32| (0..m).fold(n + 1, |r: u32, j| r.wrapping_mul(2).wrapping_add(n % (j + 1)));
            let want: Vec<u32> = (0..96).map(|i| if i % 3 == 0 { i } else { inner(i % 5, i) ^ inner(i % 3, i + 1) }).collect();
            Setup { params: Params::new().ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 96), &want)) }
        }),
        Case::new("function_pointers", "indirect", shape(1, 64), |gpu, _| {
            let c = gpu.alloc(256).unwrap();
            let f = |i: u32| [2 * (i + 1), (i + 1) * (i + 1), (i + 1).wrapping_neg()][i as usize % 3];
            let want: Vec<u32> = (0..64).map(f).collect();
            Setup { params: Params::new().ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 64), &want)) }
        }),
        Case::new("control", "local_memory", shape(1, 64), |gpu, seed| {
            let start = Rng::new(seed).vec(64, |r| r.below(1000));
            let c = upload(gpu, &start);
            let want: Vec<u32> = (0..64u32)
                .map(|i| {
                    let mut table = [0u32; 16];
                    (0..16).for_each(|j| table[((j * 5 + i) % 16) as usize] = j * i);
                    (0..16).fold(0u32, |s, j| s.wrapping_mul(3).wrapping_add(table[((j + start[i as usize]) % 16) as usize]))
                })
                .collect();
            Setup { params: Params::new().ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 64), &want)) }
        }),
        Case::new("control", "variables", shape(1, 32), |gpu, _| {
            let c = gpu.alloc(4 * 33).unwrap();
            let mut want: Vec<u32> = (0..32).map(|i| [2, 3, 5, 7, 11, 13, 17, 19][i % 8]).collect();
            want.push(0);
            Setup { params: Params::new().ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 33), &want)) }
        }),
    ]
}

fn interpret(program: &[u32], i: u32) -> u32 {
    let mut acc = i;
    for (pc, word) in program.iter().enumerate() {
        match (word >> (i % 8 * 3)) & 7 {
            0 => acc = acc.wrapping_add(3),
            1 => acc = acc.wrapping_mul(5),
            2 => acc ^= acc >> 3,
            3 => acc = acc.reverse_bits(),
            4 if acc & 1 == 1 => continue,
            4 => acc = acc.wrapping_sub(7),
            5 => {
                acc = acc.rotate_left(9);
                acc = acc.wrapping_add(acc.count_ones());
            }
            6 => acc = acc.wrapping_add(acc.count_ones()),
            _ => return acc,
        }
        acc = acc.wrapping_add(pc as u32);
    }
    acc
}

fn irreducible(x: u32) -> u32 {
    let (mut x, mut steps) = (x, 0u32);
    let mut second = x & 1 == 1;
    loop {
        if !second {
            x = x.wrapping_mul(3).wrapping_add(1);
            steps += 1;
            if x % 7 == 0 || steps > 40 {
                break;
            }
        }
        x = x / 2 + 5;
        steps += 1;
        second = x % 3 == 0 && steps < 50;
        if !second && steps >= 60 {
            break;
        }
    }
    x.wrapping_mul(64).wrapping_add(steps)
}

fn nested(i: u32) -> u32 {
    let mut sum = 0;
    for a in 0..i % 9 + 1 {
        for b in a..12 {
            if (a * b + i) % 5 == 0 {
                continue;
            }
            if (a + b * i) % 11 == 7 {
                break;
            }
            sum += a * 100 + b;
        }
        if sum > 5000 {
            break;
        }
    }
    sum
}

/// Kernels that synchronise on the CUDA cores.
pub fn simt() -> Vec<Case> {
    vec![
        Case::new("reduce", "sum_rows", shape(3, 96), |gpu, seed| {
            let (rows, columns) = (3, 100);
            let input = Rng::new(seed).vec(rows * columns, Rng::f32);
            let a = upload(gpu, &input);
            let (sums, total, ticket) = (gpu.alloc(12).unwrap(), gpu.alloc(4).unwrap(), upload(gpu, &[0u32]));
            let exact: Vec<f64> = input.chunks(columns).map(|r| r.iter().map(|&x| f64::from(x)).sum()).collect();
            let bound = 300.0 * f64::from(f32::EPSILON) * 100.0;
            let check = move |gpu: &Gpu| {
                let want: Vec<_> = exact.iter().map(|&s| (s, bound)).collect();
                close(wide(&download::<f32>(gpu, sums, rows)), &want)?;
                close(wide(&download::<f32>(gpu, total, 1)), &[(exact.iter().sum(), bound)])
            };
            Setup { params: Params::new().ptr(a).ptr(sums).ptr(total).ptr(ticket).i32(columns), check: Box::new(check) }
        }),
        Case::new("reduce", "softmax_rows", shape(2, 128), |gpu, seed| {
            let columns = 200;
            let input = Rng::new(seed).vec(2 * columns, |r| 8.0 * r.f32());
            let (a, c) = (upload(gpu, &input), gpu.alloc(8 * columns as u64).unwrap());
            let mut want = Vec::new();
            for row in input.chunks(columns) {
                let top = row.iter().fold(f64::MIN, |m, &x| m.max(f64::from(x)));
                let e: Vec<f64> = row.iter().map(|&x| (f64::from(x) - top).exp()).collect();
                let sum: f64 = e.iter().sum();
                // ex2.approx errs by 2 ulp, its argument (at most 24) by a rounding of a product.
                want.extend(e.iter().map(|&e| (e / sum, 60.0 * f64::from(f32::EPSILON) * e / sum + 1e-12)));
            }
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(columns),
                check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, 2 * columns)), &want)),
            }
        }),
        Case::new("reduce", "histogram", shape(2, 256), |gpu, seed| {
            let input = Rng::new(seed).vec(2000, |r| r.below(256) as u8);
            let (a, c) = (upload(gpu, &input), upload(gpu, &[0u32; 256]));
            let mut want = vec![0u32; 256];
            input.iter().for_each(|&x| want[usize::from(x)] += 1);
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(2000),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 256), &want)),
            }
        }),
        Case::new("reduce", "warp_transpose", shape(1, 64), |gpu, seed| {
            let tiles = 8;
            let input = Rng::new(seed).vec(tiles * 1024, |r| r.next() as u32);
            let (a, c) = (upload(gpu, &input), gpu.alloc(tiles as u64 * 4096).unwrap());
            let mut want = vec![0u32; tiles * 1024];
            for (i, &x) in input.iter().enumerate() {
                let (t, r, col) = (i / 1024, i / 32 % 32, i % 32);
                want[t * 1024 + col * 32 + r] = x;
            }
            // Half the tiles of the launch belong to warps that are not there.
            let mine: Vec<usize> = (0..tiles).filter(|t| t % 4 < 2).collect();
            let check = move |gpu: &Gpu| {
                mine.iter().try_for_each(|&t| same(&download::<u32>(gpu, c + 4096 * t as u64, 1024), &want[t * 1024..][..1024]))
            };
            Setup { params: Params::new().ptr(a).ptr(c).i32(tiles), check: Box::new(check) }
        }),
        Case::new("reduce", "compact", shape(3, 64), |gpu, seed| {
            let input = Rng::new(seed).vec(180, |r| r.below(100) as i32 - 50);
            let (a, c, count) = (upload(gpu, &input), gpu.alloc(720).unwrap(), upload(gpu, &[0u32]));
            let mut want: Vec<i32> = input.iter().copied().filter(|&x| x > 0).collect();
            want.sort_unstable();
            let check = move |gpu: &Gpu| {
                same(&download::<u32>(gpu, count, 1), &[want.len() as u32])?;
                let mut got = download::<i32>(gpu, c, want.len());
                got.sort_unstable();
                same(&got, &want)
            };
            Setup { params: Params::new().ptr(a).ptr(c).ptr(count).i32(180), check: Box::new(check) }
        }),
        matmul_tiled(20, 24, 33),
        Case::new("flags", "scan_look_back", shape(5, 256), |gpu, seed| {
            let n = 1200;
            let input = Rng::new(seed).vec(n, |r| r.next() as u32);
            let (a, c) = (upload(gpu, &input), gpu.alloc(4 * n as u64).unwrap());
            let (next, status) = (upload(gpu, &[0u32]), upload(gpu, &[0u32; 5]));
            let (own, upto) = (gpu.alloc(20).unwrap(), gpu.alloc(20).unwrap());
            let mut sum = 0u32;
            let running = |x: &u32| {
                sum = sum.wrapping_add(*x);
                sum
            };
            let want: Vec<u32> = input.iter().map(running).collect();
            Setup {
                params: Params::new().ptr(a).ptr(c).ptr(next).ptr(status).ptr(own).ptr(upto).i32(n),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, n), &want)),
            }
        }),
        Case::new("flags", "in_turn", shape(4, 64), |gpu, seed| {
            let columns = 100;
            let mut rng = Rng::new(seed);
            let (input, start) = (rng.vec(4 * columns, Rng::f32), rng.vec(columns, Rng::f32));
            let (a, c, turn) = (upload(gpu, &input), upload(gpu, &start), upload(gpu, &[0u32]));
            let want: Vec<f32> =
                (0..columns).map(|j| (0..4).fold(start[j], |x, b| x.mul_add(0.5, input[b * columns + j]))).collect();
            Setup {
                params: Params::new().ptr(a).ptr(c).ptr(turn).i32(columns),
                check: Box::new(move |gpu| same(&download::<f32>(gpu, c, columns), &want)),
            }
        }),
        Case::new("flags", "pass_on", shape(4, 64), |gpu, _| {
            let n = 100;
            let (cells, flags) = (gpu.alloc(4 * 4 * n as u64).unwrap(), upload(gpu, &[0u32; 4]));
            let want: Vec<u32> = (0..4 * n as u32).map(|i| (i % 100 + i / 100) % 100 + i / 100).collect();
            Setup {
                params: Params::new().ptr(cells).ptr(flags).i32(n),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, cells, 4 * n), &want)),
            }
        }),
        Case::new("flags", "lock_cell", shape(4, 32), |gpu, _| {
            let (lock, cell) = (upload(gpu, &[0u32]), upload(gpu, &[1u32, 0]));
            let want = [(0..12).fold(1u32, |x, _| 3 * x + 1), 12];
            Setup {
                params: Params::new().ptr(lock).ptr(cell).i32(3),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, cell, 2), &want)),
            }
        }),
        Case::new("flags", "grid_barrier", shape(4, 64), |gpu, _| {
            let (arrived, cells) = (upload(gpu, &[0u32]), gpu.alloc(8 * 256).unwrap());
            let want: Vec<u32> = (0..512).map(|i| if i < 256 { i / 64 + 1 } else { ((i - 256) / 64 + 1) % 4 + 1 }).collect();
            Setup {
                params: Params::new().ptr(arrived).ptr(cells),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, cells, 512), &want)),
            }
        }),
        Case::new("cluster", "named_barriers", shape(1, 160), |gpu, seed| {
            let rounds = 4;
            let input = Rng::new(seed).vec(rounds * 128, |r| r.next() as u32);
            let (a, c) = (upload(gpu, &input), gpu.alloc(512).unwrap());
            let want: Vec<u32> = (0..128)
                .map(|i| (0..rounds).fold(0u32, |s, r| s.wrapping_mul(31).wrapping_add(input[r * 128 + (i ^ 77)])))
                .collect();
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(rounds),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 128), &want)),
            }
        }),
    ]
}

pub fn matmul_tiled(m: usize, n: usize, k: usize) -> Case {
    let grid = Shape { grid: [n.div_ceil(16) as u32, m.div_ceil(16) as u32, 1], block: [16, 16, 1], shared: 0 };
    Case::new("reduce", "matmul_tiled", grid, move |gpu, seed| {
        let mut rng = Rng::new(seed);
        let (a, b) = (rng.vec(m * k, Rng::f32), rng.vec(n * k, Rng::f32));
        let across: Vec<f32> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
        let (pa, pb, c) = (upload(gpu, &a), upload(gpu, &across), gpu.alloc(4 * (m * n) as u64).unwrap());
        let want = product(&wide(&a), &wide(&b), m, n, k);
        Setup {
            params: Params::new().ptr(pa).ptr(pb).ptr(c).i32(m).i32(n).i32(k),
            check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, m * n)), &want)),
        }
    })
}

/// Clusters, bulk copies, mbarriers.
pub fn asynchronous() -> Vec<Case> {
    vec![
        Case::new("cluster", "spread_histogram", shape(8, 64), |gpu, seed| {
            let input = Rng::new(seed).vec(1000, |r| r.below(256) as u8);
            let (a, c) = (upload(gpu, &input), upload(gpu, &[0u32; 256]));
            let mut want = vec![0u32; 256];
            input.iter().for_each(|&x| want[usize::from(x)] += 1);
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(1000),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 256), &want)),
            }
        }),
        Case::new("cluster", "rotate", shape(8, 128), |gpu, seed| {
            let input = Rng::new(seed).vec(1024, |r| r.next() as u32);
            let (a, c) = (upload(gpu, &input), gpu.alloc(4096).unwrap());
            let want: Vec<u32> = (0..1024).map(|i| input[i / 512 * 512 + (i % 512 + 128) % 512]).collect();
            Setup { params: Params::new().ptr(a).ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 1024), &want)) }
        }),
        Case::new("cluster", "ring", shape(4, 128), |gpu, seed| {
            let rounds = 5;
            let input = Rng::new(seed).vec(512, |r| r.below(1000));
            let (a, c) = (upload(gpu, &input), gpu.alloc(2048).unwrap());
            let mut rows: Vec<Vec<u32>> = input.chunks(128).map(|r| r.to_vec()).collect();
            for _ in 0..rounds {
                let sent: Vec<Vec<u32>> =
                    rows.iter().enumerate().map(|(rank, row)| row.iter().map(|x| x + rank as u32).collect()).collect();
                (0..4).for_each(|rank| rows[(rank + 1) % 4] = sent[rank].clone());
            }
            let want = rows.concat();
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(rounds),
                check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 512), &want)),
            }
        }),
        Case::new("cluster", "stream", shape(2, 256), |gpu, seed| {
            let n = 2 * 5 * 256;
            let input = Rng::new(seed).vec(n, Rng::f32);
            let (a, c) = (upload(gpu, &input), gpu.alloc(4 * n as u64).unwrap());
            let want: Vec<f32> = input.iter().map(|&x| x.mul_add(2.0, 1.0)).collect();
            Setup {
                params: Params::new().ptr(a).ptr(c).i32(5),
                check: Box::new(move |gpu| same(&download::<f32>(gpu, c, n), &want)),
            }
        }),
        Case::new("bugs", "bulk_copy", shape(1, 128), |gpu, seed| {
            let input = Rng::new(seed).vec(128, |r| r.below(1000));
            let (a, c) = (upload(gpu, &input), gpu.alloc(512).unwrap());
            let want: Vec<u32> = input.iter().rev().map(|x| x + 1).collect();
            Setup { params: Params::new().ptr(a).ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 128), &want)) }
        }),
        Case::new("bugs", "one_lane_arrives_after_syncwarp", shape(1, 64), |gpu, _| {
            let c = gpu.alloc(128).unwrap();
            let want: Vec<u32> = (0..32).map(|i| 3 * (31 - i)).collect();
            Setup { params: Params::new().ptr(c), check: Box::new(move |gpu| same(&download::<u32>(gpu, c, 32), &want)) }
        }),
    ]
}

/// Matrix products on the tensor cores, small ones.
pub fn gemms() -> Vec<Case> {
    vec![
        gemm_mma(70, 68, 104),
        wgmma_tile(),
        split_k(72, 64, 392, 2),
        fp8(64, 80, 640),
        registers(1, 256),
        gemm_n64(200, 136, 200, 2),
    ]
}

pub fn gemm_mma(m: usize, n: usize, k: usize) -> Case {
    let shape = Shape { grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1], block: [128, 1, 1], shared: 0 };
    Case::new("gemm_mma", "gemm_mma", shape, move |gpu, seed| {
        let mut rng = Rng::new(seed);
        let (a, b) = (bf16s(&mut rng, m * k), bf16s(&mut rng, n * k));
        let (pa, pb, c) = (upload(gpu, &a), upload(gpu, &b), gpu.alloc(4 * (m * n) as u64).unwrap());
        let want = product(&wide(&a), &wide(&b), m, n, k);
        Setup {
            params: Params::new().ptr(pa).ptr(pb).ptr(c).i32(m).i32(n).i32(k),
            check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, m * n)), &want)),
        }
    })
}

/// The kernel of `bugs.cu` without a bug.
pub fn wgmma_tile() -> Case {
    wgmma_tile_entry("wgmma_tile")
}

pub fn wgmma_tile_entry(entry: &'static str) -> Case {
    let shape = Shape { grid: [1, 1, 1], block: [160, 1, 1], shared: 1024 + 16384 };
    Case::new("bugs", entry, shape, |gpu, seed| {
        let mut rng = Rng::new(seed);
        let k = 192;
        let (a, b) = (bf16s(&mut rng, 64 * k), bf16s(&mut rng, 64 * k));
        let (pa, pb, c) = (upload(gpu, &a), upload(gpu, &b), gpu.alloc(4 * 64 * 64).unwrap());
        let want = product(&wide(&a), &wide(&b), 64, 64, k);
        let map = |base| matrix_map(base, ElementType::Bf16, 64, k, 64, 64);
        Setup {
            params: Params::new().map(&map(pa)).map(&map(pb)).ptr(c),
            check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, 64 * 64)), &want)),
        }
    })
}

pub fn split_k(m: usize, n: usize, k: usize, splits: u32) -> Case {
    let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, splits];
    let shape = Shape { grid, block: [128, 1, 1], shared: 1024 + 4 * 8192 + 16384 };
    Case::new("gemm_simple", "gemm_split_k", shape, move |gpu, seed| {
        let mut rng = Rng::new(seed);
        let (a, b) = (bf16s(&mut rng, m * k), bf16s(&mut rng, n * k));
        let (pa, pb, c) = (upload(gpu, &a), upload(gpu, &b), upload(gpu, &vec![0f32; m * n]));
        let want = product(&wide(&a), &wide(&b), m, n, k);
        let maps = Params::new()
            .map(&matrix_map(pa, ElementType::Bf16, m, k, 64, 64))
            .map(&matrix_map(pb, ElementType::Bf16, n, k, 64, 64))
            .map(&matrix_map(c, ElementType::F32, m, n, 64, 32));
        Setup { params: maps.i32(k), check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, m * n)), &want)) }
    })
}

/// An e4m3 value of at most 1.75, and its meaning.
fn e4m3(rng: &mut Rng) -> (u8, f64) {
    let bits = rng.below(64) as u8 | (rng.below(2) as u8) << 7;
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let size = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7) };
    (bits, if bits & 0x80 == 0 { size } else { -size })
}

pub fn fp8(m: usize, n: usize, k: usize) -> Case {
    let shape = Shape { grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1], block: [128, 1, 1], shared: 1024 + 4 * 8192 };
    Case::new("gemm_simple", "gemm_fp8", shape, move |gpu, seed| {
        let mut rng = Rng::new(seed);
        let (a, b) = (rng.vec(m * k, e4m3), rng.vec(n * k, e4m3));
        let (sa, sb) = (rng.vec(k / 128 * m, |r| 1.0 + r.f32() / 2.0), rng.vec(k / 128, |r| 1.0 + r.f32() / 2.0));
        let bits = |v: &[(u8, f64)]| v.iter().map(|x| x.0).collect::<Vec<_>>();
        let (pa, pb) = (upload(gpu, &bits(&a)), upload(gpu, &bits(&b)));
        let (psa, psb, c) = (upload(gpu, &sa), upload(gpu, &sb), gpu.alloc(4 * (m * n) as u64).unwrap());
        let scaled: Vec<f64> = (0..m * k).map(|i| a[i].1 * f64::from(sa[i % k / 128 * m + i / k])).collect();
        let scaled_b: Vec<f64> = (0..n * k).map(|i| b[i].1 * f64::from(sb[i % k / 128])).collect();
        let mut want = product(&scaled, &scaled_b, m, n, k);
        // The tensor core truncates the 33 terms of a step (32 of K, and the sum so far) and the new sum, each 13 bits below the
        // largest. Sums start anew every 128.
        for (e, (_, bound)) in want.iter_mut().enumerate() {
            let (i, j) = (e / n, e % n);
            let mut sum = 0.0;
            for step in 0..k / 32 {
                let products = (step * 32..step * 32 + 32).map(|l| scaled[i * k + l] * scaled_b[j * k + l]);
                let before: f64 = if step % 4 == 0 { 0.0 } else { sum };
                sum = before + products.clone().sum::<f64>();
                let largest = products.fold(before.abs().max(sum.abs()), |m, p| m.max(p.abs()));
                *bound += 34.0 * 2f64.powi(-13) * largest;
            }
        }
        let maps = Params::new().map(&matrix_map(pa, ElementType::U8, m, k, 64, 128)).map(&matrix_map(
            pb,
            ElementType::U8,
            n,
            k,
            64,
            128,
        ));
        Setup {
            params: maps.ptr(psa).ptr(psb).ptr(c).i32(m).i32(n).i32(k),
            check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, m * n)), &want)),
        }
    })
}

pub fn registers(ctas: u32, k: usize) -> Case {
    let shape = Shape { grid: [ctas, 1, 1], block: [128, 1, 1], shared: 1024 + 2 * 16384 };
    Case::new("gemm_simple", "gemm_registers", shape, move |gpu, seed| {
        let mut rng = Rng::new(seed);
        let m = 64 * ctas as usize;
        let (a, b) = (bf16s(&mut rng, m * k), bf16s(&mut rng, 128 * k));
        let across: Vec<bf16> = (0..k * 128).map(|i| b[i % 128 * k + i / 128]).collect();
        let (pa, pb, c) = (upload(gpu, &a), upload(gpu, &across), gpu.alloc(4 * (m * 128) as u64).unwrap());
        let want = product(&wide(&a), &wide(&b), m, 128, k);
        Setup {
            params: Params::new().ptr(pa).ptr(pb).ptr(c).i32(k),
            check: Box::new(move |gpu| close(wide(&download::<f32>(gpu, c, m * 128)), &want)),
        }
    })
}

pub fn gemm_n64(m: usize, n: usize, k: usize, ctas: u32) -> Case {
    persistent("gemm_n64", 64, 2, m, n, k, ctas)
}

pub fn gemm_n128(m: usize, n: usize, k: usize, ctas: u32) -> Case {
    persistent("gemm_n128", 128, 3, m, n, k, ctas)
}

fn persistent(entry: &'static str, bn: usize, stages: usize, m: usize, n: usize, k: usize, ctas: u32) -> Case {
    let shared = 1024 + stages * (128 * 64 * 2 + bn * 64 * 2) + 128 * bn * 2;
    let shape = Shape { grid: [ctas, 1, 1], block: [384, 1, 1], shared: shared as u32 };
    Case::new("gemm_wgmma", entry, shape, move |gpu, seed| {
        let mut rng = Rng::new(seed);
        let (a, b) = (bf16s(&mut rng, m * k), bf16s(&mut rng, n * k));
        let (pa, pb, c) = (upload(gpu, &a), upload(gpu, &b), gpu.alloc(2 * (m * n) as u64).unwrap());
        let mut want = product(&wide(&a), &wide(&b), m, n, k);
        // The sum is rounded to bf16 once.
        want.iter_mut().for_each(|(x, bound)| *bound += (x.abs() + *bound) * 2f64.powi(-8));
        let maps = Params::new()
            .map(&matrix_map(pa, ElementType::Bf16, m, k, 128, 64))
            .map(&matrix_map(pb, ElementType::Bf16, n, k, bn as u32 / 2, 64))
            .map(&matrix_map(c, ElementType::Bf16, m, n, 64, 64));
        Setup {
            params: maps.i32(m).i32(n).i32(k),
            check: Box::new(move |gpu| close(wide(&download::<bf16>(gpu, c, m * n)), &want)),
        }
    })
}
