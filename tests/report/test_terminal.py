import json
from pathlib import Path

import pytest
from rich.console import Console
from workdirs import make_workdir

from alljax.report import terminal

BOUNDS = {"auc": [0.8012, 0.9012], "accuracy": [0.7712, 0.8812], "macro_f1": [0.7512, 0.8612]}


def metrics_of(names: list[str], splits: tuple[str, ...] = ("",), leaky: tuple[str, ...] = ()) -> dict:
    rule = {"auc": 0.5, "accuracy": 0.68, "macro_f1": 0.41, "intervals": {"accuracy": [0.6, 0.7]}}
    trial = {"accuracy": 0.82, "macro_f1": 0.81, "intervals": BOUNDS, "level": 0.95, "interval_unit": "people"}
    trials = {
        f"{name}{split}": trial | {"auc": 0.9 - 0.001 * place, "split": split}
        for place, name in enumerate(names)
        for split in splits
    }
    found = {"trials": trials, "baselines": {"majority": rule}, "protocol": {}, "dataset": {"classes": ["hem", "all"]}}
    if len(splits) > 1:
        found["splits"] = {
            split: {"protocol": {"leaky": split in leaky}, "baselines": {"majority": rule}} for split in splits
        }
    return found


def lines(metrics: dict, width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(terminal.table(metrics, width))
    return [line.strip() for line in capture.get().splitlines()]


def paper_names() -> list[str]:
    return [
        f"{network}-{optimizer}-epochs={epochs}"
        for network in ("vgg16", "resnet50")
        for optimizer in ("adam", "rmsprop")
        for epochs in (10, 20, 30, 40, 50, 60, 80, 100)
    ]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_row_is_broken(width: int) -> None:
    names = [*paper_names()[:18], "efficientnet_lite0-rmsprop-learning_rate=0.0001-batch_size=64"[: width - 24]]
    found = lines(metrics_of(names), width)
    assert all(len(line) <= width for line in found)
    for name in names:
        (row,) = [line for line in found if line.split(" ")[0] == name]
        assert "[.801, .901]" in row


def test_what_long_names_begin_with_is_said_once() -> None:
    names = [f"efficientnet_lite0-adam-learning_rate=0.0001-{word}={'x' * 20}" for word in ("one", "two")]
    found = lines(metrics_of(names), 80)
    assert any(line.startswith("model: efficientnet_lite0-adam-learning_rate=0.0001-…") for line in found)
    for word in ("one", "two"):
        assert sum(line.startswith(f"{word}={'x' * 20} ") and "[.801, .901]" in line for line in found) == 1
    assert any(line.startswith("model ") for line in lines(metrics_of(names), 120))


def test_what_does_not_fit_is_left_to_the_report() -> None:
    metrics = metrics_of(paper_names()[:4])
    assert "macro F1" in "\n".join(lines(metrics, 100))
    narrow = "\n".join(lines(metrics, 80))
    assert "macro F1" not in narrow
    assert "accuracy" in narrow
    long = "\n".join(lines(metrics_of(["a-" + "x" * 50]), 80))
    assert "accuracy" not in long
    assert "AUC" in long


def test_of_many_cells_the_best_ten_of_each_network_are_printed() -> None:
    metrics = metrics_of(paper_names())
    found = lines(metrics, 80)
    printed = [line.split(" ")[0] for line in found if "-adam-" in line or "-rmsprop-" in line]
    assert printed == [*paper_names()[:10], *paper_names()[16:26]]
    assert sum(line.startswith("… and 6 more") for line in found) == 2
    assert "12 of 32 models are not printed here; the report has them all" in terminal.notes(metrics)
    assert found[-2].startswith("always the largest class") or "always the largest class" in "\n".join(found[-3:])


def test_splits_are_told_apart_and_leaky_ones_come_last() -> None:
    metrics = metrics_of(paper_names()[:3], ("/honest", "/leaky"), leaky=("/leaky",))
    text = "\n".join(lines(metrics, 100))
    assert "epochs=10/leaky (leaks)" in text
    assert text.index("epochs=30/honest") < text.index("epochs=10/leaky")
    assert "always the largest class (/honest)" in text


def test_what_is_not_there_is_named() -> None:
    metrics = metrics_of(["a"]) | {"missing": ["b", "c"], "failed": {"d": "out of memory"}}
    assert terminal.notes(metrics)[1:] == ["2 not there yet: b, c", "1 failed: d"]


def test_a_real_folder_prints(tmp_path: Path) -> None:
    folder = make_workdir(tmp_path, people=(5, 6), epochs=2, resamples=100, sheets=0)
    assert "vgg16-adam" in "\n".join(lines(json.loads((folder / "metrics.json").read_text()), 80))
