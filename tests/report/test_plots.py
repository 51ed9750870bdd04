import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pandas
import pytest
from evaluation.conftest import point_estimates

from alljax.evaluation.intervals import HeldOut
from alljax.report import curves, page, plots
from alljax.report.tables import Figure

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ("HEM (normal)", "ALL (leukemic blast)")
ODD = ("Benign <b>&\"'", "$x_1$ 細胞", "a class with a name that is far too long for any figure")


def history(runs: int = 3, epochs: int = 10) -> pandas.DataFrame:
    generator = np.random.default_rng(0)
    epoch = np.tile(np.arange(1, epochs + 1), runs)
    columns = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")
    return pandas.DataFrame({"epoch": epoch} | {name: generator.uniform(0.4, 0.9, len(epoch)) for name in columns})


def scores(classes: int = 2, seeds: int = 2, images: int = 80) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = generator.integers(classes, size=images)
    logits = generator.normal(size=(seeds, images, classes))
    logits[:, np.arange(images), labels] += 1.5
    return labels, np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def learning_curves(frame: pandas.DataFrame, quantity: str = "accuracy") -> Figure:
    drawn = {"": curves.learning_curves(frame, quantity)}
    return curves.curve_figure(quantity, "curves", drawn, ("epoch", quantity))


def test_page_shows_figures_in_its_colors_with_a_title_and_unique_ids() -> None:
    ids: list[str] = []
    for figure in (
        learning_curves(history()),
        learning_curves(history(1, 1), "loss"),
        *curves.class_curves(HeldOut(*scores(3), np.arange(80)), ODD),
    ):
        svg = page.inline(figure)
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root[0].text == figure.caption
        assert not any(color in svg.partition(">")[2] for color in page.COLORS)
        ids += [str(element.get("id")) for element in root.iter() if element.get("id")]
        assert len(svg) < 100_000
    assert len(ids) == len(set(ids))


def test_confusion_matrix_shows_counts_shares_and_literal_class_names() -> None:
    matrix = [[3, 1, 0], [0, 0, 0], [0, 0, 5]]
    svg = plots.confusion_matrix("matrix", matrix, ODD).svg
    texts = {str(element.text) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert {"3", "75%", "1", "25%", "0%", ODD[0], ODD[1], "true class", "predicted class"} <= texts
    assert any(text.endswith("…") for text in texts)


def test_area_under_a_curve_is_the_metric_within_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "curve_figure", lambda name, caption, panels, quantities: panels[""])
    labels, probabilities = scores(seeds=3, images=400)
    folds = np.arange(400) % 5 // 2
    drawn: Any = curves.class_curves(HeldOut(labels, probabilities, np.arange(400), folds), CLASSES)
    for metric, of_classes in zip(("auc", "pr_auc"), drawn, strict=True):
        at, values, low, high = of_classes[CLASSES[1]]
        area = np.mean([point_estimates(labels, of_seed, folds=folds)[metric] for of_seed in probabilities])
        assert np.trapezoid(values, at) == pytest.approx(area, abs=0.01)
        assert (low <= values + 1e-9).all()
        assert (values <= high + 1e-9).all()
    for of_classes in curves.class_curves(HeldOut(np.zeros(400, int), probabilities, np.arange(400), folds), CLASSES):
        assert CLASSES[1] not in of_classes


def test_learning_curves_are_means_over_folds_and_seeds() -> None:
    frame = history(3, 10)
    frame.loc[frame["epoch"] == 2, "val_accuracy"] = np.nan
    at, values, *_ = curves.learning_curves(frame, "accuracy")["held-out images"]
    assert at.tolist() == [*range(1, 11)]
    np.testing.assert_allclose(values, frame.groupby("epoch")["val_accuracy"].mean())


def test_font_that_lacks_a_script_is_reported_once(messages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_reported", set())
    image = np.zeros((16, 16, 3), np.uint8)

    def matrix() -> Figure:
        return plots.confusion_matrix("", [[1, 2], [3, 4]], ("白血病", "🔬 é"))

    plots.contact_sheet([image, image], ["白血病\n1.png", "blast\n🔬.png"])
    assert "白血病" in matrix().svg
    (message,) = messages
    assert "no installed font has 病白血🔬: install one" in message
