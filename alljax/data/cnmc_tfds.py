"""C-NMC 2019 for TensorFlow Datasets, without TensorFlow.

Importing this module registers the builder::

    import tensorflow_datasets as tfds
    import alljax.data.cnmc2019

    cells = tfds.data_source("cnmc2019", split="train", data_dir=DIR)

`alljax data prepare --out DIR` makes DIR, and goes on where it was stopped.  So
does TFDS's own way, which starts from the beginning each time::

    builder = tfds.builder("cnmc2019", data_dir=DIR)
    config = tfds.download.DownloadConfig(manual_dir=FOLDER_OF_THE_SET)
    builder.download_and_prepare(download_config=config, file_format="array_record")

The images of each split stand in the natural order of their paths: image i is
known by name, and a slice such as ``train[:20%]`` does not mix all people.
"""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import tensorflow_datasets as tfds

from alljax.data import cnmc_index, prepared
from alljax.data.dataset import Dataset, Record
from alljax.data.readers import open_all
from alljax.errors import DataError

SHARD = 256
"""Images in a shard at most: about 15 MB of cells, and little work to lose."""


class Cnmc2019(tfds.core.ShardBasedBuilder):
    """The TFDS builder ``cnmc2019``; its splits are the phases train, prelim and final, as far as they are there."""

    VERSION = tfds.core.Version(prepared.VERSION)
    RELEASE_NOTES = {prepared.VERSION: "Every image file of the three phases as it was given."}  # noqa: RUF012 - TFDS's own
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download C-NMC 2019 from The Cancer Imaging Archive (https://doi.org/10.7937/tcia.2019.dc64i46r)
    or a mirror of it into manual_dir, as folders or as the zips it comes in: nothing has to be
    unpacked or renamed.  A part of the set works too.
    """

    # Where TFDS would look for checksums of downloads; there are none, and looking needs a package that
    # TFDS forgets to require (github.com/tensorflow/datasets/issues/11212).
    code_path = None

    def _info(self) -> Any:
        return info(self)

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Iterator[Any]]]]:
        dataset = open_cnmc(str(dl_manager.manual_dir))
        self.info.metadata.update(metadata(dataset))

        def examples(records: Sequence[Record]) -> Iterator[tuple[int, dict[str, Any]]]:
            for number, record in enumerate(records):
                yield number, example(record, dataset.read(record))

        return {
            phase: [functools.partial(examples, records) for records in files.values()]
            for phase, files in shards(dataset).items()
        }


def open_cnmc(source: str) -> Dataset:
    """Opens all phases of C-NMC 2019.

    Args:
        source: a folder or a zip with the set or a part of it.

    Raises:
        DataError: nothing there, or something else.
    """
    dataset = open_all(source)
    if dataset.name == "cnmc" and not dataset.records:
        raise DataError(f"{source}: no image of C-NMC 2019 in it ({'; '.join(dataset.notes)})")
    if dataset.name != "cnmc":
        raise DataError(
            f"{source}: not C-NMC 2019 (no names like UID_H3_12_4_hem.bmp), and only that is prepared; "
            "other folders and zips are read in place, see data.source"
        )
    return dataset


def shards(dataset: Dataset) -> dict[str, dict[str, tuple[Record, ...]]]:
    """Cuts the records of each phase that is there into shards, by the names TFDS gives the files.

    Phases stand in the order train, prelim, final, and after them any other by name; records keep their order.
    """
    there = {record.subset for record in dataset.records}
    order = [*(phase for phase in cnmc_index.COUNTS if phase in there), *sorted(there.difference(cnmc_index.COUNTS))]
    cut = {}
    for phase in order:
        records = tuple(record for record in dataset.records if record.subset == phase)
        firsts = range(0, len(records), SHARD)
        cut[phase] = {
            f"{prepared.NAME}-{phase}.array_record-{number:05}-of-{len(firsts):05}": records[first : first + SHARD]
            for number, first in enumerate(firsts)
        }
    return cut


def example(record: Record, data: bytes) -> dict[str, Any]:
    """Returns what is stored of one image, in the terms of `info`'s features.

    Args:
        record: the image.
        data: its file.
    """
    return {
        "image": data,
        "label": record.label,
        "subject": record.subject,
        "field": record.field,
        "cell": record.cell,
        "fold": record.fold,
        "phase": record.subset,
        "path": record.path,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def metadata(dataset: Dataset) -> dict[str, Any]:
    """Returns what stands beside the shards: notes of the reading, and the records by split in their order."""
    listed = {
        phase: [asdict(record) for records in files.values() for record in records]
        for phase, files in shards(dataset).items()
    }
    for row in itertools.chain.from_iterable(listed.values()):
        del row["subset"]
    return {"notes": list(dataset.notes), "records": listed}


def serialize(record: Record, data: bytes) -> bytes:
    """Returns the `tf.train.Example` of one image; the same bytes in every process.

    Args:
        record: the image.
        data: its file.
    """
    features, serializer = _serializer()
    # TFDS's own serialization leaves the order of the features to chance.
    return serializer.get_tf_example(features.encode_example(example(record, data))).SerializeToString(
        deterministic=True
    )


@functools.cache
def _serializer() -> tuple[Any, Any]:
    features = _features()
    return features, tfds.core.ExampleSerializer(features.get_serialized_info())


def info(builder: Any) -> Any:
    """Returns the `tfds.core.DatasetInfo` of the set.

    Args:
        builder: a `tfds.core.DatasetBuilder` or `tfds.core.DatasetIdentity`.
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=(
            "Single white blood cells on black, segmented and stain-normalized by the makers of the set: leukemic "
            "blasts (all) and normal cells (hem). Some people stand under several subject names, so a split by "
            "subject can leak: 20 = 21, 51 = 75 = 78, H2 = H4 = H5 = H6, H3 = H10."
        ),
        features=_features(),
        supervised_keys=("image", "label"),
        # Keys are positions: the order of the records is the order on disk.
        disable_shuffling=True,
        homepage="https://doi.org/10.7937/tcia.2019.dc64i46r",
        citation="""
        @misc{cnmc2019,
          title = {{ALL} Challenge dataset of {ISBI} 2019 ({C-NMC} 2019)},
          author = {Mourya, Simmi and Kant, Sonaal and Kumar, Pulkit and Gupta, Anubha and Gupta, Ritu},
          publisher = {The Cancer Imaging Archive},
          year = {2019},
          doi = {10.7937/tcia.2019.dc64i46r},
        }
        """,
        metadata=tfds.core.MetadataDict(),
    )


def _features() -> Any:
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(doc="The image file as given; 450 x 450, in the phase final 600 x 600."),
            "label": tfds.features.ClassLabel(names=cnmc_index.CLASSES, doc="-1 in the phase final: not public."),
            "subject": text(doc="The person, empty in the phase final.  3 and H3 are different people."),
            "field": text(doc="The photograph the cell was cut from."),
            "cell": text(doc="The cell's number in its field."),
            "fold": text(doc="The official fold, in the phase train."),
            "phase": text(doc="train, prelim or final."),
            "path": text(doc="The file's path in the source."),
            "sha256": text(doc="SHA-256 of the file, hexadecimal."),
        }
    )
