"""Several processes that train one model: the little that accelerate does not do by itself.

On GPUs they are started by `accelerate launch --multi_gpu --num_processes N`, on the CPU (gloo) by
`torchrun --nproc_per_node N`: `accelerate launch --cpu --num_processes N` starts a single process
unless it has an MPI (huggingface/accelerate, issue 2741), and is told so here.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)
T = TypeVar("T")


def make_accelerator(device: torch.device) -> Accelerator:
    """An accelerator for this device, and for the processes that `accelerate launch` started.

    accelerate keeps one state a Python process. In a notebook that trains on the GPU and then on
    the CPU it is made anew; with several processes it is theirs and stays.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    cpu = device.type == "cpu"
    # What `accelerate launch --cpu --num_processes 2` leaves behind when it starts one process.
    if "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU") == "True":
        if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE"} & os.environ.keys():
            logger.warning(
                "accelerate launch was asked for several processes on the CPU but started one: "
                "this is a single process. For several: torchrun --nproc_per_node N"
            )
    if PartialState._shared_state:
        state = PartialState()
        if state.num_processes == 1 and state.device.type != device.type:
            AcceleratorState._reset_state(reset_partial_state=True)
    # Precision is handled in `Step`, so that a model can be trained in one and then in another.
    return Accelerator(cpu=cpu, mixed_precision="no")


def to_main(accelerator: Accelerator, value: T) -> list[T]:
    """Everybody's value, in the order of the processes."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


def same_everywhere(accelerator: Accelerator, value: T) -> T:
    """The first process' value, in all of them."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    values = [value]
    broadcast_object_list(values)
    return values[0]
