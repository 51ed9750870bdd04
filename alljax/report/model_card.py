"""model_card.md: the report as text, with the items of two reporting guidelines that it answers, and the open ones."""

from collections.abc import Mapping, Sequence

from alljax.report import findings
from alljax.report.tables import Section, Table
from alljax.study.results import Study

ANSWERS = {
    "limitations": {"CLAIM 2024": "40", "TRIPOD+AI": "26"},
    "setup": {"CLAIM 2024": "22", "TRIPOD+AI": "12c"},
    "data": {"CLAIM 2024": "7, 10, 19, 20, 35", "TRIPOD+AI": "5a, 12a, 21"},
    "all-results": {"CLAIM 2024": "28, 29, 32, 37, 38", "TRIPOD+AI": "12e, 23a"},
    "operating-points-of-best": {"TRIPOD+AI": "15"},
    "subgroups-of-best": {"TRIPOD+AI": "23b"},
    "found": {"CLAIM 2024": "26"},
    "robustness-of-best": {"CLAIM 2024": "30"},
    "external": {"CLAIM 2024": "33", "TRIPOD+AI": "20c"},
    "errors": {"CLAIM 2024": "39"},
    "settings": {"CLAIM 2024": "9, 23, 24, 25, 27", "TRIPOD+AI": "12b, 13, 18f"},
}
"""Items by guideline, by the anchor of the section that has their content."""

OPEN = {
    "CLAIM 2024": (
        "1 title; 2 summary; 3 clinical role; 4 aims; 5 prospective or retrospective; 6 kind of study; 8 inclusion; "
        "11 removal of identity; 12 missing data; 13 image acquisition; 14 true class; 15 why defined so; 16 who "
        "labeled; 17 labels of test images; 18 agreement of raters; 21 planned sample size; 26 choice of the model; "
        "30 robustness; 31 explanation; 33 external test; 34 trial registration; 36 patients; 39 failures; 41 "
        "implications for practice; 42 protocol; 43 availability; 44 funding"
    ),
    "TRIPOD+AI": (
        "1 title; 2 abstract; 3a health context; 3b intended use; 3c known inequalities; 4 objectives; 5b dates; 6a "
        "setting; 6b eligibility; 6c treatments; 7 data preparation; 8a outcome; 8b assessors of the outcome; 8c "
        "blinding; 9a choice of predictors; 9b their definition; 9c their assessors; 10 sample size; 11 missing data; "
        "12d differences between clusters; 12f updating; 12g calculation of predictions; 14 fairness; 15 output and "
        "thresholds; 16 differences from the training data; 17 ethics approval; 18a funding; 18b conflicts of "
        "interest; 18c protocol; 18d registration; 18e data availability; 19 patient involvement; 20a flow of "
        "participants; 20b characteristics; 20c comparison with the training data; 22 complete model; 23b performance "
        "in clusters; 24 result of updating; 25 interpretation; 27a poor or missing input; 27b expertise of users; "
        "27c next steps"
    ),
}
"""Number and title (in our words) of the items that are open unless a section answers them."""

HEAD = (
    "# Model card",
    "Intended use: research only. Not a medical device, and not tested in patient care.",
    "In italics: items that a section answers, by their numbers in CLAIM (update of 2024, Radiology: Artificial "
    "Intelligence 6(4):e240300) and TRIPOD+AI (BMJ 2024;385:e078378).",
)


def model_card(study: Study, sections: Sequence[Section]) -> str:
    """Returns the card: intended use, limitations, the report without figures, open items."""
    limits = [f"- {line}" for line in findings.warnings(study)] or ["None were found."]
    parts, answers = [*HEAD], list[Mapping[str, str]]()
    for section in (
        Section("limitations", "Limitations found", ("\n".join(limits),), ()),
        Section("found", "What the numbers support", findings.findings(study), ()),
        *sections,
    ):
        tables = [_table(part) for part in section.parts if isinstance(part, Table)]
        if tables or not section.parts:
            answers.append(ANSWERS.get(section.anchor, {}))
            items = [f"{name}: {numbers}" for name, numbers in answers[-1].items()]
            listed = [f"*{'; '.join(items)}*"] if items else []
            parts += [f"## {section.title}", *listed, *section.paragraphs, *tables]
    parts.append("## Open items\n\nNot answered above; the authors have to add them.")
    for name, titles in OPEN.items():
        answered = {number for found in answers for number in found.get(name, "").split(", ")}
        left = [title for title in titles.split("; ") if title.split()[0] not in answered]
        parts.append(f"{name}: {'; '.join(left)}.")
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    """Returns a table in Markdown, at most ten of its rows."""
    rows = [[*map(str, row)] for row in (*table.rows[:10], *table.footer)]
    lines = [
        " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in ([*table.columns], *rows)
    ]
    lines.insert(1, " | ".join("---:" if numeric else "---" for numeric in table.numeric))
    more = [f"All {len(table.rows)} rows are in tables/{table.name}.csv."] if len(table.rows) > 10 else []
    return "\n\n".join([f"**{table.title}**", "\n".join(f"| {line} |" for line in lines), *more, *table.notes])
