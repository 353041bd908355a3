// Streams, events, pitched and pinned memory, 2D and 3D copies, callbacks.
#include "check.h"

__global__ void increment(int *data, size_t pitch, int width) {
    int *row = (int *)((char *)data + blockIdx.x * pitch);
    if (threadIdx.x < width) row[threadIdx.x] += 1;
}

__global__ void fill(int *data, int value) { data[threadIdx.x] = value; }

static void CUDART_CB note(void *data) { *(int *)data += 1; }

int main() {
    const int width = 10, height = 4;
    cudaStream_t one, two;
    cudaEvent_t start, end;
    CHECK(cudaStreamCreate(&one));
    CHECK(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreateWithFlags(&end, cudaEventDisableTiming));
    int *device, *host;
    size_t pitch;
    CHECK(cudaMallocPitch(&device, &pitch, width * sizeof(int), height));
    CHECK(cudaMallocHost(&host, width * height * sizeof(int)));
    REQUIRE(pitch % 512 == 0);
    for (int i = 0; i < width * height; i++) host[i] = i;
    CHECK(cudaEventRecord(start, one));
    CHECK(cudaMemcpy2DAsync(device, pitch, host, width * 4, width * 4, height, cudaMemcpyHostToDevice, one));
    increment<<<height, 32, 0, one>>>(device, pitch, width);
    CHECK(cudaEventRecord(end, one));
    CHECK(cudaStreamWaitEvent(two, end, 0));
    CHECK(cudaMemcpy2DAsync(host, width * 4, device, pitch, width * 4, height, cudaMemcpyDeviceToHost, two));
    int calls = 0;
    CHECK(cudaLaunchHostFunc(two, note, &calls));
    CHECK(cudaStreamSynchronize(two));
    for (int i = 0; i < width * height; i++) REQUIRE(host[i] == i + 1);
    float ms;
    REQUIRE(calls == 1 && cudaEventQuery(end) == cudaSuccess);
    CHECK(cudaEventElapsedTime(&ms, start, end));
    REQUIRE(ms >= 0);
    // Pinned memory is the device's too.
    int *seen;
    CHECK(cudaHostGetDevicePointer(&seen, host, 0));
    fill<<<1, width, 0, one>>>(seen, 9);
    CHECK(cudaStreamSynchronize(one));
    REQUIRE(host[0] == 9 && host[width - 1] == 9 && host[width] == width + 1);
    // Memory of the program's own, registered.
    static int own[32];
    CHECK(cudaHostRegister(own, sizeof(own), cudaHostRegisterMapped));
    CHECK(cudaHostGetDevicePointer(&seen, own, 0));
    fill<<<1, 32>>>(seen, 5);
    CHECK(cudaDeviceSynchronize());
    REQUIRE(own[31] == 5);
    CHECK(cudaHostUnregister(own));
    // A box out of the middle of another.
    cudaExtent extent = make_cudaExtent(8, 2, 2);
    cudaPitchedPtr volume;
    CHECK(cudaMalloc3D(&volume, make_cudaExtent(16, 4, 3)));
    CHECK(cudaMemset3D(volume, 0x11, make_cudaExtent(16, 4, 3)));
    unsigned char cube[32];
    for (int i = 0; i < 32; i++) cube[i] = i;
    cudaMemcpy3DParms p = {};
    p.srcPtr = make_cudaPitchedPtr(cube, 8, 8, 2);
    p.dstPtr = volume;
    p.dstPos = make_cudaPos(4, 1, 1);
    p.extent = extent;
    p.kind = cudaMemcpyHostToDevice;
    CHECK(cudaMemcpy3D(&p));
    unsigned char row[16];
    CHECK(cudaMemcpy(row, (char *)volume.ptr + volume.pitch * (4 * 2 + 2), 16, cudaMemcpyDeviceToHost));
    REQUIRE(row[3] == 0x11 && row[4] == 24 && row[11] == 31 && row[12] == 0x11);
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, device));
    REQUIRE(attributes.type == cudaMemoryTypeDevice);
    CHECK(cudaPointerGetAttributes(&attributes, &ms));
    REQUIRE(attributes.type == cudaMemoryTypeUnregistered);
    CHECK(cudaStreamDestroy(one));
    REQUIRE(cudaStreamSynchronize(one) == cudaErrorInvalidResourceHandle);
    printf("ok\n");
}
