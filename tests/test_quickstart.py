"""The two commands a person begins with: on generated cells, and on real cells against an independent reference."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alljax import config as configs
from alljax.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = f"--config={REPOSITORY / 'configs/quickstart.py'}"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_generated_cells_to_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real command, the real weights; fewer and smaller cells than `make demo`."""
    smaller = [
        "--config.data.synthetic.images=120", "--config.data.synthetic.subjects=12", "--config.split.folds=3",
        "--config.preprocessing.image_size=96", "--config.train.epochs=3", "--config.study.seeds=2",
    ]  # fmt: skip
    assert main(["study", QUICKSTART, f"--workdir={tmp_path}", *smaller]) == 0
    said = capsys.readouterr()
    assert "efficientnet_lite0-adam" in said.out
    assert "--config.data.source=YOUR_FOLDER" in said.out
    assert "images/s" in said.err

    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert set(summary["cells"]) == {"efficientnet_lite0-adam", "efficientnet_lite0-rmsprop"}
    assert summary["leaks"]["person"] == 0
    assert set(summary["baselines"]) == {"majority", "size_threshold"}
    for name, cell in summary["cells"].items():
        here = tmp_path / "cells" / name
        predictions, history = table(here / "predictions.csv"), table(here / "history.csv")
        assert len(predictions) == 120 * 2, "every cell is tested once a seed"
        assert len(history) == 3 * 3 * 2
        right = [row["label"] == row["predicted"] for row in predictions]
        assert cell["accuracy"] == pytest.approx(np.mean(right))
        low, high = cell["intervals"]["auc"]
        assert 0 <= low <= cell["auc"] <= high <= 1
        assert (tmp_path / "figures" / f"wrong-{name}.png").stat().st_size > 0
    people = {(row["repeat"], row["fold"], row["person"], row["split"]) for row in table(tmp_path / "split.csv")}
    assert len(people) == 12 * 3, "in each fold a person is on one side"
    assert "<html" in (tmp_path / "report.html").read_text()[:200]
    assert json.loads((tmp_path / "config.json").read_text())["data.classes"] == ["hem", "all"]


def test_same_seed_same_bits_and_predict_agrees(tmp_path: Path) -> None:
    """Two runs leave the same predictions; new images through the stored heads give the heads' mean."""
    smaller = [
        "--config.data.synthetic.images=24", "--config.data.synthetic.subjects=8", "--config.split.folds=2",
        "--config.preprocessing.image_size=64", "--config.train.epochs=2", "--config.study.seeds=2",
        "--config.evaluation.resamples=100",
    ]  # fmt: skip
    for name in ("first", "second"):
        assert main(["train", QUICKSTART, f"--workdir={tmp_path / name}", *smaller]) == 0
    cell = "cells/efficientnet_lite0-adam/predictions.csv"
    assert (tmp_path / "first" / cell).read_bytes() == (tmp_path / "second" / cell).read_bytes()

    from alljax.data.source import open_source

    dataset = open_source(configs.load(QUICKSTART.partition("=")[2], _pairs(smaller)).data)
    images = tmp_path / "images"
    images.mkdir()
    for record in dataset.records:
        (images / Path(record.path).name).write_bytes(dataset.read(record))
    out = tmp_path / "predictions.csv"
    assert main(["predict", f"--workdir={tmp_path / 'first'}", str(images), f"--out={out}"]) == 0
    new = {Path(row["path"]).name: float(row["prob_all"]) for row in table(out)}
    assert len(new) == 24
    # A cell's held-out heads are half of all heads (two folds), so the mean lies within half of them.
    held_out: dict[str, list[float]] = {}
    for row in table(tmp_path / "first" / cell):
        held_out.setdefault(Path(row["path"]).name, []).append(float(row["prob_all"]))
    for name, probabilities in held_out.items():
        other = 2 * new[name] - np.mean(probabilities)
        assert -1e-5 <= other <= 1 + 1e-5


def test_features_are_written(tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    smaller = ["--config.data.synthetic.images=16", "--config.data.synthetic.subjects=4", "--config.model.pool=max"]
    assert main(["features", QUICKSTART, f"--out={out}", "--config.preprocessing.image_size=64", *smaller]) == 0
    stored = np.load(out)
    assert stored["features"].shape == (16, 1280)
    assert stored["features"].dtype == np.float32
    assert len(set(stored["paths"])) == 16
    assert len(set(stored["subjects"])) == 4
    assert set(stored["labels"]) == {0, 1}


@pytest.mark.real
def test_real_cells_with_real_weights_agree_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory, cnmc_zip: Path, vgg16_weights: Path
) -> None:
    """512 C-NMC cells, VGG16, five folds of people: the head's AUC is that of an independent classifier.

    The reference (tests/parity/make_real_features.py: PyTorch, scikit-learn) has .78 to .80.
    """
    workdir = tmp_path_factory.mktemp("cnmc")
    settings = [f"--config.data.source={cnmc_zip}", f"--config.weights.path={vgg16_weights}"]
    command = [QUICKSTART + ":cnmc", *settings]
    assert main(["study", *command, f"--workdir={workdir}"]) == 0
    summary = json.loads((workdir / "metrics.json").read_text())
    assert summary["dataset"]["images"] == 512
    assert summary["dataset"]["by_class"]["all"]["images"] == 448
    assert summary["leaks"]["person"] == 0
    for cell in summary["cells"].values():
        assert 0.75 <= cell["auc"] <= 0.87

    # The features of these very cells, as PyTorch computes them.
    out = workdir / "features.npz"
    assert main(["features", *command, f"--out={out}"]) == 0
    stored = np.load(out)
    row_of = {Path(path).name: row for row, path in enumerate(stored["paths"])}
    golden = np.load(Path(__file__).parent / "parity/real_features.npz")
    ours = stored["features"][[row_of[Path(path).name] for path in golden["paths"]]]
    assert np.abs(ours - golden["features"]).max() < 1e-4 * np.abs(golden["features"]).max()

    # scikit-learn's classifier on the same features and folds ranks the cells as well as ours, within noise.
    scores = np.zeros(512)
    for fold in range(5):
        side = {
            Path(row["path"]).name: row["split"] for row in table(workdir / "split.csv") if row["fold"] == str(fold)
        }
        train, test = ([row_of[name] for name, where in side.items() if where == part] for part in ("train", "test"))
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
        model.fit(stored["features"][train], stored["labels"][train])
        scores[test] = model.predict_proba(stored["features"][test])[:, 1]
    reference = roc_auc_score(stored["labels"], scores)
    assert summary["cells"]["vgg16-adam"]["auc"] == pytest.approx(reference, abs=0.05)


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (word.removeprefix("--config.").partition("=") for word in arguments)]


def test_the_papers_split_says_aloud_that_it_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smaller = [
        "--config.data.synthetic.images=48", "--config.data.synthetic.subjects=6", "--config.split.protocol=paper",
        "--config.preprocessing.image_size=32", "--config.train.epochs=1", "--config.evaluation.resamples=100",
    ]  # fmt: skip
    assert main(["train", QUICKSTART, f"--workdir={tmp_path}", *smaller]) == 0
    assert "protocol 'paper' leaks" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["leaks"]["person"] > 0
    assert "Leak:" in (tmp_path / "report.html").read_text()
