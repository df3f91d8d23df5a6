"""Several processes that train one model: the little that accelerate does not do by itself.

On GPUs they are started by `accelerate launch --multi_gpu --num_processes N`, on the CPU (gloo) by
`torchrun --nproc_per_node N`: there `accelerate launch --cpu --num_processes N` starts a single
process unless it has an MPI (huggingface/accelerate, issue 2741).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)
T = TypeVar("T")


def resolve_device(device: str) -> torch.device:
    """Return the device; `auto` is a GPU if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but PyTorch sees no CUDA device; choose 'auto' or 'cpu'")
    return torch.device(device)


def make_accelerator(device: torch.device) -> Accelerator:
    """Return an accelerator for this device and for the processes that were started."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    # What `accelerate launch --cpu --num_processes 2` leaves behind when it starts one process.
    several = "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU") == "True"
    if several and not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE"} & set(os.environ):
        logger.warning(
            "accelerate launch was asked for several processes on the CPU but started one. "
            "For several: torchrun --nproc_per_node N"
        )
    if PartialState._shared_state:  # of another device in a notebook; several processes share it
        state = PartialState()
        if state.num_processes == 1 and torch.device(state.device or "cpu").type != device.type:
            AcceleratorState._reset_state(reset_partial_state=True)
    # `Step` handles precision, so that a model can be trained in one and then in another.
    return Accelerator(cpu=device.type == "cpu", mixed_precision="no")


def gather(value: T) -> list[T]:
    """Return the values of all processes, in their order, in all of them."""
    from accelerate.utils import gather_object

    return gather_object([value])


def same_everywhere(value: T) -> T:
    """Return the first process' value, in all of them."""
    return gather(value)[0]


def leave(code: int) -> None:
    """End this process at once if it is one of several that train together, else do nothing.

    With a process group, Python's own end now and then aborts the process, with all its work done:
    threads of gloo are destroyed while they still run ("terminate called without an active
    exception", PyTorch 2.13 on the CPU). The launcher would take that for a failure.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
