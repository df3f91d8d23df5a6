"""Weights of the published SS4Rec code, in and out.

The published code (github.com/XiaoWei-i/SS4Rec, a model of RecBole) composes `s5.S5` of the package
s5-pytorch and `mamba_ssm.Mamba`. Its state dict, for the blocks i = 0, 1, ... of `model`:

    item_embedding.weight              (n_items + 1, H)
    LayerNorm.{weight, bias}           (H,)             never used by the published forward pass
    model.i.S5.seq.Lambda              (P,) complex
    model.i.S5.seq.B                   (P, H, 2)        real and imaginary part
    model.i.S5.seq.C                   (H, P) complex
    model.i.S5.seq.{D, log_step}       (H,), (P,)
    model.i.S6.*                       the keys of `mamba_ssm.modules.mamba_simple.Mamba`
    model.i.LayerNorm.{weight, bias}   (H,)             shared by both sums of the block

H = hidden_size, P = d_P. Lambda, B and C are read as complex numbers or as real pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ss4rec_lib.files import FileError, read_tensors
from ss4rec_lib.models.ss4rec import SS4Rec, SS4RecConfig

_UNUSED = ("LayerNorm.weight", "LayerNorm.bias")


def load_official_state_dict(model: SS4Rec | None, state_dict: Mapping[str, Tensor]) -> SS4Rec:
    """Put published weights into a model and return it; its mode, dtype and device stay.

    Without a model one is built, with every size read off the weights, `unconstrained=True` and the
    other options of `SS4RecConfig.official()`. The prefixes `module.` and `_orig_mod.` are ignored.
    A ValueError names what does not fit (names, shapes, numbers that are not finite, Re(Lambda) >=
    0 for a model that keeps it negative); nothing has changed then.
    """
    weights = _real_tensors(state_dict)
    model = _model_for(weights) if model is None else model
    ours = _published(model)
    _check_names_and_shapes(weights, ours)
    own = {k: p for k, p in ours.items() if isinstance(p, nn.Parameter)}  # not Lambda, nor unused
    new = [(p, _finite(name, weights[name], p.dtype)) for name, p in own.items()]
    for i, block in enumerate(model.blocks):
        name = f"model.{i}.S5.seq.Lambda"
        new += _new_eigenvalues(block.s5, name, weights[name])
    with torch.no_grad():  # everything has been checked by now
        for parameter, value in new:
            parameter.copy_(value)
    return model


def official_state_dict(model: SS4Rec) -> dict[str, Tensor]:
    """Return copies of a model's weights, for `load_state_dict` of the published code.

    Of an `unconstrained` model `load_official_state_dict` gives the same bits back.
    """
    found = {}
    for name, tensor in _published(model).items():
        value = tensor.detach().clone(memory_format=torch.contiguous_format)
        pairs = name.endswith((".S5.seq.Lambda", ".S5.seq.C"))
        found[name] = torch.view_as_complex(value) if pairs else value
    return found


def load_official_checkpoint(path: str | Path, model: SS4Rec | None = None) -> SS4Rec:
    """Read published weights from a file: a RecBole checkpoint, or a state dict alone.

    Anything but `.safetensors` is read by `torch.load(weights_only=True)`, which refuses pickled
    objects such as RecBole's `Config`; the error says how to take the weights out.
    """
    path = Path(path)
    content: Any = read_tensors(path)[0] if path.suffix == ".safetensors" else _read_pth(path)
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    try:
        return load_official_state_dict(model, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_pth(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:  # the system's own error where it may not be read
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # it fails in many ways on bytes that are no checkpoint
            refused = re.search(r"GLOBAL (\S+)", str(error))  # a class or function by its name
            if refused is None:
                raise FileError(
                    f"{path} is truncated or not a file that torch.save wrote; it holds "
                    f"{path.stat().st_size:,} bytes. Take another copy."
                ) from error
            weights = path.with_name(f"{path.stem}-weights.pth")
            raise ValueError(
                f"{path} holds pickled objects besides tensors, the first one {refused[1]}, which "
                "can run any code. If you trust it, take the weights out where it was made\n\n"
                f"    file = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
                f"    torch.save(file['state_dict'], {str(weights)!r})\n\n"
                f"and load {weights} here"
            ) from error


def _published(model: SS4Rec) -> dict[str, Tensor]:
    """Return our tensors by published key, in the published order, complex ones as real pairs."""
    if not isinstance(model, SS4Rec):
        raise ValueError(f"model is a {type(model).__name__}, expected an SS4Rec")
    if model.config.model_type != "ss4rec":
        raise ValueError(f"model_type={model.config.model_type!r}: expected 'ss4rec', both layers")
    for name, published in (
        ("feed_forward", "none"),
        ("interval_embedding", "none"),
        ("norms", "shared"),
        ("scores", "product"),
        ("seen_offset", False),
    ):
        if (value := getattr(model.config, name)) != published:
            raise ValueError(f"{name}={value!r}: published weights have {published!r}")
    embedding: Tensor = model.item_embedding.weight
    unused = torch.ones_like(embedding[0]), torch.zeros_like(embedding[0])
    found = {"item_embedding.weight": embedding, **dict(zip(_UNUSED, unused, strict=True))}
    for i, block in enumerate(model.blocks):
        own = {"S5.seq.Lambda": torch.view_as_real(block.s5.Lambda)}
        own |= {f"S5.seq.{name}": getattr(block.s5, name) for name in ("B", "C", "D", "log_step")}
        own |= {f"S6.{name}": parameter for name, parameter in block.mamba.named_parameters()}
        own |= {f"LayerNorm.{name}": parameter for name, parameter in block.norm.named_parameters()}
        found |= {f"model.{i}.{name}": tensor for name, tensor in own.items()}
    return found


def _real_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by name, without prefixes and unused ones, complex ones as real pairs."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"state_dict is a {type(state_dict).__name__}, expected a dict of tensors")
    weights: dict[str, Tensor] = {}
    for given, value in state_dict.items():
        # The prefixes are those of DataParallel and of torch.compile.
        name = re.sub(r"^((module|_orig_mod)\.)+", "", str(given))
        if name in weights:
            raise ValueError(f"the key {name} is there twice, the second time as {given}")
        if not isinstance(value, Tensor):
            raise ValueError(f"{given} is a {type(value).__name__}, expected a torch.Tensor")
        number = value.is_floating_point() or value.is_complex()
        if value.layout != torch.strided or value.is_meta or not number:
            found = f"of {value.dtype}, {value.layout} on {value.device}"
            raise ValueError(f"{given} is {found}: expected an ordinary floating or complex tensor")
        value = value.detach().resolve_conj()
        weights[name] = torch.view_as_real(value) if value.is_complex() else value
    return {name: value for name, value in weights.items() if name not in _UNUSED}


def _model_for(weights: dict[str, Tensor]) -> SS4Rec:
    """Return a model of the sizes of the weights; 1 where the check that follows finds an error."""

    def size(name: str, axis: int) -> int:
        shape = weights[name].shape if name in weights else ()
        return (shape[axis] if axis < len(shape) else 0) or 1

    blocks = {name.split(".")[1] for name in weights if name.startswith("model.")}
    H, A_log = size("item_embedding.weight", 1), "model.0.S6.A_log"
    config = SS4RecConfig.official(
        hidden_size=H, d_H=H, n_layers=max(1, len(blocks)), unconstrained=True,
        d_P=size("model.0.S5.seq.log_step", 0), d_state=size(A_log, 1),
        d_conv=size("model.0.S6.conv1d.weight", 2), expand=max(1, size(A_log, 0) // H),
    )  # fmt: skip
    return SS4Rec(max(1, size("item_embedding.weight", 0) - 1), config)


def _check_names_and_shapes(weights: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
    missing = [name for name in ours if name not in weights and name not in _UNUSED]
    unexpected = [name for name in weights if name not in ours]
    if missing or unexpected:
        n_layers = sum(name.endswith("Lambda") for name in ours)
        raise ValueError(
            f"not the weights of a published SS4Rec with n_layers={n_layers}: missing: {missing}, "
            f"unexpected: {unexpected}. (For names such as blocks.0 use SS4Rec.load_state_dict.)"
        )
    shapes = {k: (tuple(value.shape), tuple(ours[k].shape)) for k, value in weights.items()}
    if wrong := [f"{k} has shape {a}, expected {b}" for k, (a, b) in shapes.items() if a != b]:
        count = f"{len(wrong)} in all; complex numbers have an axis of 2"
        raise ValueError(f"{'; '.join(wrong[:5])} ({count})")


def _finite(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.to(dtype)
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} has NaN or infinite entries (as {dtype}), expected finite ones")
    return value


def _new_eigenvalues(s5: Any, name: str, value: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the new values of the parameters of Lambda, as pairs (parameter, value)."""
    real, imaginary = _finite(name, value, s5.Lambda_im.dtype).unbind(-1)  # (P,) each
    if s5.unconstrained:
        return [(s5.Lambda_re, real), (s5.Lambda_im, imaginary)]
    real = value[..., 0].double()  # its logarithm is rounded once
    if (real >= 0).any():
        found = f"{name} has {int((real >= 0).sum())} real parts >= 0 (up to {real.max().item():g})"
        raise ValueError(f"{found}: only a model with unconstrained=True can hold them")
    return [(s5.log_neg_Lambda_re, torch.log(-real)), (s5.Lambda_im, imaginary)]
