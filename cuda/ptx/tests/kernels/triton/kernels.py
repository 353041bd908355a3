"""Kernels as Triton compiles them: `python kernels.py` writes the PTX beside this file (triton==3.1.0)."""

import os
import re

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def softmax(x, y, n, B: tl.constexpr):
    row = tl.program_id(0)
    col = tl.arange(0, B)
    v = tl.load(x + row * n + col, mask=col < n, other=-float("inf"))
    v = tl.exp(v - tl.max(v, 0))
    tl.store(y + row * n + col, (v / tl.sum(v, 0)).to(tl.bfloat16), mask=col < n)


@triton.jit
def matmul(a, b, c, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    pa = a + rm[:, None] * K + rk[None, :]
    pb = b + rk[:, None] * N + rn[None, :]
    for _ in range(0, K, BK):
        acc = tl.dot(tl.load(pa), tl.load(pb), acc)
        pa += BK
        pb += BK * N
    tl.store(c + rm[:, None] * N + rn[None, :], acc)


@triton.jit
def scan(x, sums, total, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0)
    tl.store(sums + i, tl.cumsum(v, 0), mask=i < n)
    tl.atomic_add(total, tl.sum(v, 0))


KERNELS = [
    (softmax, {"x": "*fp32", "y": "*bf16", "n": "i32"}, {"B": 512}),
    (matmul, {"a": "*bf16", "b": "*bf16", "c": "*fp32", "N": "i32", "K": "i32"}, {"BM": 64, "BN": 32, "BK": 32}),
    (scan, {"x": "*i32", "sums": "*i32", "total": "*i32", "n": "i32"}, {"B": 256}),
]

if __name__ == "__main__":
    for kernel, signature, constants in KERNELS:
        source = ASTSource(fn=kernel, signature=signature, constants=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        name = kernel.fn.__name__
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.ptx"), "w") as f:
            # Paths as they are on every machine.
            text = re.sub(r'(\.file\s+\d+ )"[^"]*?((?:triton/language/)?\w+\.py)"', r'\1"\2"', compiled.asm["ptx"])
            f.write(text.rstrip() + "\n")
        print(name, "shared bytes:", compiled.metadata.shared)
