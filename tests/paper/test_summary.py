import subprocess
import sys
from pathlib import Path

import pytest

from alljax import paper
from alljax.paper import reproduction
from alljax.report import report
from alljax.report.tables import Table
from alljax.study.results import Study

ROOT = Path(__file__).resolve().parents[2]


def test_summary_can_be_pasted_into_an_issue(both_study: Study) -> None:
    report.write_report(both_study.folder, paper.sections)
    text = (both_study.folder / "summary.md").read_text()
    assert len(text.splitlines()) < 40
    assert str(both_study.folder) not in text
    [network] = [line for line in text.splitlines() if line.startswith("| EfficientNet-Lite0 up to stem ")]
    honest = "efficientnet_lite0-rmsprop-protocol=subject_kfold-stage=stem-epochs=20"
    assert f"| {100 * both_study.metrics['trials'][honest]['accuracy']:.1f}% [" in network
    for words in ("flax 0.", "instead of disjoint subjects", "| cell size alone |", "with a published number"):
        assert words in text


def test_study_of_random_images_alone_has_no_column_for_subjects(paper_study: Study) -> None:
    [table] = reproduction.summary(paper_study, []).parts
    assert isinstance(table, Table)
    assert [len(row) for row in table.all_rows] == [7] * 4
    assert {row[6].text for row in table.rows} == {"0.82", "0.81", "0.77", "0.76"}


def test_make_reproduce_is_one_study() -> None:
    command = ["make", "--dry-run", "--silent", "reproduce"]
    printed = subprocess.run([*command, "SOURCE=my cells.zip"], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = 'study --config=configs/paper.py:both --workdir="runs/reproduce" --config.data.source="my cells.zip"'
    assert expected in printed.stdout
    assert "SOURCE=" in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stderr


@pytest.mark.long
def test_make_reproduce_prints_the_summary(tmp_path: Path) -> None:
    command = ["make", "--old-file=.venv/.demo", f"BIN={Path(sys.executable).parent}", "reproduce"]
    words = ["VARIANT=toy,both", "SOURCE=synthetic", f"WORKDIR={tmp_path}"]
    printed = subprocess.run([*command, *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert printed.endswith((tmp_path / "summary.md").read_text())
