"""Config files: those that are part of alljax have names; all can import what they share from the folder configs/."""

import ast
import contextlib
import difflib
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from alljax import files
from alljax.errors import ConfigError, WorkdirError, unknown_name

LIST = "`alljax configs` lists those of alljax"


@functools.cache
def shipped() -> dict[str, Path]:
    """Returns the configs that are part of alljax: name, such as ``quickstart`` or ``table7/texture_svm``, to file."""
    folder = files.shipped("configs")
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.py")}
    return {name: found[name] for name in sorted(found) if name != "common"}


def describe() -> list[str]:
    """Returns a line per shipped config: its name, and the first line of its docstring."""
    width = max(map(len, shipped()))
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in shipped().items()}
    return [f"{name:{width}}  {(ast.get_docstring(tree) or '').splitlines()[0]}" for name, tree in trees.items()]


def copy(name: str) -> Path:
    """Copies a shipped config into the current folder, and returns the new file; `WorkdirError` if it exists."""
    source, _ = find(name.removesuffix(".py"))
    if (path := Path(source.name)).exists():
        raise WorkdirError(f"{path} exists and is kept; rename it, or use another folder")
    files.write_bytes(path, source.read_bytes())
    return path


def find(text: str) -> tuple[Path, str]:
    """Returns file and argument of ``NAME[:argument]``, a shipped config, or ``FILE.py[:argument]``."""
    name, _, argument = text.partition(":")
    path = shipped().get(name)
    if match := re.fullmatch(r"(.*\.py)(?::(.*))?", text):  # the path may contain colons
        path, argument = Path(match[1]).expanduser(), match[2] or ""
        if not path.is_file():
            near = difflib.get_close_matches(match[1].removesuffix(".py").rpartition("configs/")[2], shipped(), n=1)
            raise ConfigError(f"{path}: no such config file; {f'did you mean --config={near[0]}?' if near else LIST}")
    if not path:
        help = f"{LIST}; the name of a file of your own ends in .py"
        raise ConfigError(unknown_name("config", name, shipped(), help))
    return path, argument


@contextlib.contextmanager
def importable(path: Path) -> Iterator[None]:
    """Makes ``import configs.NAME`` find the folder configs/ above a file, then the shipped one, not by `sys.path`.

    In that the modules beside configs/ would be importable.  Another package configs is put back at the end.
    """

    def take() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "configs"}

    before, package = take(), ModuleType("configs")
    package.__path__ = [str(above / "configs") for above in path.resolve().parents] + [str(files.shipped("configs"))]
    sys.modules["configs"] = package
    try:
        yield
    finally:
        take()
        sys.modules.update(before)
