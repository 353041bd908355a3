//! Kernels that Triton compiled, against plain loops, under several seeds.

use std::sync::Arc;

use half::bf16;
use ptx::{Gpu, Launch, Module, Options};

use crate::harness::{kernel_text, upload};

/// Runs kernel `name` under a few seeds with these buffers; checks that there is no hazard, and what `check` says of the buffers.
fn run(name: &str, grid: u32, shared_bytes: u32, buffers: &[Vec<u8>], ints: &[i32], check: impl Fn(&[Vec<u8>])) {
    let module = Module::parse(name, &kernel_text(&format!("triton/{name}"))).unwrap_or_else(|e| panic!("{e}"));
    let module = Arc::new(module);
    for seed in 0..6 {
        let mut gpu = Gpu::new(Options::pedantic(seed));
        let handle = gpu.load(module.clone()).unwrap();
        let ptrs: Vec<u64> = buffers.iter().map(|b| upload(&mut gpu, b)).collect();
        let launch = Launch::new(handle, name).grid(grid).block(128).shared_bytes(shared_bytes);
        let launch = ptrs.iter().fold(launch, |launch, p| launch.arg(*p));
        let launch = ints.iter().fold(launch, |launch, i| launch.arg(*i));
        gpu.launch(&launch).clean().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let out: Vec<Vec<u8>> = ptrs.iter().zip(buffers).map(|(p, b)| gpu.read(*p, b.len()).unwrap()).collect();
        check(&out);
    }
}

/// Numbers that look random, in [-1, 1).
fn numbers(n: u32, salt: u32) -> Vec<f32> {
    (0..n).map(|i| (i.wrapping_add(salt).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

#[test]
fn softmax() {
    let (rows, n) = (3, 300);
    let x = numbers(rows * n, 7);
    let input = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    run("softmax", rows, 64, &[input, vec![0; (rows * n * 2) as usize]], &[n as i32], |out| {
        let y: Vec<f64> = out[1].chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect();
        for (row, got) in x.chunks(n as usize).zip(y.chunks(n as usize)) {
            let e: Vec<f64> = row.iter().map(|v| f64::from(*v).exp()).collect();
            let sum: f64 = e.iter().sum();
            // One rounding to the 8 bits of bf16, and a few in f32.
            assert!(e.iter().zip(got).all(|(e, g)| (g - e / sum).abs() <= e / sum * (2f64.powi(-8) + 2f64.powi(-18))));
        }
    });
}

#[test]
fn matmul() {
    let (m, n, k) = (128, 32, 96);
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let round = |v: &[f32]| v.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>();
    let (a, b) = (round(&a), round(&b));
    let bytes = |v: &[bf16]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    run("matmul", m / 64, 65_536, &[bytes(&a), bytes(&b), vec![0; (m * n * 4) as usize]], &[n as i32, k as i32], |out| {
        let c: Vec<f32> = out[2].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        for (i, got) in c.iter().enumerate() {
            let (row, col) = (i / n as usize, i % n as usize);
            let terms = (0..k as usize).map(|j| a[row * k as usize + j].to_f64() * b[j * n as usize + col].to_f64());
            let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
            assert!((f64::from(*got) - sum).abs() <= size * f64::from(k) * 2f64.powi(-23), "{row} {col}: {got} for {sum}");
        }
    });
}

#[test]
fn scan() {
    let n = 700_u32;
    let x: Vec<u32> = (0..n).map(|i| i * i % 91).collect();
    let bytes = |v: &[u32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    run("scan", 3, 1024, &[bytes(&x), vec![0; 4 * n as usize], vec![0; 4]], &[n as i32], |out| {
        let words = |b: &[u8]| b.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect::<Vec<_>>();
        let want = x.chunks(256).flat_map(|c| c.iter().scan(0, |s, v| (*s += v, Some(*s)).1));
        assert!(words(&out[1]).into_iter().eq(want));
        assert_eq!(words(&out[2])[0], x.iter().sum::<u32>());
    });
}
