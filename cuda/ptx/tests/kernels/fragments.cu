// arch: sm_90a
// Matrix instructions of every kind on given bits, without arithmetic that could round: layouts, swizzles, descriptors.
#include "hopper.cuh"

// mma.sync: fragments are read from memory register by register, so that only the instruction decides what meets what.
// a, b, c and d hold registers of a lane one after another.
#define MMA(NAME, SHAPE, NA, NB, NC, AS, BS, CS, CT, CR)                                                                          \
    KERNEL NAME(const u32* a, const u32* b, const CT* c, CT* d) {                                                                 \
        const u32 l = threadIdx.x;                                                                                                \
        a += NA * l, b += NB * l, c += NC * l, d += NC * l;                                                                       \
        CT r[NC];                                                                                                                 \
        for (int i = 0; i < NC; ++i) r[i] = c[i];                                                                                 \
        asm volatile("mma.sync.aligned." SHAPE " " CS ", " AS ", " BS ", " CS ";" : CR : MMA_##NA##_##NB);                        \
        for (int i = 0; i < NC; ++i) d[i] = r[i];                                                                                 \
    }
#define F4 "+f"(r[0]), "+f"(r[1]), "+f"(r[2]), "+f"(r[3])
#define I4 "+r"(r[0]), "+r"(r[1]), "+r"(r[2]), "+r"(r[3])
#define MMA_4_2 "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])
#define MMA_2_1 "r"(a[0]), "r"(a[1]), "r"(b[0])
MMA(mma_f16_k16, "m16n8k16.row.col.f32.f16.f16.f32", 4, 2, 4, "{%4, %5, %6, %7}", "{%8, %9}", "{%0, %1, %2, %3}", float, F4)
MMA(mma_bf16_k8, "m16n8k8.row.col.f32.bf16.bf16.f32", 2, 1, 4, "{%4, %5}", "{%6}", "{%0, %1, %2, %3}", float, F4)
MMA(mma_tf32_k8, "m16n8k8.row.col.f32.tf32.tf32.f32", 4, 2, 4, "{%4, %5, %6, %7}", "{%8, %9}", "{%0, %1, %2, %3}", float, F4)
MMA(mma_e4m3_k32, "m16n8k32.row.col.f32.e4m3.e4m3.f32", 4, 2, 4, "{%4, %5, %6, %7}", "{%8, %9}", "{%0, %1, %2, %3}", float, F4)
MMA(mma_s8_k32, "m16n8k32.row.col.s32.s8.s8.s32", 4, 2, 4, "{%4, %5, %6, %7}", "{%8, %9}", "{%0, %1, %2, %3}", int, I4)
MMA(mma_u8_s8_k16, "m16n8k16.row.col.s32.u8.s8.s32", 2, 1, 4, "{%4, %5}", "{%6}", "{%0, %1, %2, %3}", int, I4)

// ldmatrix and stmatrix in every width, straight and transposed.
KERNEL ldmatrix_forms(const u32* in, u32* out) {
    __shared__ __align__(128) u32 box[256], back[256];
    const u32 l = threadIdx.x;
    for (int i = 0; i < 8; ++i) box[32 * i + l] = in[32 * i + l], back[32 * i + l] = 0;
    __syncwarp();
    const u32 at = shared_address(box) + (l * 7 % 32) * 16;
    u32 r[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(at));
    out[l] = r[0];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(at));
    out[32 + l] = r[0], out[64 + l] = r[1];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
    for (int i = 0; i < 4; ++i) out[96 + 32 * i + l] = r[i];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
    for (int i = 0; i < 4; ++i) out[224 + 32 * i + l] = r[i];
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(back) + l * 16), "r"(r[3]), "r"(r[1]), "r"(r[0]), "r"(r[2]) : "memory");
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(shared_address(back) + 512 + l % 16 * 16), "r"(r[0]), "r"(r[1]) : "memory");
    __syncwarp();
    for (int i = 0; i < 8; ++i) out[352 + 32 * i + l] = back[32 * i + l];
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r[0]) : "r"(in[l]));
    out[608 + l] = r[0];
}

// wgmma m64n32 on tiles as they lie in `a` and `b` (8192 bytes each, copied bit for bit to 1024-aligned shared memory), with the
// descriptors' fields as parameters: every swizzle, both majors, any offsets. d is the accumulator, register by register.
#define D16F "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), \
    "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define D16R "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]), "+r"(d[9]), \
    "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15])
