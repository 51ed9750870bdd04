"""model_card.md: the report as text, with the topics of two reporting guidelines that a program cannot fill."""

from collections.abc import Sequence

from alljax.report import findings
from alljax.report.tables import Section, Table
from alljax.study.results import Study

HEAD = (
    "# Model card",
    "Intended use: research only. Not a medical device, and not tested in patient care.",
)

OPEN = (
    "## Open topics\n\nThe authors have to add them. Robustness and a test on another source are open, too, unless "
    "sections above have them.",
    "CLAIM, update of 2024 (Radiology: Artificial Intelligence 6(4):e240300): title and summary; clinical role and "
    "aims; kind of study; inclusion of patients and images; removal of identity; image acquisition; missing data; "
    "definition of the classes, who labeled, and agreement of raters; planned sample size; explanation; implications "
    "for practice; registration, protocol, availability and funding.",
    "TRIPOD+AI (BMJ 2024;385:e078378): title and abstract; health context, intended use and known inequalities; "
    "objectives; setting, dates and eligibility; treatments; the outcome, its assessors and blinding; missing data; "
    "sample size; fairness; flow and characteristics of participants; interpretation; expertise of users; ethics "
    "approval, funding, conflicts of interest, protocol, registration and data availability; patient involvement.",
)
"""Topics in our words; the guidelines number and divide them differently."""


def model_card(study: Study, sections: Sequence[Section]) -> str:
    """Returns the card: intended use, limitations, the report without figures, open topics."""
    limits = [f"- {line}" for line in findings.warnings(study)] or ["None were found."]
    parts = [*HEAD, "## Limitations found", "\n".join(limits)]
    parts += ["## What the numbers support", *findings.findings(study)]
    for section in sections:
        if not section.parts or any(isinstance(part, Table) for part in section.parts):
            parts += _section(section)
    return "\n\n".join([*parts, *OPEN]) + "\n"


def summary(study: Study, section: Section) -> str:
    """Returns a section and, below it, limitations and findings: short enough to be pasted into an issue."""
    lines = [f"- {line}" for line in (*findings.warnings(study), *findings.findings(study))]
    return "\n\n".join([*_section(section), "\n".join(lines)]) + "\n"


def _section(section: Section) -> list[str]:
    tables = [_table(part) for part in section.parts if isinstance(part, Table)]
    return [f"## {section.title}", *section.paragraphs, *tables]


def _table(table: Table) -> str:
    """Returns a table in Markdown, at most ten of its rows."""
    rows = [[*map(str, row)] for row in (*table.rows[:10], *table.footer)]
    lines = [
        " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in ([*table.columns], *rows)
    ]
    lines.insert(1, " | ".join("---:" if numeric else "---" for numeric in table.numeric))
    more = [f"All {len(table.rows)} rows are in tables/{table.name}.csv."] if len(table.rows) > 10 else []
    return "\n\n".join([f"**{table.title}**", "\n".join(f"| {line} |" for line in lines), *more, *table.notes])
