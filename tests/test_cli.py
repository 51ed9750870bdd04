"""The command line: help with an example, user errors in one line, exit codes."""

import re
import subprocess
import sys

import pytest

from alljax import cli
from alljax.errors import Stopped, UserError


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_has_an_example_that_parses(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    example = cli.VERBS[verb][2]
    help = " ".join(capsys.readouterr().out.split())
    assert f"example: {example}" in help
    assert example.startswith(f"alljax {verb}")
    assert ("--config.seed=1 --config.data.classes=normal,blast" in help) == ("--config" in help)

    def called(options: object) -> int:
        """Does nothing."""
        return 7

    monkeypatch.setitem(cli.VERBS, verb, (called, *cli.VERBS[verb][1:]))
    assert cli.main(example.split()[1:]) == 7


def test_version_is_printed_without_jax() -> None:
    code = "import sys; from alljax import cli\ntry: cli.main(['--version'])\nfinally: assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"alljax \S+ \(jax \S+, jaxlib \S+, Python \S+\)\n", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("studdy", "invalid choice: 'studdy'"),
        ("", "COMMAND"),
        ("study --config=configs/quickstart.py --workdir=w --confi.seed=1", "confi.seed"),
        ("study --config=configs/quickstart.py --workdir=w --config.seed", "--config.seed"),
        ("study --config=nowhere.py --workdir=w", "nowhere.py: no such config file; `alljax configs`"),
        ("study --config=nowhere/configs/paper.py --workdir=w", "did you mean --config=paper?"),
        ("study --config=quickstrat --workdir=w", "unknown config 'quickstrat': did you mean 'quickstart'?"),
        ("configs copy zzz", "unknown config 'zzz': `alljax configs` lists those of alljax"),
        ("study --config=x.py --workdir=w --shard=4/4", "'4/4' is not I/N"),
        ("train --config=configs/quickstart.py --workdir=w --config.study.sweep=()", "use `alljax study`"),
        ("report --workdir=\x1b[31m", r"\x1b[31m"),
        ("report --workdir=nowhere --config.seed=1", "unknown argument '--config.seed'"),
        ("study --dry-run", "unknown argument '--dry-run': did you mean --dry_run?"),
        ("study -c configs/quickstart.py", "unknown argument '-c': see `alljax study --help`"),
        ("--versoin", "unknown argument '--versoin': did you mean --version?"),
        ("study --config= --workdir=w", "--config is empty"),
        ("study --epochs=3", "unknown argument '--epochs': did you mean --config.train.epochs?"),
        ("data audit --sorce=x", "did you mean --source?"),
        ("data audit --source=nowhere --config.split.fold=3", "did you mean 'split.folds'"),
    ],
)
def test_user_error_is_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("alljax: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("exception", "code"), [(Stopped("stopped"), 75), (UserError("wrong"), 2)])
def test_end_of_a_run_is_one_line(
    exception: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(options: object) -> None:
        """Ends."""
        raise exception

    monkeypatch.setenv("ALLJAX_STOP_CODE", "75")
    monkeypatch.setitem(cli.VERBS, "report", (end, *cli.VERBS["report"][1:]))
    assert cli.main(["report", "--workdir=w"]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_settings_are_listed_and_output_into_head_is_no_traceback() -> None:
    command = f"{sys.executable} -m alljax.cli study --settings | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "--config.seed=0" in done.stdout
    assert "Traceback" not in done.stderr
