import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from alljax.report import plots

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ("hem", "all")


def history(runs: int = 3, epochs: int = 10) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    epoch = np.tile(np.arange(1.0, epochs + 1), runs)
    columns = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")
    return {"epoch": epoch} | {name: generator.uniform(0.4, 0.9, len(epoch)) for name in columns}


def scores(classes: int = 2, runs: int = 2, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = generator.integers(classes, size=count)
    logits = generator.normal(size=(runs, count, classes))
    logits[:, np.arange(count), labels] += 1.5
    shares = np.exp(logits)
    return labels, shares / shares.sum(-1, keepdims=True)


def every_figure() -> list[str]:
    labels, probabilities = scores()
    three, of_three = scores(3)
    names = ("Benign <b>&\"'", "$x_1$ 細胞", "a class with a name that is far too long for any figure")
    return [
        plots.curves(history(), "accuracy"),
        plots.curves(history(1, 1), "loss"),
        plots.confusion([[10, 2], [3, 40]], CLASSES),
        plots.confusion(np.arange(9).reshape(3, 3) / 2, names),
        plots.confusion(np.arange(144).reshape(12, 12), [f"class {number}" for number in range(12)]),
        plots.roc(labels, probabilities, CLASSES),
        plots.roc(three, of_three, names),
    ]


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    return every_figure()


def test_each_is_one_small_well_formed_svg(drawn: list[str]) -> None:
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert root.find(f"{SVG}title").text
        assert root.get("role") == "img"
        assert len(svg) < 60_000


def test_ink_is_the_pages_and_nothing_is_black_or_white(drawn: list[str]) -> None:
    for svg in drawn:
        assert "currentColor" in svg
        assert not re.search(r"#000\b|#000000|#ffffff|#fff\b", svg)
        assert plots.INK not in svg
        colors = set(re.findall(r"#[0-9a-f]{6}\b", svg))
        assert colors <= set(plots.PALETTE)


def test_text_is_text_in_the_pages_font(drawn: list[str]) -> None:
    first = ElementTree.fromstring(drawn[0])
    assert {"epoch", "accuracy", "training cells", "held-out cells"} <= {one.text for one in first.iter(f"{SVG}text")}
    for svg in drawn:
        assert "DejaVu" not in svg
        sizes = [one.get("style") for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]
        assert sizes
        assert all("font-size" in str(size) for size in sizes)


def test_names_on_a_shared_page_do_not_meet(drawn: list[str]) -> None:
    names = [name for svg in drawn for name in re.findall(r' id="([^"]*)"', svg)]
    assert len(names) == len(set(names))
    for svg in drawn:
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]*)', svg)) == set(re.findall(r' id="([^"]*)"', svg))
        assert "<style" not in svg
        assert "<metadata" not in svg


def test_the_same_numbers_give_the_same_bytes(drawn: list[str]) -> None:
    assert every_figure() == drawn


def test_odd_class_names_are_shown_as_they_are(drawn: list[str]) -> None:
    texts = [one.text for one in ElementTree.fromstring(drawn[3]).iter(f"{SVG}text")]
    assert "Benign <b>&\"'" in texts
    assert "$x_1$ 細胞" in texts
    assert any(str(text).endswith("…") for text in texts)


def test_the_band_stands_only_where_there_are_several_runs() -> None:
    assert "fill-opacity" in plots.curves(history(3), "accuracy")
    assert "fill-opacity" not in plots.curves(history(1), "accuracy")


def test_the_title_says_where_the_curves_end() -> None:
    columns = history(2, 4)
    last = columns["val_loss"][columns["epoch"] == 4].mean()
    assert f"held-out cells {last:.3f}" in plots.curves(columns, "loss")


def test_a_confusion_matrix_shows_counts_and_row_shares() -> None:
    texts = [one.text for one in ElementTree.fromstring(plots.confusion([[3, 1], [0, 0]], CLASSES)).iter()]
    for shown in ("3", "75%", "1", "25%", "0%"):
        assert shown in texts
    assert "truly" in texts


