"""The guides in docs/how-to/: their package, installed, their changes of alljax, and what breaks a contract."""

import json
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from docs.test_pages import ROOT, blocks
from end_to_end.conftest import QUICKSTART, Refused, Run, picture, read_table, write_files
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file
from sklearn.ensemble import ExtraTreesClassifier

from alljax.config import default_config
from alljax.models.backbones import BACKBONES, get_backbone
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


def test_study_and_its_use_with_an_installed_package(
    here: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = "--config.model.backbone=mycells.nets:Tiny", "--config.data.source=mycells.data:cells"
    words += (
        "--config.model.label=tiny",
        "--config.evaluation.metrics=mycells.metrics:specificity,mycells.metrics:f2,own:hits",
    )
    function = "def hits(labels, p, sample_weight): return np.average(p.argmax(1) == labels, weights=sample_weight)"
    Path("own.py").write_text(f"import numpy as np\n{function}\nhits.limits = 0, 1")
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
        assert found["intervals"]["own:hits"] == pytest.approx(found["intervals"]["accuracy"])
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
    monkeypatch.delitem(BACKBONES, "mycells.nets:Tiny")
    monkeypatch.setitem(sys.modules, "mycells.nets", None)
    assert "mycells.nets:Tiny: ModuleNotFoundError" in refused("predict", "--workdir=w", "cells")
    code, out, err = run("data", "audit", "--source=mycells.database:rows")
    assert code == 0, err
    assert "24 images, 8 subject names" in out


NETS = """
import flax.linen as nn, jax.numpy as jnp
from alljax.models.backbones import StagedNetwork
class Block(nn.Module):
    @nn.compact
    def __call__(self, images, context): return nn.Conv(16, (3, 3))(images).astype(jnp.{dtype}) * {factor}
class it(StagedNetwork):
    widths = {{"{stage}": {width}}}
    def setup(self): self.a = Block()
"""
GOOD = {"dtype": "float32", "stage": "a", "width": 16, "factor": 1}
ROWS = """
from alljax.data.dataset import Dataset, Record
def it():
    records = tuple(Record(path, label, f"s{{n}}") for n, (path, label) in enumerate({}))
    return Dataset("own", ("x", "y"), records, lambda record: {})
"""
BROKEN = [
    ("model.backbone", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'; install its package"),
    ("model.backbone", "", "has no attribute 'it'"),
    ("model.backbone", "it = 3", "is of type int, not a StagedNetwork or a Backbone"),
    ("model.backbone", NETS.format(**GOOD | {"width": 8}), "stage 'a' gives float32 (2, 224, 224, 16) for images"),
    ("model.backbone", NETS.format(**GOOD | {"dtype": "bfloat16"}), "stage 'a' gives bfloat16 (2, 224, 224, 16)"),
    ("model.backbone", NETS.format(**GOOD | {"stage": "b"}), 'object has no attribute "b"'),
    ("evaluation.metrics", "it = 3", "TypeError: 3 is not a callable object"),
    ("evaluation.metrics", "def it(a, b): return a + None", "TypeError: unsupported operand"),
    ("evaluation.metrics", "def it(a, b): return 'high'", "ValueError: could not convert string to float"),
    ("evaluation.metrics", "def it(a, b): return float('nan')", "gives nan for random predictions; it needs a finite"),
    ("evaluation.metrics", "def it(a, b): return 2\nit.limits = 0, 1", "within its limits (0, 1)"),
    ("data.source", "def it(folder): pass", "missing 1 required positional argument: 'folder'"),
    ("data.source", "def it(): return {'file': ['a.png']}", "no column 'label', only file"),
    ("data.source", ROWS.format("[('a', 'x')]", "b''"), "the label of a is 'x', not an int from 0 to 1, or -1"),
    ("data.source", ROWS.format("[('a', 0), ('a', 1)]", "b''"), "several records have the path a;"),
    ("data.source", ROWS.format("[('a', 0), ('b', 1)]", "3"), "read gives int, not the bytes of an image file"),
]


@pytest.mark.parametrize("number", range(len(BROKEN)), ids=lambda number: f"{BROKEN[number][0]}-{number}")
def test_a_broken_clause_is_named_in_one_line(number: int, here: Path, refused: Refused) -> None:
    setting, code, expected = BROKEN[number]
    (here / f"broken_{number}.py").write_text(code)
    line = refused("study", *SMALL, "--workdir=w", f"--config.{setting}=broken_{number}:it")
    assert expected in line
    assert f"broken_{number}:it" in line
    assert not (here / "w").exists()


def test_features_of_two_versions_are_two_features(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # both versions are written within a second
    found = []
    for weights in ("random", "net.safetensors"):
        for factor in (1, 2):
            (here / "versioned.py").write_text(NETS.format(**GOOD | {"factor": factor}))
            monkeypatch.delitem(sys.modules, "versioned", raising=False)
            monkeypatch.delitem(BACKBONES, "versioned:it", raising=False)
            backbone = get_backbone("versioned:it")
            variables = backbone.module.init(jax.random.key(1), np.zeros((1, 32, 32, 3), np.float32))
            arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
            save_file(arrays, "net.safetensors")
            words = "--config.model.backbone=versioned:it", "--config.data.source=mycells.data:cells", "--out=f.npz"
            given = () if weights == "random" else ("--config.weights.name=", f"--config.weights.path={weights}")
            code, _, err = run("features", *SMALL, *words, *given)
            assert code == 0, err
            found.append(np.load("f.npz")["features"])
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-5)
    np.testing.assert_allclose(found[3], 2 * found[2], rtol=1e-5)
    assert not np.allclose(found[0], found[2])


def changed(guide: str, file: str, **names: Any) -> Any:
    """A module of alljax with the changes of a guide and additional names."""
    source = (ROOT / file).read_text()
    found = [block.text for block in blocks(f"docs/how-to/{guide}.md") if block.language == "diff"]
    [hunks] = [text.partition("\n")[2] for text in found if text.startswith(f"--- {file}\n")]
    for hunk in hunks.split("...\n"):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in marks) for marks in ("- ", "+ "))
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    module = types.ModuleType("changed")
    vars(module).update(names)
    exec(compile(source, file, "exec"), vars(module))
    return module


