import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from alljax.report import tables
from alljax.report.tables import Table, Value

TABLE = Table(
    "table-3",
    "Recall & F1: 100% of <all>",
    ("[9] set_up", "recall, ours", "verdict"),
    (
        (Value("[9] vgg16_a"), Value("0.871", 0.1 + 0.2, "[0.81, 0.92]"), Value("within, or not", note='a "note"')),
        (Value("b"), Value("–", note="trial missing"), Value("")),
        (Value("* -- √ ≤"), Value("trial failed"), Value("two\nlines")),
    ),
    ((Value("mean"), Value("10", 10), Value("")),),
    ("Noise: ±0.005 — 95 % of #1_{x}^2 ~ \\ $5.",),
)
NUMBER = Value("0.123", 0.123, "[0.101, 0.145]")
WIDE = Table("wide", "Many columns", ("model", *(f"metric {n}" for n in range(11))), ((Value("a"), *[NUMBER] * 11),))
LONG = Table("long", "Many rows", ("where", "how"), ((Value("Section 3.1"), Value("words " * 30)),) * 60)


def test_csv_has_exact_numbers_and_notes_in_separate_columns() -> None:
    text = tables.to_csv(TABLE)
    assert "\r" not in text
    assert list(csv.reader(io.StringIO(text))) == [
        ["[9] set_up", "recall, ours", "recall, ours (note)", "verdict", "verdict (note)"],
        ["[9] vgg16_a", "0.30000000000000004", "[0.81, 0.92]", "within, or not", 'a "note"'],
        ["b", "", "trial missing", "", ""],
        ["* -- √ ≤", "", "trial failed", "two\nlines", ""],
        ["mean", "10", "", "", ""],
    ]
    missing = Table("t", "", ("x",), ((Value("?", float("nan")),), (Value("1", 1.5),)))
    formula = tables.Table("a", "", ("=x", "y"), ((Value("@a"), Value("-0.5", -0.5)),))
    assert tables.to_csv(formula).splitlines() == ["'=x,y", "'@a,-0.5"]
    assert tables.to_csv(missing).splitlines() == ["x", '""', "1.5"]


def test_latex_is_escaped() -> None:
    text = tables.to_latex(TABLE)
    assert r"\label{tab:table-3}" in text
    assert r"Recall \& F1: 100\% of \textless{}all\textgreater{}" in text
    assert r"95 \% of \#1\_\allowbreak{}\{x\}\textasciicircum{}2 \textasciitilde{} \textbackslash{} \$5." in text
    # After the end of a row LaTeX would read a bracket or a star as an argument.
    assert not any(line.lstrip().startswith(("[", "*")) for line in text.splitlines())


def test_table_without_rows() -> None:
    """As that of the misclassified images of a perfect model."""
    empty = Table("none", "Nothing", ("model", "AUC"), ())
    assert "model & AUC" in tables.to_latex(empty)
    assert "<th>AUC</th>" in tables.to_html(empty)


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    for number, table in enumerate((TABLE, LONG, WIDE)):
        (tmp_path / f"{number}.tex").write_text(tables.to_latex(table))
    head = r"\documentclass{article}\usepackage{array,booktabs,longtable,lscape}\begin{document}"
    (tmp_path / "main.tex").write_text(head + r"\input{0}\input{1}\input{2}\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main"]
    for _ in range(2):  # longtable computes its widths in the first run
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "[2]" in done.stdout, "a long table continues on the next page"
