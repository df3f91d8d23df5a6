"""What a card can do at most, measured as `floor.measure_rates` does for a CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import triton
import triton.language as tl

_VALUES = 1 << 20  # enough for every lane of every card
_TIMES = 4000


@triton.jit
def _loop(x, times, EXPONENTIAL: tl.constexpr, SIZE: tl.constexpr):
    """Apply 16 multiply-adds, or one exponential and a sign, to each value, `times` times over."""
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    v = tl.load(x + at)
    for _ in range(times):
        if EXPONENTIAL:
            v = -tl.exp(v)
        else:
            for _ in tl.static_range(16):
                v = v * 0.5 + 0.25
    tl.store(x + at, v)


def _seconds(call: Callable[[], object], repeats: int = 5) -> float:
    call()
    taken = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def measure_rates() -> dict[str, float]:
    """Return the rates of this card per second, with the names of `floor.measure_rates`."""
    x, grid = torch.full((_VALUES,), -0.5, device="cuda"), (_VALUES // 256,)
    exponentials = _seconds(lambda: _loop[grid](x, _TIMES, EXPONENTIAL=True, SIZE=256))
    polynomial = _seconds(lambda: _loop[grid](x, _TIMES // 16, EXPONENTIAL=False, SIZE=256))
    left = torch.randn(4096, 4096, device="cuda")
    products = _seconds(lambda: left @ left)
    low = left.bfloat16()
    low_products = _seconds(lambda: low @ low)
    source = torch.zeros(1 << 28, device="cuda")  # 1 GiB, beyond every cache
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source))
    return {
        "matrix_flop_s": 2 * 4096**3 / products,
        "matrix_bf16_flop_s": 2 * 4096**3 / low_products,
        "vector_flop_s": 2 * _VALUES * _TIMES / polynomial,
        "exp_s": _VALUES * _TIMES / exponentials,
        "copy_byte_s": 2 * source.nbytes / copy,
    }
