"""The paper's tables and figures beside a study's results; the only subpackage that knows the paper."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alljax.report.tables import Section
    from alljax.study.results import Study


def sections(study: "Study") -> "list[Section]":
    """Returns the sections of the report of a study with ``study.compare``."""
    from alljax.paper import reproduction, variants

    return {"paper": reproduction, "variants": variants}[study.config["study.compare"]].sections(study)
