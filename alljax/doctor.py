"""`alljax doctor`: whether alljax works on this machine, and how to fix what does not."""

import contextlib
import importlib.metadata
import platform
from collections.abc import Callable, Sequence

from alljax.errors import ConfigError, MissingWeightsError, UserError
from alljax.progress import show


def examine(source: str, words: Sequence[str]) -> bool:
    """Prints a line per check; returns whether the quickstart can run, and `source` is complete if one is given."""

    def check(name: str, function: Callable[[], str | None], required: bool = True) -> bool:
        """Prints the result of a check, or the error that it raises with its fix; returns if that is no problem."""
        try:
            status, text = "ok", function() or "passed"
        except UserError as error:
            status, text = "problem" if required else "note", str(error)
        show(f"{status:8} {name:31} {text}")
        return status != "problem"

    if passed := check("versions", check_versions):  # otherwise the other checks could fail for that reason
        from alljax import cache, config
        from alljax.data import readers
        from alljax.models.backbones import BACKBONES
        from alljax.training import distributed, network

        passed &= check("devices", distributed.start_backend) and check("numeric self-check", network.check_compiler)
        check("cache", cache.describe)
        needed = config.load("quickstart").model.backbone
        for name in BACKBONES:
            passed &= check(f"weights of {name}", lambda: _check_weights(name, needed), name == needed)  # noqa: B023
        words = [*words, f"--config.data.source={source}"]
        passed &= not source or check("data", lambda: str(readers.open_labeled(config.load("", words).data)))
    start = "alljax works here; first steps: alljax study --config=quickstart --workdir=runs/quickstart"
    show("", start if passed else "fix the problems above", sep="\n")
    return passed


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


def _check_weights(backbone: str, needed: str) -> str:
    """Returns the known weights that are on this machine, whose hashes are compared."""
    from alljax.weights import store

    known = [name for name, source in store.sources().items() if source.backbone == backbone]
    present = [name for name in known if store.get_source(name).locate()]
    if known and not present and backbone != needed:
        raise MissingWeightsError(f"absent: `alljax weights fetch {known[0]}` downloads them")
    for name in present or known[:1]:
        store.fetch(name, download=False)
    return ", ".join(present) or "none are published; weights.name=random trains from scratch"
