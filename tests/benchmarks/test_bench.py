"""The benchmarks run and print their rows; no test depends on a time.  Long tests check the memory at full scale."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FLATTENED = """
import sys
import numpy as np
import ours, workload
from workers import Clock
features = np.lib.format.open_memmap(sys.argv[1], "w+", np.float32, (10_661, 100_352))
print(ours.heads(workload.Sizes(epochs=1), 100_352, "adam", 1, features)(Clock())[0])
"""


def as_users() -> dict[str, str]:
    """Returns an environment without the flags of the tests, with which programs run slowly."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("XLA_FLAGS", "JAX_"))}


def test_quick_run_prints_all_rows(tmp_path: Path) -> None:
    command = [sys.executable, HERE / "bench.py", "--quick", "--peers=none", f"--out={tmp_path}"]
    printed = subprocess.run(command, env=as_users(), check=True, stdout=subprocess.PIPE, text=True).stdout
    parts = ("features", "heads", "data", "finetune", "paper", "demo", "scaling")
    assert [line.split(":")[0].strip("| ") for line in printed.splitlines() if ": what" in line] == [*parts]
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert {row["part"] for row in rows} == {*parts} - {"scaling"}
    assert all(len(row["seconds"][measure]["alljax"]) == 1 for row in rows for measure in ("wall", "cpu"))
    figures = [path.stat().st_size for path in tmp_path.glob("scaling-*.svg")]
    assert figures
    assert max(figures) < 40_000
    assert re.search(r"\| vgg16 \| [-\d.e+,]+/s, [-\d.e+,]+ ms \|", (tmp_path / "bench.md").read_text())


@pytest.mark.parametrize(
    ("library", "images", "validation_images", "epochs"),
    [
        ("alljax", 10_661, 0, 2 * 100),  # shorter trainings are prefixes of the longest
        ("torch", 10_661, 0, 2 * 390),
        ("keras", 8_528 * 2 * 390, 2_133 * 2 * 390, 0),
    ],
)
def test_slices_are_extrapolated_to_the_study(
    monkeypatch: pytest.MonkeyPatch, library: str, images: int, validation_images: int, epochs: int
) -> None:
    monkeypatch.syspath_prepend(HERE)
    import bench

    seconds: dict[tuple[object, ...], float] = {}
    for backbone, width in bench.WIDTHS.items():
        if library == "keras":
            seconds |= {("fit", backbone, False): 1.0, ("fit", backbone, True): 0.25}
        else:
            seconds |= {("features", backbone): 1.0}
            seconds |= {("heads", width, optimizer, 1): 1000 / 267 for optimizer in bench.OPTIMIZERS}
    total = bench.extrapolate(library, seconds)
    assert total == pytest.approx(2 * (images + 0.25 * validation_images + 1000 * epochs))


@pytest.mark.long
def test_study_at_its_true_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    import scaling

    assert scaling.study("--config=configs/paper.py:small", "--config.data.synthetic.images=10661").memory < 4e9


@pytest.mark.long
def test_flattened_features_are_never_all_in_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FLATTENED, tmp_path / "features.npy"]
    peak = 0
    with subprocess.Popen(command, env=as_users() | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}) as process:
        while process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()  # without pages of mapped files
            peak = max([peak, *(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.1)
    assert process.returncode == 0
    assert peak < 4e9
