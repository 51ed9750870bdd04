"""`alljax doctor`: whether alljax works on this machine, and how to fix what does not."""

import contextlib
import importlib.metadata
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from alljax.errors import ConfigError, MissingWeightsError, UserError
from alljax.progress import show


def examine(source: str, words: Sequence[str]) -> bool:
    """Prints a line per check; returns whether the quickstart can run, and `source` is complete if one is given."""
    if passed := _print("versions", check_versions):  # otherwise the other checks could fail for that reason
        from alljax import config
        from alljax.models.backbones import BACKBONES

        passed &= _print("devices", _check_devices) and _print("numbers", _check_numbers)
        _print("cache", _check_cache, required=False)
        for name in BACKBONES:
            required = name == config.load("quickstart").model.backbone
            passed &= _print(f"weights of {name}", partial(_check_weights, name, required), required)
        passed &= not source or _print("data", partial(_check_data, source, words))
    start = "alljax works here; first steps: alljax study --config=quickstart --workdir=runs/quickstart"
    show("", start if passed else "fix the problems above", sep="\n")
    return passed


def _print(name: str, check: Callable[[], str], required: bool = True) -> bool:
    """Prints the result of a check, or the error that it raises with its fix; returns whether that is no problem."""
    try:
        status, text = "ok", check()
    except UserError as error:
        status, text = "problem" if required else "note", str(error)
    show(f"{status:8} {name:31} {text}")
    return status != "problem"


def check_versions() -> str:
    """Returns the main versions; `ConfigError` if one is outside the bounds that alljax and JAX state as packages."""
    from packaging.requirements import Requirement

    if not _version("alljax"):
        return "not checked, because alljax runs without being installed"
    found, wrong = {"Python": platform.python_version()}, {}
    texts = [f"Python{importlib.metadata.metadata('alljax')['Requires-Python']}"]
    texts += [text for package in ("alljax", "jax") for text in importlib.metadata.requires(package) or ()]
    for needed in map(Requirement, texts):
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            version = found.setdefault(needed.name, _version(needed.name))
            if not version or not needed.specifier.contains(version, prereleases=True):
                wrong[f"{needed.name} {version or 'is absent'}"] = f"{needed.name}{needed.specifier}"
    if wrong:
        install = " ".join(f"'{need}'" for need in wrong.values() if not need.startswith("Python"))
        fix = f"pip install {install}" if install else "install it for another Python"
        raise ConfigError(f"{', '.join(wrong)}: alljax needs {' and '.join(wrong.values())}; {fix}")
    return ", ".join(f"{name} {found[name]}" for name in ("Python", "jax", "jaxlib", "flax", "numpy"))


def _version(package: str) -> str:
    """Returns the version of an installed package; empty if it is absent."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


def _check_devices() -> str:
    import jax

    from alljax.training import distributed

    distributed.start_backend()
    counts = Counter(device.device_kind for device in jax.devices())
    unused = jax.default_backend() == "cpu" and shutil.which("nvidia-smi")
    fix = "; JAX does not use the NVIDIA GPU: pip install 'alljax[cuda13]'" if unused else ""
    return ", ".join(f"{count} × {kind}" for kind, count in counts.items()) + fix


def _check_numbers() -> str:
    from alljax.training import network

    network.check_compiler()
    return "compiled results equal NumPy's"


def _check_cache() -> str:
    from alljax import cache, files

    files.check_output(files.cache_dir(), folder=True)
    return cache.describe()


def _check_weights(backbone: str, required: bool) -> str:
    """Returns the known weights that are on this machine, whose hashes are compared."""
    from alljax.weights import store

    known = [name for name, source in store.sources().items() if source.backbone == backbone]
    present = [name for name in known if store.get_source(name).locate()]
    if not (present or required):
        if not known:
            return "none are published; weights.name=random trains from scratch"
        raise MissingWeightsError(f"absent: `alljax weights fetch {known[0]}` downloads them")
    for name in present or known[:1]:
        store.fetch(name, download=False)
    return ", ".join(present)


def _check_data(source: str, words: Sequence[str]) -> str:
    from alljax import config
    from alljax.data import readers

    data = config.load(overrides=[*words, f"--config.data.source={source}"]).data
    return str(readers.open_labeled(data)).partition("\n")[0]
