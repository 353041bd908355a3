// arch: sm_90a
// Clusters: memory of a neighbour, barriers across CTAs, bulk copies between them and to and from global memory.
#include "hopper.cuh"

// A histogram that is spread over the shared memory of four CTAs, each holding a quarter of the bins.
KERNEL __cluster_dims__(4, 1, 1) spread_histogram(const unsigned char* in, u32* out, int n) {
    __shared__ u32 bins[64];
    const u32 rank = cluster_rank();
    if (threadIdx.x < 64) bins[threadIdx.x] = 0;
    cluster_sync();
#pragma unroll 1
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const u32 at = map_shared(shared_address(&bins[in[i] % 64]), in[i] / 64);
        asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], 1;" ::"r"(at) : "memory");
    }
    cluster_sync();
    if (threadIdx.x < 64) atomicAdd(&out[rank * 64 + threadIdx.x], bins[threadIdx.x]);
}

// Each CTA reads its right neighbour's row directly.
KERNEL __cluster_dims__(4, 1, 1) rotate(const u32* in, u32* out) {
    __shared__ u32 row[128];
    const u32 rank = cluster_rank(), i = blockIdx.x * 128 + threadIdx.x;
    row[threadIdx.x] = in[i];
    cluster_sync();
    u32 value;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(map_shared(shared_address(&row[threadIdx.x]), (rank + 1) % 4)) : "memory");
    out[i] = value;
    // The neighbour may still be reading.
    cluster_sync();
}

// A ring: in each round a CTA sends its row to the next by a bulk copy that signals the receiver's mbarrier, which answers
// when it has read it. After `rounds` every row has moved on by as many CTAs, each CTA adding its rank on the way.
KERNEL __cluster_dims__(4, 1, 1) ring(const u32* in, u32* out, int rounds) {
    __shared__ __align__(128) u32 mine[128], inbox[128];
    __shared__ u64 arrived_, free_;
    const u32 rank = cluster_rank(), next = (rank + 1) % 4, previous = (rank + 3) % 4, i = blockIdx.x * 128 + threadIdx.x;
    const u32 arrived = shared_address(&arrived_), free = shared_address(&free_);
    if (threadIdx.x == 0) {
        mbar_init(arrived, 1);
        mbar_init(free, 128);
        fence_mbar_init();
    }
    u32 value = in[i];
    cluster_sync();
#pragma unroll 1
    for (int r = 0; r < rounds; ++r) {
        // The copy of the last round has read `mine`: it had to, before the receiver answered.
        if (r > 0) mbar_wait_cluster(free, r - 1 & 1);
        mine[threadIdx.x] = value + rank;
        fence_async();
        __syncthreads();
        if (threadIdx.x == 0) {
            mbar_expect_tx(arrived, sizeof(inbox));
            bulk_send(map_shared(shared_address(inbox), next), shared_address(mine), sizeof(mine), map_shared(arrived, next));
        }
        mbar_wait_cluster(arrived, r & 1);
        value = inbox[threadIdx.x];
        mbar_arrive_at(free, previous);
    }
    out[i] = value;
    cluster_sync();
}

// y = 2 x + 1 streamed through shared memory by plain bulk copies, two stages each way.
KERNEL stream(const float* in, float* out, int chunks) {
    constexpr int STAGES = 2, CHUNK = 256;
    __shared__ __align__(128) float incoming[STAGES][CHUNK], outgoing[STAGES][CHUNK];
    __shared__ u64 full_[STAGES];
    const u32 full = shared_address(full_);
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) mbar_init(full + 8 * s, 1);
        fence_mbar_init();
    }
    __syncthreads();
    const int mine = blockIdx.x * chunks;
    auto load = [&](int c) {
        const int s = c % STAGES;
        mbar_expect_tx(full + 8 * s, CHUNK * 4);
        bulk_load(shared_address(incoming[s]), in + (mine + c) * CHUNK, CHUNK * 4, full + 8 * s);
    };
    if (threadIdx.x == 0)
        for (int c = 0; c < min(chunks, STAGES); ++c) load(c);
#pragma unroll 1
    for (int c = 0; c < chunks; ++c) {
        const int s = c % STAGES;
        // What left from this slot two chunks ago has been read.
        if (threadIdx.x == 0) bulk_wait_read<STAGES - 1>();
        mbar_wait(full + 8 * s, c / STAGES & 1);
        const float x = incoming[s][threadIdx.x];
        __syncthreads();
        outgoing[s][threadIdx.x] = 2 * x + 1;
        fence_async();
        __syncthreads();
        if (threadIdx.x == 0) {
            bulk_store(out + (mine + c) * CHUNK, shared_address(outgoing[s]), CHUNK * 4);
            bulk_commit();
            if (c + STAGES < chunks) load(c + STAGES);
        }
    }
    if (threadIdx.x == 0) bulk_wait<0>();
}

// A producer warp and consumers that hand shared memory back and forth over named barriers alone.
KERNEL __launch_bounds__(160) named_barriers(const u32* in, u32* out, int rounds) {
    __shared__ u32 box[128];
    if (threadIdx.x >= 128) {
        const int lane = threadIdx.x % 32;
#pragma unroll 1
        for (int r = 0; r < rounds; ++r) {
            bar_sync(2, 160);
            for (int j = lane; j < 128; j += 32) box[j] = in[r * 128 + j];
            bar_arrive(1, 160);
        }
    } else {
        u32 sum = 0;
#pragma unroll 1
        for (int r = 0; r < rounds; ++r) {
            bar_arrive(2, 160);
            bar_sync(1, 160);
            sum = sum * 31 + box[threadIdx.x ^ 77];
        }
        out[threadIdx.x] = sum;
    }
}
