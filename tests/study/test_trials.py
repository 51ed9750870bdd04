"""Trials of a job: keys, compilations, features."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
from ml_collections import ConfigDict
from PIL import Image

from alljax import config as configs
from alljax import files
from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.errors import DataError, Stopped
from alljax.study import sweep
from alljax.study.ensemble import open_ensemble
from alljax.study.experiment import open_experiment
from alljax.study.predict import write_features, write_predictions
from alljax.study.run import run_study
from alljax.study.trials import fold_keys, train_job
from alljax.training.head_training import HeadTrainer
from alljax.training.sampling import make_fold_rows

ROOT = Path(__file__).resolve().parents[2]


def key_data(config: ConfigDict, repeat: int = 0, fold: int = 0) -> list[list[int]]:
    rows = np.arange(4)
    (own,) = make_fold_rows(config, rows % 2, 2, [Fold(repeat, fold, rows, rows)])
    return jax.random.key_data(fold_keys(config, own)).tolist()


def test_keys_of_seeds_folds_and_repeats_differ() -> None:
    config = default_config()
    config.seed, config.study.seeds = 5, 3
    keys = [tuple(key) for repeat in range(2) for fold in range(3) for key in key_data(config, repeat, fold)]
    assert len(set(keys)) == 2 * 3 * 3
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(6), 1), 2)
    assert jax.random.key_data(key).tolist() == key_data(config, 1, 2)[1]


def test_compilations_do_not_depend_on_the_numbers_of_folds_and_seeds(
    toy_config: Callable[..., ConfigDict], tmp_path: Path, compilations: list[str]
) -> None:
    counts = []
    for folds, seeds in ((2, 2), (2, 2), (5, 3)):  # the first one computes the features, too
        sizes = {"split__folds": folds, "study__seeds": seeds, "evaluation__inner_folds": folds}
        config = toy_config(("train.epochs", (1, 2)), data__synthetic__subjects=24, **sizes)
        trials = sweep.expand(config)
        experiment = open_experiment(config, trials)
        jax.clear_caches()
        before = len(compilations)
        for job in sweep.jobs(trials):
            list(train_job(job, experiment, tmp_path))
        counts.append(sorted(compilations[before:]))
    assert counts[1] == counts[2]
    programs = ["jit(_evaluate)", "jit(_first_states)", "jit(_init)", "jit(_orders)", "jit(_train_steps)"]
    found = Counter(name for name in counts[2] if name in programs)
    assert found == dict.fromkeys(programs, 1), "for all folds, inner folds and seeds"


@pytest.mark.parametrize(("validation", "name"), [(0.0, "test"), (0.3, "validation")])
def test_progress_shows_the_mean_over_folds_under_its_name(
    validation: float, name: str, toy_config: Callable[..., ConfigDict], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_study(toy_config(split__validation=validation, split__folds=3), tmp_path)
    (history,) = (pandas.read_csv(path) for path in tmp_path.glob("trials/*/history.csv"))
    mean = history[history["epoch"] == 2].groupby("fold")["val_accuracy"].mean().mean()
    assert f"{name} accuracy {mean:.3f} (mean of 3 folds)" in capsys.readouterr().err


@pytest.mark.parametrize("split", [{}, {"split__validation": 0.3}])
def test_threads_do_not_change_results(
    split: dict[str, float], toy_config: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with inner folds, whose rows are padded to the length of those of the folds."""
    config = toy_config(split__folds=3, study__seeds=2, evaluation__inner_folds=2, **split)
    for cores in (1, 3):
        monkeypatch.setattr(files, "cpu_cores", lambda cores=cores: cores)
        run_study(config, tmp_path / str(cores))
    for name in ("predictions.csv", "inner_predictions.csv", "history.csv"):
        one, three = (next(tmp_path.glob(f"{cores}/trials/*/{name}")).read_bytes() for cores in (1, 3))
        assert one == three


@pytest.mark.parametrize("error", [DataError("unreadable"), Stopped("stopped")])
def test_an_error_in_a_thread_arrives_in_the_caller(
    error: Exception, toy_config: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(split__folds=4)

    def train(self: HeadTrainer, *arguments: Any) -> None:
        raise error

    trials = sweep.expand(config)
    experiment = open_experiment(config, trials)
    monkeypatch.setattr(files, "cpu_cores", lambda: 2)
    monkeypatch.setattr(HeadTrainer, "train", train)
    with pytest.raises(type(error), match=str(error)):
        list(train_job(*sweep.jobs(trials), experiment, tmp_path))


@pytest.mark.parametrize(("file", "widths"), [("quickstart.py", 1), ("paper.py:toy", 2)])
def test_compilations_of_a_config(
    file: str, widths: int, tmp_path: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads compile once per width of the features, their steps and state also once per optimizer."""
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    sizes = {"data.synthetic.images": 96, "data.synthetic.image_size": 64, "preprocessing.image_size": 64}
    config = configs.vary(configs.load(f"{ROOT}/configs/{file}"), sizes)
    jax.clear_caches()
    run_study(config, tmp_path / "run")
    counts = Counter(compilations)
    of_steps = {f"jit({name})": 2 * widths for name in ("_first_states", "_train_steps")}
    of_heads = {f"jit({name})": widths for name in ("_init", "_evaluate")}
    expected = of_steps | of_heads | {f"jit({name})": 1 for name in ("extract", "_fold_in", "_orders")}
    assert {name: counts[name] for name in expected} == expected


def test_features_of_a_study_are_used_again(
    toy_config: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    config, npz, csv = toy_config(), tmp_path / "features.npz", tmp_path / "predictions.csv"
    study = run_study(config, tmp_path / "run")
    assert study is not None
    dataset, width = write_features(config, npz)
    assert (len(dataset.records), width) == (48, 16)
    Image.fromarray(np.full((48, 48, 3), 120, np.uint8)).save(tmp_path / "cell.png")
    (line,), unreadable = write_predictions([open_ensemble(tmp_path / "run")], [tmp_path / "cell.png"], csv)
    assert (line, unreadable) == (f"{csv}: 1 image", 0)
    shapes = sorted(np.load(file).shape for file in (tmp_path / "cache/features").glob("*.npy"))
    assert shapes == [(48, 16)], "the features of the study were used again, those of new images are not stored"
