"""The paper that alljax reproduces: published numbers, and a study beside them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alljax.report.tables import Section
    from alljax.study.results import Study


def sections(study: "Study") -> "list[Section]":
    """Returns the sections of the report that ``study.compare=paper`` asks for."""
    from alljax.paper import leakage, reproduction

    return [*reproduction.sections(study), *leakage.sections(study)]
