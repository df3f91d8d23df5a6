"""One call, and many calls in turn."""

from __future__ import annotations

import gc
import time

import torch
from peers import Call

MODES = ("forward", "forward+backward")


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def once(call: Call, mode: str) -> float:
    """Seconds of one call: forward without gradients, or forward and all gradients."""
    leaves = list(call.leaves.values())
    device = leaves[0].device
    wait(device)
    begin = time.perf_counter()
    if mode == "forward":
        with torch.no_grad():
            call.run()
    else:
        output = call.run()
        torch.autograd.grad(output, leaves, torch.ones_like(output))
    wait(device)
    return time.perf_counter() - begin


def interleaved(
    calls: dict[tuple, Call], mode: str, rounds: int, limit: float
) -> dict[tuple, list[float]]:
    """Times of all calls, one of each in every round, after a round that does not count.

    Whatever disturbs the machine for a while disturbs everybody. A call that has used up its
    `limit` of seconds takes no part in further rounds; when already its first one exceeds it,
    that one is kept.
    """
    taken: dict[tuple, list[float]] = {key: [] for key in calls}
    spent = dict.fromkeys(calls, 0.0)
    for number in range(rounds + 1):
        gc.collect()
        for key, call in calls.items():
            if spent[key] > limit:
                continue
            seconds = once(call, mode)
            spent[key] += seconds
            if number > 0 or seconds > limit:
                taken[key].append(seconds)
    return taken
