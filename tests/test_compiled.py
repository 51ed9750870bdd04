"""What is compiled for an accelerator is kept between runs; for a CPU only where the person asks for it."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from alljax import commands
from alljax.study import run

QUICKSTART = str(Path(__file__).resolve().parents[1] / "configs/quickstart.py")


@pytest.fixture(autouse=True)
def _own_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def kept(verb: str, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Returns where JAX keeps compiled code when a study begins to work."""
    found: list[str | None] = []

    def begin(*ignored: Any) -> None:
        found.append(jax.config.jax_compilation_cache_dir)

    monkeypatch.setattr(run, "run_study", begin)
    options = {"coordinator": None, "processes": None, "process": None, "resume": None, "overrides": []}
    getattr(commands, verb)(argparse.Namespace(config=QUICKSTART, workdir=workdir, **options))
    return found[0]


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
@pytest.mark.parametrize("verb", ["study", "train"])
def test_an_accelerators_code_is_kept(verb: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert kept(verb, tmp_path, monkeypatch) == str(tmp_path / "cache" / "compiled")
    assert (tmp_path / "cache" / "compiled").is_dir()


def test_a_cpus_code_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jax.config.jax_compilation_cache_dir
    assert kept("study", tmp_path, monkeypatch) == before
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("own", ["", "elsewhere"])
def test_a_persons_own_folder_stays(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", own)
    assert kept("study", tmp_path, monkeypatch) == before
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jax.config.jax_compilation_cache_dir
    (tmp_path / "cache").write_text("a file stands in the way")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert kept("study", tmp_path, monkeypatch) == before
