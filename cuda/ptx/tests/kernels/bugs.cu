// arch: sm_90a
// Wrong kernels, one bug each, as they were met in real code; where the right form is short it stands beside the wrong one.
#include "hopper.cuh"

// ---- shared memory and barriers

KERNEL no_barrier(u32* out) {
    __shared__ u32 slots[128];
    slots[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = slots[127 - threadIdx.x];
}

KERNEL uninitialised_shared(u32* out) {
    __shared__ u32 slots[128];
    if (threadIdx.x != 77) slots[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = slots[127 - threadIdx.x];
}

KERNEL uninitialised_global(const u32* in, u32* out) {
    if (in[threadIdx.x] > 5) out[threadIdx.x] = 1;
}

KERNEL one_past_the_end(const u32* in, u32* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) out[i] = in[i];
}

KERNEL shared_overrun(u32* out) {
    extern __shared__ u32 dynamic[];
    dynamic[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = dynamic[blockDim.x - 1 - threadIdx.x];
}

KERNEL misaligned(const unsigned char* in, u32* out) { out[threadIdx.x] = *reinterpret_cast<const u32*>(in + threadIdx.x); }

// Half of a warp goes to one barrier, half to another.
KERNEL divergent_barrier(u32* out) {
    if (threadIdx.x % 2)
        bar_sync(1, 128);
    else
        bar_sync(2, 128);
    out[threadIdx.x] = 1;
}

// A shuffle that reads from lanes which have left.
KERNEL shuffle_with_absent_lane(u32* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, threadIdx.x, 16);
}

// A shuffle in one branch that names lanes which are in another.
KERNEL shuffle_across_branches(u32* out) {
    u32 x = threadIdx.x;
    if (threadIdx.x < 16)
        x = __shfl_xor_sync(0xffffffffu, x, 1);
    else
        x += __ballot_sync(0xffffffffu, x & 1);
    out[threadIdx.x] = x;
}

KERNEL lost_flag(u32* flag, u32* out) {
    if (threadIdx.x == 0)
        while (load_acquire(flag) == 0) {}
    __syncthreads();
    out[threadIdx.x] = 1;
}

KERNEL global_race(u32* out) { out[threadIdx.x % 8] = blockIdx.x * 128 + threadIdx.x; }

// The flag is raised without a release.
KERNEL unreleased_message(u32* cell, u32* flag, u32* out) {
    if (threadIdx.x != 0) return;
    if (blockIdx.x == 0) {
        *cell = 42;
        *reinterpret_cast<volatile u32*>(flag) = 1;
    } else {
        while (load_acquire(flag) == 0) {}
        *out = *cell;
    }
}

// ---- mbarrier

// One lane arrives for 32 that wrote. Wrong: nothing orders the other lanes' writes before the arrival.
template <bool ORDERED> DEVICE void one_lane_arrives(u32* out) {
    __shared__ u32 box[32];
    __shared__ u64 full_;
    const u32 full = shared_address(&full_);
    if (threadIdx.x == 0) {
        mbar_init(full, 1);
        fence_mbar_init();
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        box[threadIdx.x] = threadIdx.x * 3;
        if (ORDERED) __syncwarp();
        if (threadIdx.x == 0) mbar_arrive(full);
    } else {
        mbar_wait(full, 0);
        out[threadIdx.x - 32] = box[63 - threadIdx.x];
    }
}
KERNEL one_lane_arrives_for_32(u32* out) { one_lane_arrives<false>(out); }
KERNEL one_lane_arrives_after_syncwarp(u32* out) { one_lane_arrives<true>(out); }

KERNEL mbarrier_never_initialised(u32* out) {
    __shared__ u64 bar;
    mbar_arrive(shared_address(&bar));
    out[threadIdx.x] = 1;
}

KERNEL mbarrier_initialised_twice(u32* out) {
    __shared__ u64 bar;
    mbar_init(shared_address(&bar), 32);
    __syncthreads();
    mbar_arrive(shared_address(&bar));
    out[threadIdx.x] = 1;
}

KERNEL mbarrier_too_many_arrivals(u32* out) {
    __shared__ u64 bar;
    if (threadIdx.x == 0) mbar_init(shared_address(&bar), 2);
    __syncthreads();
    // Three arrivals in a phase of two, then another phase's wait that can never end.
    if (threadIdx.x < 3) mbar_arrive(shared_address(&bar));
    mbar_wait(shared_address(&bar), 0);
    mbar_wait(shared_address(&bar), 1);
    out[threadIdx.x] = 1;
}

// ---- TMA

template <int EXPECT, bool WAIT, bool PROXY> DEVICE void bulk(const u32* in, u32* out) {
    __shared__ __align__(128) u32 box[128];
    __shared__ u64 full_;
    const u32 full = shared_address(&full_);
    if (threadIdx.x == 0) {
        mbar_init(full, 1);
        fence_mbar_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbar_expect_tx(full, EXPECT);
        bulk_load(shared_address(box), in, 512, full);
    }
    if (WAIT) mbar_wait(full, 0);
    const u32 x = box[threadIdx.x];
    __syncthreads();
    box[127 - threadIdx.x] = x + 1;
    if (PROXY) fence_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        bulk_store(out, shared_address(box), 512);
        bulk_commit();
        bulk_wait<0>();
    }
}
KERNEL bulk_copy(const u32* in, u32* out) { bulk<512, true, true>(in, out); }
KERNEL bulk_expects_too_much(const u32* in, u32* out) { bulk<528, true, true>(in, out); }
KERNEL bulk_expects_too_little(const u32* in, u32* out) { bulk<496, true, true>(in, out); }
KERNEL bulk_read_before_arrival(const u32* in, u32* out) { bulk<512, false, true>(in, out); }
KERNEL bulk_store_without_proxy_fence(const u32* in, u32* out) { bulk<512, true, false>(in, out); }

