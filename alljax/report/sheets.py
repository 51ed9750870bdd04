"""The sheets of wrong cells that a study has left in its folder, as a page shows them."""

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from alljax.errors import WorkdirError
from alljax.study.results import Study


def shown(study: Study, name: str, room: int) -> dict[str, Any]:
    """Returns a model's sheet of wrong cells, if it takes at most `room` characters.

    Args:
        study: the study.
        name: of the model.
        room: characters left on the page.

    Returns:
        ``sheet``: a data URL or None; ``sheet_size``: width and height it is shown at, None where the study has no
        sheet; ``sheet_left_out``: whether there is one that does not fit; ``sheet_name``: its path in the folder.

    Raises:
        WorkdirError: the sheet is cut off.
    """
    path = study.folder / "figures" / f"wrong-{name}.png"
    picture = _picture(path, "run the same `alljax study` command again") if path.is_file() else None
    fits = picture is not None and len(picture["source"]) <= room
    return {
        "sheet": picture["source"] if picture and fits else None,
        "sheet_size": (picture["width"], picture["height"]) if picture else None,
        "sheet_left_out": picture is not None and not fits,
        "sheet_name": f"figures/{path.name}",
    }


def _picture(path: Path, advice: str) -> dict[str, Any]:
    """Returns a PNG as a JPEG data URL, a tenth of the size, with the size it is shown at."""
    try:
        with Image.open(path) as image:
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, format="JPEG", quality=82, optimize=True)
            width, height = image.size
    except (OSError, SyntaxError) as error:
        raise WorkdirError(f"{path}: not a whole image; {advice}") from error
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"source": source, "width": width // 2, "height": height // 2}
