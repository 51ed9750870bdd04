"""The notebook of the tutorials runs from top to bottom without a warning."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/tutorials/notebook.ipynb"
ERRORS = "import warnings; warnings.simplefilter('error')"


@pytest.mark.long
def test_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(ERRORS))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    figures = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in str(output)]
    assert len(figures) == 2, "the cells, and their Grad-CAM and occlusion maps"
    assert "\x1b" not in str(
        [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    )
    assert (tmp_path / "runs/spots/report.html").is_file()
