import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import paper_study
import pytest
from PIL import Image

from alljax.paper import matching, published, training_curves
from alljax.report.tables import Figure
from alljax.study import finished

NAMES = [
    "figure-7",
    "figure-7-overlaid",
    "figure-8",
    "figure-8-overlaid",
    "figure-9",
    "confusion-matrices",
    "roc-curves",
]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> matching.Reproduction:
    folder = tmp_path_factory.mktemp("paper")
    paper_study.make(folder, missing=("resnet50-rmsprop-epochs=100", "vgg16-adam-epochs=10"))
    return matching.match(finished.read_study(folder))


@pytest.fixture(scope="module")
def pictures(beside: matching.Reproduction) -> dict[str, Figure]:
    return {one.name: one for one in training_curves.all_pictures(beside)}


def words(picture: Figure) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(picture.svg).iter() if one.tag.endswith("text")]


def test_every_figure_is_drawn_whole_and_light(pictures: dict[str, Figure]) -> None:
    assert list(pictures) == NAMES
    assert sum(len(one.svg) for one in pictures.values()) < 1_500_000
    for one in pictures.values():
        assert "nan" not in one.svg.lower()
        pixels = np.asarray(Image.open(io.BytesIO(one.png)).convert("L"))
        border = np.concatenate(
            [pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()]
        )
        assert (border > 250).all(), f"{one.name} is clipped"
        assert pixels.min() < 100


def test_each_budget_has_a_panel_with_both_optimizers(pictures: dict[str, Figure]) -> None:
    for name in ("figure-7", "figure-8"):
        said = words(pictures[name])
        assert [one for one in said if one.endswith(" epochs")] == [f"{budget} epochs" for budget in published.BUDGETS]
        assert said.count("accuracy") == said.count("loss") == 2
        for label in (
            "Adam, training cells",
            "Adam, held-out cells",
            "RMSprop, training cells",
            "RMSprop, held-out cells",
        ):
            assert label in said
    assert "Adam:" in words(pictures["figure-7"])
    assert "RMSprop:" in words(pictures["figure-8"])


def test_prefixes_are_not_drawn_twice_and_own_runs_are(pictures: dict[str, Figure], tmp_path: Path) -> None:
    assert pictures["figure-7-overlaid"].caption.endswith("Every budget is the beginning of one run.")
    paper_study.make(tmp_path, separate=True, people=(3, 3), shots=4, budgets=(10, 20), networks=("vgg16",))
    own = matching.match(finished.read_study(tmp_path))
    read = {
        place: training_curves.mean_curves(finished.read_history(own.study, name)) for place, name in own.names.items()
    }
    drawn = training_curves.overlaid(own, own.scenarios[0], read)
    assert drawn.caption.endswith("The thin lines are the shorter budgets, runs of their own.")
    lines = re.findall(r"stroke-width: 0\.7[;\"]", drawn.svg)
    assert len(lines) >= 8  # two optimizers, two sides, two quantities


def test_curves_are_means_and_have_at_most_a_hundred_points() -> None:
    epochs = np.tile(np.arange(1.0, 251.0), 2)
    value = np.where(np.arange(500) < 250, 0.4, 0.6) + epochs / 1000
    columns = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "val_accuracy"), value)
    curve = training_curves.mean_curves({"epoch": epochs} | columns)
    assert len(curve["epoch"]) == 100
    assert curve["epoch"][[0, -1]].tolist() == [1, 250]
    np.testing.assert_allclose(curve["val_loss"], 0.5 + curve["epoch"] / 1000)


def test_bars_stand_as_high_as_the_numbers_say(beside: matching.Reproduction, pictures: dict[str, Figure]) -> None:
    picture = pictures["figure-9"]
    heights = []
    for one in ET.fromstring(picture.svg).iter():
        style, ys = one.get("style", ""), [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", one.get("d", ""))]
        if re.search(r"fill: #(0072b2|d55e00); opacity: 0\.75", style) and max(ys) - min(ys) > 20:  # not the legend's
            heights.append(max(ys) - min(ys))
    accuracies = [result["accuracy"] for place in beside.names if (result := beside.result(place))]
    assert len(heights) == len(accuracies) == 30
    # A bar begins at 0, below what is shown; all are drawn to one scale.
    scale = max(heights) / max(accuracies)
    np.testing.assert_allclose(np.sort(heights) / scale, np.sort(accuracies), atol=1e-3)
    said = words(picture)
    assert said.count("no cell") == 2
    for label in ("always the largest class", "size of the cell alone", "published: implied range"):
        assert label in said


def test_matrices_and_curves_are_those_of_the_longest_budget(
    beside: matching.Reproduction, pictures: dict[str, Figure]
) -> None:
    said = words(pictures["confusion-matrices"])
    assert said.count("Adam, 100 epochs") == 2
    assert "RMSprop, 80 epochs" in said  # ResNet50's 100 is missing
    matrix = beside.study.metrics["trials"]["resnet50-rmsprop-epochs=80"]["confusion"]
    assert f"{matrix[0][1]:,.0f}" in said
    area = beside.study.metrics["trials"]["vgg16-adam-epochs=100"]["auc"]
    assert any(one.startswith(f"AUC {area:.3f} [") for one in words(pictures["roc-curves"]))


def test_one_network_one_seed_and_nobody_known(tmp_path: Path) -> None:
    paper_study.make(tmp_path, networks=("efficientnet_lite0",), budgets=(1,), seeds=1, subjects=False, people=(4, 5))
    drawn = {one.name: one for one in training_curves.all_pictures(matching.match(finished.read_study(tmp_path)))}
    assert list(drawn) == ["figure-7", "figure-7-overlaid", "figure-9", "confusion-matrices", "roc-curves"]
    assert "EfficientNet-Lite0, in the part of VGG16" in words(drawn["figure-9"])
    assert not any("set aside" in one.caption for one in drawn.values())


def test_curves_of_cells_that_are_not_tested_say_so(tmp_path: Path) -> None:
    paper_study.make(tmp_path, networks=("vgg16",), budgets=(1,), seeds=1, people=(4, 5))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split.validation": 0.2}))
    drawn = training_curves.all_pictures(matching.match(finished.read_study(tmp_path)))
    said = {one.name: one.caption for one in drawn if "set aside for validation" in one.caption}
    assert list(said) == ["figure-7", "figure-7-overlaid"]
