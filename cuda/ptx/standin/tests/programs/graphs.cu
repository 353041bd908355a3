// Graphs: captured from two streams and run again, and built of nodes.
#include "check.h"

__global__ void add(int *data, int value) { data[threadIdx.x] += value; }
__global__ void multiply(int *data, int value) { data[threadIdx.x] *= value; }

static int read(int *data) {
    int value;
    CHECK(cudaMemcpy(&value, data, sizeof(value), cudaMemcpyDeviceToHost));
    return value;
}

int main() {
    int *data;
    CHECK(cudaMalloc(&data, 32 * sizeof(int)));
    CHECK(cudaMemset(data, 0, 32 * sizeof(int)));
    cudaStream_t one, two;
    cudaEvent_t fork, join;
    CHECK(cudaStreamCreate(&one));
    CHECK(cudaStreamCreate(&two));
    CHECK(cudaEventCreate(&fork));
    CHECK(cudaEventCreate(&join));
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamBeginCapture(one, cudaStreamCaptureModeGlobal));
    add<<<1, 32, 0, one>>>(data, 1);
    CHECK(cudaEventRecord(fork, one));
    CHECK(cudaStreamWaitEvent(two, fork, 0));
    multiply<<<1, 32, 0, two>>>(data, 2);
    CHECK(cudaEventRecord(join, two));
    CHECK(cudaStreamWaitEvent(one, join, 0));
    REQUIRE(cudaStreamSynchronize(one) == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaStreamEndCapture(one, &graph));
    REQUIRE(read(data) == 0);
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 3; i++) CHECK(cudaGraphLaunch(exec, one));
    CHECK(cudaStreamSynchronize(one));
    REQUIRE(read(data) == 14);

    cudaGraph_t built;
    cudaGraphNode_t first, second, zero;
    CHECK(cudaGraphCreate(&built, 0));
    cudaKernelNodeParams params = {};
    int value = 5;
    void *args[] = {&data, &value};
    params.func = (void *)add;
    params.gridDim = 1;
    params.blockDim = 32;
    params.kernelParams = args;
    CHECK(cudaGraphAddKernelNode(&second, built, nullptr, 0, &params));
    cudaMemsetParams clear = {};
    clear.dst = data;
    clear.elementSize = 4;
    clear.value = 7;
    clear.width = 32;
    clear.height = 1;
    CHECK(cudaGraphAddMemsetNode(&zero, built, nullptr, 0, &clear));
    CHECK(cudaGraphAddDependencies(built, &zero, &second, nullptr, 1));
    value = 3;
    CHECK(cudaGraphAddKernelNode(&first, built, &second, 1, &params));
    CHECK(cudaGraphInstantiate(&exec, built, 0));
    CHECK(cudaGraphLaunch(exec, 0));
    CHECK(cudaDeviceSynchronize());
    REQUIRE(read(data) == 15);
    value = 100;
    CHECK(cudaGraphExecKernelNodeSetParams(exec, first, &params));
    CHECK(cudaGraphLaunch(exec, 0));
    REQUIRE(read(data) == 112);
    printf("ok\n");
}
