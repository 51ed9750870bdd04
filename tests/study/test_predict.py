from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from alljax.config import unflatten
from alljax.data.images import load
from alljax.study.predict import predict
from alljax.study.restart import open_records
from alljax.study.results import read_study


@pytest.fixture
def images(toy_study: Path, tmp_path: Path) -> Path:
    """Three images of the study as PNG files."""
    dataset = open_records(unflatten(read_study(toy_study).config))
    (tmp_path / "images").mkdir()
    for record in dataset.records[:3]:
        Image.fromarray(np.asarray(load(dataset, record))).save(tmp_path / "images" / f"{Path(record.path).stem}.png")
    return tmp_path / "images"


def test_one_image_has_the_same_probabilities_as_among_others(toy_study: Path, images: Path, tmp_path: Path) -> None:
    predict(toy_study, "", "", [images], tmp_path / "all.csv")
    single = min(images.iterdir())
    predict(toy_study, "", "", [single], tmp_path / "one.csv")
    found, expected = pandas.read_csv(tmp_path / "one.csv"), pandas.read_csv(tmp_path / "all.csv")
    row = expected[expected["path"] == single.as_posix()].iloc[0]
    assert found["prob_all"][0] == pytest.approx(row["prob_all"], abs=1e-6)
