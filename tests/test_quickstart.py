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

from alljax.cli import main
from alljax.data import synthetic
from alljax.data.dataset import Dataset
from alljax.training import checkpoints

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = f"--config={REPOSITORY / 'configs/quickstart.py'}"


TINY = [
    "--config.data.synthetic.images=24", "--config.data.synthetic.subjects=8", "--config.split.folds=2",
    "--config.preprocessing.image_size=64", "--config.train.epochs=2", "--config.study.seeds=2",
    "--config.evaluation.resamples=100",
]  # fmt: skip


def tiny_dataset() -> Dataset:
    return synthetic.read_synthetic(subjects=8, images=24, image_size=224, seed=0)


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
    assert set(summary["trials"]) == {"efficientnet_lite0-adam", "efficientnet_lite0-rmsprop"}
    assert summary["leaks"]["person"] == 0
    assert set(summary["baselines"]) == {"majority", "size_threshold"}
    for name, cell in summary["trials"].items():
        here = tmp_path / "trials" / name
        predictions, history = table(here / "predictions.csv"), table(here / "history.csv")
        assert len(predictions) == 120 * 2, "every cell is tested once a seed"
        assert len(history) == 3 * 3 * 2
        right = [row["label"] == row["predicted"] for row in predictions]
        assert cell["accuracy"] == pytest.approx(np.mean(right))
        low, high = cell["intervals"]["auc"]
        assert 0 <= low <= cell["auc"] <= high <= 1
        assert (tmp_path / "figures" / f"misclassified-{name}.jpg").stat().st_size > 0
    people = {(row["repeat"], row["fold"], row["person"], row["split"]) for row in table(tmp_path / "split.csv")}
    assert len(people) == 12 * 3, "in each fold a person is on one side"
    assert "<html" in (tmp_path / "report.html").read_text()[:200]
    assert json.loads((tmp_path / "config.json").read_text())["data.classes"] == ["hem", "all"]


def test_same_seed_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, each computing its own features, leave the same predictions and curves."""
    for name in ("first", "second"):
        monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / f"cache of {name}"))
        assert main(["train", QUICKSTART, f"--workdir={tmp_path / name}", *TINY]) == 0
    for file in ("predictions.csv", "history.csv"):
        path = Path("trials/efficientnet_lite0-adam") / file
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes()


def test_predict_is_the_mean_of_the_stored_heads(tmp_path: Path) -> None:
    """Recomputed here in plain NumPy from the checkpoint and the features."""
    assert main(["train", QUICKSTART, f"--workdir={tmp_path / 'run'}", *TINY]) == 0
    dataset = tiny_dataset()
    images = tmp_path / "images"
    images.mkdir()
    for record in dataset.records:
        (images / Path(record.path).name).write_bytes(dataset.read(record))
    out, npz = tmp_path / "predictions.csv", tmp_path / "features.npz"
    assert main(["predict", f"--workdir={tmp_path / 'run'}", str(images), f"--out={out}"]) == 0
    assert main(["features", QUICKSTART, f"--out={npz}", *TINY]) == 0

    stored = np.load(npz)
    heads = checkpoints.load(tmp_path / "run/cells/efficientnet_lite0-adam/checkpoint")["heads"]
    assert len(heads) == 2
    outputs = []
    for fold in heads:
        for seed in range(2):
            dense, last = (
                {name: leaf[seed] for name, leaf in fold[layer].items()} for layer in ("dense", "predictions")
            )
            hidden = np.maximum(stored["features"] @ dense["kernel"] + dense["bias"], 0)
            exponents = np.exp(hidden @ last["kernel"] + last["bias"])
            outputs.append(exponents / exponents.sum(1, keepdims=True))
    mean = dict(zip((Path(path).name for path in stored["paths"]), np.mean(outputs, 0), strict=True))
    rows = table(out)
    assert len(rows) == 24
    for row in rows:
        expected = mean[Path(row["path"]).name]
        np.testing.assert_allclose([float(row["prob_hem"]), float(row["prob_all"])], expected, atol=1e-5)
        assert row["predicted"] == ("hem", "all")[int(expected.argmax())]


def test_curves_and_learning_rate_are_written_as_they_were(tmp_path: Path) -> None:
    assert main(["train", QUICKSTART, f"--workdir={tmp_path}", *TINY, "--config.train.decay_steps=1"]) == 0
    history = table(tmp_path / "trials/efficientnet_lite0-adam/history.csv")
    assert [float(row["learning_rate"]) for row in history[:2]] == pytest.approx([1e-4 * 0.95, 1e-4 * 0.95**2])
    predictions = table(tmp_path / "trials/efficientnet_lite0-adam/predictions.csv")
    for row in (row for row in history if row["epoch"] == "2"):
        tested = [each for each in predictions if (each["fold"], each["seed"]) == (row["fold"], row["seed"])]
        truth = [float(each[f"prob_{each['label']}"]) for each in tested]
        assert float(row["val_loss"]) == pytest.approx(-np.log(truth).mean(), rel=1e-4)
        assert float(row["val_accuracy"]) == pytest.approx(np.mean([e["label"] == e["predicted"] for e in tested]))
        assert row["train_loss"] != row["val_loss"]


def test_features_are_written(tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    assert main(["features", QUICKSTART, f"--out={out}", *TINY, "--config.model.pool=max"]) == 0
    stored, dataset = np.load(out), tiny_dataset()
    assert stored["features"].shape == (24, 1280)
    assert stored["features"].dtype == np.float32
    assert stored["paths"].tolist() == [record.path for record in dataset.records]
    assert stored["subjects"].tolist() == [record.subject for record in dataset.records]
    assert stored["labels"].tolist() == [record.label for record in dataset.records]


@pytest.mark.real
def test_real_cells_with_real_weights_agree_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory, cnmc_zip: Path, vgg16_weights: Path
) -> None:
    """512 C-NMC cells, VGG16, five folds of people: the head's AUC is that of an independent classifier.

    The reference (tests/parity/make_real_features.py: PyTorch, scikit-learn) has .78 to .80.
    """
    workdir = tmp_path_factory.mktemp("cnmc")
    settings = [f"--config.data.source={cnmc_zip}", f"--config.weights.path={vgg16_weights}"]
    settings.append("--config.data.allow_partial=true")
    command = [QUICKSTART + ":cnmc", *settings]
    assert main(["study", *command, f"--workdir={workdir}"]) == 0
    summary = json.loads((workdir / "metrics.json").read_text())
    assert summary["dataset"]["images"] == 512
    assert summary["dataset"]["by_class"]["all"]["images"] == 448
    assert summary["leaks"]["person"] == 0
    for cell in summary["trials"].values():
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
    assert summary["trials"]["vgg16-adam"]["auc"] == pytest.approx(reference, abs=0.05)


def test_the_papers_split_says_aloud_that_it_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smaller = [
        "--config.data.synthetic.images=48", "--config.data.synthetic.subjects=6", "--config.split.protocol=paper",
        "--config.preprocessing.image_size=32", "--config.train.epochs=1", "--config.evaluation.resamples=100",
    ]  # fmt: skip
    assert main(["train", QUICKSTART, f"--workdir={tmp_path}", *smaller]) == 0
    assert "protocol 'paper' leaks" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["leaks"]["person"] > 0
    assert "Leak:" in (tmp_path / "report.html").read_text()