def line(svg: str) -> np.ndarray:
    """The points of the mean ROC curve, in rates."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: #0072b2; stroke-width: 1.8', svg)
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", paths[0]), float)
    span = points.max(0) - points.min(0)
    return np.stack([(points[:, 0] - points[0, 0]) / span[0], (points[0, 1] - points[:, 1]) / span[1]])


def test_the_roc_curve_is_the_mean_over_seeds() -> None:
    labels, probabilities = scores(runs=3, count=400)
    across, up = line(plots.roc(labels, probabilities, CLASSES))
    area = np.mean([roc_auc_score(labels, one[:, 1]) for one in probabilities])
    assert np.trapezoid(up, across) == pytest.approx(area, abs=0.01)


def test_a_roc_curve_without_one_class_is_an_empty_frame() -> None:
    _, probabilities = scores()
    svg = plots.roc(np.zeros(80, int), probabilities, CLASSES)
    assert plots.BLUE not in svg


def trial(size: tuple[int, int], color: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", size, color)


def test_the_sheet_holds_every_cell_in_rows_of_six() -> None:
    images = [trial((450, 450), (200, 20 * number, 90)) for number in range(8)]
    sheet = Image.open(io.BytesIO(plots.wrong_sheet(images, ["all, called hem 97%\nsubject 12"] * 8)))
    step = 224 + 32
    for number in range(8):
        row, column = divmod(number, 6)
        left = 32 + column * step + 112
        top = 32 + row * (sheet.height - 32) // 2 + 112
        assert sheet.convert("RGB").getpixel((left, top)) == (200, 20 * number, 90)
    assert sheet.width == 6 * step + 32


def test_a_long_caption_is_broken_and_then_cut() -> None:
    caption = "early pre-B, called Benign hematogones 97%\nsubject with a name that never ends"
    tall = Image.open(io.BytesIO(plots.wrong_sheet([trial((60, 30), (9, 9, 9))], [caption])))
    short = Image.open(io.BytesIO(plots.wrong_sheet([trial((60, 30), (9, 9, 9))], ["all 97%"])))
    assert tall.size == (short.width, short.height + 60)
    plots.wrong_sheet([trial((8, 8), (1, 1, 1))], ["x" * 500])


def test_a_study_without_errors_has_a_sheet_that_says_so() -> None:
    assert Image.open(io.BytesIO(plots.wrong_sheet([], []))).format == "PNG"


def test_nothing_touches_the_state_of_pyplot() -> None:
    assert "matplotlib.pyplot" not in sys.modules


def followed(svg: str) -> list[dict]:
    return json.loads(ElementTree.fromstring(svg).attrib["data-curves"])


def test_the_page_is_given_what_the_curves_hold() -> None:
    columns = history(3, 10)
    (panel,) = followed(plots.curves(columns, "accuracy"))
    assert panel["name"] == "epoch"
    assert panel["at"] == list(range(1, 11))
    assert panel["log"] == [0, 0]
    means = [columns["val_accuracy"][columns["epoch"] == epoch].mean() for epoch in panel["at"]]
    (_, _, training), (label, color, values) = panel["lines"]
    assert (label, color) == ("held-out cells", plots.VERMILION)
    assert values == pytest.approx(means, abs=1e-3)
    assert len(training) == 10


def test_where_the_data_say_a_curve_is_there_it_is_drawn() -> None:
    columns = history(1, 10)
    svg = plots.curves(columns, "loss")
    (panel,) = followed(svg)
    left, top, width, height = panel["box"]
    (x_low, x_high), (y_low, y_high) = panel["x"], panel["y"]
    path = re.search(r'<path d="([^"]*)"[^>]*stroke: #d55e00; stroke-width: 1.8', svg)
    assert path
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path[1]), float)
    values = np.array(panel["lines"][1][2])
    assert points[:, 0] == pytest.approx(left + (np.array(panel["at"]) - x_low) / (x_high - x_low) * width, abs=0.1)
    assert points[:, 1] == pytest.approx(top + (1 - (values - y_low) / (y_high - y_low)) * height, abs=0.2)


def test_small_multiples_share_a_name_and_gaps_stay_gaps() -> None:
    with plots.subplots(1, 2) as (figure, axes):
        for number, one in enumerate(axes.flat):
            one.plot([1, 2, 4], [0.1, np.nan, 0.3], label="it's <one>", color=plots.GREEN)
            one.plot([1, 3], [5.0, 6.0], label="two", color=plots.INK)
            one.plot([1, 4], [0, 0])
            one.set_title(f"panel {number}")
        figure.supxlabel("batch size")
        panels = followed(plots.svg(figure, "two panels", curves=True))
        assert "data-curves" not in plots.svg(figure, "two panels")
    assert [panel["title"] for panel in panels] == ["panel 0", "panel 1"]
    assert panels[0]["name"] == "batch size"
    assert panels[0]["at"] == [1, 2, 3, 4]
    assert panels[0]["lines"] == [
        ["it's <one>", plots.GREEN, [0.1, None, None, 0.3]],
        ["two", "currentColor", [5, None, 6, None]],
    ]
    assert panels[1]["box"][0] > panels[0]["box"][0] + panels[0]["box"][2]
