"""Hyperparameter search by optuna: TPE sampling with pruning. The only module that imports optuna."""

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
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from flaxformer_lite.checkpoints.work_dir import fixed_values
from flaxformer_lite.config import parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.metrics.compute import lower_is_better
from flaxformer_lite.sweeps.distributions import Choice, Distribution, Integers, LogUniform, Uniform
from flaxformer_lite.sweeps.search_space import SearchSpace
from flaxformer_lite.sweeps.sweep_dir import SweepDir
from flaxformer_lite.sweeps.trial_dir import MetricValue
from flaxformer_lite.sweeps.trial_status import TrialState, TrialStatus, metric_of
from flaxformer_lite.sweeps.trials import Trial

PrunerName = Literal["none", "median", "halving"]

_STUDY = "search"
_NAME = "trial"  # user attribute of an optuna trial: the name of ours
_REDUCTION_FACTOR = 3  # eta of Li et al. (2018), "Hyperband": one run of three continues at each rung

_RUNNING, _FAIL = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL


class OptunaSuggester:
    """Suggests trials by an optuna study.

    The study stores the sampled values, evaluations and result of a trial; its directory stores everything else.
    Unfinished trials are resumed. Two optuna trials may be the same run, where the space is small.

    Attributes:
      trials: those suggested so far, except failed ones of an earlier call that are not retried yet.
      num_remaining: how many more optuna trials may be started.
      invalid: messages about samples of this call that are no valid config.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace, sweep_dir: SweepDir, max_trials: int):
        self.trials: list[Trial] = []
        self.invalid: list[str] = []
        self._study = study
        self._space = space
        self._sweep_dir = sweep_dir
        self._distributions = {key: _to_optuna(found) for key, found in space.distributions.items()}
        self._last_reported: dict[int, int] = {}  # step, by number of the optuna trial
        self._unfinished: dict[str, list[optuna.Trial]] = {}  # by name of our trial
        stored = [trial for trial in self._stored() if trial.state.name in ("RUNNING", "COMPLETE", "PRUNED")]
        stored = [trial for trial in stored if trial.params.keys() == self._distributions.keys()]
        for trial in stored:
            ours = self._space.trial(self._values(trial.params))
            self._add(ours)
            if trial.state is _RUNNING:
                self._last_reported[trial.number] = trial.last_step or 0
                resumed = optuna.Trial(study, trial._trial_id)  # as Study.ask does
                self._unfinished.setdefault(ours.name, []).append(resumed)
        self.num_remaining = max(max_trials - len(stored), 0)

    def recover(self) -> None:
        """Repairs what an earlier call left: voids incompletely sampled trials, and enqueues failed ones again."""
        names = {trial.user_attrs.get(_NAME) for trial in self._stored() if trial.state is not _FAIL}
        for trial in self._stored():
            incomplete = trial.params.keys() != self._distributions.keys()
            if trial.state is _RUNNING and incomplete:
                self._study.tell(trial.number, state=_FAIL)
            name = trial.user_attrs.get(_NAME)
            if trial.state is _FAIL and name and name not in names:
                self._study.enqueue_trial(trial.params, user_attrs={_NAME: name})
                names.add(name)

    def suggest(self, count: int) -> None:
        while count > 0 and self.num_remaining:
            with _storage_errors_named(self._sweep_dir):
                trial = self._ask()
                self.num_remaining -= 1
                try:
                    ours = self._space.trial(self._values(trial.params))
                except InputError as error:
                    self.invalid.append(f"trial {trial.number} is invalid: {error}")
                    self._study.tell(trial, state=_FAIL)
                    continue
                trial.set_user_attr(_NAME, ours.name)
            self._last_reported[trial.number] = 0
            self._unfinished.setdefault(ours.name, []).append(trial)
            count -= self._add(ours)

    def should_prune(self, trial: Trial) -> bool:
        """Whether the pruner stops the trial at any evaluation but the last; the decision is stored."""
        trial_dir = self._sweep_dir.trial_dir(trial)
        if trial_dir.pruned.read():
            return True
        with _storage_errors_named(self._sweep_dir):
            for theirs in self._unfinished.get(trial.name, [])[:1]:
                for step, value in self._report_evaluations(trial, theirs):
                    if step < trial.config.train.steps and theirs.should_prune():
                        trial_dir.pruned.save(MetricValue(step, value))
                        return True
        return False

    def report(self, trial: Trial, status: TrialStatus) -> None:
        """Stores the final value of a trial; one whose best value is not finite has failed."""
        for theirs in self._unfinished.get(trial.name, []):
            with _storage_errors_named(self._sweep_dir):
                for _ in self._report_evaluations(trial, theirs):
                    pass
                value = status.progress.value
                if status.state is TrialState.DONE and value is not None:
                    self._study.tell(theirs, value)
                else:
                    pruned = status.state is TrialState.PRUNED
                    self._study.tell(theirs, state=optuna.trial.TrialState.PRUNED if pruned else _FAIL)
        self._unfinished.pop(trial.name, None)

    def _stored(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _add(self, trial: Trial) -> bool:
        """Adds a trial unless it is known; returns whether it was new."""
        new = all(trial.name != other.name for other in self.trials)
        if new:
            self.trials.append(trial)
        return new

    def _ask(self) -> optuna.Trial:
        """A new optuna trial: a function of the seed, its number, and the earlier trials."""
        rng = random.Random(f"{self._space.seed}/{len(self._stored())}")
        self._study.sampler = optuna.samplers.TPESampler(seed=rng.getrandbits(32))
        return self._study.ask(self._distributions)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {key: _from_optuna(found, params[key]) for key, found in self._space.distributions.items()}

    def _report_evaluations(self, trial: Trial, theirs: optuna.Trial) -> Iterator[MetricValue]:
        """Reports the evaluations that the study does not have yet, and yields each after it is reported."""
        for evaluation in self._sweep_dir.trial_dir(trial).evaluations(metric_of(trial)):
            step, value = evaluation
            if step > self._last_reported[theirs.number]:
                theirs.report(math.nan if value is None else value, step)
                self._last_reported[theirs.number] = step
                yield evaluation


@contextlib.contextmanager
def open_study(
    sweep_dir: SweepDir, space: SearchSpace, pruner: PrunerName, max_trials: int
) -> Iterator[OptunaSuggester]:
    """Opens or creates the study of a sweep's directory.

    Raises:
      InputError: the study has another search space or base config, or it cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = space.first_config
    url = URL.create("sqlite", database=str(sweep_dir.study.absolute())).render_as_string()
    with contextlib.ExitStack() as stack:
        with _storage_errors_named(sweep_dir):
            storage = optuna.storages.RDBStorage(url)
            stack.callback(storage.engine.dispose)
            stack.callback(storage.remove_session)
            study = optuna.create_study(
                storage=storage,
                study_name=_STUDY,
                load_if_exists=True,
                direction="minimize" if lower_is_better(config.eval.best_metric) else "maximize",
                pruner=_pruner(pruner, config),
            )
            _check_same_search(study, space, sweep_dir)
            suggester = OptunaSuggester(study, space, sweep_dir, max_trials)
        yield suggester


