// Products of operands that lie in any way: what the rungs share that compute addresses themselves.
#pragma once
#include "common.cuh"

// Strides in elements; the output is contiguous.
struct Product {
    u64 m, n, k;
    u64 a_row, a_col, b_row, b_col;
};

// Where this block works: blockIdx.x counts tiles of n, then of m, then the batch.
struct Tile {
    u64 row, col, batch;
    __device__ inline Tile(const Product& p, u32 rows, u32 cols) {
        u64 across = (p.n + cols - 1) / cols, down = (p.m + rows - 1) / rows;
        col = blockIdx.x % across * cols;
        row = blockIdx.x / across % down * rows;
        batch = blockIdx.x / across / down;
    }
};
