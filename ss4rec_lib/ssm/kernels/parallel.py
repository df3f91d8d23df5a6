"""Backend `parallel`: a log-depth scan in plain PyTorch, with its own backward, in chunks.

x_k = a_k x_{k-1} + b_k composes affine maps x -> a x + b, and composition is associative: (a, b)
after (a', b') is (a a', a b' + b). All prefixes of a chunk of T positions therefore take log2(T)
rounds of elementwise operations over the whole chunk (Hillis and Steele 1986): round r combines
every position with the one 2^r before it. Backward is the same scan run from the end. The selective
scan saves one state per chunk and computes the others again, so that the (B, L, D, N) tensor of all
states is never stored. Any device and dtype. Glossary as in `reference.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ss4rec_lib.ssm.kernels import reference

CHUNK = 64  # positions; 6 rounds


def _prefixes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compose the affine maps 0..k for every k, along dimension 1."""
    shift = 1
    while shift < a.shape[1]:
        # Position k >= shift is combined with k - shift; the first `shift` are complete already.
        late_a, late_b = a[:, shift:], b[:, shift:]
        b = torch.cat((b[:, :shift], late_a * b[:, :-shift] + late_b), dim=1)
        a = torch.cat((a[:, :shift], late_a * a[:, :-shift]), dim=1)
        shift *= 2
    return a, b


def _scan_chunk(a: Tensor, b: Tensor, before: Tensor) -> Tensor:
    """Return the states x_k of one chunk, given the state before it."""
    a, b = _prefixes(a, b)
    return a * before[:, None] + b


def _scan_chunk_backward(a: Tensor, dx: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return g_k = dx_k + conj(a_{k+1}) g_{k+1} of one chunk, and the gradient before the chunk.

    `after` is the gradient at the last state of this chunk from the chunk that follows.
    """
    dx = torch.cat((dx[:, :-1], dx[:, -1:] + after[:, None]), dim=1)
    following = torch.cat((a[:, 1:], torch.zeros_like(a[:, :1])), dim=1).conj()
    g = _prefixes(following.flip(1), dx.flip(1))[1].flip(1)
    return g, a[:, 0].conj() * g[:, 0]


def _chunks(length: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, length, CHUNK)]


class _DiagonalScan(torch.autograd.Function):
    """Compute `reference.diagonal_scan`, with the same arguments and results."""

    @staticmethod
    def forward(ctx, a, b, initial_state):
        x, before = torch.empty_like(b), initial_state
        for part in _chunks(a.shape[1]):
            x[:, part] = states = _scan_chunk(a[:, part], b[:, part], before)
            before = states[:, -1]
        ctx.save_for_backward(a, initial_state, x)
        return x

    @staticmethod
    def backward(ctx, dx):
        a, initial_state, x = ctx.saved_tensors  # all that follows can be differentiated again
        parts, flow = [], torch.zeros_like(initial_state)
        for part in reversed(_chunks(a.shape[1])):
            db, flow = _scan_chunk_backward(a[:, part], dx[:, part], flow)
            parts.append(db)
        db = torch.cat(parts[::-1], dim=1)
        previous = torch.cat((initial_state[:, None], x[:, :-1]), dim=1)
        return db * previous.conj(), db, flow


class _SelectiveScan(torch.autograd.Function):
    """Compute `reference.selective_scan`, with the same arguments and results."""

    @staticmethod
    def forward(ctx, u, Delta, A, B, C, D, initial_state):
        y = D * u  # (B, L, D)
        x, starts = initial_state, []  # (B, D, N)
        for part in _chunks(u.shape[1]):
            starts.append(x)
            Lambda_bar, B_bar_u = _discretized(u, Delta, A, B, part)  # (B, T, D, N)
            states = _scan_chunk(Lambda_bar, B_bar_u, x)
            y[:, part] += torch.einsum("btdn,btn->btd", states, C[:, part])
            x = states[:, -1].clone()
        ctx.save_for_backward(u, Delta, A, B, C, D, *starts)
        return y, x

    @staticmethod
    def backward(ctx, dy, dx_last):
        if reference.must_differentiate(dy):
            inputs = ctx.saved_tensors[:7]
            return reference.gradients_of(reference.selective_scan, inputs, dy, dx_last)
        u, Delta, A, B, C, D, *starts = ctx.saved_tensors
        du, dDelta = D * dy, torch.empty_like(Delta)
        dA, dB, dC = torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
        flow = dx_last  # (B, D, N)
        for before, part in zip(reversed(starts), reversed(_chunks(u.shape[1])), strict=True):
            Lambda_bar, B_bar_u = _discretized(u, Delta, A, B, part)  # (B, T, D, N)
            states = _scan_chunk(Lambda_bar, B_bar_u, before)
            previous = torch.cat((before[:, None], states[:, :-1]), dim=1)
            dC[:, part] = torch.einsum("btdn,btd->btn", states, dy[:, part])
            dx = dy[:, part, :, None] * C[:, part, None]  # (B, T, D, N)
            g, flow = _scan_chunk_backward(Lambda_bar, dx, flow)
            through = g * Lambda_bar * previous  # gradient at Delta A, (B, T, D, N)
            gB = torch.einsum("btdn,btn->btd", g, B[:, part])  # gradient at Delta u
            dB[:, part] = torch.einsum("btdn,btd->btn", g, Delta[:, part] * u[:, part])
            dA += torch.einsum("btdn,btd->dn", through, Delta[:, part])
            dDelta[:, part] = torch.einsum("btdn,dn->btd", through, A) + u[:, part] * gB
            du[:, part] += Delta[:, part] * gB
        return du, dDelta, dA, dB, dC, (dy * u).sum((0, 1)), flow


def _discretized(u: Tensor, Delta: Tensor, A: Tensor, B: Tensor, part: slice) -> list[Tensor]:
    """Return Lambda_bar and B_bar u of one chunk, (B, T, D, N) each."""
    step = Delta[:, part]
    return [torch.exp(step[..., None] * A), (step * u[:, part])[..., None] * B[:, part, None]]


diagonal_scan = _DiagonalScan.apply
selective_scan = _SelectiveScan.apply
