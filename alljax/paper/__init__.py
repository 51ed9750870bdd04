"""The paper that alljax reproduces: published numbers, and a study beside them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alljax.report.tables import Section
    from alljax.study.results import Study


def sections(study: "Study") -> "list[Section]":
    """Returns the sections of the report that ``study.compare`` (``paper`` or ``variants``) asks for."""
    from alljax.paper import leakage, reproduction, variants

    if study.config["study.compare"] == "variants":
        return variants.sections(study)
    return [*reproduction.sections(study), *leakage.sections(study)]
