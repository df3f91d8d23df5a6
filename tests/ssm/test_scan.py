"""The reference against a loop over scalars, every other backend against the reference."""

import cmath
import math
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ss4rec_lib.ssm import S5, Mamba, MambaState, diagonal_scan, scan, selective_scan

SIZES = st.tuples(
    st.integers(1, 3),
    st.integers(1, 140),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(0, 999),
)


def selective_inputs(batch, length, channels, states, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    u, B, C = normal(batch, length, channels), normal(batch, length, states), None
    C = normal(batch, length, states)
    Delta = torch.rand(batch, length, channels, generator=generator, dtype=dtype) * 2
    Delta[torch.rand(Delta.shape, generator=generator) < 0.2] = 0  # some steps of no time at all
    A = -torch.rand(channels, states, generator=generator, dtype=dtype) * 30
    return [u, Delta, A, B, C, normal(channels), normal(batch, channels, states)]


def diagonal_inputs(batch, length, states, seed, dtype=torch.complex64):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, length, states)
    size = torch.rand(shape, generator=generator, dtype=torch.float64)
    angle = torch.randn(shape, generator=generator, dtype=torch.float64) * 10
    a = torch.polar(size, angle)
    b = torch.randn(shape, generator=generator, dtype=torch.complex128)
    x0 = torch.randn(batch, states, generator=generator, dtype=torch.complex128)
    return [t.to(dtype) for t in (a, b, x0)]


def values_and_gradients(scan, inputs, backend):
    """Outputs and the gradients of an uneven function of all of them."""
    inputs = [t.clone().requires_grad_() for t in inputs]
    y, last = scan(*inputs, return_state=True, backend=backend)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
    loss = (y * weights).abs().sum() + (last * (1 + last)).abs().sum()
    return [y.detach(), last.detach(), *torch.autograd.grad(loss, inputs)]


def assert_close(found, expected, relative):
    for number, (f, e) in enumerate(zip(found, expected, strict=True)):
        scale = max(e.abs().max().item(), 1e-3)
        assert (f - e).abs().max().item() <= relative * scale, f"output {number}"


def test_selective_reference_equals_scalar_recurrence():
    u, Delta, A, B, C, D, x0 = selective_inputs(2, 7, 3, 4, 0, torch.float64)
    y, last = selective_scan(u, Delta, A, B, C, D, x0, return_state=True, backend="reference")
    for b in range(2):
        for d in range(3):
            x = [x0[b, d, n].item() for n in range(4)]
            for k in range(7):
                step, u_k = Delta[b, k, d].item(), u[b, k, d].item()
                for n in range(4):
                    decay = math.exp(step * A[d, n].item())
                    x[n] = decay * x[n] + step * B[b, k, n].item() * u_k
                expected = sum(C[b, k, n].item() * x[n] for n in range(4)) + D[d].item() * u_k
                assert y[b, k, d].item() == pytest.approx(expected, rel=1e-12)
            assert last[b, d].tolist() == pytest.approx(x, rel=1e-12)


