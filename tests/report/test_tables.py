import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alljax.errors import WorkdirError
from alljax.report import tables
from alljax.report.tables import Figure, Section, Table, Value

TABLE = Table(
    "table-3",
    "Recall & F1: 100% of <all>",
    ("[9] set_up", "recall, ours", "verdict"),
    (
        (Value("[9] vgg16_a"), Value("0.871", 0.87123456789, "[0.81, 0.92]"), Value("within, or not", note='a "note"')),
        (Value("b"), Value("–", note="cell missing"), Value("")),
        (Value("c"), Value("cell failed"), Value("two\nlines")),
    ),
    ((Value("mean"), Value("10", 10), Value("")),),
    ("Noise: ±0.005 — 95 % of #1_{x}^2 ~ \\ $5.",),
)


class Tags(HTMLParser):
    """Collects tags with their attributes, and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_html_has_a_button_a_column_numbers_to_sort_by_and_the_footer_apart() -> None:
    html = tables.to_html(TABLE)
    found = Tags(html)
    assert found.all("table") == [{"class": "sortable", "id": "table-3"}]
    heads = [attributes for attributes in found.all("th") if attributes.get("scope") == "col"]
    assert [one.get("class") for one in heads] == [None, "number", None]
    assert len(found.all("button")) == 3
    numbers = [one["data-value"] for one in found.all("td") if one.get("class") == "number"]
    assert numbers == ["0.87123456789", "", "", "10"]
    assert html.index("<tbody>") < html.index("[9] vgg16_a") < html.index("<tfoot>") < html.index("mean")
    assert "<small>[0.81, 0.92]</small>" in html
    assert "<all>" not in html
    assert "&lt;all&gt;" in html
    assert "Noise: ±0.005" in html


def test_html_of_a_table_without_rows_footer_and_notes() -> None:
    html = tables.to_html(Table("t", "nothing", ("a",), ()))
    assert Tags(html).all("tbody") == [{}]
    assert "tfoot" not in html
    assert "notes" not in html


def test_the_document_opens_alone() -> None:
    text = tables.to_document(TABLE)
    found = Tags(text)
    assert text.startswith("<!DOCTYPE html>")
    assert found.all("script") == [{}]
    assert found.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert not re.search(r"https?://|@import|src=", text)
    assert "localeCompare" in text  # it sorts by itself
    assert "tables.py" not in text


def test_csv_holds_numbers_in_full_and_words_beside_them() -> None:
    text = tables.to_csv(TABLE)
    assert "\r" not in text
    header, *rows = list(csv.reader(io.StringIO(text)))
    assert header == ["[9] set_up", "recall, ours", "recall, ours (note)", "verdict", "verdict (note)"]
    assert rows == [
        ["[9] vgg16_a", "0.87123456789", "[0.81, 0.92]", "within, or not", 'a "note"'],
        ["b", "", "cell missing", "", ""],
        ["c", "", "cell failed", "two\nlines", ""],
        ["mean", "10", "", "", ""],
    ]


def test_csv_gives_floats_back_bit_for_bit_and_no_number_for_nan() -> None:
    values = [0.1 + 0.2, 1e-17, 12345678.25, float("nan"), -3.0]
    table = Table("t", "", ("x",), tuple((Value("?", value),) for value in values))
    read = [line[0] if line else "" for line in csv.reader(io.StringIO(tables.to_csv(table)))][1:]
    assert [float(one) for one in read if one] == [value for value in values if value == value]
    assert read[3] == ""
    assert read[4] == "-3"


def columns_of(line: str) -> int:
    """Entries of a row: ampersands outside nested tables that are not escaped."""
    outside = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", line)
    return len(re.findall(r"(?<!\\)&", outside)) + 1


def balanced(text: str) -> bool:
    depth = 0
    for one in re.findall(r"\\.|[{}]", text, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(one, 0)
        assert depth >= 0
    return depth == 0


def test_latex_is_a_booktabs_float_with_caption_and_label() -> None:
    text = tables.to_latex(TABLE)
    assert balanced(text)
    begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert sorted(begun) == sorted(ended)
    assert begun.count("table") == 1
    assert r"\caption{Recall \& F1: 100\% of \textless{}all\textgreater{}}" in text
    assert r"\label{tab:table-3}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()
    rows = [line for line in body if line.endswith(r"\\")]
    assert len(rows) == 1 + len(TABLE.rows) + len(TABLE.footer)
    assert {columns_of(line) for line in rows} == {3}
    # After the end of a row a bracket would be the length of a gap.
    assert not any(line.lstrip().startswith("[") for line in text.splitlines())
    assert r"{[}9{]} vgg16\_a" in text
    assert (
        r"Noise: $\pm$0.005 --- 95 \% of \#1\_\{x\}\textasciicircum{}2 \textasciitilde{} \textbackslash{} \$5." in text
    )


def test_latex_breaks_long_words_into_lines_and_keeps_short_ones_whole() -> None:
    words = "the paper says that its optimizer is superior in every row of every table"
    table = Table("t", "", ("where", "says", "also"), ((Value("Table 3"), Value(words), Value(words + words)),))
    (shape,) = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", tables.to_latex(table))
    assert shape.startswith(r"l>{\raggedright\arraybackslash}p{")
    widths = [float(one) for one in re.findall(r"p\{(0\.\d+)\\linewidth\}", shape)]
    assert len(widths) == 2
    assert sum(widths) < 1
    assert widths[1] > widths[0]


TOKENS = {
    r"\textbackslash{}": "\\", r"\{": "{", r"\}": "}", r"\#": "#", r"\$": "$", r"\%": "%", r"\&": "&", r"\_": "_",
    r"\textasciicircum{}": "^", r"\textasciitilde{}": "~", r"\textless{}": "<", r"\textgreater{}": ">",
    r"\textbar{}": "|", "''": '"', "{[}": "[", "{]}": "]", "{*}": "*", "{}": "",
}  # fmt: skip
ASCII = st.text(st.sampled_from("".join(map(chr, range(32, 127))).replace("'", "").replace("`", "")), max_size=30)


@given(ASCII)
def test_latex_sets_ascii_letter_for_letter(text: str) -> None:
    escaped = tables.escape(text)
    pattern = "|".join(re.escape(token) for token in sorted(TOKENS, key=len, reverse=True))
    assert re.sub(pattern, lambda found: TOKENS[found[0]], escaped) == text
    assert "--" not in escaped
    assert not re.search(r"(?<!\\)[#$%&_^~]", escaped)


WORDS = "every confusion matrix of 1,455 ALL and 678 HEM cells that rounds to the row, one after the other, all of them"
TEXTS = Table(
    "texts", "Many long rows", ("where", "how"), ((Value("Section 3.1, Figures 7 and 8"), Value(WORDS)),) * 60
)
WIDE = Table("wide", "Many columns", ("network", *(f"metric {column}, ours" for column in range(14))),
             ((Value("EfficientNet-Lite0"), *(Value("0.123", 0.123, "[0.101, 0.145]"),) * 14),) * 3)  # fmt: skip

TALL = Table("tall", "Many rows", ("epochs", "accuracy, ours"), ((Value("10"), Value("0.9", 0.9, "[0.8, 1.0]")),) * 60)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine")
def test_latex_compiles_and_nothing_sticks_out(tmp_path: Path) -> None:
    for number, table in enumerate((TABLE, TEXTS, WIDE, TALL)):
        (tmp_path / f"{number}.tex").write_text(tables.to_latex(table))
    (tmp_path / "main.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{{tables.PACKAGES}}}\\begin{{document}}"
        "\\input{0}\\input{1}\\input{2}\\input{3}\\end{document}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main"]
    for _ in range(2):  # longtable knows its widths the second time
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Float too large" not in done.stdout
    assert "Overfull" not in done.stdout


def test_a_tall_table_goes_on_over_pages_and_a_wide_one_shrinks() -> None:
    assert "longtable" in tables.to_latex(TALL).partition("\n")[2]
    assert "longtable" in tables.to_latex(TEXTS).partition("\n")[2]
    for one in (TABLE, WIDE, Table("both", "", WIDE.columns, WIDE.rows * 20)):
        assert "longtable" not in tables.to_latex(one).partition("\n")[2]


def test_a_section_lies_beside_the_report(tmp_path: Path) -> None:
    picture = Figure("figure-9", "bars", '<svg xmlns="http://www.w3.org/2000/svg"></svg>', b"\x89PNG")
    written = tables.write(tmp_path, Section("a", "A", (), (TABLE, picture)))
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "tables/table-3.html", "tables/table-3.csv", "tables/table-3.tex", "figures/figure-9.svg",
        "figures/figure-9.png",
    ]  # fmt: skip
    assert (tmp_path / "tables/table-3.csv").read_text() == tables.to_csv(TABLE)
    assert (tmp_path / "tables/table-3.tex").read_text() == tables.to_latex(TABLE)
    assert (tmp_path / "figures/figure-9.png").read_bytes() == b"\x89PNG"
    assert (tmp_path / "figures/figure-9.svg").read_text() == picture.svg + "\n"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(WorkdirError, match="tables"):
        tables.write(tmp_path, Section("a", "A", (), (TABLE,)))
