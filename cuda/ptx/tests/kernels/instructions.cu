// arch: sm_90a
// Each class of instruction on whatever bits it is given, so that an interpreter and a card can be compared bit for bit.
// Inputs a, b, c hold a word a thread; instruction i writes out[i * threads + thread].
#include "hopper.cuh"

#define THREADS (gridDim.x * blockDim.x)
#define SELF (blockIdx.x * blockDim.x + threadIdx.x)
#define U32_2(OP) asm volatile(OP " %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); *out = r; out += THREADS;
#define U32_1(OP) asm volatile(OP " %0, %1;" : "=r"(r) : "r"(a)); *out = r; out += THREADS;
#define U32_3(OP) asm volatile(OP " %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); *out = r; out += THREADS;

KERNEL integers(const u32* a_, const u32* b_, const u32* c_, u32* out) {
    const u32 a = a_[SELF], b = b_[SELF], c = c_[SELF];
    u32 r;
    out += SELF;
    U32_2("add.u32") U32_2("add.sat.s32") U32_2("sub.u32") U32_2("sub.sat.s32")
    U32_2("mul.lo.u32") U32_2("mul.hi.u32") U32_2("mul.hi.s32") U32_2("mul24.lo.u32") U32_2("mul24.hi.s32")
    U32_3("mad.lo.u32") U32_3("mad.hi.u32") U32_3("mad.hi.s32") U32_3("mad.hi.sat.s32") U32_3("mad24.lo.s32")
    U32_3("sad.u32") U32_3("sad.s32")
    U32_2("min.u32") U32_2("min.s32") U32_2("max.u32") U32_2("max.s32")
    U32_1("abs.s32") U32_1("neg.s32") U32_1("not.b32") U32_1("cnot.b32") U32_1("brev.b32") U32_1("popc.b32") U32_1("clz.b32")
    U32_1("bfind.u32") U32_1("bfind.s32") U32_1("bfind.shiftamt.u32")
    U32_2("and.b32") U32_2("or.b32") U32_2("xor.b32") U32_2("shl.b32") U32_2("shr.u32") U32_2("shr.s32")
    U32_3("shf.l.wrap.b32") U32_3("shf.l.clamp.b32") U32_3("shf.r.wrap.b32") U32_3("shf.r.clamp.b32")
    U32_3("prmt.b32") U32_3("prmt.b32.f4e") U32_3("prmt.b32.b4e") U32_3("prmt.b32.rc8") U32_3("prmt.b32.ecl") U32_3("prmt.b32.ecr")
    U32_3("prmt.b32.rc16") U32_3("bfe.u32") U32_3("bfe.s32")
    U32_3("dp4a.u32.u32") U32_3("dp4a.s32.s32") U32_3("dp4a.s32.u32") U32_3("dp2a.lo.s32.s32") U32_3("dp2a.hi.u32.s32")
    asm volatile("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(a), "r"(b), "r"(c & 31), "r"(b >> 7 & 31)); *out = r; out += THREADS;
    asm volatile("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); *out = r; out += THREADS;
    asm volatile("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); *out = r; out += THREADS;
    asm volatile("fns.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b & 31), "r"(static_cast<int>(c % 9) - 4)); *out = r; out += THREADS;
    asm volatile("bmsk.clamp.b32 %0, %1, %2;" : "=r"(r) : "r"(a & 63), "r"(b & 63)); *out = r; out += THREADS;
    asm volatile("szext.clamp.s32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b & 63)); *out = r; out += THREADS;
    if (b != 0) {
        U32_2("div.u32") U32_2("rem.u32")
        if (a != 0x80000000u || b != 0xffffffffu) { U32_2("div.s32") U32_2("rem.s32") } else { *out = 0; out += THREADS; *out = 0; out += THREADS; }
    } else {
        for (int i = 0; i < 4; ++i) *out = 0, out += THREADS;
    }
    // 64 bits, two words a result.
    const u64 x = static_cast<u64>(a) << 32 | b, y = static_cast<u64>(c) << 32 | a;
    u64 w;
#define PUT64 *out = static_cast<u32>(w); out += THREADS; *out = static_cast<u32>(w >> 32); out += THREADS;
#define U64_2(OP) asm volatile(OP " %0, %1, %2;" : "=l"(w) : "l"(x), "l"(y)); PUT64
    U64_2("add.u64") U64_2("sub.s64") U64_2("mul.lo.u64") U64_2("mul.hi.u64") U64_2("mul.hi.s64") U64_2("min.s64") U64_2("max.u64")
    U64_2("and.b64") U64_2("xor.b64")
    asm volatile("shl.b64 %0, %1, %2;" : "=l"(w) : "l"(x), "r"(c & 127)); PUT64
    asm volatile("shr.s64 %0, %1, %2;" : "=l"(w) : "l"(x), "r"(c & 127)); PUT64
    asm volatile("mul.wide.s32 %0, %1, %2;" : "=l"(w) : "r"(a), "r"(b)); PUT64
    asm volatile("mad.wide.u32 %0, %1, %2, %3;" : "=l"(w) : "r"(a), "r"(b), "l"(y)); PUT64
    asm volatile("{ .reg .u32 p, q; add.cc.u32 p, %1, %3; addc.u32 q, %2, %4; mov.b64 %0, {p, q}; }" : "=l"(w) : "r"(a), "r"(b), "r"(c), "r"(a)); PUT64
    asm volatile("{ .reg .u32 p, q; sub.cc.u32 p, %1, %3; subc.u32 q, %2, %4; mov.b64 %0, {p, q}; }" : "=l"(w) : "r"(a), "r"(b), "r"(c), "r"(a)); PUT64
}

#define F32_2(OP) asm volatile(OP " %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); *out = r; out += THREADS;
#define F32_1(OP) asm volatile(OP " %0, %1;" : "=f"(r) : "f"(a)); *out = r; out += THREADS;
#define F32_3(OP) asm volatile(OP " %0, %1, %2, %3;" : "=f"(r) : "f"(a), "f"(b), "f"(c)); *out = r; out += THREADS;

KERNEL floats(const float* a_, const float* b_, const float* c_, float* out) {
    const float a = a_[SELF], b = b_[SELF], c = c_[SELF];
    float r;
    out += SELF;
#define ROUNDED_2(OP) F32_2(OP ".rn.f32") F32_2(OP ".rz.f32") F32_2(OP ".rm.f32") F32_2(OP ".rp.f32") F32_2(OP ".rn.ftz.f32") F32_2(OP ".rn.sat.f32")
    ROUNDED_2("add") ROUNDED_2("sub") ROUNDED_2("mul")
    F32_3("fma.rn.f32") F32_3("fma.rz.f32") F32_3("fma.rm.f32") F32_3("fma.rp.f32") F32_3("fma.rn.ftz.f32") F32_3("fma.rz.sat.f32")
    F32_2("div.rn.f32") F32_2("div.rz.f32") F32_2("div.rm.f32") F32_2("div.rp.f32") F32_2("div.rn.ftz.f32")
    F32_1("sqrt.rn.f32") F32_1("sqrt.rz.f32") F32_1("sqrt.rm.f32") F32_1("sqrt.rp.f32") F32_1("sqrt.rn.ftz.f32")
    F32_1("rcp.rn.f32") F32_1("rcp.rz.f32") F32_1("rcp.rm.f32") F32_1("rcp.rp.f32")
    F32_2("min.f32") F32_2("max.f32") F32_2("min.NaN.f32") F32_2("max.NaN.f32") F32_2("min.ftz.f32") F32_2("max.xorsign.abs.f32")
    F32_1("abs.f32") F32_1("neg.f32") F32_1("abs.ftz.f32") F32_2("copysign.f32")
}

// Within the error that the ISA states, not bit for bit.
KERNEL approximate(const float* a_, const float* b_, float* out) {
    const float a = a_[SELF], b = b_[SELF];
    float r;
    out += SELF;
    F32_1("rcp.approx.f32") F32_1("rcp.approx.ftz.f32") F32_1("sqrt.approx.f32") F32_1("rsqrt.approx.f32") F32_1("rsqrt.approx.ftz.f32")
    F32_1("ex2.approx.f32") F32_1("ex2.approx.ftz.f32") F32_1("lg2.approx.f32") F32_1("sin.approx.f32") F32_1("cos.approx.f32")
    F32_1("tanh.approx.f32") F32_2("div.approx.f32") F32_2("div.full.f32")
}

KERNEL doubles(const double* a_, const double* b_, const double* c_, double* out) {
    const double a = a_[SELF], b = b_[SELF], c = c_[SELF];
    double r;
    out += SELF;
#define F64_2(OP) asm volatile(OP " %0, %1, %2;" : "=d"(r) : "d"(a), "d"(b)); *out = r; out += THREADS;
#define F64_1(OP) asm volatile(OP " %0, %1;" : "=d"(r) : "d"(a)); *out = r; out += THREADS;
#define F64_3(OP) asm volatile(OP " %0, %1, %2, %3;" : "=d"(r) : "d"(a), "d"(b), "d"(c)); *out = r; out += THREADS;
    F64_2("add.rn.f64") F64_2("add.rz.f64") F64_2("add.rm.f64") F64_2("add.rp.f64") F64_2("mul.rn.f64") F64_2("mul.rz.f64")
    F64_3("fma.rn.f64") F64_3("fma.rz.f64") F64_3("fma.rm.f64") F64_3("fma.rp.f64")
    F64_2("div.rn.f64") F64_2("div.rz.f64") F64_1("sqrt.rn.f64") F64_1("sqrt.rp.f64") F64_1("rcp.rn.f64")
    F64_2("min.f64") F64_2("max.f64") F64_1("abs.f64") F64_1("neg.f64")
}

// Packed and single halves; a word holds two.
KERNEL halves(const u32* a_, const u32* b_, const u32* c_, u32* out) {
    const u32 a = a_[SELF], b = b_[SELF], c = c_[SELF];
    u32 r;
    out += SELF;
    U32_2("add.rn.f16x2") U32_2("add.ftz.f16x2") U32_2("add.sat.f16x2") U32_2("sub.f16x2") U32_2("mul.f16x2") U32_3("fma.rn.f16x2")
    U32_3("fma.rn.relu.f16x2") U32_3("fma.rn.sat.f16x2") U32_2("min.f16x2") U32_2("max.NaN.f16x2") U32_1("neg.f16x2") U32_1("abs.f16x2")
    U32_2("add.rn.bf16x2") U32_2("sub.rn.bf16x2") U32_2("mul.rn.bf16x2") U32_3("fma.rn.bf16x2") U32_3("fma.rn.relu.bf16x2")
    U32_2("min.bf16x2") U32_2("max.bf16x2") U32_2("max.NaN.bf16x2") U32_1("neg.bf16x2") U32_1("abs.bf16x2")
    const u16 x = a, y = b, z = c;
    u16 h;
#define H_3(OP) asm volatile(OP " %0, %1, %2, %3;" : "=h"(h) : "h"(x), "h"(y), "h"(z)); *out = h; out += THREADS;
#define H_2(OP) asm volatile(OP " %0, %1, %2;" : "=h"(h) : "h"(x), "h"(y)); *out = h; out += THREADS;
    H_2("add.f16") H_2("sub.f16") H_2("mul.f16") H_3("fma.rn.f16") H_2("min.f16") H_2("max.f16") H_3("fma.rn.bf16") H_2("max.bf16")
    // 16-bit integers, too.
    H_2("add.u16") H_2("sub.s16") H_2("mul.lo.u16") H_2("mul.hi.s16") H_3("mad.lo.u16") H_2("min.s16") H_2("max.u16") H_2("and.b16") H_2("xor.b16")
}

KERNEL conversions(const u32* a_, const u32* b_, u32* out) {
    const u32 a = a_[SELF], b = b_[SELF];
    const float f = __uint_as_float(a), g = __uint_as_float(b);
    const u64 wide = static_cast<u64>(a) << 32 | b;
    const double d = __longlong_as_double(wide);
    u32 r;
    u16 h;
    u64 w;
    float s;
    double e;
    out += SELF;
#define PUT *out = r; out += THREADS;
#define F_R(OP) asm volatile(OP " %0, %1;" : "=r"(r) : "f"(f)); PUT
#define F_L(OP) asm volatile(OP " %0, %1;" : "=l"(w) : "f"(f)); PUT64
#define F_H(OP) asm volatile(OP " %0, %1;" : "=h"(h) : "f"(f)); r = h; PUT
#define R_F(OP) asm volatile(OP " %0, %1;" : "=f"(s) : "r"(a)); r = __float_as_uint(s); PUT
#define F_F(OP) asm volatile(OP " %0, %1;" : "=f"(s) : "f"(f)); r = __float_as_uint(s); PUT
#define D_R(OP) asm volatile(OP " %0, %1;" : "=r"(r) : "d"(d)); PUT
#define D_F(OP) asm volatile(OP " %0, %1;" : "=f"(s) : "d"(d)); r = __float_as_uint(s); PUT
#define L_F(OP) asm volatile(OP " %0, %1;" : "=f"(s) : "l"(wide)); r = __float_as_uint(s); PUT
#define R_D(OP) asm volatile(OP " %0, %1;" : "=d"(e) : "r"(a)); w = __double_as_longlong(e); PUT64
#define H_F(OP) asm volatile(OP " %0, %1;" : "=f"(s) : "h"(static_cast<u16>(a))); r = __float_as_uint(s); PUT
    F_R("cvt.rni.s32.f32") F_R("cvt.rzi.s32.f32") F_R("cvt.rmi.s32.f32") F_R("cvt.rpi.s32.f32") F_R("cvt.rzi.u32.f32") F_R("cvt.rni.ftz.u32.f32")
    F_L("cvt.rzi.s64.f32") F_L("cvt.rni.u64.f32") F_F("cvt.rni.f32.f32") F_F("cvt.rzi.f32.f32") F_F("cvt.rmi.f32.f32") F_F("cvt.rpi.f32.f32") F_F("cvt.sat.f32.f32")
    R_F("cvt.rn.f32.u32") R_F("cvt.rz.f32.s32") R_F("cvt.rm.f32.s32") R_F("cvt.rp.f32.u32") L_F("cvt.rn.f32.u64") L_F("cvt.rz.f32.s64")
    D_R("cvt.rzi.s32.f64") D_R("cvt.rni.u32.f64") D_F("cvt.rn.f32.f64") D_F("cvt.rz.f32.f64") D_F("cvt.rp.ftz.f32.f64") R_D("cvt.rn.f64.s32")
    F_H("cvt.rn.f16.f32") F_H("cvt.rz.f16.f32") F_H("cvt.rn.sat.f16.f32") F_H("cvt.rn.bf16.f32") F_H("cvt.rz.bf16.f32") F_H("cvt.rn.relu.bf16.f32")
    H_F("cvt.f32.f16") H_F("cvt.f32.bf16") F_R("cvt.rna.tf32.f32")
#define FF_R(OP) asm volatile(OP " %0, %1, %2;" : "=r"(r) : "f"(f), "f"(g)); PUT
#define FF_H(OP) asm volatile(OP " %0, %1, %2;" : "=h"(h) : "f"(f), "f"(g)); r = h; PUT
    FF_R("cvt.rn.f16x2.f32") FF_R("cvt.rz.f16x2.f32") FF_R("cvt.rn.bf16x2.f32") FF_R("cvt.rn.relu.bf16x2.f32")
    FF_H("cvt.rn.satfinite.e4m3x2.f32") FF_H("cvt.rn.satfinite.e5m2x2.f32") FF_H("cvt.rn.satfinite.relu.e4m3x2.f32")
    asm volatile("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(static_cast<u16>(a))); PUT
    asm volatile("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(r) : "h"(static_cast<u16>(a))); PUT
    asm volatile("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(h) : "r"(a)); r = h; PUT
    // Between integers: truncation, extension, saturation.
#define I_I(OP) asm volatile("{ .reg .u32 t; " OP " %0, %1; }" : "=r"(r) : "r"(a)); PUT
    I_I("cvt.s32.s8") I_I("cvt.u32.u8") I_I("cvt.s32.s16") I_I("cvt.u32.u16") I_I("cvt.sat.s8.s32") I_I("cvt.sat.u8.s32") I_I("cvt.sat.u16.s32") I_I("cvt.sat.s32.u32")
    asm volatile("cvt.s64.s32 %0, %1;" : "=l"(w) : "r"(a)); PUT64
    asm volatile("cvt.sat.s32.s64 %0, %1;" : "=r"(r) : "l"(wide)); PUT
    asm volatile("cvt.pack.sat.s16.s32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); PUT
    asm volatile("cvt.pack.sat.u8.s32.b32 %0, %1, %2, 0;" : "=r"(r) : "r"(a), "r"(b)); PUT
}

KERNEL comparisons(const u32* a_, const u32* b_, const u32* c_, u32* out) {
    const u32 a = a_[SELF], b = b_[SELF], c = c_[SELF];
    const float f = __uint_as_float(a), g = __uint_as_float(b);
    u32 r;
    out += SELF;
#define SET(OP) asm volatile("{ .reg .pred p; setp." OP " p, %1, %2; selp.u32 %0, 1, 0, p; }" : "=r"(r) : "r"(a), "r"(b)); PUT
#define SETF(OP) asm volatile("{ .reg .pred p; setp." OP " p, %1, %2; selp.u32 %0, 1, 0, p; }" : "=r"(r) : "f"(f), "f"(g)); PUT
    SET("eq.u32") SET("ne.s32") SET("lt.s32") SET("le.s32") SET("gt.s32") SET("ge.s32") SET("lo.u32") SET("ls.u32") SET("hi.u32") SET("hs.u32")
    SETF("eq.f32") SETF("ne.f32") SETF("lt.f32") SETF("le.f32") SETF("gt.f32") SETF("ge.f32") SETF("equ.f32") SETF("neu.f32") SETF("ltu.f32")
    SETF("leu.f32") SETF("gtu.f32") SETF("geu.f32") SETF("num.f32") SETF("nan.f32") SETF("lt.ftz.f32")
    asm volatile("{ .reg .pred p, q; setp.lt.s32 p, %1, %2; setp.gt.and.s32 p|q, %1, %3, p; selp.u32 %0, 2, 0, p; @q add.u32 %0, %0, 1; }" : "=r"(r) : "r"(a), "r"(b), "r"(c)); PUT
    asm volatile("set.lt.u32.s32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); PUT
    asm volatile("set.gt.u32.f32 %0, %1, %2;" : "=r"(r) : "f"(f), "f"(g)); PUT
    asm volatile("slct.u32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); PUT
    asm volatile("{ .reg .pred p; testp.infinite.f32 p, %1; selp.u32 %0, 1, 0, p; }" : "=r"(r) : "f"(f)); PUT
    asm volatile("{ .reg .pred p; testp.subnormal.f32 p, %1; selp.u32 %0, 1, 0, p; }" : "=r"(r) : "f"(f)); PUT
}

KERNEL lanes(const u32* a_, const u32* b_, u32* out) {
    const u32 a = a_[SELF], b = b_[SELF];
    u32 r;
    out += SELF;
    r = __shfl_sync(~0u, a, b & 31); PUT
    r = __shfl_sync(~0u, a, b & 7, 8); PUT
    r = __shfl_up_sync(~0u, a, 3); PUT
    r = __shfl_down_sync(~0u, a, 5, 16); PUT
    r = __shfl_xor_sync(~0u, a, 9); PUT
    r = __ballot_sync(~0u, a & 1); PUT
    r = __any_sync(~0u, a % 97 == 0); PUT
    r = __all_sync(~0u, a != 0); PUT
    r = __match_any_sync(~0u, a % 5); PUT
    int all;
    r = __match_all_sync(~0u, b % 1, &all); PUT
    r = all; PUT
    r = __reduce_add_sync(~0u, a); PUT
    r = __reduce_min_sync(~0u, static_cast<int>(a)); PUT
    r = __reduce_max_sync(~0u, a); PUT
    r = __reduce_xor_sync(~0u, a); PUT
    // Half of the warp by itself.
    r = 0;
    if (threadIdx.x % 32 < 16) r = __reduce_or_sync(0xffffu, a) ^ __shfl_xor_sync(0xffffu, a, 1);
    PUT
}

// Each atomic on a cell of its own; the order does not show in what is left.
KERNEL atomics(const u32* a_, u32* cells, float* sum) {
    const u32 a = a_[SELF];
    atomicAdd(&cells[0], a);
    atomicSub(&cells[1], a);
    atomicMin(&cells[2], a);
    atomicMax(&cells[3], a);
    atomicMin(reinterpret_cast<int*>(&cells[4]), static_cast<int>(a));
    atomicMax(reinterpret_cast<int*>(&cells[5]), static_cast<int>(a));
    atomicAnd(&cells[6], a | 0xf0f0f0f0u);
    atomicOr(&cells[7], a & 0x11111111u);
    atomicXor(&cells[8], a);
    atomicInc(&cells[9], 1000);
    atomicDec(&cells[10], 1000);
    atomicAdd(reinterpret_cast<u64*>(&cells[12]), static_cast<u64>(a) << 16);
    // Small integers, so that f32 sums are exact.
    atomicAdd(sum, static_cast<float>(a % 64));
    __shared__ u32 local[2];
    if (threadIdx.x < 2) local[threadIdx.x] = 0;
    __syncthreads();
    atomicAdd(&local[0], a);
    atomicXor(&local[1], a);
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(&cells[14], local[0]);
        atomicXor(&cells[15], local[1]);
    }
}

// Loads and stores of every width, with cache hints, through generic and named addresses.
KERNEL widths(const u32* in, u32* out) {
    __shared__ __align__(16) u32 box[4 * 128];
    const u32 t = threadIdx.x;
    const uint4 v = reinterpret_cast<const uint4*>(in)[t];
    reinterpret_cast<uint4*>(box)[t] = v;
    __syncthreads();
    u32 r, s;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(r), "=r"(s) : "r"(shared_address(&box[2 * t])));
    out[t] = r ^ s;
    asm volatile("ld.shared.s8 %0, [%1];" : "=r"(r) : "r"(shared_address(box) + t));
    out[128 + t] = r;
    asm volatile("ld.shared.u16 %0, [%1];" : "=r"(r) : "r"(shared_address(box) + 2 * t));
    out[256 + t] = r;
    out[384 + t] = *static_cast<volatile u32*>(&box[t ^ 5]);
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(r) : "l"(__cvta_generic_to_global(in + t)));
    out[512 + t] = r;
    asm volatile("{ .reg .b64 policy; createpolicy.fractional.L2::evict_first.b64 policy, 1.0; ld.global.L2::cache_hint.u32 %0, [%1], policy; }" : "=r"(r) : "l"(__cvta_generic_to_global(in + t)));
    out[640 + t] = r;
    asm volatile("st.global.cs.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(out + 768 + t)), "r"(v.w) : "memory");
    asm volatile("st.global.wt.u8 [%0], %1;" ::"l"(__cvta_generic_to_global(out + 896) + t), "r"(v.x) : "memory");
}
