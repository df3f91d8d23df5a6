"""The benchmark of the layers at toy sizes: that it runs, what it writes, what it counts."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"
NAMES = ("floor", "layers", "mamba_ssm_on_cpu", "memory", "peers", "report", "timing")
TOY = {
    "selective_scan": {"D": 4, "N": 2},
    "mamba": {"d_model": 4, "N": 2},
    "s5": {"P": 2, "H": 3},
}


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's files, imported as its script imports them, and forgotten afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import floor
    import layers
    import memory
    import peers
    import report

    yield {"floor": floor, "layers": layers, "memory": memory, "peers": peers, "report": report}
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.long
def test_a_toy_run_writes_every_number_a_table_and_plots(modules, monkeypatch, tmp_path):
    layers = modules["layers"]
    asked = []

    def no_process(operation, contender, sizes):
        asked.append((operation, contender, tuple(sizes.items())))
        return 1_000_000

    monkeypatch.setattr(layers, "WIDTHS", TOY)
    monkeypatch.setattr(layers, "peak_memory_in_a_fresh_process", no_process)
    plan = layers.Plan(
        batch=2, length=6, rounds=2, limit=5.0, tokens=12, lengths=(3, 6, 200),
        peer_lengths=(3, 200), batches=(1, 2), sweep_rounds=1, effort=1e-3,
    )  # fmt: skip
    result = layers.run(plan, say=lambda _: None)
    modules["report"].write_report(result, tmp_path)

    stored = json.loads((tmp_path / "layers.json").read_text())
    assert set(stored) == {
        "plan", "machine", "versions", "rates", "rates_after", "missing",
        "side_by_side", "lengths", "memory", "batches",
    }  # fmt: skip
    assert stored["versions"]["torch"] == torch.__version__
    for rate in ("matrix_flop_s", "vector_flop_s", "exp_s", "copy_byte_s"):
        assert stored["rates"][rate] > 0
    for operation in TOY:
        everybody = set(modules["peers"].contenders(operation))
        rows = [row for row in stored["side_by_side"] if row["operation"] == operation]
        here = {row["contender"] for row in rows}
        assert here | set(stored["missing"][operation]) == everybody
        assert {"ours numba", "ours reference", "ours parallel"} <= here
        assert {(row["contender"], row["mode"]) for row in rows} == {
            (name, mode) for name in here for mode in ("forward", "forward+backward")
        }
        for row in rows:
            assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"]
            assert row["repeats"] == plan.rounds
            assert row["over_floor"] == pytest.approx(row["seconds"] / row["floor_seconds"])
            # Those who compute something else have no place in the table.
            assert row["disagreement"] <= 1e-5, row["contender"]
        lengths = {
            (row["sizes"]["B"], row["sizes"]["L"])
            for row in stored["lengths"]
            if row["operation"] == operation and row["contender"] == "ours numba"
        }
        assert lengths == {(4, 3), (2, 6), (1, 200)}
        assert (tmp_path / f"layers_{operation}.png").stat().st_size > 10_000
        assert (operation, "ours numba", (("B", 2), ("L", 6), *TOY[operation].items())) in asked
    text = (tmp_path / "layers.md").read_text()
    assert text.count("| ours numba |") == text.count("| counted floor |") == len(TOY)


def test_a_peer_that_is_not_installed_is_listed_with_its_reason(modules, monkeypatch):
    monkeypatch.setitem(sys.modules, "mambapy.mamba", None)  # importing it fails
    names, missing = modules["layers"].available("mamba")
    assert "mambapy" not in names
    assert "mambapy" in missing["mambapy"]


@pytest.mark.parametrize("operation", TOY)
def test_pytorchs_scan_is_called_where_it_is_named(modules, monkeypatch, operation):
    """Its outputs are ours, so a call that never reached it would look like a fast one."""
    asked, scan = [], modules["peers"]._associative_scan
    monkeypatch.setattr(
        modules["peers"], "_associative_scan", lambda *ab: asked.append(1) or scan(*ab)
    )
    call = modules["peers"].build(
        operation, "torch associative_scan", {"B": 1, "L": 2, **TOY[operation]}
    )
    call.run()
    assert asked == [1]


def test_a_slow_contender_takes_no_further_part(modules, monkeypatch):
    layers = modules["layers"]
    sizes = {"B": 1, "L": 2, **TOY["s5"]}
    calls = {name: modules["peers"].build("s5", f"ours {name}", sizes) for name in ("numba",)}
    taken = layers.interleaved(calls, "forward", rounds=3, limit=0.0)
    assert len(taken["numba"]) == 1  # the first call spent it all, and is kept
    assert len(layers.interleaved(calls, "forward", rounds=3, limit=60.0)["numba"]) == 3


def test_peak_memory_sees_the_states_that_the_reference_keeps(modules):
    sizes = {"B": 4, "L": 200, "D": 64, "N": 32}
    peak = modules["memory"].peak_memory_in_a_fresh_process
    reference = peak("selective_scan", "ours reference", sizes)
    ours = peak("selective_scan", "ours numba", sizes)
    states = 4 * sizes["B"] * sizes["L"] * sizes["D"] * sizes["N"]  # bytes of (B, L, D, N)
    assert reference > states  # autograd keeps one state a position, and more
    assert ours < states


COUNTED = {
    "mamba": {"B": 2, "L": 16, "d_model": 32, "N": 8},
    "s5": {"B": 2, "L": 16, "P": 4, "H": 6},
}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("operation", COUNTED)
def test_counted_matrix_products_are_those_pytorch_counts(modules, operation, backward):
    sizes = COUNTED[operation]
    call = modules["peers"].build(operation, "ours numba", sizes)
    with FlopCounterMode(display=False) as counter:
        output = call.run()
        if backward:
            output.sum().backward()  # the counter's hooks refuse autograd.grad
    products = sum(
        flop for name, flop in counter.get_flop_counts()["Global"].items() if "mm" in str(name)
    )
    assert modules["floor"].count(operation, sizes, backward).matrix_flop == products


def test_the_floor_is_the_larger_of_arithmetic_and_traffic(modules):
    floor = modules["floor"]
    rates = {"matrix_flop_s": 10.0, "vector_flop_s": 4.0, "exp_s": 2.0, "copy_byte_s": 8.0}
    assert floor.floor_seconds(floor.Count(20, 4, 6, 8), rates) == 2 + 1 + 3
    assert floor.floor_seconds(floor.Count(0, 0, 0, 80), rates) == 10
