from collections.abc import Callable
from pathlib import Path

import pytest

from alljax.report import model_tables
from alljax.study.results import Study, read_study


@pytest.mark.parametrize("width", [80, 120])
def test_results_fit_and_list_models_then_baselines(
    toy_study: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    study = read_study(toy_study)
    model_tables.print_results(study)
    text = capsys.readouterr().out
    table, _, commands = text.partition("\nreport: ")
    assert all(len(line.rstrip()) <= width for line in table.splitlines())
    assert f"alljax predict --workdir={study.folder}" in commands
    if width == 120:
        places = [text.index(name) for name in (*study.ranking.order, "majority class", "cell size alone")]
        assert places == sorted(places)
    result = study.metrics["trials"][study.ranking.best]
    low, high = result["intervals"]["accuracy"]
    assert f"{result['accuracy']:.1%} [{100 * low:.1f}, {100 * high:.1f}]" in text
    deviations = {"folds": result["spread"]["folds"], "seeds": result["std"]}
    rows = [row for row in model_tables.results_table(study).footer if "sd over" in row[0].text]
    assert [row[0].text for row in rows] == [f"best model: sd over {over}" for over in deviations]
    for row, of_metrics in zip(rows, deviations.values(), strict=True):
        assert row[1].number == of_metrics["auc"]


def test_long_tables_are_cut_and_missing_and_failed_models_named(
    make_study: Callable[..., Study], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    study = make_study(("train.epochs", tuple(range(1, 26))), step=0.05)
    study.metrics.update(missing=["b", "c"], failed={"d": "out of memory"})
    model_tables.print_results(study)
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if "-epochs=" in line]
    assert names == study.ranking.order[: model_tables.PRINTED]
    assert "5 more models are in the report" in lines
    assert {"2 missing: b, c", "1 failed: d"} <= {*lines}