def test_diagonal_reference_equals_scalar_recurrence():
    a, b, x0 = diagonal_inputs(2, 6, 3, 0, torch.complex128)
    x = diagonal_scan(a, b, x0, backend="reference")
    for s in range(2):
        for p in range(3):
            state = complex(x0[s, p])
            for k in range(6):
                state = complex(a[s, k, p]) * state + complex(b[s, k, p])
                assert cmath.isclose(complex(x[s, k, p]), state, rel_tol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_reference_diagonal_gradients(dtype):
    inputs = [
        (t if dtype.is_complex else t.real).to(dtype).clone().requires_grad_()
        for t in diagonal_inputs(2, 5, 3, 1, torch.complex128)
    ]
    assert torch.autograd.gradcheck(lambda *t: diagonal_scan(*t, backend="reference"), inputs)


def test_reference_selective_gradients():
    inputs = selective_inputs(2, 4, 2, 3, 1, torch.float64)
    inputs[2] = inputs[2].clamp(max=-0.1)  # finite differences must not push A above 0
    inputs = [t.requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(lambda *t: selective_scan(*t, backend="reference"), inputs)


@settings(max_examples=40)
@given(SIZES)
def test_selective_backends_equal_reference(sizes):
    inputs = selective_inputs(*sizes)
    exact = [t.double() for t in inputs]
    expected = values_and_gradients(selective_scan, exact, "reference")
    assert_close(values_and_gradients(selective_scan, inputs, "numba"), expected, 2e-5)
    assert_close(values_and_gradients(selective_scan, inputs, "parallel"), expected, 2e-5)
    assert_close(values_and_gradients(selective_scan, exact, "parallel"), expected, 1e-11)


@pytest.mark.parametrize("states", [16, 32, 64, 80])
def test_numba_compiled_for_its_number_of_states_equals_reference(states):
    inputs = selective_inputs(2, 70, 5, states, 3)  # the first three: a loop of known length
    expected = values_and_gradients(selective_scan, [t.double() for t in inputs], "reference")
    assert_close(values_and_gradients(selective_scan, inputs, "numba"), expected, 2e-5)


@settings(max_examples=40)
@given(SIZES)
def test_diagonal_backends_equal_reference(sizes):
    batch, length, states, _, seed = sizes
    single = diagonal_inputs(batch, length, states, seed)
    exact = diagonal_inputs(batch, length, states, seed, torch.complex128)
    expected = values_and_gradients(diagonal_scan, exact, "reference")
    assert_close(values_and_gradients(diagonal_scan, single, "numba"), expected, 2e-5)
    assert_close(values_and_gradients(diagonal_scan, single, "parallel"), expected, 2e-5)
    assert_close(values_and_gradients(diagonal_scan, exact, "parallel"), expected, 1e-11)


def test_numba_exponential_is_accurate_to_float32():
    from ss4rec_lib.ssm.kernels.numba_loops import exp_nonpositive

    z = -np.concatenate((np.linspace(0, 86, 20_001), [0.0, 1e-8, 1e-4])).astype(np.float32)
    found = np.array([exp_nonpositive(value) for value in z])
    assert np.max(np.abs(found / np.exp(z.astype(np.float64)) - 1)) < 5e-7
    assert 0 <= exp_nonpositive(np.float32(-1e9)) < 2e-38


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_numba_does_not_depend_on_the_number_of_threads(threads):
    inputs = selective_inputs(5, 40, 4, 8, 2)
    expected = values_and_gradients(selective_scan, inputs, "numba")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = values_and_gradients(selective_scan, inputs, "numba")
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("backend", ["reference", "numba", "parallel"])
def test_continuing_from_a_state_equals_one_run(backend):
    u, Delta, A, B, C, D, x0 = selective_inputs(2, 50, 3, 4, 3)
    whole, last = selective_scan(u, Delta, A, B, C, D, x0, return_state=True, backend=backend)
    first, middle = selective_scan(
        u[:, :33], Delta[:, :33], A, B[:, :33], C[:, :33], D, x0, return_state=True, backend=backend
    )
    rest, end = selective_scan(
        u[:, 33:], Delta[:, 33:], A, B[:, 33:], C[:, 33:], D, middle,
        return_state=True, backend=backend,
    )  # fmt: skip
    assert_close([torch.cat((first, rest), 1), end], [whole, last], 1e-5)


def test_non_contiguous_inputs():
    u, Delta, A, B, C, D, _ = selective_inputs(2, 9, 3, 4, 4)
    strided = [t.transpose(0, 1).contiguous().transpose(0, 1) for t in (u, Delta)]
    found = selective_scan(*strided, A, B, C, D, backend="numba")
    assert torch.equal(found, selective_scan(u, Delta, A, B, C, D, backend="numba"))


def test_auto_takes_numba_where_it_applies_and_parallel_elsewhere(caplog):
    scan._log_once.cache_clear()
    single = selective_inputs(1, 5, 2, 3, 6)
    double = [t.double() for t in single]
    with caplog.at_level("INFO", logger="ss4rec_lib.ssm.scan"):
        for _ in range(2):
            assert torch.equal(selective_scan(*single), selective_scan(*single, backend="numba"))
            expected = selective_scan(*double, backend="parallel")
            assert torch.equal(selective_scan(*double), expected)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "once a choice, not once a call"
    assert "'numba'" in said[0] and "'parallel'" in said[1]


def test_auto_survives_a_broken_numba(monkeypatch):
    monkeypatch.setattr(scan, "_numba_kernels", lambda: (None, "no module named numba"))
    inputs = selective_inputs(1, 5, 2, 3, 6)
    assert torch.equal(selective_scan(*inputs), selective_scan(*inputs, backend="parallel"))
    with pytest.raises(RuntimeError, match=r"numba.*no module named numba"):
        selective_scan(*inputs, backend="numba")


def test_mamba_ssm_asked_for_by_name_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(scan.importlib.util, "find_spec", lambda name: None)
    inputs = selective_inputs(1, 5, 2, 3, 6)[:6]
    with pytest.raises(RuntimeError, match=r"mamba_ssm.*pip install"):
        selective_scan(*inputs, backend="mamba_ssm")
    with pytest.raises(RuntimeError, match=r"diagonal_scan.*mamba_ssm"):
        diagonal_scan(*diagonal_inputs(1, 5, 3, 0), backend="mamba_ssm")


def test_one_long_sequence_is_shared_between_threads_with_the_same_result():
    inputs = selective_inputs(1, 90, 40, 8, 7)  # few sequences: cut into groups of channels
    expected = values_and_gradients(selective_scan, [t.double() for t in inputs], "reference")
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs.append(values_and_gradients(selective_scan, inputs, "numba"))
    finally:
        torch.set_num_threads(before)
    assert_close(runs[0], expected, 2e-5)
    assert all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0], strict=True))


