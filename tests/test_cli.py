"""The command line: help at once with an example, mistakes in one line, exit code 2."""

import subprocess
import sys

import pytest

from alljax import cli, commands

VERBS = ["study", "train", "features", "rates", "predict", "report", "data prepare", "data verify", "data audit",
         "weights list", "weights show", "weights port", "weights fetch"]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"example: alljax {verb}" in said


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "=" in cli.EXAMPLES[verb]])
def test_every_example_parses(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(commands, verb.replace(" ", "_"), lambda options: calls.append(options))
    assert cli.main(cli.EXAMPLES[verb].split()[1:]) == 0
    assert len(calls) == 1


def test_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["study", "--settings"])
    assert "--config.train.learning_rate=0.0001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["studdy"], "invalid choice: 'studdy'"),
        ([], "COMMAND"),
        (["study"], "--config"),
        (["study", "--config=x.py", "--workdir=w", "--confi.seed=1"], "--confi.seed=1"),
        (["study", "--config=x.py", "--workdir=w", "--config.seed"], "--config.seed has no value"),
        (["study", "--config=nowhere.py", "--workdir=w"], "nowhere.py: no such config file"),
        (["study", "--config=x.py", "--workdir=w", "--shard=4/4"], "write I/N with I from 0 to N-1"),
        (["study", "--config=x.py", "--workdir=w", "--shard=one"], "write I/N with I from 0 to N-1"),
        (["report", "--workdir=nowhere"], "nowhere"),
        (["report", "--workdir=nowhere", "--config.seed=1"], "--config.seed=1"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("alljax: ")
    assert len(error.splitlines()) == 1


def test_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "report", interrupt)
    assert cli.main(["report", "--workdir=w"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_output_into_head_is_no_traceback() -> None:
    command = f"{sys.executable} -m alljax.cli study --settings | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
