"""Where recorded runs come from, and the commands that make them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ss4rec_lib.experiments.labels import counted, listed, protocol_of
from ss4rec_lib.experiments.published import MILESTONES
from ss4rec_lib.experiments.results import Group


def origin_of(group: Group) -> str:
    """Machine, versions and revision of a group, and the commands that make it again."""
    records = group.records
    places = dict.fromkeys(
        f"{r['machine']['processor']}, {r['machine']['cores']} cores, "
        f"{counted(r['machine']['torch_threads'], 'thread')}, device {r['machine']['device']}"
        for r in records
    )
    revisions = dict.fromkeys(record["revision"] or "unknown" for record in records)
    torch_versions = dict.fromkeys(record["versions"].get("torch", "unknown") for record in records)
    peaks = [record["peak_rss_bytes"] for record in records if record["peak_rss_bytes"]]
    lines = [
        f"**{group.first['dataset']}, {protocol_of(group)}, {group.first['model']}, "
        f"{group.differs}**",
        "",
        "```bash",
        *(group.command(seed) for seed in group.seeds),
        "```",
        "",
        f"- machine: {'; '.join(places)}; torch {listed(list(torch_versions))}",
        f"- revision: {listed(list(revisions))}",
        *_time_to_published(group),
        *([f"- peak resident memory: {max(peaks) / 1e6:,.0f} MB"] if peaks else []),
        f"- records: {', '.join(f'[{name}]({name}.json)' for name in group.names)}",
    ]
    return "\n".join(lines) + "\n"


def _time_to_published(group: Group) -> list[str]:
    """When each run reached the validation figures that its protocol is compared with."""
    protocol = group.first["protocol"]
    here = group.first["dataset"], protocol["ordering"], protocol["target_time"]
    if here != ("ml-1m", "recbole-float32", "known") or protocol["min_interactions"] != 5:
        return []
    lines = []
    for figure, whose in MILESTONES:
        found = [
            f"seed {record['seed']}: {_first_reached(record['curve'], figure)}"
            for record in group.records
        ]
        lines.append(
            f"- training and validation until valid NDCG@10 {figure:.4f} ({whose}): "
            f"{'; '.join(found)}"
        )
    return lines


def _first_reached(curve: Sequence[Mapping[str, Any]], figure: float) -> str:
    seconds = 0.0
    for row in curve:
        seconds += row["train_seconds"] + row["valid_seconds"]
        if row["ndcg@10"] >= figure:
            return f"{seconds:,.0f} s, epoch {row['epoch']}"
    return "not reached"
