"""The notebook of the tutorials runs from top to bottom without a warning.

``python tests/docs/test_notebook.py`` runs it and stores its outputs, with smaller figures and without progress bars.
"""

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/tutorials/notebook.ipynb"
ERRORS = "import warnings; warnings.simplefilter('error')"


def execute(folder: Path) -> Any:
    """Returns the notebook with its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(ERRORS))
    settings = {"timeout": 600, "record_timing": False, "resources": {"metadata": {"path": str(folder)}}}
    NotebookClient(notebook, **settings).execute()
    del notebook.cells[0]
    return notebook


@pytest.mark.long
def test_notebook_runs(tmp_path: Path) -> None:
    outputs = [output for cell in execute(tmp_path).cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("image/png" in output.data for output in outputs) == 2, "cells, then Grad-CAM and occlusion maps"
    assert "\x1b" not in str(outputs), "no codes for colors in tables"
    assert (tmp_path / "runs/spots/report.html").is_file()


def store_outputs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(Path(folder))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                figure = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
                figure.convert("RGB").quantize(64).save(content := io.BytesIO(), "PNG", optimize=True)
                output.data["image/png"] = base64.b64encode(content.getvalue()).decode()
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    store_outputs()
