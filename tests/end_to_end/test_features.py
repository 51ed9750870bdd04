"""`alljax features`: arrays of features, paths, labels and subjects."""

from pathlib import Path

import numpy as np
from end_to_end.conftest import SMALL, Run

from alljax.data import synthetic


def test_features_of_every_image(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new/features.npz"
    assert run("features", *SMALL, f"--out={out}", "--config.model.pool=max", "--config.model.stage=")[0] == 0
    stored = np.load(out)
    dataset = synthetic.read_synthetic(subjects=12, images=48, image_size=48, seed=0)
    assert stored["features"].shape == (48, 1280)
    assert stored["features"].dtype == np.float32
    assert stored["paths"].tolist() == [record.path for record in dataset.records]
    assert stored["subjects"].tolist() == [record.subject for record in dataset.records]
    assert stored["labels"].tolist() == [record.label for record in dataset.records]
