"""Combined trials: the predictions of several finished trials of one split together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alljax import files
from alljax.errors import ConfigError
from alljax.evaluation.combination import accuracy_weights, combine
from alljax.study import outputs, workdir
from alljax.study.experiment import Experiment
from alljax.study.sweep import Trial
from alljax.study.trials import Outcome
from alljax.training.head_training import FoldOutcome


def write_combined(folder: Path, trials: Sequence[Trial], experiment: Experiment) -> None:
    """Writes the combined ones of `trials` whose members are all done, unless they are from the same predictions."""
    for trial in (trial for trial in trials if trial.members):
        members = {name: workdir.read_result(folder, name) for name in trial.members}
        if not all(members.values()):
            continue  # some are of other shards
        try:
            for name, result in members.items():
                if "failed" in result:
                    raise ConfigError(f"its member {name} {'is skipped' if result.get('skipped') else 'failed'}")
            here = [workdir.trial_folder(folder, name) for name in members]
            inputs = [files.sha256(path / "predictions.csv") for path in here]
            about = {"rule": trial.config.study.combine[0][1], "members": dict(zip(members, inputs, strict=True))}
            if not about.items() <= workdir.read_result(folder, trial.name).items():
                seconds = sum(result["seconds"] for result in members.values())
                outcome, weights = _combine(about["rule"], here, trial, experiment, seconds)
                about["parameters"] = sum(result["parameters"] for result in members.values())
                outputs.write_trial(folder, trial, experiment, outcome, about | {"member_weights": weights.tolist()})
        except ConfigError as error:
            skipped = any(result.get("skipped") for result in members.values())
            outputs.write_failure(folder, trial.name, str(error), skipped)


def _combine(
    rule: str, here: Sequence[Path], trial: Trial, experiment: Experiment, seconds: float
) -> tuple[Outcome, np.ndarray]:
    """Returns the combined predictions and the weights, (F, M) of F folds, from the folders of the M members."""
    folds, divided = experiment.folds(trial), experiment.inner_folds.get(trial.split, ())
    parts = [(number, part) for number, of_fold in enumerate(divided) for part in of_fold]
    weights, seeds = np.full((len(folds), len(here)), 1 / len(here)), trial.config.study.seeds
    tested = _read(here, "predictions.csv", [seeds * len(fold.test) for fold in folds], experiment)
    inner: list[np.ndarray] = []
    if all((path / workdir.INNER_PREDICTIONS).is_file() for path in here):
        inner = _read(here, workdir.INNER_PREDICTIONS, [len(part.test) for _, part in parts], experiment)
    for number in range(len(folds)) if rule == "weighted" else ():
        places = [place for place, (of_fold, _) in enumerate(parts) if of_fold == number]
        if not inner or not places:
            raise ConfigError(f"the weights are from inner folds, and fold {number} has none; use the rule mean")
        labels = experiment.labels[np.concatenate([parts[place][1].test for place in places])]
        weights[number] = accuracy_weights(labels, np.concatenate([inner[place] for place in places], axis=1))
    runs = []
    for of_fold, predicted in zip(weights, tested, strict=True):
        by_seed = predicted.reshape(len(here), seeds, -1, experiment.num_classes)
        runs.append(FoldOutcome({}, None, combine(rule, by_seed, of_fold[:, None])))
    of_parts = [combine(rule, one, weights[number]) for one, (number, _) in zip(inner, parts, strict=False)]
    return Outcome(runs, of_parts, seconds), weights


def _read(here: Sequence[Path], file: str, sizes: Sequence[int], experiment: Experiment) -> list[np.ndarray]:
    """Returns the probabilities in a table of each of M trials, in parts of these numbers of rows, (M, rows, C)."""
    columns = {f"prob_{name}": float for name in experiment.dataset.classes}
    tables = [workdir.read_csv(path, file, columns)[[*columns]].to_numpy(np.float32) for path in here]
    return np.split(np.stack(tables), np.cumsum(sizes)[:-1], axis=1)
