"""The compiler computes what NumPy computes, at the row counts at which jaxlib 0.10.2 does not."""

import tomllib
from pathlib import Path

import jaxlib
import pytest
from packaging.requirements import Requirement

from alljax.errors import ConfigError
from alljax.training import self_check


@pytest.mark.parametrize("rows", self_check.ROWS)
def test_compiled_rows_equal_numpy(rows: int) -> None:
    assert self_check.wrong_rows(rows) == 0, f"exclude jaxlib {jaxlib.__version__} in pyproject.toml"


def test_installed_version_is_allowed_and_the_wrong_one_excluded() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    jax = next(each for each in map(Requirement, project["dependencies"]) if each.name == "jax")
    assert jax.specifier.contains(jaxlib.__version__)
    assert not jax.specifier.contains("0.10.2")


def test_wrong_compiler_is_refused_and_success_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(self_check.jnp, "sum", lambda values: 0.0 * values[0])
        with pytest.raises(ConfigError, match=r"wrong numbers on this cpu: .* rows differ"):
            self_check.check_compiler()
    assert not list(tmp_path.iterdir())
    self_check.check_compiler()
    assert len(list(tmp_path.glob("self-check-jaxlib-*-cpu"))) == 1
