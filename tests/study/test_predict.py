import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from alljax.config import unflatten
from alljax.data.images import load
from alljax.errors import DataError, WorkdirError
from alljax.study.predict import predict
from alljax.study.restart import open_records
from alljax.study.results import read_study
from alljax.study.sweep import expand


@pytest.fixture
def images(toy_study: Path, tmp_path: Path) -> Path:
    """Three images of the study as PNG files."""
    dataset = open_records(expand(unflatten(read_study(toy_study).config)))
    (tmp_path / "images").mkdir()
    for record in dataset.records[:3]:
        Image.fromarray(np.asarray(load(dataset, record))).save(tmp_path / "images" / f"{Path(record.path).stem}.png")
    return tmp_path / "images"


def test_probability_is_the_mean_over_heads(toy_study: Path, images: Path, tmp_path: Path) -> None:
    study = read_study(toy_study)
    name = study.trials[0]
    assert predict(toy_study, name, "", [images], tmp_path / "out.csv") == 3
    found = pandas.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == ["path", "predicted", "prob_hem", "prob_all"]
    # Each image was tested by the heads of one of two folds: half of the mean.
    predictions = study.predictions(name)
    for path, probability in zip(found["path"], found["prob_all"], strict=True):
        tested = predictions.probabilities[:, [Path(key).stem == Path(path).stem for key in predictions.paths], 1]
        assert tested.shape == (2, 1)
        assert 0 <= 2 * probability - tested.mean() <= 1
    assert np.allclose(found["prob_hem"] + found["prob_all"], 1)


def test_one_image_has_the_same_probabilities_as_among_others(toy_study: Path, images: Path, tmp_path: Path) -> None:
    predict(toy_study, "", "", [images], tmp_path / "all.csv")
    single = min(images.iterdir())
    predict(toy_study, "", "", [single], tmp_path / "one.csv")
    found, expected = pandas.read_csv(tmp_path / "one.csv"), pandas.read_csv(tmp_path / "all.csv")
    row = expected[expected["path"] == single.as_posix()].iloc[0]
    assert found["prob_all"][0] == pytest.approx(row["prob_all"], abs=1e-6)


def test_errors(toy_study: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(WorkdirError, match="no finished trial 'vgg'"):
        predict(toy_study, "vgg", "", [images], out)
    with pytest.raises(WorkdirError, match="moved; give its new path with --weights"):
        predict(toy_study, "", str(tmp_path / "no.npy"), [images], out)
    with pytest.raises(DataError, match="no such file or folder"):
        predict(toy_study, "", "", [tmp_path / "nothing"], out)
    assert not out.exists()


def test_damaged_heads_are_refused(toy_study: Path, images: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toy_study, tmp_path / "study"))
    name = read_study(copy).ranking.best
    path = copy / "trials" / name / "checkpoint" / "heads.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WorkdirError, match="heads.npz is missing or damaged"):
        predict(copy, name, "", [images], tmp_path / "out.csv")
