from collections.abc import Iterator

import pytest
from multihost.several import Several


@pytest.fixture
def several() -> Iterator[Several]:
    """Starts processes; none of them outlives the test."""
    processes = Several()
    yield processes
    processes.close()
