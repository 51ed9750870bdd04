"""A run goes on where other devices are, and what it has learned is asked anywhere."""

import csv
import shutil
from pathlib import Path

import numpy as np
from faults.conftest import CELL, TOY, Toy

from alljax import config as configs
from alljax.cli import main
from alljax.data.readers import open_dataset


def columns(path: Path, *names: str) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


def test_one_device_four_and_one_again(reference: Toy, stopped: tuple[Toy, str], tmp_path: Path) -> None:
    """The same numbers, to rounding, from jit on 1 device over pmap on 4 back to jit on 1."""
    toy = stopped[0].at(tmp_path / "toy", devices=4)
    shutil.copytree(stopped[0].folder, toy.folder)
    assert "resuming after step" in toy.stop_after(20, "--config.parallel=pmap", "--resume=force")
    assert "resuming after step" in toy.at(toy.folder, devices=1).finish("--config.parallel=jit", "--resume=force")
    for table, names in {
        "history.csv": ("train_loss", "val_loss", "train_accuracy", "val_accuracy"),
        "predictions.csv": ("prob_hem", "prob_all"),
    }.items():
        ours, theirs = (columns(each.folder / "trials" / CELL / table, *names) for each in (toy, reference))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_predict_with_what_was_learned(reference: Toy, tmp_path: Path) -> None:
    """On many devices, from its folder alone: the cells that were tested get the study's probabilities."""
    settings = configs.load(TOY[0].removeprefix("--config="), [])
    dataset = open_dataset(settings.data)
    (images := tmp_path / "images").mkdir()
    for number, record in enumerate(dataset.records):
        (images / f"{number:03d}{Path(record.path).suffix}").write_bytes(dataset.read(record))
    out = tmp_path / "predictions.csv"
    assert main(["predict", f"--workdir={reference.folder}", str(images), f"--out={out}"]) == 0
    predicted = columns(out, "prob_hem", "prob_all")
    row_of = {record.path: row for row, record in enumerate(dataset.records)}
    tested = reference.folder / "trials" / CELL / "predictions.csv"
    with tested.open(newline="") as file:
        rows = [row_of[row["path"]] for row in csv.DictReader(file)]
    assert len(set(rows)) == len(rows) > 10
    np.testing.assert_allclose(predicted[rows], columns(tested, "prob_hem", "prob_all"), atol=1e-5)
