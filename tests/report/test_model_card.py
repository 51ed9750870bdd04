"""model_card.md of the toy study."""

from pathlib import Path

from alljax.study.results import read_study


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
    assert all(name in card.split("## Open topics")[1] for name in ("CLAIM", "TRIPOD+AI"))
    assert str(toy_report.parent.parent) not in card
