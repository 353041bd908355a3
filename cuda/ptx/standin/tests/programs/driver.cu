// The driver's API alone: PTX from text, parameters by both ways, errors by name.
#include <cuda.h>
#include <dlfcn.h>

#include <cstring>

#include "check.h"

static const char *PTX = R"(
.version 8.0
.target sm_80
.address_size 64
.global .u32 total = 3;
.visible .entry twice(.param .u64 p, .param .u32 n) {
    .reg .pred %p;
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
    setp.ge.u32 %p, %r2, %r1;
    @%p bra done;
    mul.wide.u32 %rd2, %r2, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r3, [%rd3];
    shl.b32 %r3, %r3, 1;
    st.global.u32 [%rd3], %r3;
done:
    ret;
})";

template <typename F>
F *find(void *library, const char *name, F *) {
    void *function = dlsym(library, name);
    REQUIRE(function != nullptr);
    return (F *)function;
}
#define FIND(name) auto name##_ = find(library, #name, (decltype(::name) *)nullptr)
#define SUCCEED(call) REQUIRE((call) == CUDA_SUCCESS)

int main() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    REQUIRE(library != nullptr);
    FIND(cuInit);
    FIND(cuDeviceGet);
    FIND(cuCtxCreate_v4);
    FIND(cuModuleLoadData);
    FIND(cuModuleGetFunction);
    FIND(cuModuleGetGlobal_v2);
    FIND(cuMemAlloc_v2);
    FIND(cuMemcpyHtoD_v2);
    FIND(cuMemcpyDtoH_v2);
    FIND(cuMemsetD32_v2);
    FIND(cuLaunchKernel);
    FIND(cuFuncGetAttribute);
    FIND(cuGetErrorName);
    FIND(cuGetProcAddress_v2);
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction twice;
    SUCCEED(cuInit_(0));
    SUCCEED(cuDeviceGet_(&device, 0));
    SUCCEED(cuCtxCreate_v4_(&context, nullptr, 0, device));
    SUCCEED(cuModuleLoadData_(&module, PTX));
    SUCCEED(cuModuleGetFunction_(&twice, module, "twice"));
    REQUIRE(cuModuleGetFunction_(&twice, module, "thrice") == CUDA_ERROR_NOT_FOUND);
    SUCCEED(cuModuleGetFunction_(&twice, module, "twice"));
    CUdeviceptr data, total;
    size_t bytes;
    unsigned host[8], n = 8, seven;
    SUCCEED(cuModuleGetGlobal_v2_(&total, &bytes, module, "total"));
    SUCCEED(cuMemcpyDtoH_v2_(&seven, total, 4));
    REQUIRE(bytes == 4 && seven == 3);
    SUCCEED(cuMemAlloc_v2_(&data, sizeof(host)));
    SUCCEED(cuMemsetD32_v2_(data, 21, 8));
    void *params[] = {&data, &n};
    SUCCEED(cuLaunchKernel_(twice, 1, 1, 1, 32, 1, 1, 0, nullptr, params, nullptr));
    struct { CUdeviceptr p; unsigned n; } block = {data, 4};
    bytes = 12;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &block, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    SUCCEED(cuLaunchKernel_(twice, 1, 1, 1, 32, 1, 1, 0, nullptr, nullptr, extra));
    SUCCEED(cuMemcpyDtoH_v2_(host, data, sizeof(host)));
    REQUIRE(host[0] == 84 && host[3] == 84 && host[4] == 42 && host[7] == 42);
    int most;
    SUCCEED(cuFuncGetAttribute_(&most, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, twice));
    REQUIRE(most == 1024);
    const char *name;
    SUCCEED(cuGetErrorName_(CUDA_ERROR_ILLEGAL_ADDRESS, &name));
    REQUIRE(strcmp(name, "CUDA_ERROR_ILLEGAL_ADDRESS") == 0);
    void *entry;
    CUdriverProcAddressQueryResult found;
    SUCCEED(cuGetProcAddress_v2_("cuMemAlloc", &entry, 12000, 0, &found));
    REQUIRE(entry == (void *)cuMemAlloc_v2_);
    SUCCEED(cuGetProcAddress_v2_("cuNoSuchThing", &entry, 12000, 0, &found));
    REQUIRE(entry == nullptr && found == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    printf("ok\n");
}
