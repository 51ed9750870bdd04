"""model_card.md of the toy study."""

import re
from pathlib import Path

from alljax.study.results import read_study

SEVERAL = {
    3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc",
}  # fmt: skip
TRIPOD = [f"{number}{letter}" for number in range(1, 28) for letter in SEVERAL.get(number, [""])]


def test_every_item_is_answered_or_open(toy_report: Path) -> None:
    card = (toy_report.parent / "model_card.md").read_text()
    answers, opened = card.split("## Open items")
    for name, numbers in (("CLAIM 2024", [*map(str, range(1, 45))]), ("TRIPOD+AI", TRIPOD)):
        listed = re.findall(rf"^\*.*?{re.escape(name)}: ([\w, ]+)", answers, re.MULTILINE)
        answered = [number for line in listed for number in line.split(", ")]
        left = re.findall(rf"^{re.escape(name)}: (.*)\.$", opened, re.MULTILINE)[0].split("; ")
        assert sorted([*answered, *(item.split()[0] for item in left)]) == sorted(numbers)
        assert "33" not in answered, "no external test was made"


def test_content_is_that_of_the_study(toy_report: Path) -> None:
    card, study = (toy_report.parent / "model_card.md").read_text(), read_study(toy_report.parent)
    best = study.metrics["trials"][study.ranking.best]
    (low, high) = best["intervals"]["auc"]
    assert f"| {best['auc']:.3f} [{low:.3f}, {high:.3f}] |" in card
    assert "research only" in card
    assert best["weights"]["sha256"] in card
    assert "Apache-2.0" in card.split("## Settings")[1]
    assert "train.batch_size=16" in card
    assert f"jax {study.environment['packages']['jax']}" in card
    assert "| --- |" in card
    assert str(toy_report.parent.parent) not in card
