"""A search whose next points optuna chooses by what became of those before. This file alone imports it."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from flaxformer_lite.checkpoints.work_dir import what
from flaxformer_lite.config import parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import lower_is_better
from flaxformer_lite.sweeps.distributions import Choice, Distribution, Integers, LogUniform, Uniform
from flaxformer_lite.sweeps.search_space import SearchSpace
from flaxformer_lite.sweeps.status import Phase, Standing, metric_of
from flaxformer_lite.sweeps.sweep_dir import SweepFolder
from flaxformer_lite.sweeps.trial_dir import Evaluation, Pruned
from flaxformer_lite.sweeps.trials import Point

PrunerName = Literal["none", "median", "halving"]

_NAME = "search"
_POINT = "point"  # the attribute of a trial that names its point
_REDUCTION = 3  # of the runs one goes on at each rung; eta of Li et al. (2018), "Hyperband"


class Study:
    """The points of a search: each trial of the study is one, and its folder says how it stands.

    Of a trial the study keeps what was drawn, its evaluations and what became of it; folders have everything else. A
    trial without a result is gone on with. Two trials may be one point, where there are few to choose from.

    Attributes:
      points: those that were drawn, less those that failed in an earlier call and are not tried again yet.
      to_come: how many more trials there may be.
      refused: what cannot be run of that which was drawn in this call, and why.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace, folder: SweepFolder, trials: int):
        self.points: list[Point] = []
        self.refused: list[str] = []
        self._study = study
        self._space = space
        self._folder = folder
        self._distributions = {key: _distribution(found) for key, found in space.searched.items()}
        self._reported: dict[int, int] = {}  # the last step of each trial
        self._open: dict[str, list[Trial]] = {}  # the trials of each point that have no result
        kept = [trial for trial in self._trials() if trial.state.name in ("RUNNING", "COMPLETE", "PRUNED")]
        kept = [trial for trial in kept if trial.params.keys() == self._distributions.keys()]
        for trial in kept:
            point = self._space.point(self._values(trial.params))
            self._add(point)
            if trial.state is TrialState.RUNNING:
                self._reported[trial.number] = trial.last_step or 0
                self._open.setdefault(point.name, []).append(Trial(study, trial._trial_id))  # the way of its own ask()
        self.to_come = max(trials - len(kept), 0)

    def take_up(self) -> None:
        """Puts right what an earlier call left: what it had not drawn to the end is void, what failed is due again."""
        there = {trial.user_attrs.get(_POINT) for trial in self._trials() if trial.state is not TrialState.FAIL}
        for trial in self._trials():
            cut_off = trial.params.keys() != self._distributions.keys()
            if trial.state is TrialState.RUNNING and cut_off:
                self._study.tell(trial.number, state=TrialState.FAIL)
            name = trial.user_attrs.get(_POINT)
            if trial.state is TrialState.FAIL and name and name not in there:
                self._study.enqueue_trial(trial.params, user_attrs={_POINT: name})
                there.add(name)

    def draw(self, room: int) -> None:
        """Adds so many points that are not there yet, or as many as there are trials left for."""
        while room > 0 and self.to_come:
            with _faults_named(self._folder):
                trial = self._ask()
                self.to_come -= 1
                try:
                    point = self._space.point(self._values(trial.params))
                except InputError as error:
                    self.refused.append(f"trial {trial.number} cannot be run: {error}")
                    self._study.tell(trial, state=TrialState.FAIL)
                    continue
                trial.set_user_attr(_POINT, point.name)
            self._reported[trial.number] = 0
            self._open.setdefault(point.name, []).append(trial)
            room -= self._add(point)

    def hopeless(self, point: Point) -> bool:
        """Whether the pruner says so, of any evaluation but the last; what it said once, it has said for good."""
        folder = self._folder.of(point)
        if folder.pruned():
            return True
        with _faults_named(self._folder):
            for trial in self._open.get(point.name, [])[:1]:
                for step, value in self._report(point, trial):
                    if step < point.config.train.steps and trial.should_prune():
                        folder.save_pruned(Pruned(step, value))
                        return True
        return False

    def tell(self, point: Point, standing: Standing) -> None:
        """Gives the study what its trials have come to; a run whose best value is no number has failed."""
        for trial in self._open.get(point.name, []):
            with _faults_named(self._folder):
                for _ in self._report(point, trial):
                    pass
                value = standing.progress.value
                if standing.phase is Phase.DONE and value is not None:
                    self._study.tell(trial, value)
                else:
                    pruned = standing.phase is Phase.PRUNED
                    self._study.tell(trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)
        self._open.pop(point.name, None)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _add(self, point: Point) -> bool:
        """Whether it is a new one."""
        new = all(point.name != other.name for other in self.points)
        if new:
            self.points.append(point)
        return new

    def _ask(self) -> Trial:
        """A new trial: a function of the seed, its number, and the trials before."""
        source = random.Random(f"{self._space.seed}/{len(self._trials())}")
        self._study.sampler = optuna.samplers.TPESampler(seed=source.getrandbits(32))
        return self._study.ask(self._distributions)

    def _values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        return {key: _value(found, drawn[key]) for key, found in self._space.searched.items()}

    def _report(self, point: Point, trial: Trial) -> Iterator[Evaluation]:
        """Gives a trial the evaluations that it does not have yet, one by one."""
        for evaluation in self._folder.of(point).evaluations(metric_of(point)):
            step, value = evaluation
            if step > self._reported[trial.number]:
                trial.report(math.nan if value is None else value, step)
                self._reported[trial.number] = step
                yield evaluation


