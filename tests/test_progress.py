"""Bars and messages on standard error."""

import pytest
from absl import logging

from alljax import progress


def test_bar_in_a_log_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("features vgg16", 4, "images") as update:
        update(3)
        update(1, "loss 0.5")
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1
    for text in ("features vgg16", "4/4", "images/s", "loss 0.5"):
        assert text in output.err
    assert not output.out


def test_no_bar_for_nothing_or_if_hidden(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.bar("decode", 0, "images") as update:
        update(0)
    monkeypatch.setattr(progress, "hidden", True)
    with progress.bar("decode", 2, "images") as update:
        update(2)
    assert not capsys.readouterr().err.strip()


def test_study_logs_finished_trials(messages: list[str]) -> None:
    update = progress.study(cost=30, trials=3)
    update(10, 1)
    update(20, 2)
    assert [message.partition(" done")[0] for message in messages] == ["1 of 3 trials", "3 of 3 trials"]


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress.show_messages()
    progress.show_messages()
    logging.info("of another library")
    progress.study(cost=2, trials=2)(1, 1)
    output = capsys.readouterr()
    assert output.err.count("1 of 2 trials done") == 1
    assert "of another library" not in output.err


@pytest.mark.parametrize(("seconds", "text"), [(89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")])
def test_duration(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text
