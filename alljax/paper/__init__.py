"""The paper that alljax reproduces: published numbers, and a study beside them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alljax.report.tables import Section
    from alljax.study.results import Study


def sections(study: "Study") -> "list[Section]":
    """Returns the sections of the report that ``study.compare`` asks for: ``paper`` or ``table7``."""
    from alljax.paper import leakage, reproduction, table7
    from alljax.report import ablation

    if study.config["study.compare"] == "table7":
        return [*table7.sections(study), *ablation.array_section(study), *ablation.combined_section(study)]
    found, gap = reproduction.sections(study), leakage.sections(study)
    lines = [*found[0].paragraphs[3:], *(line for section in gap for line in section.paragraphs)]
    return [reproduction.summary(study, lines), *found, *gap]
