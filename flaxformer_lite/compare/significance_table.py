"""Table of significance tests of the runs' stored decodes against those of the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flaxformer_lite.compare.bootstrap import RESAMPLES, BootstrapResult, paired_bootstrap
from flaxformer_lite.compare.comparison import RunRecord
from flaxformer_lite.compare.decode_records import DecodeRecords, decodes_path, load_decodes
from flaxformer_lite.compare.text_table import Column, decimals, layout_columns
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import METRICS
from flaxformer_lite.system.json_text import finite

_SPLITS = ("train", "validation", "test")


class System(NamedTuple):
    """A run and its decodes of one name."""

    run: RunRecord
    name: str
    decodes: DecodeRecords


@dataclass(frozen=True)
class SignificanceTable:
    """Results of the tests.

    Attributes:
      systems: the others are tested against the first.
      results: for each metric, one per system.
      missing: a message about runs without such decodes and how to create them; "" where all have some.
    """

    systems: tuple[System, ...]
    results: dict[str, list[BootstrapResult]]
    missing: str

    def render(self, width: int) -> str:
        """A text table with the systems in order for each metric."""
        names = self._names()
        columns = [
            Column(parts[0].heading, [cell for part in parts for cell in part.cells], parts[0].right)
            for parts in zip(*(self._columns(metric, names) for metric in self.results), strict=True)
        ]
        num_sources = len(self.systems[0].decodes.sources)
        title = f"{num_sources:,} sources, paired bootstrap over {RESAMPLES:,} resamples against {names[0]}"
        return "\n".join([title, "", *layout_columns(columns, width)]) + "\n"

    def to_json(self) -> list[dict[str, Any]]:
        """The same as plain values in full precision."""
        return [
            {"run": system.run.name, "folder": str(system.run.path), "decodes": system.name}
            | {"settings": system.decodes.settings, "sources": len(system.decodes.sources)}
            | {"metrics": {metric: _plain_values(results, i) for metric, results in self.results.items()}}
            for i, system in enumerate(self.systems)
        ]

    def _names(self) -> list[str]:
        several = len({system.name for system in self.systems}) > 1
        return [f"{system.run.name} ({system.name})" if several else system.run.name for system in self.systems]

    def _columns(self, metric: str, names: Sequence[str]) -> list[Column]:
        results = self.results[metric]
        places = decimals([result.score for result in results])
        intervals = [(r.mean - r.half_width, r.mean + r.half_width) for r in results]
        differences = [result.score - results[0].score for result in results]
        return [
            Column("metric", [metric] * len(results), right=False),
            Column("score", [f"{result.score:.{places}f}" for result in results], right=True),
            Column("95 % interval", [f"{low:.{places}f} – {high:.{places}f}" for low, high in intervals], right=True),
            Column("difference", ["", *(f"{value:+.{places}f}" for value in differences[1:])], right=True),
            Column("p", ["", *(f"{result.p_value:.3f}" for result in results[1:])], right=True),
            Column("run", names, right=False),
        ]


def significance_table(runs: Sequence[RunRecord], names: Sequence[str]) -> SignificanceTable:
    """Tests the runs' decodes of these names, each against the first, by the metrics that all of them have.

    Raises:
      InputError: there are fewer than two, or their sources and references differ.
    """
    candidates = [(run, name) for run in runs for name in names]
    found = [(run, name) for run, name in candidates if decodes_path(run.path, name).exists()]
    absent = [pair for pair in candidates if pair not in found]
    missing = _describe_missing(absent) if absent else ""
    if len(found) < 2:
        reason = missing or "two runs, or two names of one run's decodes, are needed"
        raise InputError(f"decodes {','.join(names)}", f"fewer than two were found: {reason}")
    systems = [System(run, name, load_decodes(decodes_path(run.path, name))) for run, name in found]
    _check_same_data(systems)
    first = systems[0].decodes
    hypotheses = [system.decodes.hypotheses for system in systems]
    results = {metric: paired_bootstrap(metric, hypotheses, first.references) for metric in _common_metrics(systems)}
    return SignificanceTable(tuple(systems), results, missing)


def _check_same_data(systems: Sequence[System]) -> None:
    first, *others = systems
    for other in others:
        ours, theirs = ((system.decodes.sources, system.decodes.references) for system in (first, other))
        if ours != theirs:
            paths = [decodes_path(system.run.path, system.name) for system in (first, other)]
            raise InputError(
                f"{paths[0]}, {paths[1]}",
                f"their sources and references differ ({len(ours[0]):,} and {len(theirs[0]):,} examples)",
                f"decode the same data with both: {_command(other.run, other.name)}",
            )


def _common_metrics(systems: Sequence[System]) -> list[str]:
    metrics = [system.decodes.settings.get("metrics", {}) for system in systems]
    return [name for name in METRICS if all(name in of_one for of_one in metrics)] or ["exact_match"]


def _describe_missing(absent: Sequence[tuple[RunRecord, str]]) -> str:
    (run, name), *others = absent
    more = f" (nor have {len(others):,} others)" if others else ""
    return f"{run.path} has no decodes/{name}.jsonl{more}; create it with: {_command(run, name)}"


def _command(run: RunRecord, name: str) -> str:
    split, suffix = (name, "") if name in _SPLITS else ("…", f"={name}")
    return f"flaxformer-lite evaluate --workdir={run.path} --split={split} --save_decodes{suffix}"


def _plain_values(results: Sequence[BootstrapResult], i: int) -> dict[str, float | None]:
    return finite(results[i]._asdict() | {"difference": results[i].score - results[0].score})