#define LIST16 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}"
#define WGMMA(NAME, FORM, TAIL, T, REGS)                                                                                          \
    KERNEL __launch_bounds__(128) NAME(const uint4* a, const uint4* b, T* out, u32 leading_a, u32 stride_a, u32 leading_b,        \
                                       u32 stride_b, u32 swizzle) {                                                               \
        extern __shared__ unsigned char memory[];                                                                                 \
        const u32 ta = align_1024(memory), tb = ta + 8192;                                                                        \
        for (u32 i = threadIdx.x; i < 512; i += 128) {                                                                            \
            const uint4 v = a[i], w = b[i];                                                                                       \
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(ta + 16 * i), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory"); \
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(tb + 16 * i), "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w) : "memory"); \
        }                                                                                                                         \
        fence_async();                                                                                                            \
        __syncthreads();                                                                                                          \
        auto describe = [&](u32 at, u32 leading, u32 stride) {                                                                    \
            return static_cast<u64>(at >> 4) | static_cast<u64>(leading >> 4) << 16 | static_cast<u64>(stride >> 4) << 32 |       \
                   static_cast<u64>(swizzle) << 62;                                                                               \
        };                                                                                                                        \
        T d[16];                                                                                                                  \
        for (int i = 0; i < 16; ++i) d[i] = static_cast<T>(i + threadIdx.x % 7);                                                  \
        wgmma_fence();                                                                                                            \
        asm volatile("wgmma.mma_async.sync.aligned." FORM " " LIST16 ", %16, %17, 1" TAIL ";"                                     \
                     : REGS                                                                                                       \
                     : "l"(describe(ta, leading_a, stride_a)), "l"(describe(tb, leading_b, stride_b)));                           \
        wgmma_commit();                                                                                                           \
        wgmma_wait<0>();                                                                                                          \
        for (int i = 0; i < 16; ++i) out[threadIdx.x * 16 + i] = d[i];                                                            \
    }
WGMMA(wgmma_kk, "m64n32k16.f32.bf16.bf16", ", 1, 1, 0, 0", float, D16F)
WGMMA(wgmma_mn, "m64n32k16.f32.bf16.bf16", ", 1, 1, 1, 1", float, D16F)
WGMMA(wgmma_km, "m64n32k16.f32.f16.f16", ", 1, -1, 0, 1", float, D16F)
WGMMA(wgmma_tf32, "m64n32k8.f32.tf32.tf32", ", -1, 1", float, D16F)
WGMMA(wgmma_e5m2, "m64n32k32.f32.e5m2.e4m3", ", 1, 1", float, D16F)
WGMMA(wgmma_s8, "m64n32k32.s32.s8.u8", "", int, D16R)

// A tensor map's box, as it lands in shared memory: swizzles, out-of-bounds fill, 1 to 5 dimensions.
#define TMA(NAME, DIM, COORDS, ...)                                                                                               \
    KERNEL NAME(const __grid_constant__ TensorMap map, uint4* out, u32 bytes, int x, int y, int z, int w, int v) {                \
        extern __shared__ unsigned char memory[];                                                                                 \
        __shared__ u64 full_;                                                                                                     \
        const u32 box = align_1024(memory), full = shared_address(&full_);                                                        \
        if (threadIdx.x == 0) {                                                                                                   \
            mbar_init(full, 1);                                                                                                   \
            fence_mbar_init();                                                                                                    \
            mbar_expect_tx(full, bytes);                                                                                          \
            asm volatile("cp.async.bulk.tensor." DIM ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, " COORDS "], [%2];" ::"r"(box), \
                         "l"(&map), "r"(full), __VA_ARGS__ : "memory");                                                           \
        }                                                                                                                         \
        __syncthreads();                                                                                                          \
        mbar_wait(full, 0);                                                                                                       \
        for (u32 i = threadIdx.x; i < bytes / 16; i += blockDim.x) {                                                              \
            uint4 q;                                                                                                              \
            asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w) : "r"(box + 16 * i)); \
            out[i] = q;                                                                                                           \
        }                                                                                                                         \
    }
TMA(tma_1d, "1d", "{%3}", "r"(x))
TMA(tma_2d, "2d", "{%3, %4}", "r"(x), "r"(y))
TMA(tma_3d, "3d", "{%3, %4, %5}", "r"(x), "r"(y), "r"(z))
TMA(tma_4d, "4d", "{%3, %4, %5, %6}", "r"(x), "r"(y), "r"(z), "r"(w))
TMA(tma_5d, "5d", "{%3, %4, %5, %6, %7}", "r"(x), "r"(y), "r"(z), "r"(w), "r"(v))
