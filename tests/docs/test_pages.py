"""README.md and docs/: commands are valid, Python runs, links and named files exist, output is that of the command."""

import argparse
import contextlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from alljax import cli
from alljax.config import ConfigDict
from alljax.data import cnmc
from alljax.study import sweep

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
PROGRAMS = "alljax|make|python3?|pytest|pip|mkdocs|docker|sbatch|kubectl|gcloud|launch/"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:{PROGRAMS})")
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, text, and the HTML comment above it."""

    language: str
    text: str
    comment: str


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text()
    for match in FENCE.finditer(text):
        above = re.search(r"<!-- ([^>]*) -->\s*\Z", text[: match.start()])
        lines = [line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True)]
        yield Block(match[2], "".join(lines), above[1] if above else "")


def commands(page: str) -> list[list[str]]:
    """Returns the words of every command of a page, without variables before it, comments and prompts."""
    found = []
    for block in blocks(page):
        shell = block.language in ("bash", "sh", "console", "")
        for line in block.text.replace("\\\n", " ").splitlines() if shell else ():
            if COMMAND.match(line := line.removeprefix("$ ")):
                words = shlex.split(line, comments=True)
                found.append(words[next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :])
            else:
                assert block.language == "", f"{page}: {line!r} is no command that this test knows"
    return found


ALLJAX = [(page, words) for page in NAMES for words in commands(page)]


@pytest.mark.parametrize("page", NAMES)
def test_links_and_named_files_exist(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text())
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert re.match("https?:", target) or ((ROOT / page).parent / target).exists(), f"{page}: {target}"
    folders = "alljax|configs|docs|launch|tests|third_party"
    for name in re.findall(rf"`((?:{folders})/[\w./*-]*)[`:]", text):
        assert [*ROOT.glob(name)], f"{page}: {name}"


@pytest.mark.parametrize(("page", "words"), ALLJAX, ids=lambda value: value if isinstance(value, str) else value[0])
def test_command_is_valid(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program = words[0].removeprefix(".venv/bin/")
    monkeypatch.chdir(ROOT)
    if program == "alljax":
        check_alljax(words[1:], monkeypatch)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= {*targets}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for place, word in enumerate(words):
        named = re.match(r"(?:alljax|\.)\[([^]]+)\]", word)
        assert not named or {*named[1].split(",")} <= {*extras}, f"{page}: {word}"
        if re.match("(launch|tests)/", word):
            assert (ROOT / word).is_file(), f"{page}: {word}"
        if word.startswith("launch/") and any(later.startswith("--config=") for later in words[place:]):
            own = re.findall("== (--\\w+) ", (ROOT / word).read_text())  # flags of the script itself
            check_alljax(["study", *(later for later in words[place + 1 :] if later not in own)], monkeypatch)


def check_alljax(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parses a command with its config and expands the trials, but does not run it."""
    called = []

    def call(options: argparse.Namespace) -> None:
        """Records the options."""
        called.append(options)

    for verb, (_, arguments, example) in cli.VERBS.items():
        monkeypatch.setitem(cli.VERBS, verb, (call, arguments, example))
    with contextlib.suppress(SystemExit):  # --help, --settings
        assert cli.main(words) == 0, words
        if isinstance(getattr(called[0], "settings", None), ConfigDict):
            called[0].problems.report()
            assert sweep.expand(called[0].settings)


@pytest.mark.parametrize("page", [page for page in NAMES if any(block.language == "python" for block in blocks(page))])
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one namespace per page; ``<!-- needs … -->`` above a block says why it is only compiled."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            code = compile(block.text, page, "exec")
            if not block.comment.startswith("needs"):
                exec(code, namespace)


def test_output_of_the_quickstart_in_readme_is_that_of_the_command() -> None:
    """Uses the results of `make demo`, after which the command takes two seconds."""
    output = next(block.text for block in blocks("README.md") if "majority class" in block.text)
    folder = ROOT / "runs" / "quickstart"
    if not (folder / "metrics.json").is_file():
        pytest.skip("run `make demo` first")
    words = "study", f"--config={ROOT}/configs/quickstart.py", f"--workdir={folder}"
    command, wide = [sys.executable, "-m", "alljax.cli", *words], os.environ | {"COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=wide)
    for line in output.splitlines():
        assert line.strip() in done.stdout


def test_columns_of_output_files_are_those_of_a_study(toy_study: Path) -> None:
    page = (ROOT / "docs" / "reference" / "output-files.md").read_text()
    table = re.findall(r"^\| `([\w.]+\.csv)` \| (.*) \|$", page, re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", text) for name, text in table if "the same" not in text}
    assert len(documented) == 5
    trial = next((toy_study / "trials").iterdir())
    for name, columns in documented.items():
        path = toy_study / name if (toy_study / name).is_file() else trial / name
        header = re.sub(r"(prob|log_odds)_\w+", r"\1_CLASS", path.read_text().partition("\n")[0])
        assert columns == [*dict.fromkeys(header.split(","))]


def test_numbers_of_images_are_those_of_the_list() -> None:
    records = cnmc.expected().values()
    blast, normal = (sum(record.subset == "train" and record.label == label for record in records) for label in (1, 0))
    for page in ("README.md", "docs/tutorials/paper.md"):
        text = (ROOT / page).read_text()
        assert f"list of all {len(records):,} files" in text
        assert f"{blast + normal:,} training images" in text or f"has {blast + normal:,} images: {blast:,} of" in text
    assert f"and {normal:,} of healthy ones" in text
