"""The decodes of several runs, tried against those of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flaxformer_lite.compare import decodes
from flaxformer_lite.compare.decodes import Decodes
from flaxformer_lite.compare.runs import Run
from flaxformer_lite.compare.significance import RESAMPLES, Verdict, paired_bootstrap
from flaxformer_lite.compare.table import Column, decimals, lay_out
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import METRICS
from flaxformer_lite.monitoring import metric_writer

_SPLITS = ("train", "validation", "test")


class System(NamedTuple):
    """A run and decodes of it, which lie in its folder under a name."""

    run: Run
    name: str
    decodes: Decodes


@dataclass(frozen=True)
class Trial:
    """What the tests found.

    Attributes:
      systems: the first is the one that the others are tested against.
      verdicts: of each metric, one for each system.
      missing: which runs have no such decodes, and how to make them; empty where all have.
    """

    systems: tuple[System, ...]
    verdicts: dict[str, list[Verdict]]
    missing: str

    def render(self, width: int) -> str:
        """A table for people: for each metric the systems in order."""
        names = self._names()
        columns = [
            Column(parts[0].heading, [cell for part in parts for cell in part.cells], parts[0].right)
            for parts in zip(*(self._columns(metric, names) for metric in self.verdicts), strict=True)
        ]
        title = (
            f"{len(self.systems[0].decodes.sources):,} sources, paired bootstrap over {RESAMPLES:,} resamples against "
            f"{names[0]}"
        )
        return "\n".join([title, "", *lay_out(columns, width)]) + "\n"

    def to_json(self) -> list[dict[str, Any]]:
        """The same as plain values, exact."""
        return [
            {"run": system.run.name, "folder": str(system.run.folder), "decodes": system.name}
            | {"settings": system.decodes.settings, "sources": len(system.decodes.sources)}
            | {"metrics": {metric: _plain(verdicts, i) for metric, verdicts in self.verdicts.items()}}
            for i, system in enumerate(self.systems)
        ]

    def _names(self) -> list[str]:
        several = len({system.name for system in self.systems}) > 1
        return [f"{system.run.name} ({system.name})" if several else system.run.name for system in self.systems]

    def _columns(self, metric: str, names: Sequence[str]) -> list[Column]:
        verdicts = self.verdicts[metric]
        places = decimals([verdict.score for verdict in verdicts])
        ranges = [(v.mean - v.half_width, v.mean + v.half_width) for v in verdicts]
        gaps = [verdict.score - verdicts[0].score for verdict in verdicts]
        return [
            Column("metric", [metric] * len(verdicts), right=False),
            Column("score", [f"{verdict.score:.{places}f}" for verdict in verdicts], right=True),
            Column("95 % of resamples", [f"{low:.{places}f} – {high:.{places}f}" for low, high in ranges], right=True),
            Column("difference", ["", *(f"{gap:+.{places}f}" for gap in gaps[1:])], right=True),
            Column("p", ["", *(f"{verdict.p_value:.3f}" for verdict in verdicts[1:])], right=True),
            Column("run", names, right=False),
        ]


def hold_trial(runs: Sequence[Run], names: Sequence[str]) -> Trial:
    """Tests the decodes of these names that lie in the runs' folders, each against the first.

    The metrics are those that all of them were evaluated by.

    Raises:
      InputError: there are fewer than two, or they are not of the same sources and references.
    """
    asked = [(run, name) for run in runs for name in names]
    there = [(run, name) for run, name in asked if decodes.path_of(run.folder, name).exists()]
    absent = [pair for pair in asked if pair not in there]
    missing = _missing(absent) if absent else ""
    if len(there) < 2:
        what = missing or "two runs, or two names of what one run decoded, are needed"
        raise InputError(f"--significance={','.join(names)}: there are no two decodes to compare: {what}")
    systems = [System(run, name, decodes.load(decodes.path_of(run.folder, name))) for run, name in there]
    _check_same(systems)
    first = systems[0].decodes
    hypotheses = [system.decodes.hypotheses for system in systems]
    verdicts = {metric: paired_bootstrap(metric, hypotheses, first.references) for metric in _common_metrics(systems)}
    return Trial(tuple(systems), verdicts, missing)


def _check_same(systems: Sequence[System]) -> None:
    first, *others = systems
    for other in others:
        ours, theirs = ((system.decodes.sources, system.decodes.references) for system in (first, other))
        if ours != theirs:
            paths = [decodes.path_of(system.run.folder, system.name) for system in (first, other)]
            raise InputError(
                f"{paths[0]} and {paths[1]} are not of the same sources and references (of {len(ours[0]):,} and "
                f"{len(theirs[0]):,} examples); decode the same data with both: {_command(other.run, other.name)}"
            )


def _common_metrics(systems: Sequence[System]) -> list[str]:
    named = [system.decodes.settings.get("metrics", {}) for system in systems]
    return [name for name in METRICS if all(name in of_one for of_one in named)] or ["exact_match"]


def _missing(absent: Sequence[tuple[Run, str]]) -> str:
    (run, name), *others = absent
    more = f" (and {len(others):,} others lack theirs)" if others else ""
    return f"{run.folder} has no decodes/{name}.jsonl{more}; make it with: {_command(run, name)}"


def _command(run: Run, name: str) -> str:
    split, named = (name, "") if name in _SPLITS else ("…", f"={name}")
    return f"flaxformer-lite evaluate --workdir={run.folder} --split={split} --save_decodes{named}"


def _plain(verdicts: Sequence[Verdict], i: int) -> dict[str, float | None]:
    values = verdicts[i]._asdict() | {"difference": verdicts[i].score - verdicts[0].score}
    return metric_writer.finite_or_none(values)
