"""`package.module:Name` in settings: the package of the how-to guides, installed, and what breaks a contract."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from docs.test_pages import blocks
from end_to_end.conftest import QUICKSTART, Refused, Run, picture, read_table, write_files

from alljax.report.tables import format_value

GUIDES = ("backbone", "data-set", "metric")
SMALL = (
    QUICKSTART, "--config.study.sweep=()", "--config.train.optimizer=rmsprop", "--config.train.epochs=1",
    "--config.split.folds=2", "--config.model.hidden=8", "--config.preprocessing.image_size=32",
    "--config.weights.name=random",
)  # fmt: skip


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which pip has installed `mycells`, whose modules are the code blocks of the guides."""
    folder = tmp_path_factory.mktemp("site")
    files = {"__init__.py": ""}
    for guide in GUIDES:
        code = [block.text for block in blocks(f"docs/how-to/add-a-{guide}.md") if block.language == "python"]
        files |= {match[1]: text for text in code if (match := re.match(r"# mycells/(\w+\.py)\n", text))}
    about = {"METADATA": "Metadata-Version: 2.1\nName: mycells\nVersion: 1.0\n", "RECORD": ""}
    about["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel := folder / "mycells-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(f"mycells/{name}", text)
        for name, text in about.items():
            archive.writestr(f"mycells-1.0.dist-info/{name}", text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={folder}", wheel]
    subprocess.run(pip, check=True)
    return folder


@pytest.fixture
def here(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with cells in it."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.chdir(tmp_path)
    names = [f"cells/{label}/{label}{n // 2}_{n}.png" for label in ("blast", "normal") for n in range(8)]
    return write_files(tmp_path, {name: picture(seed) for seed, name in enumerate(names)})


def test_study_and_its_use_with_an_installed_package(here: Path, run: Run, refused: Refused) -> None:
    words = "--config.model.backbone=mycells.nets:Tiny", "--config.data.source=mycells.data:cells"
    words += "--config.model.label=tiny", "--config.evaluation.metrics=mycells.metrics:specificity,mycells.metrics:f2"
    code, out, err = run("study", *SMALL, "--workdir=w", *words)
    assert code == 0, err
    assert "tiny-weights=random" in out
    assert "features mycells.nets:Tiny" in err
    metrics = json.loads(Path("w/metrics.json").read_text())
    results = [*metrics["trials"].values(), *metrics["baselines"].values()]
    for found in results:
        specificity, interval = found["mycells.metrics:specificity"], found["intervals"]["mycells.metrics:specificity"]
        assert specificity == pytest.approx(found["per_class"][0]["recall"])
        assert interval == pytest.approx(found["intervals"]["recall_0"])
    assert results[0]["intervals"]["mycells.metrics:f2"]
    shown = format_value("", results[0]["mycells.metrics:f2"])
    assert re.search(rf"specificity +f2 .*{shown} \[", out, re.DOTALL)
    run("report", "--workdir=w")
    assert re.search(rf"f2<.*>{shown}<", Path("w/report.html").read_text(), re.DOTALL)
    code, out, err = run("predict", "--workdir=w", "mycells.data:cells", "--out=p.csv")
    assert code == 0, err
    rows = read_table(here / "p.csv")
    assert {row["path"]: row["subject"] for row in rows}["cells/blast/blast0_1.png"] == "blast0"
    assert {row["warnings"] for row in rows} == {"trained on this image"}
    code, out, err = run("data", "audit", "--source=mycells.database:rows")
    assert code == 0, err
    assert "24 images, 8 subject names" in out
