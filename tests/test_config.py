"""Settings, config files and overrides; every error is one line."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from alljax import cli
from alljax import config as configs
from alljax.errors import ConfigError, UserError

QUICKSTART = str(Path(__file__).resolve().parents[1] / "configs/quickstart.py")
START = "from alljax.config import default_config\ndef get_config(argument=''):\n  c = default_config()\n  "


def test_overrides_have_the_types_of_their_settings() -> None:
    config = configs.load(QUICKSTART, [
        "--config.train.epochs=7", "--config.train.learning_rate=1", "--config.train.staircase=true",
        "--config.data.classes=b,a", "--config.train.loggers=",
        "--config.study.sweep=(('train.epochs', (1, 2)), (('model.pool', 'model.hidden'), (('max', 8),)))",
    ])  # fmt: skip
    assert (config.train.epochs, config.train.learning_rate, config.train.staircase) == (7, 1.0, True)
    assert isinstance(config.train.learning_rate, float)
    assert (config.data.classes, config.train.loggers) == (("b", "a"), ())
    assert configs.sweep_axes(config) == [
        [{"train.epochs": epochs} for epochs in (1, 2)], [{"model.pool": "max", "model.hidden": 8}],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epoch", "7", "did you mean 'train.epochs'"),
        ("epochs", "7", "did you mean 'train.epochs'"),
        ("train.lr", "7", "did you mean 'train.learning_rate'"),
        ("zzz", "7", "--settings"),
        ("model", "7", "unknown setting"),
        ("train.epochs", "1.5", "an integer"),
        ("train.learning_rate", "fast", "a number"),
        ("train.learning_rate", "nan", "at least 0"),
        ("train.learning_rate", "inf", "at most 3e+38"),
        ("model.dropout", "1.5", "at least 0 and below 1"),
        ("train.decay_rate", "1.1", "at most 1"),
        ("seed", "4294967296", "at most 1e+09"),
        ("train.staircase", "yes", "true or false"),
        ("train.groups", "(('.*', 1e400),)", "factor inf is out of range"),
        ("train.groups", "head/.*", "(pattern, learning-rate factor[, decay[, first epoch]])"),
        ("train.loggers", "tensorbord", "the choices are tensorboard"),
        ("data.classes", "ALL,HEM,ALL", "'ALL' twice"),
        ("train.patience", "1", "split.validation"),
        ("classifier.name", "lstm", "needs a sequence: the pixels of a feature map"),
        ("split.protocol", "random", "'subject_kfold', 'subject_holdout'"),
        ("split.test_fraction", "1", "at least 1e-06 and below 1"),
        ("study.sweep", "(('train.epochs', 'abc'),)", "pair"),
        ("study.sweep", "(('train.momentum', (0.9, 1.0)),)", "train.momentum=1.0 is out of range"),
        ("study.sweep", "(('train.epochs', ()),)", "rows of values"),
        ("study.sweep", "(('train.epochs', (1,)), ('train.epochs', (2,)))", "train.epochs twice"),
        ("study.sweep", "(('evaluation.level', (0.9, 0.95)),)", "cannot contain 'evaluation.level'"),
    ],
)
def test_bad_value_is_one_line_with_the_setting(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(QUICKSTART, [f"--config.{key}={value}"])
    assert message in str(caught.value)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_bad_values_are_reported_together() -> None:
    words = ["--config.train.lr=1", "--config.train.epochs=x", "--config.model.dropout=2", "--config.study.sweep=a"]
    with pytest.raises(UserError) as caught:
        configs.load(QUICKSTART, words)
    first, *problems = str(caught.value).splitlines()
    assert first == "4 problems:"
    for problem, part in zip(problems, ("learning_rate", "train.epochs='x'", "dropout", "study.sweep"), strict=True):
        assert problem.startswith("  ")
        assert part in problem


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("(1) AML,(2) ALL", ("(1) AML", "(2) ALL")),
        ("[a], b", ("[a]", "b")),
        ("('a, b', 'c')", ("a, b", "c")),
        ("01,02", ("01", "02")),
        ("", ()),
    ],
)
def test_list_is_a_literal_or_divided_at_commas(text: str, classes: tuple[str, ...]) -> None:
    assert configs.load(QUICKSTART, [f"--config.data.classes={text}"]).data.classes == classes


@pytest.mark.parametrize("folder", ["runs:1", "C:\\x", "a.py"])
def test_path_of_a_config_may_contain_colons(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "mine.py"
    path.parent.mkdir()
    path.write_text(START + "c.data.source = argument\n  return c")
    assert configs.load(f"{path}:a:b").data.source == "a:b"
    assert not configs.load(str(path)).data.source


def test_copy_of_a_shipped_config_runs_and_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["configs"]) == 0
    assert "table7/texture_svm " in capsys.readouterr().out
    for name in ("paper", "table7/texture_svm", "table7"):
        assert cli.main(["configs", "copy", name]) == 0
        copy = f"{name.rpartition('/')[2]}.py"
        assert configs.flatten(configs.load(f"{copy}:toy")) == configs.flatten(configs.load(f"{name}:toy"))
    assert cli.main(["configs", "copy", "paper"]) == 2


def test_folder_configs_above_a_file_is_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name that was imported before stays, and nothing is added to `sys.path`."""
    other, path = ModuleType("configs"), [*sys.path]
    monkeypatch.setitem(sys.modules, "configs", other)
    for folder in ("a", "b"):
        (tmp_path / folder / "configs").mkdir(parents=True)
        (tmp_path / folder / "configs" / "mine.py").write_text(f"SOURCE = {folder!r}")
        body = f"from configs import common, mine\n{START}common.toy(c)\n  c.data.source = mine.SOURCE\n  return c"
        (tmp_path / folder / "study.py").write_text(body)
        assert configs.load(str(tmp_path / folder / "study.py")).data.source == folder
    assert sys.modules["configs"] is other
    assert sys.path == path


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x =", ":1: invalid syntax"),
        ("x = 1", "get_config() does not return"),
        ("import nowhere", ":1: ModuleNotFoundError: No module named 'nowhere'"),
        ("def get_config(a=None): return 3", "get_config() does not return"),
        ("def get_config(a=None):\n  return 1 / 0", ":2: ZeroDivisionError: division by zero"),
        (START + "c.train.epoch = 3", "did you mean 'train.epochs'"),
        (START + "c.train.lr = 3", "did you mean 'train.learning_rate'"),
        (START + "c.seed = 'x'", ":4: TypeError"),
    ],
)
def test_error_in_config_file_is_one_line_with_its_place(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(ConfigError, match=r"mine\.py") as caught:
        configs.load(str(tmp_path / "mine.py"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_config_survives_json() -> None:
    config = configs.load(QUICKSTART + ":cnmc")
    stored = json.loads(json.dumps(configs.flatten(config)))
    assert configs.flatten(configs.vary(configs.default_config(), stored)) == configs.flatten(config)