def scan_in_a_process(cache):
    """Run a selective scan in a process of its own, with this folder for compiled loops."""
    program = (
        "import torch, ss4rec_lib.ssm as s; u = torch.ones(1, 3, 2); "
        "s.selective_scan(u, u, -torch.ones(2, 16), torch.ones(1, 3, 16), torch.ones(1, 3, 16), "
        "backend='numba'); print('ran')"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "ran\n", done.stderr


def test_compiles_where_no_cache_folder_can_be_written(tmp_path):
    """A folder below a file can't be made, not even by root."""
    (tmp_path / "file").write_text("")
    scan_in_a_process(tmp_path / "file" / "below")


def test_a_second_process_compiles_nothing(tmp_path):
    """A compiled function among what the loops close over would be another in each process."""
    scan_in_a_process(tmp_path)
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert any("forward" in path.name for path in compiled)
    scan_in_a_process(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == compiled


@pytest.mark.gpu
def test_on_a_gpu_auto_equals_the_reference():
    inputs = selective_inputs(2, 70, 8, 4, 0)[:6]
    expected = selective_scan(*[t.double() for t in inputs], backend="reference")
    found = selective_scan(*[t.cuda() for t in inputs]).cpu()
    assert_close([found], [expected], 2e-5)
    a, b, _ = diagonal_inputs(2, 70, 4, 0)
    found = diagonal_scan(a.cuda(), b.cuda()).cpu()
    assert_close([found], [diagonal_scan(a, b, backend="reference")], 2e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Delta": torch.zeros(2, 5, 2)}, r"Delta .*\(2, 5, 2\)"),
        ({"A": torch.zeros(4, 4)}, r"A .*\(4, 4\)"),
        ({"A": torch.full((3, 4), 0.5), "backend": "numba"}, r"A .*0\.5"),
        ({"B": torch.zeros(2, 5, 3)}, r"B .*\(2, 5, 3\)"),
        ({"C": torch.zeros(2, 4, 4)}, r"C .*\(2, 4, 4\)"),
        ({"D": torch.zeros(2)}, r"D .*\(2,\)"),
        ({"B": torch.zeros(2, 5, 4, dtype=torch.float64)}, r"B .*torch\.float64"),
        ({"initial_state": torch.zeros(1, 3, 4)}, r"initial_state .*\(1, 3, 4\)"),
        ({"u": torch.zeros(2, 0, 3)}, r"u .*\(2, 0, 3\)"),
        ({"backend": "cuda"}, "backend='cuda'"),
        ({"Delta": torch.zeros(2, 5, 3, device="meta")}, "Delta .*meta.*cpu"),
        ({"D": torch.zeros(3, device="meta")}, "D .*meta.*cpu"),
        ({"initial_state": torch.zeros(2, 3, 4, device="meta")}, "initial_state .*meta.*cpu"),
    ],
)
def test_selective_scan_names_what_does_not_fit(change, named):
    names = ("u", "Delta", "A", "B", "C", "D", "initial_state")
    arguments = dict(zip(names, selective_inputs(2, 5, 3, 4, 0), strict=True)) | change
    with pytest.raises(ValueError, match=named):
        selective_scan(**arguments)


@pytest.mark.parametrize("backend", ["reference", "parallel"])
def test_a_positive_A_grows_as_it_should_where_the_exponential_is_defined(backend):
    u, Delta, A, B, C, D, x0 = selective_inputs(2, 5, 3, 4, 0, torch.float64)
    found = selective_scan(u, Delta, A * 0 + 0.5, B, C, D, x0, backend=backend)
    x = x0
    for k in range(5):
        x = torch.exp(Delta[:, k, :, None] * 0.5) * x
        x = x + (Delta[:, k] * u[:, k])[..., None] * B[:, k, None]
        assert torch.allclose(found[:, k], (x * C[:, k, None]).sum(-1) + D * u[:, k])


def test_diagonal_scan_names_what_does_not_fit():
    a, b, x0 = diagonal_inputs(2, 5, 3, 0)
    with pytest.raises(ValueError, match=r"b .*\(2, 4, 3\)"):
        diagonal_scan(a, b[:, :4], x0)
    with pytest.raises(ValueError, match=r"b .*torch\.float32"):
        diagonal_scan(a, b.real, x0)
    with pytest.raises(ValueError, match=r"initial_state .*\(1, 3\)"):
        diagonal_scan(a, b, x0[:1])
    with pytest.raises(ValueError, match=r"a .*\(5, 3\)"):
        diagonal_scan(a[0], b, x0)
    with pytest.raises(ValueError, match=r"b .*meta.*cpu"):
        diagonal_scan(a, b.to("meta"), x0)


def test_numba_asked_for_by_name_says_why_it_cannot():
    inputs = selective_inputs(1, 5, 2, 3, 6, torch.float64)
    with pytest.raises(RuntimeError, match=r"numba.*torch\.float32.*torch\.float64"):
        selective_scan(*inputs, backend="numba")


# ------------------------------------------------------------- where the triton backend applies


@pytest.fixture
def triton(monkeypatch, tmp_path):
    """Stand-ins: a Triton, whose version a test may change, a compiler, a GPU of capability 8.0."""
    scan._without_triton.cache_clear()
    scan._without_launcher.cache_clear()
    include = tmp_path / "include"
    include.mkdir()
    (include / "Python.h").write_text("")
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(scan.sysconfig, "get_path", lambda *given: str(include))
    module = types.ModuleType("triton")
    module.__version__ = "3.7.1"
    monkeypatch.setitem(sys.modules, "triton", module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    yield module
    scan._without_triton.cache_clear()
    scan._without_launcher.cache_clear()


def sample(device="cuda:0", dtype=torch.float32):
    return types.SimpleNamespace(device=torch.device(device), dtype=dtype)


@pytest.mark.parametrize("operation", ["selective_scan", "diagonal_scan"])
def test_auto_on_cuda_prefers_triton(triton, operation, monkeypatch):
    monkeypatch.setattr(scan.importlib.util, "find_spec", lambda name: "as if installed")
    assert scan.choose(operation, "auto", sample()) == "triton"
    assert scan.choose(operation, "auto", sample(dtype=torch.bfloat16), True) == "triton"
    assert scan.choose(operation, "auto", sample(dtype=torch.float64)) == "parallel"
    assert scan.choose(operation, "auto", sample("cpu")) == "numba"
    if operation == "selective_scan":
        assert scan.choose(operation, "mamba_ssm", sample()) == "mamba_ssm"


def check_refused(named, *given):
    """Asked for by name it says why not, and `auto` takes another one."""
    with pytest.raises(RuntimeError, match=f"triton.*{named}"):
        scan.choose("selective_scan", "triton", *given)
    assert scan.choose("selective_scan", "auto", *given) != "triton"


def test_triton_asked_for_by_name_says_why_it_cannot(triton, monkeypatch):
    check_refused("cpu", sample("cpu"))
    check_refused("torch.float64", sample(dtype=torch.float64))
    check_refused("torch.complex128", sample(dtype=torch.complex128))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    check_refused("cuda:0.*7.5", sample())


@pytest.mark.parametrize("found", ["2.3.1", "3.5.1"])
def test_a_triton_that_is_too_old_is_refused_with_both_versions(triton, found):
    triton.__version__ = found
    check_refused(rf"{found}.*3\.6", sample())


def test_without_triton_a_gpu_is_used_by_the_parallel_backend(triton, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)  # importing it fails
    check_refused("triton.*parallel", sample())
    assert scan.choose("selective_scan", "auto", sample()) == "parallel"


def test_what_the_launcher_of_triton_needs_is_named(triton, monkeypatch, tmp_path):
    (tmp_path / "include" / "Python.h").unlink()
    check_refused(r"Python\.h.*python3-dev", sample())
    assert scan.choose("selective_scan", "triton", sample("meta")) == "triton"  # launches nothing
    scan._without_launcher.cache_clear()
    monkeypatch.delenv("CC")
    monkeypatch.setattr(scan.shutil, "which", lambda name: None)
    check_refused("compiler.*gcc", sample())


def test_the_layers_refuse_triton_on_the_cpu_by_name(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for layer, inputs in (
        (S5(4, 2, backend="triton"), [torch.ones(1, 3, 4), torch.ones(1, 3)]),
        (Mamba(4, 2, backend="triton"), [torch.ones(1, 3, 4)]),
    ):
        with pytest.raises(RuntimeError, match=r"triton.*cpu"):
            layer(*inputs)


def test_the_layers_refuse_tensors_on_two_devices_by_name():
    s5, mamba = S5(4, 2), Mamba(4, 2)
    hidden, delta = torch.ones(1, 3, 4), torch.ones(1, 3)
    with pytest.raises(ValueError, match=r"u .*meta.*cpu"):
        s5(hidden.to("meta"), delta)
    with pytest.raises(ValueError, match=r"delta .*meta.*cpu"):
        s5(hidden, delta.to("meta"))
    with pytest.raises(ValueError, match=r"initial_state .*meta.*cpu"):
        s5(hidden, delta, s5.initial_state(1).to("meta"))
    with pytest.raises(ValueError, match=r"hidden .*meta.*cpu"):
        mamba(hidden.to("meta"))
    conv, ssm = mamba.initial_state(1)
    with pytest.raises(ValueError, match=r"state\.conv .*meta.*cpu"):
        mamba(hidden, MambaState(conv.to("meta"), ssm))
    with pytest.raises(ValueError, match=r"state\.ssm .*meta.*cpu"):
        mamba(hidden, MambaState(conv, ssm.to("meta")))