def test_guide_of_augmentations() -> None:
    guide, namespace = "add-an-augmentation", dict[str, Any]()
    exec(next(block.text for block in blocks(f"docs/how-to/{guide}.md") if block.language == "python"), namespace)
    settings = changed(guide, "alljax/settings.py").SETTINGS
    module = changed(guide, "alljax/data/augmentation.py", add_noise=namespace["add_noise"])
    values = {key.partition(".")[2]: one.default for key, one in settings.items() if key.startswith("augment.")}
    images = np.full((2, 16, 16, 3), 100, np.uint8)
    keys = jax.random.split(jax.random.key(0), 2)
    for strength in (0, 8):
        noisy = module.make_augment(types.SimpleNamespace(**values | {"noise": strength}))(keys, images)
        assert np.std(noisy) == pytest.approx(strength, rel=0.1)
        assert np.array_equal(noisy[0], noisy[1]) == (not strength)


def test_guide_of_classifiers() -> None:
    guide, config = "add-a-classifier", default_config()
    config.classifier.name = "extra_trees"
    assert "extra_trees" in changed(guide, "alljax/settings.py").SETTINGS["classifier.name"].choices
    features, labels = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    fitted = changed(guide, "alljax/training/classifiers.py").fit(config, features, labels, seed=3)
    reference = ExtraTreesClassifier(n_estimators=100, random_state=3).fit(features, labels)
    assert np.array_equal(fitted.predict_proba(features), reference.predict_proba(features))