@contextlib.contextmanager
def _storage_errors_named(sweep_dir: SweepDir) -> Iterator[None]:
    """Converts errors of the database, such as a full disk, to an ``InputError``."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        causes = [error, error.__cause__, getattr(error.__cause__, "orig", None)]  # the innermost is the clearest
        cause = [cause for cause in causes if cause][-1]
        raise InputError(f"{sweep_dir.study}", f"cannot be read or written: {cause}") from error


def _check_same_search(study: optuna.Study, space: SearchSpace, sweep_dir: SweepDir) -> None:
    """Stores the search space and the base config with the study, or compares them with the stored ones."""
    values = {
        "search space": {key: repr(found) for key, found in space.values.items()},
        "base config": fixed_values(space.first_config),
    }
    for name, ours in values.items():
        if name not in study.user_attrs:
            study.set_user_attr(name, ours)
        elif lines := parsing.difference(study.user_attrs[name], ours):
            raise InputError(
                f"{sweep_dir.path}",
                f"contains a search with another {name}",
                "choose another directory for this search, or undo the differences to continue the stored one "
                "(stored → here):\n  " + "\n  ".join(lines),
            )


def _pruner(name: PrunerName, config: Config) -> BasePruner:
    if name == "median":
        return MedianPruner()
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=config.train.eval_every, reduction_factor=_REDUCTION_FACTOR)
    return NopPruner()


def _to_optuna(found: Distribution) -> BaseDistribution:
    """The optuna distribution; choices are stored by their repr, since optuna cannot store every type of value."""
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


def _from_optuna(found: Distribution, sampled: Any) -> Any:
    """The config value of an optuna sample."""
    match found:
        case LogUniform() | Uniform():
            return found.round(sampled)
        case Choice(values):
            return {repr(value): value for value in values}[sampled]
    return sampled
