"""A weight file of any known family, rewritten in alljax's own layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy

from alljax import files
from alljax.models import backbones
from alljax.weights import conversion, formats, store


def rewrite(path: Path, backbone: str, out: Path) -> int:
    """Writes the parameters of `path` as a .safetensors of flat names (``params/block1/conv1/kernel``).

    The ImageNet classifier comes along where the file has one.

    Args:
        path: a weight file.
        backbone: the network it is for.
        out: the file to write.

    Returns:
        The number of parameters and statistics written.

    Raises:
        ConfigError: an unknown backbone.
        WeightsError: a file that cannot be read, or of another network.
        WorkdirError: `out` cannot be written.
    """
    backbones.get(backbone)
    tensors = formats.read(path)
    family = conversion.recognize(tensors, backbone, str(path))
    paths = [family.names.get(family.spelling(name), "") for name in tensors]
    classifier = any(variable.startswith(conversion.CLASSIFIER) for variable in paths)
    ported = conversion.port(tensors, backbone, classifier, origin=str(path))
    sha256 = store.digest(path)
    if known := store.recognize(path, sha256):
        ported = replace(ported, source=known.name)
    flat = {name: np.ascontiguousarray(tensor) for name, tensor in conversion.flatten(ported).items()}
    metadata = {"backbone": backbone, "family": ported.family, "source_sha256": sha256}
    files.write_bytes(out, safetensors.numpy.save(flat, metadata))
    return sum(tensor.size for tensor in flat.values())
