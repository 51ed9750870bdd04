"""Every setting once: defaults, types, readers, and lines for people."""

import ast
import json
from pathlib import Path

import pytest

from alljax import config as configs
from alljax.errors import ConfigError
from alljax.settings import SETTINGS

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = str(REPOSITORY / "configs/quickstart.py")
READ = {
    ast.unparse(node)
    for path in (REPOSITORY / "alljax").rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute)
}


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_has_a_reader(key: str) -> None:
    name = ".".join(key.split(".")[-2:]) if "." in key else f"config.{key}"
    assert any(f".{chain}".endswith(f".{name}") for chain in READ), f"nobody reads config.{key}"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.py")), ids=lambda path: path.name)
def test_every_config_file_loads_and_opens_with_its_command(path: Path) -> None:
    configs.load(str(path))
    assert f"alljax study --config=configs/{path.name}" in path.read_text().split('"""')[1]


def test_overrides_take_their_settings_types() -> None:
    pairs = [
        ("train.epochs", "7"), ("train.learning_rate", "1"), ("train.staircase", "True"), ("data.classes", "b,a"),
        ("study.sweep", "(('train.epochs', (1, 2)), ('model.pool', ('max',)))"),
    ]  # fmt: skip
    config = configs.load(QUICKSTART, pairs)
    assert (config.train.epochs, config.train.learning_rate, config.train.staircase) == (7, 1.0, True)
    assert config.data.classes == ("b", "a")
    assert configs.variations(config) == [
        {"train.epochs": 1, "model.pool": "max"},
        {"train.epochs": 2, "model.pool": "max"},
    ]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.epoch", "7", "did you mean train.epochs"),
        ("epochs", "7", "did you mean train.epochs"),
        ("zzz", "7", "--settings"),
        ("train.epochs", "ten", "a whole number"),
        ("train.epochs", "1.5", "a whole number"),
        ("train.epochs", "0", "at least 1"),
        ("train.learning_rate", "fast", "a number"),
        ("train.decay_rate", "0", "at least"),
        ("seed", "99999999999999999999", "too large"),
        ("study.sweep", "(('train.epochs', (1,)), ('train.epochs', (2,)))", "names train.epochs twice"),
        ("train.learning_rate", "nan", "at least 0"),
        ("train.staircase", "yes", "true or false"),
        ("split.protocol", "random", "subject_kfold, subject_holdout"),
        ("split.test_fraction", "1", "between 0 and 1"),
        ("preprocessing.image_size", "16", "at least 32"),
        ("study.sweep", "train.epochs", "pair"),
        ("study.sweep", "(('train.epochs', ()),)", "no value"),
        ("train.epochs", "(('x',),)", "a whole number"),
        ("study.sweep", "(('evaluation.level', (0.9, 0.95)),)", "cannot vary"),
        ("study.sweep", "((", "a list"),
    ],
)
def test_bad_values_get_one_line_that_names_the_key(key: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(QUICKSTART, [(key, value)])
    message = str(caught.value)
    assert says in message
    assert key in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("x =", ":1: invalid syntax"),
        ("x = 1", "get_config"),
        ("def get_config(a): return 3", "not a ConfigDict"),
        ("def get_config(a):\n  return 1 / 0", ":2: division by zero"),
        (
            "from alljax.config import *\ndef get_config(a):\n  c = default_config()\n  c.train.epoch = 3",
            '"epochs"',
        ),
        ("from alljax.config import *\ndef get_config(a):\n  c = default_config()\n  c.seed = 'x'", "'seed'"),
    ],
)
def test_a_broken_config_file_is_named_with_its_line(tmp_path: Path, body: str, says: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(body)
    with pytest.raises(ConfigError, match=r"mine\.py") as caught:
        configs.load(str(file))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_comes_back_from_json() -> None:
    config = configs.load(QUICKSTART + ":cnmc")
    stored = json.loads(json.dumps(configs.flatten(config)))
    assert configs.flatten(configs.unflatten(stored)) == configs.flatten(config)


def test_every_meaning_is_one_line() -> None:
    assert all(setting.help and "\n" not in setting.help for setting in SETTINGS.values())
    assert len("\n".join(configs.describe()).splitlines()) == 2 * len(SETTINGS)


def test_a_varied_value_is_checked_like_any_other() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs='x' is of the wrong type"):
        configs.load(QUICKSTART, [("study.sweep", "(('train.epochs', ('x',)),)")])
