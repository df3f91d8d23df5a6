"""The counted floor: what no implementation on this machine can be faster than.

Two halves. `measure_rates` times four loops that do one thing each: matrix products at the model's
sizes, a long copy, a polynomial (multiply-adds in registers) and an exponential, both compiled by
numba as the library's kernels are, on as many threads as PyTorch uses. `count` gives the operations
of a layer by formula. The floor is their quotient:

    max( matrix FLOP / matrix rate + vector FLOP / vector rate + exponentials / exp rate,
         bytes / bandwidth )

Counted are the operations of the mathematics, done once and perfectly vectorised, and only the
bytes that must enter or leave a layer; not counted are index arithmetic, cache misses, reductions,
intermediate tensors. Multiply-add is two operations. A measured time of 2 floors means: at most
half of it could ever be saved.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from ss4rec_lib.ssm.kernels.numba_loops import exp_nonpositive

_L1_FLOATS = 2048  # 8 kB: stays in the innermost cache
_DEGREE = 16  # of the polynomial of the vector loop
_F = tuple(np.float32(c) for c in (0.04, 0.03, 0.02, 0.01))  # keeps x in (0, 1)


class Count(NamedTuple):
    """Operations of one call."""

    matrix_flop: float
    vector_flop: float
    exponentials: float  # sine, cosine and logarithm count as one each
    bytes: float


@njit(nogil=True, fastmath=True)
def _polynomial(x, times):
    """Horner's rule of degree 16 in place: 32 operations for a load and a store."""
    c0, c1, c2, c3 = _F
    for _ in range(times):
        for n in range(x.shape[0]):
            v = x[n]
            p = c0
            p = ((p * v + c1) * v + c2) * v + c3
            p = (((p * v + c0) * v + c1) * v + c2) * v + c3
            p = (((p * v + c0) * v + c1) * v + c2) * v + c3
            p = (((p * v + c0) * v + c1) * v + c2) * v + c3
            x[n] = p * v + c0


@njit(nogil=True, fastmath=True)
def _exponentials(x, times):
    for _ in range(times):
        for n in range(x.shape[0]):
            x[n] = -exp_nonpositive(x[n])


def _seconds(call: Callable[[], object], repeats: int) -> float:
    """Median of several calls after one that is not counted."""
    call()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def _on_all_threads(loop: Callable, start: float, times: int, repeats: int) -> float:
    """Elements a second of `loop(x, times)` on PyTorch's number of threads together."""
    threads = torch.get_num_threads()
    arrays = [np.full(_L1_FLOATS, start, dtype=np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _seconds(lambda: list(pool.map(lambda x: loop(x, times), arrays)), repeats)
    return threads * _L1_FLOATS * times / seconds


def measure_rates(tokens: int = 6400, repeats: int = 7, effort: float = 1.0) -> dict:
    """Rates of this machine, now.

    Args:
        tokens: Rows of the matrix products (B L).
        repeats: Timings of each; the median is kept.
        effort: Less than 1 shortens every loop, for tests.

    Returns:
        `matrix_flop_s` (the best of `matrix_sizes`), `vector_flop_s`, `exp_s`, `copy_byte_s`
        (read plus written), all a second.
    """
    sizes = [(tokens, 64, 256), (tokens, 128, 64), (tokens, 128, 68), (tokens, 64, 64)]
    products = {}
    for rows, inner, columns in sizes:
        left, right = torch.randn(rows, inner), torch.randn(inner, columns)
        out = torch.empty(rows, columns)
        calls = max(1, int(effort * 2e9 / (2 * rows * inner * columns)))

        def product(left=left, right=right, out=out, calls=calls):
            for _ in range(calls):
                torch.mm(left, right, out=out)

        flop = 2 * rows * inner * columns * calls
        products[f"{rows} x {inner} x {columns}"] = flop / _seconds(product, repeats)
    source = torch.zeros(max(1024, int(effort * 64e6)))  # 256 MB, beyond every cache
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source), repeats)
    times = max(1, int(effort * 4000))
    return {
        "matrix_flop_s": max(products.values()),
        "matrix_sizes": products,
        "vector_flop_s": 2 * _DEGREE * _on_all_threads(_polynomial, 0.1, times, repeats),
        "exp_s": _on_all_threads(_exponentials, -0.5, times, repeats),
        "copy_byte_s": 2 * source.nbytes / copy,
    }


