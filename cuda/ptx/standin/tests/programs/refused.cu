// A function that is not offered fails by its name.
#include "check.h"

int main() {
    cudaArray_t array;
    cudaChannelFormatDesc format = cudaCreateChannelDesc(32, 0, 0, 0, cudaChannelFormatKindFloat);
    REQUIRE(format.x == 32 && format.w == 0 && format.f == cudaChannelFormatKindFloat);
    REQUIRE(cudaMallocArray(&array, &format, 64, 64) == cudaErrorNotSupported);
    REQUIRE(cudaGetLastError() == cudaErrorNotSupported);
    printf("ok\n");
}
