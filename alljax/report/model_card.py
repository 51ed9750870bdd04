"""model_card.md: the report as text, with the items of two reporting guidelines that it answers, and the open ones.

The numbers of the items are those of A. Tejani et al. (CLAIM) and G. Collins et al. (TRIPOD+AI), the short titles ours.
"""

import json
from collections.abc import Sequence

from alljax.report import findings
from alljax.report.sharing import without_folders
from alljax.report.tables import Section, Table
from alljax.settings import SETTINGS
from alljax.study.results import Study
from alljax.weights import store

GUIDELINES = {
    "CLAIM 2024": (
        "1 title; 2 summary; 3 background and clinical role; 4 aims; 5 prospective or retrospective; 6 kind of "
        "study; 7 data sources; 8 inclusion and exclusion; 9 preprocessing; 10 selected parts of the data; 11 "
        "removal of identity; 12 missing data; 13 image acquisition; 14 how the true class was determined; 15 why "
        "in this way; 16 who labeled; 17 labels of the test images; 18 agreement of raters; 19 division into "
        "training and test; 20 level of the division; 21 planned sample size; 22 model; 23 software; 24 initial "
        "parameters; 25 training; 26 choice of the final model; 27 ensemble; 28 metrics; 29 uncertainty and "
        "significance; 30 robustness; 31 explanation of predictions; 32 internal evaluation; 33 external test; 34 "
        "trial registration; 35 numbers included and excluded; 36 characteristics of the patients; 37 "
        "performance; 38 diagnostic performance with precision; 39 failures; 40 limitations; 41 implications for "
        "practice; 42 protocol and details; 43 availability; 44 funding"
    ),
    "TRIPOD+AI": (
        "1 title; 2 abstract; 3a health context; 3b intended use and users; 3c known inequalities; 4 objectives; "
        "5a data sources; 5b dates; 6a setting; 6b eligibility; 6c treatments; 7 data preparation; 8a outcome; 8b "
        "assessors of the outcome; 8c blinding; 9a choice of predictors; 9b definition of predictors; 9c "
        "assessors of predictors; 10 sample size; 11 missing data; 12a use of the data; 12b handling of "
        "predictors; 12c model and internal validation; 12d differences between clusters; 12e performance "
        "measures; 12f updating; 12g calculation of predictions; 13 class imbalance; 14 fairness; 15 output and "
        "thresholds; 16 differences from the training data; 17 ethics approval; 18a funding; 18b conflicts of "
        "interest; 18c protocol; 18d registration; 18e data availability; 18f code availability; 19 patient "
        "involvement; 20a flow of participants; 20b characteristics; 20c comparison with the training data; 21 "
        "numbers per analysis; 22 complete model; 23a performance with intervals; 23b performance in clusters; 24 "
        "result of updating; 25 interpretation; 26 limitations; 27a poor or missing input; 27b expertise of "
        "users; 27c next steps"
    ),
}
"""Items as number and title, separated by semicolons."""

ANSWERS = {
    "limitations": ("40", "26"),
    "setup": ("22", "12c"),
    "data": ("7 10 19 20 35", "5a 12a 21"),
    "all-results": ("28 29 32 37 38", "12e 23a"),
    "operating-points-of-best": ("", "15"),
    "subgroups-of-best": ("", "23b"),
    "selection-of-best": ("26", ""),
    "robustness-of-best": ("30", ""),
    "external": ("33", "20c"),
    "errors": ("39", ""),
    "settings": ("9 24 25 27", "12b 13"),
    "software": ("23", "18f"),
}
"""Items of both guidelines by the anchor of the section that has their content."""

REFERENCES = (
    "In italics: items that a section answers, by their numbers in CLAIM (update of 2024, Radiology: Artificial "
    "Intelligence 6(4):e240300) and TRIPOD+AI (BMJ 2024;385:e078378)."
)

ROWS = 10
"""Largest number of rows of a table; longer ones are in tables/."""


def model_card(study: Study, sections: Sequence[Section]) -> str:
    """Returns the card: intended use, limitations, the report without figures, settings, software, open items."""
    used = [trial["weights"] for trial in study.metrics["trials"].values()]
    weights = dict.fromkeys(f"{one['backbone']}, {_license(one['name'])}, SHA-256 {one['sha256']}" for one in used)
    lines = [
        without_folders(f"    {key}={study.config[key]}")
        for key, setting in SETTINGS.items()
        if json.dumps(study.config[key]) != json.dumps(setting.default)
    ]
    packages = ", ".join(f"{name} {version}" for name, version in study.environment["packages"].items())
    limits = [f"- {line}" for line in findings.warnings(study)] or ["None were found."]
    contents = [
        Section("limitations", "Limitations found", ("\n".join(limits),), ()),
        Section("found", "What the numbers support", [*findings.findings(study)], ()),
        *sections,
        Section("settings", "Weights and settings", (
            f"Weights: {'; '.join(weights)}.", "\n".join(["Settings other than the defaults:\n", *lines])), ()),
        Section("software", "Software", (f"alljax {study.environment['alljax']} (Apache-2.0); {packages}.",), ()),
    ]  # fmt: skip
    parts = [
        "# Model card",
        "Intended use: research only. Not a medical device, and not tested in patient care.",
        REFERENCES,
    ]
    answered: dict[str, set[str]] = {name: set() for name in GUIDELINES}
    for section in contents:
        tables = [_table(part) for part in section.parts if isinstance(part, Table)]
        if (tables or not section.parts) and (texts := [*section.paragraphs, *tables]):
            here = dict(zip(GUIDELINES, ANSWERS.get(section.anchor, ("", "")), strict=True))
            for name, numbers in here.items():
                answered[name] |= {*numbers.split()}
            listed = [f"{name}: {numbers.replace(' ', ', ')}" for name, numbers in here.items() if numbers]
            parts += [f"## {section.title}", *([f"*{'; '.join(listed)}*"] if listed else []), *texts]
    parts.append("## Open items\n\nNot answered above; the authors have to add them.")
    for name, items in GUIDELINES.items():
        left = [item for item in items.split("; ") if item.split()[0] not in answered[name]]
        parts.append(f"{name}: {'; '.join(left)}.")
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    """Returns a table in Markdown."""
    rows = [[*map(str, row)] for row in (*table.rows[:ROWS], *table.footer)]
    lines = [
        " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in ([*table.columns], *rows)
    ]
    lines.insert(1, " | ".join("---:" if numeric else "---" for numeric in table.numeric))
    more = [f"{len(table.rows) - ROWS} more rows are in tables/{table.name}.csv."] if len(table.rows) > ROWS else []
    return "\n\n".join([f"**{table.title}**", "\n".join(f"| {line} |" for line in lines), *more, *table.notes])


def _license(name: str) -> str:
    known = store.sources().get(name)
    return f"{name}, license {known.license}" if known else "of unknown source and license"
