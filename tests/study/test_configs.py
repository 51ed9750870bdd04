"""Every study in configs/ is what its docstring says, and in its toy form really gives its tables and figures."""

import ast
import csv
import json
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from training.small_run import compiled_once

from alljax import config as configs
from alljax.errors import ConfigError
from alljax.models import backbones
from alljax.study import run, sweep

FOLDER = Path(__file__).resolve().parents[2] / "configs"
STUDIES = sorted(path.name for path in (*FOLDER.glob("ablate_*.py"), *FOLDER.glob("paper*.py")))
TOYS = [*(f"{name}:toy" for name in STUDIES), "ablate_depth.py:unfrozen,toy"]


@pytest.fixture(autouse=True, scope="module")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Most of these studies train heads of the same shape."""
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


def commands(name: str) -> list[list[str]]:
    """Returns the commands in the docstring of a config, as words."""
    text = ast.get_docstring(ast.parse((FOLDER / name).read_text()), clean=False) or ""
    found = re.findall(r"^    (alljax .*(?:(?<=\\)\n.*)*)", text, re.MULTILINE)
    return [shlex.split(one.replace("\\\n", " ")) for one in found]


def load(file: str) -> configs.ConfigDict:
    return configs.load(str(FOLDER / file))


def test_there_are_all_ten_ablations() -> None:
    words = (
        "preprocessing", "pooling", "depth", "optimizer", "batch", "resolution", "split", "imbalance", "data_size",
        "backbone",
    )  # fmt: skip
    assert {f"ablate_{word}.py" for word in words} | {"paper.py", "paper_variants.py"} <= set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_the_commands_in_the_docstring(name: str) -> None:
    """Each is of this file and makes a study, of as many cells as the text says."""
    text = " ".join((FOLDER / name).read_text().partition('\n"""\n')[0].split())
    assert commands(name)
    for verb, action, *options in commands(name):
        assert (verb, action) == ("alljax", "study")
        file, workdir, *overrides = (option.partition("=")[::2] for option in options)
        assert file[0] == "--config"
        assert workdir[0] == "--workdir"
        assert file[1].partition(":")[0] == f"configs/{name}"
        settings = [(key.removeprefix("--config."), value) for key, value in overrides]
        config = configs.load(str(FOLDER.parent / file[1]), settings)
        assert re.search(rf"\b{len(sweep.expand(config))} cells", text)


@pytest.mark.parametrize("name", STUDIES)
def test_an_unknown_argument_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"configs/{name}.*(not|no) .*zzz") as caught:
        load(f"{name}:zzz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", ["keras,small", "keras,toy", "small,toy,both"])
def test_the_papers_words_that_contradict(arguments: str) -> None:
    with pytest.raises(ConfigError, match="take one of them"):
        load(f"paper.py:{arguments}")


def test_the_paper_is_32_cells() -> None:
    """With people held out 64; with Keras's weights of both networks as many."""
    trials = sweep.expand(load("paper.py"))
    assert len(trials) == 32
    found = {(trial.config.model.backbone, trial.config.train.optimizer, trial.config.train.epochs) for trial in trials}
    assert len(found) == 32
    train, split = trials[0].config.train, trials[0].config.split
    assert (train.batch_size, train.learning_rate, train.decay_steps, train.decay_rate) == (32, 1e-4, 900, 0.95)
    assert (split.protocol, split.test_fraction, split.stratified) == ("paper", 0.2, True)
    both = sweep.expand(load("paper.py:both"))
    assert [trial.config.split.protocol for trial in both] == ["paper"] * 32 + ["subject_kfold"] * 32
    keras = {(trial.config.model.backbone, trial.config.weights.name) for trial in sweep.expand(load("paper.py:keras"))}
    assert keras == {("vgg16", "keras-vgg16-notop"), ("resnet50_keras", "keras-resnet50-notop")}
    small = sweep.expand(load("paper.py:small,both"))
    assert {trial.config.model.backbone for trial in small} == {"efficientnet_lite0"}
    assert len(small) == 64


def test_the_variants_are_the_papers_cells_twelve_times() -> None:
    for argument in ("", ":keras", ":small"):
        trials = sweep.expand(load(f"paper_variants.py{argument}"))
        of_paper = sweep.expand(load(f"paper.py{argument}"))
        assert len(trials) == 12 * len(of_paper) == 384
        for key in ("split.protocol", "train.batch_size", "train.learning_rate", "model.hidden", "train.decay_steps"):
            assert {configs.flatten(trial.config)[key] for trial in (*trials, *of_paper)} == {
                configs.flatten(of_paper[0].config)[key]
            }


@pytest.mark.parametrize("file", TOYS)
def test_a_toy_gives_its_tables_and_figures(file: str, tmp_path: Path) -> None:
    config = load(file)
    names = [trial.name for trial in sweep.expand(config)]
    said: list[str] = []
    run.run_study(config, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["trials"]) == names, said
    assert not metrics.get("failed")
    tables = {
        path.stem: list(csv.reader(path.read_text().splitlines())) for path in (tmp_path / "tables").glob("*.csv")
    }
    figures = sorted((tmp_path / "figures").glob("*.svg"))
    assert tables
    assert figures
    for table in tables.values():
        assert len({len(row) for row in table}) == 1, "every row has all columns"
        assert len(table) > 1
    for figure in figures:
        assert ET.parse(figure).getroot().tag.endswith("svg")
    if not config.study.compare:
        assert len(tables["ablation"]) == 1 + len(names)
        assert [figure.stem for figure in figures] == ["ablation"]
    page = (tmp_path / "report.html").read_text()
    assert len(page) < 5e6


def seed_weights(folder: Path, backbone: str, family: str) -> None:
    """Writes weights of small random numbers, in our own layout."""
    generator = np.random.default_rng(0)
    tensors = {f"family/{family}": np.zeros(0, np.float32)}
    for path, shape in backbones.shapes(backbone).items():
        if not path.startswith("params/classifier/"):
            drawn = generator.standard_normal(shape, np.float32) / np.float32(np.sqrt(max(1, np.prod(shape[:-1]))))
            tensors[path] = (
                drawn if path.endswith("kernel") else np.full(shape, path.endswith(("var", "scale")), np.float32)
            )
    safetensors.numpy.save_file(tensors, folder / f"{backbone}-seeded.safetensors")


def test_one_folder_of_weights_serves_all_networks(tmp_path: Path) -> None:
    """Each up to its first stage, which is enough to tell whose weights it has."""
    families = {"efficientnet_lite0": "efficientnet_lite_pytorch", "resnet50": "torchvision", "vgg16": "torchvision"}
    assert [trial.config.model.backbone for trial in sweep.expand(load("ablate_backbone.py"))] == list(families)
    for backbone, family in families.items():
        seed_weights(tmp_path, backbone, family)
    config = load("ablate_backbone.py:toy")
    config.weights.path = str(tmp_path)
    config.train.epochs = config.study.seeds = 1
    rows = tuple((backbone, "block1" if backbone == "vgg16" else "stage1") for backbone in families)
    config.study.sweep = ((("model.backbone", "model.stage"), rows),)
    run.run_study(config, tmp_path / "study")
    trials = json.loads((tmp_path / "study/metrics.json").read_text())["trials"]
    assert [name.partition("-")[0] for name in trials] == list(families)
    for backbone, trial in zip(families, trials.values(), strict=True):
        assert trial["weights"]["path"] == str(tmp_path / f"{backbone}-seeded.safetensors")
