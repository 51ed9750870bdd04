"""What a person who waits is shown."""

import re

import pytest

from alljax import progress


def test_a_study_in_a_log_says_what_is_done_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.study(cost=30, models=3) as advance:
        with progress.bar("heads", 10, "epochs") as epochs:
            epochs(10, "▁▄█ validation accuracy 0.900")
        advance(10, 1)
        advance(20, 2)
    said = capsys.readouterr().err
    assert re.search(r"heads .*10/10 .*validation accuracy 0.900", said)
    assert re.search(r"^1 of 3 models done, about \d+ s left$", said, re.M)
    assert re.search(r"^3 of 3 models done, about 0 s left$", said, re.M)


def test_one_model_needs_no_display_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.study(cost=10, models=1) as advance:
        advance(10, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([0.0, 0.5, 1.0], "▁▅█"), ([0.7, 0.7], "▄▄"), (list(range(20)), "▁▂▂▃▄▄▅▅▆▇▇█")],
)
def test_a_curve_in_a_line_of_text(values: list[float], drawn: str) -> None:
    assert progress.sparkline(values) == drawn