// A tensor map in global memory is overwritten by the kernel, then used. TMA reads maps through a proxy of its own.
template <bool FENCE> DEVICE void update_map(TensorMap* map, const TensorMap* with, u32* out) {
    __shared__ __align__(128) u32 box[256];
    __shared__ u64 full_;
    const u32 full = shared_address(&full_);
    if (threadIdx.x == 0) {
        mbar_init(full, 1);
        fence_mbar_init();
    }
    if (threadIdx.x < 16) map->opaque[threadIdx.x] = with->opaque[threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
        if (FENCE) {
            asm volatile("fence.proxy.tensormap::generic.release.gpu;" ::: "memory");
            asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
        }
        mbar_expect_tx(full, 1024);
        tma_load_2d(shared_address(box), *map, full, 0, 0);
    }
    mbar_wait(full, 0);
    out[threadIdx.x] = box[threadIdx.x];
}
KERNEL map_updated_without_fence(TensorMap* map, const TensorMap* with, u32* out) { update_map<false>(map, with, out); }
KERNEL map_updated_with_fence(TensorMap* map, const TensorMap* with, u32* out) { update_map<true>(map, with, out); }

// ---- wgmma: 64 x 64 x 64 from tiles that TMA brings, two tiles of K, one stage

enum Bug { NONE, LATE_WAIT, NO_WAIT, NO_FENCE, NO_COMMIT, TOUCHED, WRONG_PHASE };

template <Bug BUG> DEVICE void tile(const TensorMap& map_a, const TensorMap& map_b, float* out) {
    extern __shared__ unsigned char memory[];
    const u32 a = align_1024(memory), b = a + 8192;
    __shared__ u64 full_, empty_;
    const u32 full = shared_address(&full_), empty = shared_address(&empty_);
    if (threadIdx.x == 0) {
        mbar_init(full, 1);
        mbar_init(empty, 128);
        fence_mbar_init();
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
        if (threadIdx.x == 128) {
#pragma unroll 1
            for (int kb = 0; kb < 3; ++kb) {
                mbar_wait(empty, BUG == WRONG_PHASE ? kb & 1 : (kb & 1) ^ 1);
                mbar_expect_tx(full, 16384);
                tma_load_2d(a, map_a, full, kb * 64, 0);
                tma_load_2d(b, map_b, full, kb * 64, 0);
            }
        }
        return;
    }
    float d[32] = {};
#pragma unroll 1
    for (int kb = 0; kb < 3; ++kb) {
        mbar_wait(full, kb & 1);
        if (BUG != NO_FENCE) wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; ++i) wgmma(d, descriptor_k_major(a) + 2 * i, descriptor_k_major(b) + 2 * i, 1);
        if (BUG != NO_COMMIT) wgmma_commit();
        if (BUG == TOUCHED) d[3] += 1.0f;
        // The late wait: the stage is given back while its group may still read it.
        if (BUG == LATE_WAIT)
            wgmma_wait<1>();
        else if (BUG != NO_WAIT)
            wgmma_wait<0>();
        mbar_arrive(empty);
    }
    if (BUG == LATE_WAIT) wgmma_wait<0>();
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < 32; ++i) out[(row + 8 * (i >> 1 & 1)) * 64 + 8 * (i >> 2) + 2 * (lane % 4) + (i & 1)] = d[i];
}
#define TILE(NAME, BUG)                                                                                                           \
    KERNEL __launch_bounds__(160) NAME(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* out) {   \
        tile<BUG>(a, b, out);                                                                                                     \
    }
TILE(wgmma_tile, NONE)
TILE(wgmma_late_wait, LATE_WAIT)
TILE(wgmma_no_wait, NO_WAIT)
TILE(wgmma_no_fence, NO_FENCE)
TILE(wgmma_no_commit, NO_COMMIT)
TILE(wgmma_register_touched, TOUCHED)
TILE(wgmma_wrong_phase, WRONG_PHASE)

// ptxas: C7515: the mistake is what is tested