@contextlib.contextmanager
def opened(folder: SweepFolder, space: SearchSpace, pruner: PrunerName, trials: int) -> Iterator[Study]:
    """The study of a folder, for so many trials in all; where there is none yet, a new one.

    Raises:
      InputError: a study of another space or config lies there, or it cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = space.corner
    address = URL.create("sqlite", database=str(folder.search.absolute())).render_as_string()
    with contextlib.ExitStack() as stack:
        with _faults_named(folder):
            storage = optuna.storages.RDBStorage(address)
            stack.callback(storage.engine.dispose)
            stack.callback(storage.remove_session)
            study = optuna.create_study(
                storage=storage,
                study_name=_NAME,
                load_if_exists=True,
                direction="minimize" if lower_is_better(config.eval.best_metric) else "maximize",
                pruner=_pruner(pruner, config),
            )
            _claim(study, space, folder)
            found = Study(study, space, folder, trials)
        yield found


@contextlib.contextmanager
def _faults_named(folder: SweepFolder) -> Iterator[None]:
    """Turns what goes wrong with the file of a study, such as a full disk, into an ``InputError``."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        causes = [error, error.__cause__, getattr(error.__cause__, "orig", None)]  # the last of them is the clearest
        why = [cause for cause in causes if cause][-1]
        raise InputError(f"{folder.search}: cannot be read or written: {why}") from error


def _claim(study: optuna.Study, space: SearchSpace, folder: SweepFolder) -> None:
    """Makes the study this space's own."""
    mine = {
        "space": {key: repr(found) for key, found in space.values.items()},
        "config": what(space.corner),
    }
    for name, ours in mine.items():
        if name not in study.user_attrs:
            study.set_user_attr(name, ours)
        elif lines := parsing.difference(study.user_attrs[name], ours):
            raise InputError(
                f"--workdir={folder.path} holds the search of another {name} (there → here):\n  "
                + "\n  ".join(lines)
                + "\nname another folder for this search, or undo the difference to go on with that one"
            )


def _pruner(name: PrunerName, config: Config) -> BasePruner:
    if name == "median":
        return MedianPruner()
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=config.train.eval_every, reduction_factor=_REDUCTION)
    return NopPruner()


def _distribution(found: Distribution) -> BaseDistribution:
    """What optuna draws from; of choices it knows how they are written, since not every value can be kept."""
    match found:
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case Integers(low, high):
            return IntDistribution(low, high)
        case Choice(values):
            return CategoricalDistribution(list(dict.fromkeys(map(repr, values))))
    raise TypeError(found)


def _value(found: Distribution, drawn: Any) -> Any:
    """The value of the config that optuna's draw stands for."""
    match found:
        case LogUniform() | Uniform():
            return found.nearby(drawn)
        case Choice(values):
            return {repr(value): value for value in values}[drawn]
    return drawn
