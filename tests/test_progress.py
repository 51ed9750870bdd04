"""Bars and messages on standard error."""

import pytest
from absl import logging

from alljax import progress
from alljax.errors import printable


def test_bar_in_a_log_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("features vgg16", 4, "images") as update:
        update(3)
        update(1, "loss 0.5")
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1
    for text in ("features vgg16", "4/4", "images/s", "loss 0.5"):
        assert text in output.err
    assert not output.out


def test_messages_of_alljax_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        progress.show_messages()
    logging.info("of another library")
    logging.warning("class a\x1b[31m\u202e of 漢字")
    update = progress.study(cost=30, trials=3)
    update(10, 1)
    update(20, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines.pop(0) == r"class a\x1b[31m\u202e of 漢字"
    assert printable("a\udc80") == r"a\udc80", "a name that is no UTF-8"
    assert [line.partition(" done")[0] for line in lines] == ["1 of 3 trials", "3 of 3 trials"]
