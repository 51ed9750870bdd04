"""Which file of a folder of weights is a backbone's, so that one folder serves studies of several backbones."""

from collections.abc import Callable, Collection
from pathlib import Path

from alljax.errors import WeightsError, first_few
from alljax.weights.sources import Source

ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".h5", ".hdf5", ".pkl", ".pickle")
"""What names of weight files end in; others in the folder are not looked at."""


def choose(
    folder: Path,
    backbone: str,
    known: Collection[Source],
    named: Source | None,
    recognize: Callable[[Path], Source | None],
) -> Path:
    """Returns the one file of a folder that holds a backbone's weights.

    The order: a file with the name of a known source; a file with the hash of one; a file whose own name
    begins with the backbone's, as ``vgg16_features-torchvision.pth`` does.

    Args:
        folder: is not searched deeper.
        backbone: the network the weights are for.
        known: all known sources.
        named: the source that it must be; None for any of the backbone.
        recognize: tells a file's source by its hash.

    Raises:
        WeightsError: no such file there, or several in the same way; it lists what was seen and looked for.
    """
    try:
        listed = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise WeightsError(
            f"{folder}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    wanted = [named] if named else [each for each in known if each.backbone == backbone]
    names = {each.file for each in wanted}
    if found := [path for path in listed if path.name in names]:
        return _only(found, folder, backbone)
    files = [path for path in listed if path.suffix.lower() in ENDINGS]
    source_of = {path: recognize(path) for path in files}
    if found := [path for path in files if source_of[path] in wanted]:
        return _only(found, folder, backbone)
    taken = {each.file for each in known}
    free = [path for path in files if not source_of[path] and path.name not in taken]
    if not named and (found := [path for path in free if _begins(path.name, backbone)]):
        return _only(found, folder, backbone)
    there = f"only {first_few(path.name for path in files)}" if files else "no weight file at all"
    looked_for = sorted(names) + ([] if named else [f"a file whose name begins with {backbone}"])
    raise WeightsError(
        f"{folder}: no weights of {backbone} in this folder ({there}); looked for {', '.join(looked_for)}, and for the "
        "hashes of these: put one of them there, or give a file with --config.weights.path=FILE"
    )


def _begins(name: str, backbone: str) -> bool:
    """Whether a file's name begins with that of the backbone, and not with a longer word."""
    name = name.lower().replace("-", "_")
    return name.startswith(backbone) and not name[len(backbone) :][:1].isalnum()


def _only(found: list[Path], folder: Path, backbone: str) -> Path:
    if len(found) > 1:
        raise WeightsError(
            f"{folder}: {len(found)} files may be the weights of {backbone}: "
            f"{', '.join(path.name for path in found)}; say which with --config.weights.name=NAME or give the file "
            "itself with --config.weights.path=FILE"
        )
    return found[0]