def _selective_scan(B: int, L: int, D: int, N: int) -> tuple[Count, Count]:
    states = B * L * D * N
    # Forward, a state: Delta A (1), exp, Lambda_bar x + Delta u B (3), y += C x (2).
    # A channel: Delta u (1), + D u (2). Read u, Delta, B, C; write y.
    forward = Count(0, 6 * states + 3 * B * L * D, states, 4 * B * L * (3 * D + 2 * N))
    # Backward, a state: Lambda_bar and x again (4, exp), g += C dy (2), dC (2), dB (2),
    # sum g B (2), g Lambda_bar (1), times x (1), dA (2), sum A (2).
    # A channel: dDelta (2), du (3), dD (2). Read u, Delta, dy, B, C; write du, dDelta, dB, dC.
    bytes_ = 4 * B * L * (5 * D + 4 * N)
    return forward, Count(0, 18 * states + 7 * B * L * D, states, bytes_)


def _mamba(B: int, L: int, d_model: int, N: int) -> tuple[Count, Count]:
    D, d_conv = 2 * d_model, 4
    rank = -(-d_model // 16)
    tokens = B * L
    weights = 2 * D * d_model + D * (rank + 2 * N) + rank * D + D * d_model
    scan, scan_back = _selective_scan(B, L, D, N)
    # A channel: convolution (2 d_conv), two SiLUs (exp and 3 each), softplus (exp, log, 1),
    # the gate (1). Backward: twice the convolution, derivatives (4 and 4 and 2), the gate (2).
    forward = Count(
        2 * tokens * weights,
        scan.vector_flop + tokens * D * (2 * d_conv + 8),
        scan.exponentials + 4 * tokens * D,
        4 * (2 * tokens * d_model + weights),
    )
    backward = Count(
        4 * tokens * weights,  # one product for the input's gradient, one for the weight's
        scan_back.vector_flop + tokens * D * (4 * d_conv + 12),
        scan_back.exponentials,
        4 * (3 * tokens * d_model + 2 * weights),
    )
    return forward, backward


def _s5(B: int, L: int, P: int, H: int) -> tuple[Count, Count]:
    tokens = B * L
    # A state: Delta (1), z = Lambda Delta (2), exp(z) = exp, cos, sin (2),
    # scale = (Lambda_bar - 1) / Lambda (7), times B_tilde u (6), x = Lambda_bar x + . (8).
    forward = Count(
        8 * tokens * P * H,  # B_tilde u and C_tilde x: two real products of width 2P
        tokens * (26 * P + 2 * H),
        3 * tokens * P,
        4 * (tokens * (2 * H + 1) + 4 * P * H),
    )
    # A state: g (8); gradients at scale (6), B_tilde u (6), Lambda_bar (6), z (6); Lambda from
    # scale (16) and from z (4); Delta from both (8), step (1).
    backward = Count(
        16 * tokens * P * H,
        tokens * (61 * P + 4 * H),
        0,
        4 * (tokens * (3 * H + 1) + 8 * P * H),
    )
    return forward, backward


_COUNTS = {"selective_scan": _selective_scan, "mamba": _mamba, "s5": _s5}


def count(operation: str, sizes: dict[str, int], backward: bool) -> Count:
    """Operations of one call, by formula.

    Args:
        operation: `selective_scan` (sizes B, L, D, N), `mamba` (B, L, d_model, N) or
            `s5` (B, L, P, H).
        sizes: As named above.
        backward: Count forward and backward instead of forward alone.
    """
    forward, back = _COUNTS[operation](**sizes)
    if not backward:
        return forward
    return Count(*(f + b for f, b in zip(forward, back, strict=True)))


def floor_seconds(counted: Count, rates: dict) -> float:
    """The quotient of the module's docstring."""
    arithmetic = (
        counted.matrix_flop / rates["matrix_flop_s"]
        + counted.vector_flop / rates["vector_flop_s"]
        + counted.exponentials / rates["exp_s"]
    )
    return max(arithmetic, counted.bytes / rates["copy_byte_s"])
