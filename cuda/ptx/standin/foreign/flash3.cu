// FlashAttention-3 forward (bf16, head dimension 128) on random data, checked against attention computed on the host.
// usage: flash3 CAUSAL SEQ HEADS
#include "flash_fwd_launch_template.h"
#include <cstdio>
#include <cstdlib>
#include <cmath>
#include <random>
#include <vector>
typedef cutlass::bfloat16_t T;
void prepare_varlen_num_blocks(Flash_fwd_params &, cudaStream_t, bool, int, int, bool) { abort(); }

int main(int argc, char **argv) {
    bool causal = argc > 1 && atoi(argv[1]);
    int S = argc > 2 ? atoi(argv[2]) : 512, H = argc > 3 ? atoi(argv[3]) : 1, D = 128, B = 1;
    std::mt19937 g(7);
    std::normal_distribution<float> d;
    size_t n = (size_t)B * S * H * D;
    std::vector<T> q(n), k(n), v(n), o(n);
    for (auto *x : {&q, &k, &v}) for (auto &e : *x) e = T(d(g));
    auto up = [&](std::vector<T> &x) { void *p; CHECK_CUDA(cudaMalloc(&p, n * 2)); CHECK_CUDA(cudaMemcpy(p, x.data(), n * 2, cudaMemcpyHostToDevice)); return p; };
    Flash_fwd_params p = {};
    p.is_bf16 = true;
    p.q_ptr = up(q); p.k_ptr = up(k); p.v_ptr = up(v);
    CHECK_CUDA(cudaMalloc((void **)&p.o_ptr, n * 2));
    CHECK_CUDA(cudaMalloc((void **)&p.softmax_lse_ptr, B * H * S * 4));
    CHECK_CUDA(cudaMalloc((void **)&p.tile_count_semaphore, 4));
    CHECK_CUDA(cudaMemset(p.tile_count_semaphore, 0, 4));
    p.q_row_stride = p.k_row_stride = p.v_row_stride = p.o_row_stride = H * D;
    p.q_head_stride = p.k_head_stride = p.v_head_stride = p.o_head_stride = D;
    p.q_batch_stride = p.k_batch_stride = p.v_batch_stride = p.o_batch_stride = (int64_t)S * H * D;
    p.v_dim_stride = 1;
    p.b = B; p.h = p.h_k = H; p.seqlen_q = p.seqlen_k = S; p.seqlen_q_rounded = p.seqlen_k_rounded = (S + 127) / 128 * 128;
    p.d = p.d_rounded = p.dv = p.dv_rounded = D;
    p.scale_softmax = 1 / sqrtf(D);
    p.p_dropout = p.rp_dropout = 1; p.p_dropout_in_uint8_t = 255;
    p.is_causal = causal;
    p.window_size_left = S - 1; p.window_size_right = causal ? 0 : S - 1;
    p.num_splits = 1; p.arch = 90; p.num_sm = 132;
    if (causal) run_flash_fwd<90, 128, 128, 1, T, T, true, false, false, false, false, false, false, false, false, false>(p, 0);
    else run_flash_fwd<90, 128, 128, 2, T, T, false, false, false, false, false, false, false, false, false, false>(p, 0);
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(cudaMemcpy(o.data(), p.o_ptr, n * 2, cudaMemcpyDeviceToHost));
    double worst = 0;
    std::vector<double> s(S);
    for (int h = 0; h < H; h++)
        for (int i = 0; i < S; i++) {
            int end = causal ? i + 1 : S;
            double top = -1e30, sum = 0;
            for (int j = 0; j < end; j++) {
                double a = 0;
                for (int c = 0; c < D; c++) a += (float)q[(i * H + h) * D + c] * (float)k[(j * H + h) * D + c];
                s[j] = a * p.scale_softmax;
                top = std::max(top, s[j]);
            }
            for (int j = 0; j < end; j++) sum += s[j] = exp(s[j] - top);
            for (int c = 0; c < D; c++) {
                double a = 0;
                for (int j = 0; j < end; j++) a += s[j] * (float)v[(j * H + h) * D + c];
                double e = fabs(a / sum - (float)o[(i * H + h) * D + c]);
                if (!(e <= worst)) worst = e != e ? 1e30 : e;
            }
        }
    printf("FlashAttention-3 forward, %s, sequence %d, %d heads: worst difference %.4g: %s\n", causal ? "causal" : "full", S, H, worst, worst < 2e-2 ? "PASS" : "FAIL");
    return worst < 2e-2 ? 0 : 1;
}
