import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from alljax.cli import main
from alljax.config import default_config, vary
from alljax.errors import ConfigError, Problems
from alljax.study import run
from alljax.study.run import dry_run, run_study

Toy = Callable[..., ConfigDict]
OPTIMIZERS = ("train.optimizer", ("adam", "rmsprop"))
EPOCHS = ("train.epochs", (2, 4))
ADAM, RMSPROP = "efficientnet_lite0-adam", "efficientnet_lite0-rmsprop"


@pytest.fixture(scope="module")
def toy(toy_config: Toy) -> Toy:
    return lambda *sweep, **settings: toy_config(*sweep, **({"model__stage": "stem"} | settings))


@pytest.fixture(scope="module")
def complete(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two optimizers × two numbers of epochs."""
    folder = tmp_path_factory.mktemp("run") / "study"
    run_study(toy(OPTIMIZERS, EPOCHS), folder)
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """Histories and predictions of all trials."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("trials/*/*.csv")}


def test_shorter_trial_equals_its_own_study(toy: Toy, complete: Path, tmp_path: Path) -> None:
    run_study(toy(train__epochs=2), tmp_path)
    own = outputs(tmp_path)
    for file in ("history.csv", "predictions.csv"):
        assert outputs(complete)[f"trials/{ADAM}-epochs=2/{file}"] == own[f"trials/{ADAM}/{file}"]


def test_only_missing_trials_are_trained(toy: Toy, complete: Path, tmp_path: Path, messages: list[str]) -> None:
    folder = Path(shutil.copytree(complete, tmp_path / "study"))
    for name in (f"{ADAM}-epochs=4", f"{RMSPROP}-epochs=2"):
        shutil.rmtree(folder / "trials" / name)
    run_study(toy(OPTIMIZERS, EPOCHS), folder)
    assert outputs(folder) == outputs(complete)
    finished = [message for message in messages if "finished (remove" in message]
    assert [message.partition(":")[0] for message in finished] == [f"{ADAM}-epochs=2", f"{RMSPROP}-epochs=4"]


def test_failed_trial_does_not_stop_others(toy: Toy, tmp_path: Path) -> None:
    config = toy((("train.optimizer", "train.learning_rate"), (("sgd", 1e30), ("adam", 1e-2))))
    message = (
        r"1 trial of 2 failed: .*sgd-learning_rate=1e\+30: the loss became NaN in fold 0; lower "
        r"train.learning_rate=1e\+30"
    )
    for _ in range(2):  # a failed trial is tried again
        with pytest.raises(ConfigError, match=message):
            run_study(config, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["trials"]) == [f"{ADAM}-learning_rate=0.01"]
    assert list(metrics["failed"]) == ["efficientnet_lite0-sgd-learning_rate=1e+30"]
    assert metrics["missing"] == []


def test_device_error_fails_the_trials_of_its_job(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_job = run.train_job

    def fail(job: Any, *others: Any) -> Iterator[Any]:
        if job.config.train.optimizer == "adam":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 7 bytes")
        yield from train_job(job, *others)

    monkeypatch.setattr(run, "train_job", fail)
    message = r"2 trials of 4 failed.*adam-epochs=2: device error: RESOURCE_EXHAUSTED: Out of memory, .*epochs=4"
    with pytest.raises(ConfigError, match=message):
        run_study(toy(OPTIMIZERS, EPOCHS), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["trials"]) == [f"{RMSPROP}-epochs=2", f"{RMSPROP}-epochs=4"]


def test_shards_in_one_folder_complete_the_study(toy: Toy, complete: Path, tmp_path: Path) -> None:
    config = toy(OPTIMIZERS, EPOCHS)
    assert run_study(config, tmp_path, shard=(0, 2)) is None
    study = run_study(config, tmp_path, shard=(1, 2))
    assert study is not None
    assert outputs(tmp_path) == outputs(complete)
    assert study.metrics["missing"] == []
    assert list(study.metrics["trials"]) == list(study.trials)


def test_study_without_checkpoints_cannot_predict(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_study(toy(train__epochs=1, study__checkpoints=False), tmp_path)
    assert not list(tmp_path.glob("trials/*/checkpoint"))
    assert main(["predict", f"--workdir={tmp_path}", str(tmp_path)]) == 2
    assert "study.checkpoints=False" in capsys.readouterr().err


def test_compared_study_needs_two_networks(tmp_path: Path) -> None:
    config = vary(default_config(), {"study.compare": "paper"})
    with pytest.raises(ConfigError, match=r"study\.compare=paper"):
        dry_run(config, tmp_path, (0, 1), False, Problems())
