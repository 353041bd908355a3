// Stable sort of rows: every element becomes a key whose unsigned order is the one wanted, (key, position) pairs are sorted in
// chunks in shared memory (bitonic) and merged; no two pairs are equal, so that any sort of them is stable.
#include "common.cuh"

// NaN above everything, all of them equal; −0 equal to 0.
__device__ inline u64 key(f64 x) {
    if (x != x) return ~0ull;
    u64 bits = __double_as_longlong(x == 0 ? 0.0 : x);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}
__device__ inline u64 key(f32 x) { return key((f64)x); }
__device__ inline u64 key(i64 x) { return (u64)x ^ 1ull << 63; }

template <class T>
__device__ inline void sort_keys(u64* keys, const T* x, u32 descending, u64 n, const Layout<1>& layout) {
    u64 i = thread_index();
    if (i >= n) return;
    u64 k = key(widen(x[Offsets(layout, i)[0]]));
    keys[i] = descending ? ~k : k;
}

#define SORT_KEYS(T)                                                                                                          \
    extern "C" __global__ void sort_keys_##T(u64* keys, const T* x, u32 descending, u64 n,                                    \
                                             const __grid_constant__ Layout<1> layout) {                                      \
        sort_keys(keys, x, descending, n, layout);                                                                            \
    }
SORT_KEYS(f64)
SORT_KEYS(f32)
SORT_KEYS(bf16)
SORT_KEYS(f16)
SORT_KEYS(i64)
SORT_KEYS(i32)
SORT_KEYS(u8)

struct Pair {
    u64 key;
    u32 at;
    __device__ inline bool operator<(const Pair& b) const { return key < b.key || (key == b.key && at < b.at); }
};

constexpr int MAX_CHUNK = 1024;

// Sorts chunks of `chunk` (a power of two) elements of rows of n, in place; block b does chunk b % chunks of row b / chunks.
extern "C" __global__ void sort_chunks(u64* keys, u32* positions, u32 chunk, u64 chunks, u64 n) {
    __shared__ u64 key[MAX_CHUNK];
    __shared__ u32 at[MAX_CHUNK];
    u64 row = blockIdx.x / chunks * n, start = blockIdx.x % chunks * chunk;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < chunk; i += blockDim.x) {
        bool exists = start + i < n;
        key[i] = exists ? keys[row + start + i] : ~0ull; // what does not exist sorts last
        at[i] = exists ? (u32)(start + i) : ~0u;
    }
    __syncthreads();
    for (u32 size = 2; size <= chunk; size *= 2) {
        for (u32 gap = size / 2; gap > 0; gap /= 2) {
#pragma unroll 1
            for (u32 t = threadIdx.x; t < chunk / 2; t += blockDim.x) {
                u32 i = t / gap * 2 * gap + t % gap, j = i + gap;
                Pair a = {key[i], at[i]}, b = {key[j], at[j]};
                if ((b < a) == ((i & size) == 0)) {
                    key[i] = b.key, at[i] = b.at;
                    key[j] = a.key, at[j] = a.at;
                }
            }
            __syncthreads();
        }
    }
#pragma unroll 1
    for (u32 i = threadIdx.x; i < chunk; i += blockDim.x) {
        if (start + i < n) {
            keys[row + start + i] = key[i];
            positions[row + start + i] = at[i];
        }
    }
}

// Merges neighbouring runs of `run` elements: each element goes where its place in its own run and the number of smaller ones
// in the other say.
extern "C" __global__ void sort_merge(u64* keys_out, u32* positions_out, const u64* keys, const u32* positions, u64 run, u64 n,
                                      u64 total) {
    u64 i = thread_index();
    if (i >= total) return;
    u64 row = i / n * n, at = i - row, mine = at / run * run, pair = at / (2 * run) * (2 * run);
    u64 other = mine == pair ? mine + run : pair;
    Pair self = {keys[i], positions[i]};
    u64 low = min(other, n), high = min(other + run, n), first = low;
    while (low < high) {
        u64 middle = (low + high) / 2;
        Pair p = {keys[row + middle], positions[row + middle]};
        if (p < self) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    u64 to = row + pair + (at - mine) + (low - first);
    keys_out[to] = self.key;
    positions_out[to] = self.at;
}

// Values and positions from the sorted positions, into the operand's order of dimensions.
template <class T>
__device__ inline void sort_values(T* values, i64* places, const T* x, const u32* positions, u64 n, u64 total,
                                   const Layout<2>& layout) {
    u64 i = thread_index();
    if (i >= total) return;
    u32 from = positions[i];
    u64 to = Offsets(layout, i)[0];
    values[to] = x[Offsets(layout, i / n * n + from)[1]];
    places[to] = from;
}

#define SORT_VALUES(NAME, T)                                                                                                  \
    extern "C" __global__ void sort_values_##NAME(T* values, i64* places, const T* x, const u32* positions, u64 n, u64 total, \
                                                  const __grid_constant__ Layout<2> layout) {                                 \
        sort_values(values, places, x, positions, n, total, layout);                                                          \
    }
SORT_VALUES(b8, u8)
SORT_VALUES(b16, u16)
SORT_VALUES(b32, u32)
SORT_VALUES(b64, u64)
