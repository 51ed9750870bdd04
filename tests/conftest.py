"""Set-up of all tests: strict arithmetic, simulated devices, separate caches, real input where it exists."""

import logging as stdlib_logging
import os
import tempfile

# Compilation is most of the time of a test: cheap flags and one cache of compiled programs for all processes.
# ALLJAX_TEST_OPTIMIZE=1 compiles as users do (parity tests, benchmarks).
# ALLJAX_TEST_DEVICES=8 runs the tests of `EIGHT_DEVICES`.
os.environ.setdefault("ALLJAX_TEST_DEVICES", "2")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={os.environ['ALLJAX_TEST_DEVICES']}"
if not os.environ.get("ALLJAX_TEST_OPTIMIZE"):
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/alljax-tests-{os.getuid()}")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a cached program of this very machine warns about its CPU features
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from absl import logging
from ml_collections import ConfigDict

import alljax
from alljax.config import default_config, vary

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps tests out of the cache of the user; ALLJAX_TEST_CACHE_DIR keeps features between runs."""
    folder = os.environ.get("ALLJAX_TEST_CACHE_DIR") or str(tmp_path_factory.mktemp("cache"))
    os.environ["ALLJAX_CACHE_DIR"] = folder


EIGHT_DEVICES = tuple(
    f"tests/training/test_{name}.py"
    for name in ("checkpoints", "compiled_step", "fine_tuning", "fold_loader", "sharding")
)
SYSTEM = ("tests/faults/", "tests/multihost/", "tests/report/test_page_in_browser.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that need several processes, system packages, eight devices or fast compiled programs."""
    root = Path(__file__).resolve().parents[1]
    for item in items:
        path = item.path.relative_to(root).as_posix()
        if path.startswith(SYSTEM):
            item.add_marker(pytest.mark.system)
        if path in EIGHT_DEVICES:
            item.add_marker(pytest.mark.eight_devices)
            if jax.device_count() < 8:
                item.add_marker(pytest.mark.skip(reason="needs ALLJAX_TEST_DEVICES=8"))
        if path.startswith("tests/parity/") or item.get_closest_marker("real"):
            item.add_marker(pytest.mark.optimized)


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """The messages that alljax has logged so far in this test."""
    collected: list[str] = []

    class Collect(stdlib_logging.Handler):
        def emit(self, record: stdlib_logging.LogRecord) -> None:
            if Path(alljax.__file__).parent in Path(record.pathname).parents:
                collected.append(record.getMessage())

    handler, logger = Collect(), logging.get_absl_logger()
    logging.set_verbosity(logging.INFO)
    logger.addHandler(handler)
    yield collected
    logger.removeHandler(handler)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The programs that XLA has compiled so far in this test, by name; also those read from the compilation cache."""
    names: list[str] = []

    def record(event: str, seconds: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(record)
    yield names
    jax.monitoring.unregister_event_duration_listener(record)


@pytest.fixture(scope="session")
def toy_config() -> Callable[..., ConfigDict]:
    """Makes the config of a study on 48 generated images of 12 subjects, of a second or two.

    Arguments: entries of ``study.sweep``; settings as keywords, with ``__`` for the dot.
    """

    def make(*sweep: Any, **settings: Any) -> ConfigDict:
        config = default_config()
        config.data.synthetic.update(images=48, subjects=12, image_size=48)
        config.preprocessing.image_size = 48
        config.model.update(stage="stage1", hidden=8)
        config.split.update(folds=2)
        config.train.update(batch_size=16, learning_rate=1e-2, epochs=2)
        config.evaluation.update(resamples=100, inner_folds=0)  # each compiles the heads once more
        config.study.sweep = sweep
        return vary(config, {key.replace("__", "."): value for key, value in settings.items()})

    return make


@pytest.fixture(scope="session")
def toy_study(toy_config: Callable[..., ConfigDict], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real study without report: 2 stages × 2 optimizers, 2 folds, 2 seeds. Copy the folder to change it."""
    from alljax.study.run import run_study

    folder = tmp_path_factory.mktemp("toy") / "study"
    sweep = ("model.stage", ("stem", "stage1")), ("train.optimizer", ("adam", "rmsprop"))
    run_study(toy_config(*sweep, study__seeds=2, train__epochs=3), folder)
    return folder


def real_file(variable: str, folder: str, name: str) -> Path:
    """Returns a file of real input, or skips the test saying what it lacks."""
    place = Path(os.environ.get(variable) or SHARED / folder)
    if not (place / name).is_file():
        pytest.skip(f"real input not checked: no {name} in {place} (set {variable} to its folder)")
    return place / name


@pytest.fixture(scope="session")
def cnmc_zip() -> Path:
    """The 526 real C-NMC cells in the Kaggle layout."""
    return real_file("ALLJAX_CNMC_DIR", "cnmc", "C-NMC_Leukemia.zip")


@pytest.fixture(scope="session")
def cnmc_manifest() -> Path:
    """Names, sizes and SHA-256 of all 15,114 files of the real set."""
    return real_file("ALLJAX_CNMC_DIR", "cnmc", "manifest.csv")


@pytest.fixture(scope="session")
def vgg16_weights() -> Path:
    """VGG16's real ImageNet convolutions as a torchvision-style .pth."""
    return real_file("ALLJAX_WEIGHTS_DIR", "weights", "vgg16_features-torchvision.pth")
