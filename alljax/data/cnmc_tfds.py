"""C-NMC 2019 for TensorFlow Datasets, without TensorFlow: `alljax data prepare` writes the data set to a folder DIR.

TFDS reads it once this module is imported: ``tfds.data_source("cnmc2019", split="train", data_dir=DIR)``.  Images are
in the natural order of their paths: a slice such as ``train[:20%]`` does not contain all subjects.
"""

import contextlib
import functools
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from alljax.data import cnmc
from alljax.data.archive import file_stamp
from alljax.data.dataset import Dataset, Record
from alljax.data.readers import open_all
from alljax.errors import DataError, WorkdirError, plural
from alljax.progress import bar

try:
    from array_record.python.array_record_data_source import ArrayRecordDataSource
except ImportError as error:
    raise DataError("TFDS folders need array_record, which has no wheel for Windows; use WSL 2 there") from error

SHARD = 256  # images per file at most: about 150 MB


class Cnmc2019(tfds.core.ShardBasedBuilder):
    """The TFDS builder ``cnmc2019``; its splits are the subsets train, prelim and final, as far as present."""

    VERSION = tfds.core.Version("1.0.0")
    # TFDS would look here for checksums, with a package that it does not require (tensorflow/datasets issue 11212).
    code_path = None

    dataset: Dataset
    """The images to write."""

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Segmented leukemic blasts (all) and normal cells (hem) on black. Some subjects have several names, so "
                "a split by name can leak: 20 = 21, 51 = 75 = 78, H2 = H4 = H5 = H6, H3 = H10."
            ),
            features=tfds.features.FeaturesDict(_features()),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # keys are positions
            homepage="https://doi.org/10.7937/tcia.2019.dc64i46r",
            citation="Mourya et al., ALL Challenge dataset of ISBI 2019 (C-NMC 2019), The Cancer Imaging Archive, 2019",
            metadata=tfds.core.MetadataDict(),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Iterator[Any]]]]:
        dataset, subsets = self.dataset, defaultdict[str, list[Record]](list)
        for record in dataset.records:
            subsets[record.subset].append(record)
        self.info.metadata.update(notes=list(dataset.notes), records=list(map(asdict, dataset.records)))

        def examples(records: list[Record]) -> Iterator[tuple[int, dict[str, Any]]]:
            for number, record in enumerate(records):
                data, row = dataset.read(record), asdict(record)
                row["phase"] = row.pop("subset")
                yield number, {**row, "image": data, "sha256": hashlib.sha256(data).hexdigest()}

        return {
            name: [functools.partial(examples, records[n : n + SHARD]) for n in range(0, len(records), SHARD)]
            for name, records in subsets.items()
        }


def _features() -> dict[str, Any]:
    texts = ("subject", "field", "cell", "fold", "phase", "path", "sha256")
    return {
        "image": tfds.features.Image(doc="The image file, unchanged; 450 x 450, in the final phase 600 x 600."),
        "label": tfds.features.ClassLabel(names=cnmc.CLASSES, doc="-1 in the final phase: not public."),
        **{name: tfds.features.Text(doc=f"{name} of the image; empty where unknown") for name in texts},
    }


def prepare(source: str, out: Path) -> Path:
    """Writes all images of a copy of C-NMC 2019, complete or in part; returns the folder ``out/cnmc2019/1.0.0``."""
    dataset = open_all(source)
    if dataset.name != "cnmc":
        raise DataError(f"{source}: not C-NMC 2019 (no names like UID_H3_12_4_hem.bmp); other data need no preparation")
    for note in dataset.notes:
        logging.info(note)

    def read(record: Record) -> bytes:
        update(1)
        return dataset.read(record)

    try:
        builder = Cnmc2019(data_dir=out)
        builder.dataset = replace(dataset, read=read)
        # TFDS prints to standard output; it does nothing where the data are already prepared.
        with bar("prepare", len(dataset.records), "images") as update, contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(file_format="array_record")
    except (OSError, RuntimeError) as error:  # RuntimeError: array_record, with the reason of the operating system
        reason = getattr(error, "strerror", None) or str(error).partition(";")[0]
        raise WorkdirError(f"cannot write {out}: {reason}; fix this or choose another --out") from error
    folder = Path(builder.data_dir)
    if read_prepared(folder).records != dataset.records:
        raise WorkdirError(f"{folder} was prepared from another source; remove it or choose another --out")
    logging.info(f"prepared {plural(len(dataset.records), 'image')}: {folder}")
    return folder


def read_prepared(folder: Path) -> Dataset:
    """Opens a folder ``…/cnmc2019/1.0.0``: the records of all subsets, and the image files that were prepared."""
    with _damage_reported(folder):
        metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
        records, notes = tuple(Record(**row) for row in metadata["records"]), tuple(metadata["notes"])
        subsets = dict.fromkeys(record.subset for record in records)
        shards = [shard for name in subsets for shard in sorted(folder.glob(f"cnmc2019-{name}.array_record-*-of-*"))]
        source = ArrayRecordDataSource(shards)
        # The images of each subset have the order of its records.
        ordered = [record for name in subsets for record in records if record.subset == name]
        positions = dict(zip(ordered, range(len(source)), strict=True))
        stamp = hashlib.sha256(" ".join(map(file_stamp, shards)).encode()).hexdigest()
    # TFDS would import the classes that features.json names: a prepared folder must not choose the code that runs.
    features, decoders = tfds.features.FeaturesDict(_features()), {"image": tfds.decode.SkipDecoding()}

    def read(record: Record) -> bytes:
        with _damage_reported(folder):
            example = source[positions[record]]
            return bytes(features.deserialize_example_np(example, decoders=decoders)["image"])

    return cnmc.make_dataset(records, read=read, stamp=lambda record: stamp, notes=notes)


@contextlib.contextmanager
def _damage_reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TFDS, array_record and protobuf raise many types
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder}: damaged or incomplete ({reason}); remove it and prepare the data again") from error
