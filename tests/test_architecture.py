"""Imports point upwards, names are unique, every setting is used, and retired words stay out."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from alljax.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "alljax"
MODULES = sorted(PACKAGE.rglob("*.py"))
ORDER = [
    "errors", "settings", "interrupts", "files", "cache", "progress", "config_files", "config", "extensions",
    "data", "models", "weights", "features", "training", "evaluation", "study", "report", "paper", "api", "doctor",
    "commands", "cli",
]  # fmt: skip

# Words of earlier versions that are never the right ones, with the words to use instead.
RETIRED = {
    "knob": "setting", "knobs": "settings", "mend": "fix", "mended": "fixed", "anew": "again", "nobody": "no user",
    "somebody": "a user", "everybody": "all users", "no number any more": "became NaN", "regime": "mode",
    "rematerialise": "remat", "normalisation": "normalization", "colour": "color", "colours": "colors",
    "licence": "license", "labelled": "labeled", "unlabelled": "unlabeled", "recognise": "recognize",
    "told apart": "distinguishable", "set aside": "reserve", "set-up": "configuration", "goes on from there": "resumes",
}  # fmt: skip
PATTERNS = (
    "alljax/**/*.py", "alljax/**/*.j2", "configs/*.py", "docs/**/*.md", "launch/*", "README.md", "third_party/*.toml",
)  # fmt: skip
TEXTS = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]


OS = "chown fork getuid geteuid getloadavg kill killpg mkfifo sched_getaffinity setsid statvfs sysconf uname waitpid"
SIGNAL = "alarm pause sigwait SIGALRM SIGCHLD SIGHUP SIGKILL SIGUSR1 SIGUSR2"
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios"}
POSIX |= {f"os.{name}" for name in OS.split()} | {f"signal.{name}" for name in SIGNAL.split()}
"""Modules and names that Windows or macOS lacks."""


def imported(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def test_imports_point_upwards() -> None:
    for module in MODULES:
        here = module.relative_to(PACKAGE).with_suffix("").parts[0]
        for name in imported(module) if here in ORDER else ():
            target = name.split(".")[1] if name.startswith("alljax.") else ""
            if target in ORDER:
                assert ORDER.index(target) <= ORDER.index(here), f"alljax/{here} imports alljax/{target} ({module})"


def test_modules_are_short_and_their_names_unique() -> None:
    lengths = {module: len(module.read_text().splitlines()) for module in MODULES}
    long = {str(module): length for module, length in lengths.items() if length > 300}
    assert not long, "at most 300 lines"
    names = Counter(module.stem for module in MODULES if module.stem != "__init__")
    assert not {name for name, count in names.items() if count > 1} - {"report", "setting_names"}


def test_no_torch_or_tensorflow_and_models_read_no_files() -> None:
    for module in MODULES:
        roots = {name.split(".")[0] for name in imported(module)}
        assert not roots & {"torch", "torchvision", "tensorflow", "keras", "timm"}, module
        assert module.parent.name != "models" or not roots & {"pathlib", "os", "io", "zipfile", "PIL"}, module


def test_every_setting_has_a_reader() -> None:
    """As ``config.GROUP.NAME``, or ``.NAME`` where a function gets ``config.GROUP``, or by ``**config.GROUP``."""
    chains, unpacked = set(), set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Attribute):
                chains.add(f".{ast.unparse(node)}")
            elif isinstance(node, ast.keyword) and node.arg is None:
                unpacked.add(f".{ast.unparse(node.value)}")
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                chains.add(f".{node.slice.value}")  # of the flattened config of a finished study

    def read(name: str, among: set[str]) -> bool:
        return any(chain.endswith(f".{name}") for chain in among)

    for key in SETTINGS:
        group, _, name = key.rpartition(".")
        passed = group and read(f"config.{group}".replace("config.data.", "data."), chains) and read(name, chains)
        whole = f"{group.rpartition('.')[2]}.{name}" if group else f"config.{name}"
        assert read(whole, chains) or passed or (group and read(group, unpacked)), f"config.{key} is never read"


def test_only_two_modules_depend_on_the_operating_system() -> None:
    for module in (path for path in MODULES if path not in (PACKAGE / "interrupts.py", PACKAGE / "files.py")):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        names = imported(module) | {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & POSIX, f"{module}: move this to files.py or interrupts.py"
        texts = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        folders = {text for text in texts if re.match(r"/?(proc|sys|dev|tmp|etc)/", text)}
        assert not folders, f"{module}: Windows has no {folders}"


def test_retired_words_do_not_occur() -> None:
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, RETIRED))})(?![\w-])", re.IGNORECASE)
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for word in pattern.findall(line):
                pytest.fail(f"{path}:{number}: write {RETIRED[word.lower()]!r}, not {word!r}")


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from alljax.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "print(*sorted(set(sys.modules) & {'jax', 'numpy', 'flax', 'sklearn', 'matplotlib', 'pandas', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
