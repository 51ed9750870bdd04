"""Every study in configs/ is what its docstring says, and its toy gives tables and figures."""

import ast
import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from alljax import cli
from alljax import config as configs
from alljax.errors import ConfigError
from alljax.paper import table7
from alljax.study import sweep

FOLDER = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py") if path.stem != "common")
ABLATIONS = [name for name in FILES if name.startswith("ablate_")]
RUN = ["ablate_depth.py:unfrozen,toy", "ablate_imbalance.py:toy", "probe.py:toy"]
"""Toys that are run: fine-tuning, settings that change together, estimators and a transformer."""


def load(file: str) -> configs.ConfigDict:
    return configs.load(str(FOLDER / file))


def commands(name: str) -> list[list[str]]:
    """Returns the commands in the docstring of a config, as words."""
    text = ast.get_docstring(ast.parse((FOLDER / name).read_text()), clean=False) or ""
    found = re.findall(r"^    (alljax .*(?:(?<=\\)\n.*)*)", text, re.MULTILINE)
    return [shlex.split(command.replace("\\\n", " ")) for command in found]


@pytest.mark.parametrize("name", FILES)
def test_commands_in_the_docstring_are_valid(name: str) -> None:
    text = " ".join((FOLDER / name).read_text().partition('\n"""\n')[0].split())
    assert commands(name)
    assert "minute" in text or "hour" in text or "second" in text
    for verb, action, *options in commands(name):
        assert (verb, action) == ("alljax", "study")
        config, workdir, *overrides = options
        assert workdir.startswith("--workdir=runs/")
        assert config.partition(":")[0] == f"--config={name.removesuffix('.py')}"
        trials = len(sweep.expand(configs.load(config.removeprefix("--config="), overrides)))
        assert trials < 3 or re.search(rf"\b{trials} trials", text)


@pytest.mark.parametrize("file", [*(f"{name}:zzz" for name in FILES), "paper.py:keras,small"])
def test_unknown_argument_is_one_line(file: str) -> None:
    name, _, argument = file.partition(".py:")
    with pytest.raises(ConfigError, match=rf"^config {name} has no argument '{argument}'; it accepts \w+.*$"):
        load(file)


def test_paper_has_its_32_trainings_on_unstratified_splits() -> None:
    trials = sweep.expand(load("paper.py"))
    found = {(trial.config.model.backbone, trial.config.train.optimizer, trial.config.train.epochs) for trial in trials}
    assert len(found) == len(trials) == 32
    train, split = trials[0].config.train, trials[0].config.split
    assert (train.batch_size, train.learning_rate, train.decay_steps, train.decay_rate) == (32, 1e-4, 900, 0.95)
    assert (split.protocol, split.test_fraction, split.stratified) == ("paper", 0.2, False)
    both = sweep.expand(load("paper.py:keras,both"))
    assert [trial.config.split.protocol for trial in both] == ["paper"] * 32 + ["subject_kfold"] * 32
    keras = {(trial.config.model.backbone, trial.config.weights.name) for trial in both}
    assert keras == {("vgg16", "keras-vgg16-notop"), ("resnet50_keras", "keras-resnet50-notop")}


@pytest.mark.parametrize("argument", ["", ":toy"])
def test_table_7_has_every_method_under_both_splits(argument: str) -> None:
    study = load(f"table7.py{argument}")
    trials = [trial for trial in sweep.expand(study) if not trial.members]
    found = [configs.flatten(trial.config) | {"study.design": ""} for trial in trials]
    for name in (name for name in FILES if name.startswith("table7/")):
        for trial in sweep.expand(load(f"{name}{argument}")):
            assert trial.config.split.protocol == "subject_kfold"
            wanted = configs.flatten(trial.config) | {"study.design": ""}
            if not trial.members:
                assert wanted in found
                assert wanted | {"split.protocol": "paper"} in found
    labels = {label for method in table7.methods() for label in method["labels"].split()}
    assert labels >= {trial.config.model.label for trial in trials}
    assert labels >= {name for name, *_ in study.study.combine}


def test_method_is_beside_the_printed_number(tmp_path: Path) -> None:
    splits = "--config.study.sweep=(('split.protocol',('paper','subject_kfold')),)"
    words = [f"--config={FOLDER}/table7/texture_svm.py:toy", splits, f"--workdir={tmp_path}"]
    assert cli.main(["study", *words]) == 0
    trials = json.loads((tmp_path / "metrics.json").read_text())["trials"]
    rows = csv.DictReader((tmp_path / "tables" / "table-7-methods.csv").read_text().splitlines())
    row = next(row for row in rows if row["study"] == "[7]")
    assert (row["our reading"], row["our reading (note)"], row["printed"]) == ("texture_svm", "", "0.96")
    for column, protocol in {"split by image": "paper", "subjects held out": "subject_kfold"}.items():
        assert float(row[column]) == trials[f"texture_svm-protocol={protocol}"]["accuracy"]
    choices = csv.DictReader((tmp_path / "tables" / "table-7-settings.csv").read_text().splitlines())
    assert {"setting": "texture.levels", "our choice": "16"}.items() <= {**[*choices][2]}.items()


@pytest.mark.parametrize("name", ABLATIONS)
def test_arguments_of_an_ablation(name: str) -> None:
    assert sweep.expand(load(f"{name}:cnmc"))[-1].config.train.epochs == 100
    trials = sweep.expand(load(f"{name}:toy"))
    assert 2 <= len(trials) <= 8
    assert all(trial.config.data.synthetic.images == 96 and trial.config.train.epochs == 2 for trial in trials)


@pytest.mark.parametrize("file", RUN)
def test_toy_gives_its_tables_and_figures(file: str, tmp_path: Path) -> None:
    config = load(file)
    assert cli.main(["study", f"--config={FOLDER / file}", f"--workdir={tmp_path}"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["trials"]) == [trial.name for trial in sweep.expand(config)]
    for folder, suffix in (("tables", "csv"), ("figures", "svg")):
        assert (tmp_path / folder / f"ablation.{suffix}").is_file()
    for path in (tmp_path / "tables").glob("*.csv"):
        assert len({len(row) for row in csv.reader(path.read_text().splitlines())}) == 1, "every row has all columns"


@pytest.mark.long
def test_demos_resemble_real_cells(tmp_path: Path) -> None:
    """The quickstart's model is above the size of the cell, but not significantly; the fine-tuned one learns more."""
    for file in ("quickstart.py", "finetune.py:toy"):
        assert cli.main(["study", f"--config={FOLDER / file}", f"--workdir={tmp_path / file[:8]}"]) == 0
        metrics = json.loads((tmp_path / file[:8] / "metrics.json").read_text())
        size = metrics["baselines"]["size_threshold"]
        for trial in metrics["trials"].values():
            assert 0.75 < size["accuracy"] < 0.85
            assert trial["auc"] > size["auc"]
            assert trial["accuracy"] > max(size["accuracy"], metrics["baselines"]["majority"]["accuracy"])
            if file == "quickstart.py":
                low, high = trial["size_improvement"]["auc"]["interval"]
                assert low < 0 < high
