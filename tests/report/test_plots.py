import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence

import numpy as np
import pandas
import pytest

from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.metrics import ranking
from alljax.report import page, plots
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
    return plots.draw_single(quantity, "curves", plots.draw_learning_curves, frame, quantity, "held-out images")


def roc(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str] = CLASSES, folds: np.ndarray | None = None
) -> Figure:
    test = HeldOut(labels, probabilities, np.arange(len(labels)), folds)
    return plots.draw_single("roc", "ROC", plots.draw_roc_curves, test, names)


def test_page_shows_figures_in_its_colors_with_a_title_and_unique_ids() -> None:
    ids: list[str] = []
    for figure in (learning_curves(history()), learning_curves(history(1, 1), "loss"), roc(*scores(3), ODD)):
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
    svg = plots.draw_single("confusion", "matrix", plots.draw_confusion_matrix, matrix, ODD).svg
    texts = {str(element.text) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert {"3", "75%", "1", "25%", "0%", ODD[0], ODD[1], "true class", "predicted class"} <= texts
    assert any(text.endswith("…") for text in texts)


@pytest.mark.parametrize("draw", [plots.draw_roc_curves, plots.draw_precision_recall_curves])
def test_area_under_a_curve_is_the_metric_within_folds(draw: Callable[..., None]) -> None:
    labels, probabilities = scores(seeds=3, images=400)
    folds = np.arange(400) % 5 // 2
    with plots.subplots() as (_, grid):
        draw(grid[0, 0], HeldOut(labels, probabilities, np.arange(400), folds), CLASSES)
        (line,) = [line for line in grid[0, 0].lines if line.get_label() == CLASSES[1]]
    metric = "auc" if draw is plots.draw_roc_curves else "pr_auc"
    area = np.mean([ranking(labels, of_seed, folds)[metric] for of_seed in probabilities])
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(area, abs=0.01)
    assert plots.BLUE not in roc(np.zeros(400, int), probabilities).svg, "without one class"


def test_learning_curves_are_means_over_folds_and_seeds() -> None:
    frame = history(3, 10)
    frame.loc[frame["epoch"] == 2, "val_accuracy"] = np.nan
    with plots.subplots() as (_, grid):
        plots.draw_learning_curves(grid[0, 0], frame, "accuracy", "held-out images")
        (line,) = [line for line in grid[0, 0].lines if line.get_label() == "held-out images"]
    assert line.get_xdata().tolist() == [*range(1, 11)]
    means = frame.groupby("epoch")["val_accuracy"].mean()
    np.testing.assert_allclose(line.get_ydata(), means)


def test_font_that_lacks_a_script_is_reported_once(messages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_reported", set())
    image = np.zeros((16, 16, 3), np.uint8)

    def matrix() -> Figure:
        with plots.subplots() as (figure, grid):
            plots.draw_confusion_matrix(grid[0, 0], [[1, 2], [3, 4]], ("白血病", "🔬 é"))
            return plots.save("matrix", "", figure)

    plots.contact_sheet([image, image], ["白血病\n1.png", "blast\n🔬.png"])
    assert "白血病" in matrix().svg
    (message,) = messages
    assert "no installed font has 病白血🔬: install one" in message
