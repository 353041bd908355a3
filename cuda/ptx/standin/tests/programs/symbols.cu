// Variables of a module: constant, global, managed.
#include "check.h"

__constant__ int table[4];
__device__ int counter = 5;
__managed__ int shared_with_host = 7;

__global__ void work(int *out) {
    out[threadIdx.x] = table[threadIdx.x];
    if (threadIdx.x == 0) {
        counter += 1;
        shared_with_host += 10;
    }
}

int main() {
    int values[4] = {1, 2, 3, 4}, got[4], *out;
    REQUIRE(shared_with_host == 7);
    shared_with_host = 30;
    CHECK(cudaMalloc(&out, sizeof(values)));
    CHECK(cudaMemcpyToSymbol(table, values, sizeof(values)));
    CHECK(cudaMemcpyToSymbol(table, &values[3], sizeof(int), 2 * sizeof(int)));
    REQUIRE(cudaMemcpyToSymbol(table, values, sizeof(values), 4) == cudaErrorInvalidValue);
    REQUIRE(cudaGetLastError() == cudaErrorInvalidValue);
    work<<<1, 4>>>(out);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(got, out, sizeof(got), cudaMemcpyDeviceToHost));
    REQUIRE(got[0] == 1 && got[1] == 2 && got[2] == 4 && got[3] == 4);
    int count;
    CHECK(cudaMemcpyFromSymbol(&count, counter, sizeof(count)));
    REQUIRE(count == 6 && shared_with_host == 40);
    int *address;
    size_t bytes;
    CHECK(cudaGetSymbolAddress((void **)&address, counter));
    CHECK(cudaGetSymbolSize(&bytes, table));
    CHECK(cudaMemcpy(&count, address, sizeof(count), cudaMemcpyDeviceToHost));
    REQUIRE(count == 6 && bytes == sizeof(values));
    printf("ok\n");
}
