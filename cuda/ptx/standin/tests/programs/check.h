// What the programs of this folder share.
#pragma once
#include <cstdio>
#include <cstdlib>

#define CHECK(call)                                                                                         \
    do {                                                                                                    \
        cudaError_t status = (call);                                                                        \
        if (status != cudaSuccess) {                                                                        \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status));               \
            exit(3);                                                                                        \
        }                                                                                                   \
    } while (0)

#define REQUIRE(condition)                                                                                  \
    do {                                                                                                    \
        if (!(condition)) {                                                                                 \
            printf("%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                            \
            exit(3);                                                                                        \
        }                                                                                                   \
    } while (0)
