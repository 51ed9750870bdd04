"""Combined trials: the predictions of several finished trials of one split together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alljax.errors import ConfigError
from alljax.evaluation.combination import accuracy_weights, combine
from alljax.study import outputs, workdir
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.study.trials import Outcome
from alljax.training.head_training import FoldOutcome


def write_combined(folder: Path, trials: Sequence[Trial], experiment: Experiment) -> None:
    """Writes the combined ones of `trials` whose members are all done, also those that are finished: members change."""
    for trial in (trial for trial in trials if trial.members):
        members = {name: workdir.read_result(folder, name) for name in trial.members}
        if not all(members.values()):
            continue  # some are of other shards
        failed = [result for result in members.values() if "failed" in result]
        try:
            if failed:
                raise ConfigError("a member has no results")
            here = [workdir.trial_folder(folder, name) for name in members]
            about = {"rule": trial.config.study.combine[0][1], "members": [*members]}
            about |= {key: sum(one[key] for one in members.values()) for key in ("seconds", "parameters")}
            about["masked"] = any(one["masked"] for one in members.values())
            about["weights"] = members[trial.members[0]]["weights"]  # those of the others are in theirs
            outputs.write_trial(folder, trial, experiment, _combine(here, trial, experiment, about))
        except ConfigError as error:
            skipped = any(result.get("skipped") for result in failed)
            outputs.write_failure(folder, trial.name, str(error), skipped)


def _combine(here: Sequence[Path], trial: Trial, experiment: Experiment, about: dict[str, Any]) -> Outcome:
    """Returns the combined predictions from the folders of the M members; adds ``member_weights``, (F, M), of folds."""
    folds, runs, inner, weights = experiment.folds(trial), [], [], []
    divided = experiment.inner_folds.get(trial.split, ((),) * len(folds))
    seeds, known = trial.config.study.seeds, all((path / workdir.INNER_PREDICTIONS).is_file() for path in here)
    tested = _read(here, "predictions.csv", [seeds * len(fold.test) for fold in folds], experiment)
    sizes = [len(part.test) for parts in divided for part in parts] if known else []
    guessed = iter(_read(here, workdir.INNER_PREDICTIONS, sizes, experiment) if known else ())
    for number, (parts, predicted) in enumerate(zip(divided, tested, strict=True)):
        of_parts = [next(guessed) for _ in parts] if known else []
        weights.append(np.full(len(here), 1 / len(here)))
        if about["rule"] == "weighted":
            if not of_parts:
                raise ConfigError(f"the weights are from inner folds, and fold {number} has none; use the rule mean")
            labels = experiment.labels[np.concatenate([part.test for part in parts])]
            weights[-1] = accuracy_weights(labels, np.concatenate(of_parts, axis=1))
        inner += [combine(about["rule"], of_part, weights[-1]) for of_part in of_parts]
        by_seed = predicted.reshape(len(here), seeds, -1, experiment.num_classes)
        runs.append(FoldOutcome({}, None, combine(about["rule"], by_seed, weights[-1][:, None])))
    return Outcome(runs, inner, 0, about | {"member_weights": np.array(weights).tolist()})


def _read(here: Sequence[Path], file: str, sizes: Sequence[int], experiment: Experiment) -> list[np.ndarray]:
    """Returns the probabilities in a table of each of M trials, in parts of these numbers of rows, (M, rows, C)."""
    columns = {f"prob_{name}": float for name in experiment.dataset.classes}
    tables = [workdir.read_csv(path, file, columns)[[*columns]].to_numpy(np.float32) for path in here]
    return np.split(np.stack(tables), np.cumsum(sizes)[:-1], axis=1)
