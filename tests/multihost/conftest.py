from collections.abc import Iterator
from pathlib import Path

import pytest
from multihost.several import STUDY, TOY, Several, finish


@pytest.fixture
def several() -> Iterator[Several]:
    """Starts processes; none of them outlives the test."""
    processes = Several()
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Lets the processes of these tests share what JAX compiles."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, compiled: dict[str, str]) -> Path:
    """The toy of one process with four devices."""
    folder, processes = tmp_path_factory.mktemp("alone"), Several()
    [(code, _, err)] = finish(processes.start([*STUDY, *TOY, f"--workdir={folder}"], devices=4, **compiled))
    assert code == 0, err
    return folder
