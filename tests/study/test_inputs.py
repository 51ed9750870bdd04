"""What is cheap to check is checked first, and all problems of a study are reported together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from alljax.cli import main
from alljax.errors import Problems, UserError
from alljax.study import experiment, identity, run
from alljax.training import network
from alljax.weights import store

QUICKSTART = str(Path(__file__).resolve().parents[2] / "configs/quickstart.py")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Two classes of three images."""
    for name in ("blast", "normal"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((32, 32, 3), 40 * number + len(name), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "cells" / name / f"{number}.png")
    return tmp_path / "cells"


@pytest.fixture(autouse=True)
def _nothing_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Makes long work fail; there are no weights of VGG16 and no network."""

    def fail(*arguments: Any) -> None:
        raise AssertionError

    for module, name in ((experiment, "inspect"), (network, "check_compiler"), (store, "_download")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_all_problems_are_reported_together(
    flags: list[str], cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    command = ["study", f"--config={QUICKSTART}", f"--workdir={folder}", f"--config.data.source={cells}"]
    settings = {"train.lr": 1, "model.dropout": 2, "model.backbone": "vgg16", "model.stage": "x", "split.folds": 5,
                "train.mode": "finetune", "train.loggers": "wandb"}  # fmt: skip
    with identity.exclusive(folder, (0, 1)):
        assert main([*command, *(f"--config.{key}={value}" for key, value in settings.items()), *flags]) == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "alljax: 7 problems:"
    parts = ("train.learning_rate", "model.dropout=2.0", f"another alljax uses {folder}", "model.stage='x'",
             "pip install 'alljax[wandb]'", "class 'blast' has 3 images (",
             "alljax weights fetch torchvision-vgg16")  # fmt: skip
    for line, part in zip(lines, parts, strict=True):
        assert part in line
    assert [path.name for path in folder.iterdir()] == [".lock"], "nothing is written"


def test_dry_run_does_not_download(toy_config: Callable[..., ConfigDict], tmp_path: Path) -> None:
    config = toy_config(("model.backbone", ("vgg16", "resnet50")), model__stage="")
    with pytest.raises(UserError) as caught:
        run.dry_run(config, tmp_path / "run", (0, 1), False, Problems())
    first, *lines = str(caught.value).splitlines()
    assert first == "2 problems:"
    assert ["alljax weights fetch torchvision-" in line for line in lines] == [True, True]
