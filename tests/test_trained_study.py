"""Studies in Python: the same numbers as the commands, for every kind of trial, and behavior in a notebook."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from ml_collections import ConfigDict
from PIL import Image

import alljax
from alljax import api
from alljax.cli import main
from alljax.errors import ConfigError, DataError, WorkdirError
from alljax.study import run

Make = Callable[..., ConfigDict]
ROWS = (("frozen", "mlp", ("backbone",)), ("frozen", "svm", ("texture",)), ("finetune", "mlp", ("backbone",)))
SWEEP = (("train.mode", "classifier.name", "features.extractor"), ROWS)
FROZEN, PIPELINE, FINETUNED = range(3)


@pytest.fixture(scope="module")
def config(toy_config: Make) -> ConfigDict:
    return toy_config(
        SWEEP, evaluation__inner_folds=2, study__combine=(("both", "mean", "*"),), train__learning_rate=1e-4
    )


@pytest.fixture(scope="module")
def folder(config: ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = alljax.run_study(config, folder := tmp_path_factory.mktemp("api") / "study")
    assert isinstance(study, api.TrainedStudy)
    assert (folder / "report.html").is_file()
    return folder


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side + 3, 3), np.uint8) for side in (48, 30, 60)]


@pytest.mark.parametrize("number", [FROZEN, PIPELINE, FINETUNED, 3])
def test_numbers_are_those_of_the_command(
    folder: Path, images: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """For files and for arrays, as a table and from `model`."""
    trial, paths = alljax.load_study(folder).study.trials[number], [tmp_path / f"{place}.png" for place in range(3)]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    out, study = tmp_path / "out.csv", alljax.load_study(folder, trial)
    assert main(["predict", f"--workdir={folder}", f"--trial={trial}", *map(str, paths), f"--out={out}"]) == 0
    written, found, of_arrays = pandas.read_csv(out), study.predict(paths), study.predict(images)
    assert [*found] == [*written]
    numbers = found.select_dtypes("number").columns
    assert len(numbers) == 6
    np.testing.assert_allclose(found[numbers], written[numbers], rtol=1e-6)
    np.testing.assert_array_equal(of_arrays[numbers], found[numbers])
    assert [*of_arrays["path"]] == ["images[0]", "images[1]", "images[2]"]
    for kind in ("calibrated", "prob"):
        expected = found[[f"{kind}_{name}" for name in study.classes]]
        np.testing.assert_allclose(study.model(images), expected, rtol=1e-6)
        study.ensemble.study.metrics["trials"][trial]["temperature"] = None
    np.testing.assert_allclose(study.model(paths[1]), expected[1:2], rtol=1e-5)
    with pytest.raises(DataError, match="uint8"):
        study.model(np.zeros((2, 8, 8, 3)))


def test_few_numbers_of_images_are_compiled(folder: Path, images: list[np.ndarray], compilations: list[str]) -> None:
    study = alljax.load_study(folder, alljax.load_study(folder).study.trials[FINETUNED])
    three = study.model(images)
    compilations.clear()
    np.testing.assert_allclose(study.model([*images, images[0]])[:3], three, rtol=1e-5)
    assert not compilations


def test_results_are_tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    study = alljax.load_study(folder)
    assert study.trial == study.trials["name"][0] == study.study.ranking.best
    auc = study.trials.set_index("name")["auc"]
    models = ~study.trials["baseline"].to_numpy(bool)
    assert models.sum() == 4
    assert auc[models].is_monotonic_decreasing
    assert (auc["size_threshold"], auc["majority"]) == (pytest.approx(auc["size_threshold"]), 0.5)
    assert (study.trials["auc_low"] <= study.trials["auc"])[models].all()
    assert len(study.predictions) == 48
    assert {"path", "subject", "label", "prob_all", "fold", "seed"} <= {*study.predictions}
    for text in (str(study), study._repr_html_()):
        assert all(name in text for name in ("both", "cell size alone", "95% intervals over subjects"))
    assert "\x1b" not in str(study)


def test_explanation_shows_itself(folder: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    found = alljax.load_study(folder, alljax.load_study(folder).study.trials[FROZEN]).explain(images[:2])
    assert len(found.figure().axes) == 2 * 3
    assert found._repr_png_().startswith(b"\x89PNG")
    assert "occlusion" in repr(found)
    found.save(tmp_path / "maps")
    assert (tmp_path / "maps/images/001-images[0].png").is_file()
    with pytest.raises(WorkdirError, match="not empty"):
        found.save(tmp_path / "maps")


def test_ctrl_c_and_errors_are_those_of_python(
    toy_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupted study continues, and each message is printed once, also in a second call."""
    config = toy_config(("train.optimizer", ("adam", "sgd")), train__epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(run, "remove_checkpoints", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            alljax.run_study(config, tmp_path)
    capsys.readouterr()
    study = alljax.run_study(config, tmp_path)
    printed = capsys.readouterr()
    assert printed.err.count("48 images: all") == 1
    assert printed.err.count("finished (remove") == 1
    assert not printed.out
    assert study is not None
    config.train.patience = 1
    with pytest.raises(ConfigError, match="patience"):
        alljax.run_study(config, tmp_path)
    with pytest.raises(WorkdirError, match="unknown finished trial 'x'"):
        alljax.load_study(tmp_path, "x")
