"""A room imports only from rooms before it, and the heart of each room knows no files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "alljax"
GROUND = ["errors", "settings", "files", "progress", "interrupts", "config"]  # beneath all rooms
ROOMS = ["data", "models", "weights", "training", "evaluation", "study", "report", "paper", "commands", "cli"]
# Imports that point the wrong way until the restructuring is done.
KNOWN = {("report", "paper")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(module: Path) -> None:
    order = GROUND + ROOMS
    here = room(module)
    for name in imported(module):
        if name.startswith("alljax."):
            there = name.split(".")[1]
            if there in order and here in order and (here, there) not in KNOWN:
                allowed = GROUND[: GROUND.index(here)] if here in GROUND else order[: order.index(here) + 1]
                assert there in allowed or (here, there) in KNOWN, f"alljax/{here} imports alljax/{there}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_torch_no_tensorflow_and_short(module: Path) -> None:
    roots = {name.split(".")[0] for name in imported(module)}
    assert not roots & {"torch", "torchvision", "tensorflow", "keras", "timm"}
    assert len(module.read_text().splitlines()) <= 320, "a module stays under about 300 lines"


def test_models_know_no_files() -> None:
    for module in (PACKAGE / "models").glob("*.py"):
        assert not {name.split(".")[0] for name in imported(module)} & {
            "pathlib",
            "os",
            "io",
            "zipfile",
            "PIL",
        }


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from alljax.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "print(*sorted(set(sys.modules) & {'jax', 'numpy', 'flax', 'sklearn', 'matplotlib', 'grain', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
