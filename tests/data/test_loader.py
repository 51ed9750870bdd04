import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alljax.data import cnmc, decoded_cache, folder, images, synthetic
from alljax.data.archive import open_tree
from alljax.data.dataset import UNLABELED, Dataset, Record
from alljax.data.loader import Images, Loader, Order, batches
from alljax.errors import ConfigError, DataError


def encode(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def memory(contents):
    records = tuple(Record(path, number % 2) for number, path in enumerate(contents))
    return Dataset("folder", ("a", "b"), records, read=lambda record: contents[record.path])


def numbered(count, read_also=lambda number: None):
    """A set whose image k is all k, so that pixels say which image they are of."""

    def read(record):
        read_also(int(record.path))
        return encode(Image.new("RGB", (4, 4), (int(record.path), 0, 0)), "BMP")

    records = tuple(Record(str(number), number % 3) for number in range(count))
    return Images(Dataset("folder", ("a", "b", "c"), records, read), 4, "nearest")


def rows_of(loader):
    """The images' numbers in each batch, after checking that all parts of a batch say the same."""
    seen = []
    for batch in loader:
        assert [each.dtype for each in (batch.images, batch.labels, batch.rows, batch.mask)] == [
            np.uint8, np.int32, np.int32, np.bool_,
        ]  # fmt: skip
        assert np.array_equal(batch.images[:, 0, 0, 0], batch.rows)
        assert np.array_equal(batch.labels, batch.rows % 3)
        assert not batch.rows[~batch.mask].any()
        seen.append(batch.rows[batch.mask].tolist())
    return seen


def order(count, batch_size, **options):
    return Order(np.arange(count, dtype=np.int32), batch_size, **options)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))


@pytest.fixture(scope="module")
def cells():
    return synthetic.read(5, 53, 60, 1)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_batches_equal_plain_decoding(cells, interpolation):
    resampling = Image.Resampling[interpolation.upper()]
    wanted = [
        np.asarray(Image.open(io.BytesIO(cells.read(record))).resize((24, 24), resampling)) for record in cells.records
    ]
    got = list(batches(Images(cells, 24, interpolation), 8))
    assert [batch.images.shape for batch in got] == [(8, 24, 24, 3)] * 7
    assert got[0].images.dtype == np.uint8
    assert [int(batch.mask.sum()) for batch in got] == [8] * 6 + [5]
    assert got[-1].mask.tolist() == [True] * 5 + [False] * 3
    assert not got[-1].images[5:].any()
    assert np.array_equal(np.concatenate([batch.images[batch.mask] for batch in got]), wanted)
    labels = np.concatenate([batch.labels[batch.mask] for batch in got])
    assert labels.tolist() == [record.label for record in cells.records]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_order(threads):
    source = numbered(40, lambda number: time.sleep(0.02 if number % 5 == 0 else 0))
    assert list(chain(*rows_of(batches(source, 16, threads=threads)))) == list(range(40))
    seen = images.inspect(source.dataset, threads=threads).digests
    assert seen == images.inspect(source.dataset, threads=1).digests


def test_other_shapes_are_stretched():
    dataset = memory({"a.png": encode(Image.new("RGB", (30, 10), (9, 9, 9)))})
    (batch,) = batches(Images(dataset, 16), 2)
    assert (batch.images[0] == 9).all()


def test_the_unlabeled_stay_unlabeled_and_padding_is_zero():
    record = Record("a.png", UNLABELED)
    dataset = Dataset("folder", ("a", "b"), (record,), read=lambda record: encode(NOISE))
    (batch,) = batches(Images(dataset, 8), 2)
    assert batch.labels.tolist() == [UNLABELED, 0]


def test_an_unknown_interpolation():
    with pytest.raises(ConfigError, match="'cubic' is unknown; take one of nearest"):
        Images(memory({"a.png": encode(NOISE)}), 8, "cubic")


def test_an_epoch_is_every_row_once_and_none_reaches_into_the_next():
    own = np.array([3, 5, 8, 13, 21, 34, 2], np.int32)
    got = rows_of(Loader(numbered(40), Order(own, 3, seed=0, epochs=4)))
    assert [len(batch) for batch in got] == [3, 3, 1] * 4
    epochs = [list(chain(*got[start : start + 3])) for start in range(0, 12, 3)]
    assert all(sorted(epoch) == sorted(own.tolist()) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_seeds_share_no_epoch():
    def epochs(seed):
        return {tuple(order(30, 30, seed=seed, epochs=None).batch(epoch)[0].tolist()) for epoch in range(8)}

    assert epochs(1) == epochs(1)
    assert len(epochs(1) | epochs(2) | epochs(3)) == 24


def test_shuffling_is_even():
    places = np.array([order(6, 6, seed=seed).batch(0)[0] for seed in range(3000)])
    counts = np.array([np.bincount(places[:, place], minlength=6) for place in range(6)])
    # Each row stands in each place 500 ± 20 times.
    assert np.abs(counts - 500).max() < 100


def test_an_order_drawn_elsewhere():
    drawn = np.random.default_rng(0).permuted(np.tile(np.arange(7), (3, 1)), axis=1)
    got = rows_of(Loader(numbered(7), Order(drawn, 4, epochs=3)))
    assert got == [part for epoch in drawn.tolist() for part in (epoch[:4], epoch[4:])]


def test_no_end():
    loader = Loader(numbered(5), order(5, 2, seed=0, epochs=None))
    with loader:
        got = [next(loader) for _ in range(3 * 40)]
    assert sorted(np.concatenate([batch.rows[batch.mask] for batch in got])) == sorted(list(range(5)) * 40)


def test_no_rows_no_batches():
    assert list(Loader(numbered(3), order(0, 2, epochs=None))) == []
    assert list(batches(numbered(0), 2)) == []


@pytest.mark.parametrize("hosts", [1, 2, 3, 6])
def test_hosts_together_see_the_global_batches(hosts):
    def of_host(index):
        return list(Loader(numbered(20), order(20, 6, seed=3, epochs=2, shard=(index, hosts))))

    alone = list(Loader(numbered(20), order(20, 6, seed=3, epochs=2)))
    together = [of_host(index) for index in range(hosts)]
    for number, batch in enumerate(alone):
        for name in ("images", "labels", "rows", "mask"):
            parts = [getattr(own[number], name) for own in together]
            assert {len(part) for part in parts} == {6 // hosts}
            assert np.array_equal(np.concatenate(parts), getattr(batch, name))


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_padded_to_a_multiple_the_rows_stay(hosts):
    parts = [
        list(Loader(numbered(13), order(13, 5, seed=0, shard=(index, hosts), multiple=8))) for index in range(hosts)
    ]
    rows = [list(chain(*(own[number].rows[own[number].mask] for own in parts))) for number in range(3)]
    assert rows == rows_of(Loader(numbered(13), order(13, 5, seed=0)))
    assert all(len(own[number].rows) == 8 // hosts for own in parts for number in range(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10, "shard": (0, 4)}, "a batch of 10 images cannot be shared evenly by 4 processes"),
        ({"batch_size": 0}, "a batch of 0 images"),
        ({"batch_size": 4, "shard": (4, 4)}, "shard 4 of 4: shards are numbered from 0 to 3"),
    ],
)
def test_batches_that_cannot_be_shared(options, message):
    with pytest.raises(ConfigError, match=message):
        order(40, **options)


def test_any_stop_goes_on_exactly():
    whole = rows_of(Loader(numbered(11), order(11, 4, seed=5, epochs=3)))
    for stop in range(len(whole) + 1):
        with Loader(numbered(11), order(11, 4, seed=5, epochs=3)) as loader:
            before = [next(loader).rows for _ in range(stop)]
            state = json.loads(json.dumps(loader.get_state()))
        assert len(before) == stop
        again = Loader(numbered(11), order(11, 4, seed=5, epochs=3), threads=1 + stop % 3)
        again.set_state(state)
        assert rows_of(again) == whole[stop:]
        assert again.get_state()["next_batch"] == len(whole)


def test_going_back_within_one_loader():
    loader = Loader(numbered(11), order(11, 4, seed=5, epochs=None))
    with loader:
        state = loader.get_state()
        first = [next(loader).rows.tolist() for _ in range(5)]
        loader.set_state(state)
        assert [next(loader).rows.tolist() for _ in range(5)] == first


def test_hosts_may_change_between_stop_and_start():
    loader = Loader(numbered(12), order(12, 4, seed=1))
    next(loader)
    wanted = next(loader).rows
    state = loader.get_state() | {"next_batch": 1}
    loader.close()
    parts = []
    for index in range(2):
        with Loader(numbered(12), order(12, 4, seed=1, shard=(index, 2))) as own:
            own.set_state(state)
            parts.append(next(own).rows)
    assert np.array_equal(np.concatenate(parts), wanted)


@pytest.mark.parametrize("other", [order(11, 5, seed=5), order(12, 4, seed=5), order(11, 4, seed=6)])
def test_a_state_of_other_batches(other):
    state = Loader(numbered(11), order(11, 4, seed=5)).get_state()
    with pytest.raises(ConfigError, match=r"cannot go on in the batches: \w+ was \d+ and is \d+ now"):
        Loader(numbered(12), other).set_state(state)


def test_a_bad_image_is_named_and_asked_for_again():
    contents = {f"{number}.png": encode(NOISE) for number in range(20)} | {"bad.png": b"x"}
    loader = Loader(Images(memory(contents), 8), order(21, 4))
    with pytest.raises(DataError, match=r"^bad\.png: not an image"):
        list(loader)
    assert loader.get_state()["next_batch"] == 5
    contents["bad.png"] = encode(NOISE)
    assert next(loader).rows.tolist() == [20, 0, 0, 0]


def test_threads_end_when_the_batches_are_dropped(cells):
    before = threading.active_count()
    some = batches(Images(cells, 8), 4)
    next(some)
    some.close()
    del some
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_worker_processes_give_the_same(plant):
    dataset = folder.read_tree(open_tree(plant([f"{'ab'[n % 2]}/{n}.png" for n in range(13)], zipped=True)))
    source, wished = Images(dataset, 8, antialias=False), order(13, 4, seed=2, epochs=2)
    wanted = list(Loader(source, wished))
    with Loader(source, wished, workers=1) as one:
        got = [next(one) for _ in range(3)]
        state = one.get_state()
    with Loader(source, wished, workers=2) as two:
        two.set_state(state)
        got += list(two)
    for ours, theirs in zip(got, wanted, strict=True):
        for name in ("images", "labels", "rows", "mask"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_bad_image_is_named_by_a_worker_process(plant):
    place = plant({"a/1.png": None, "b/2.png": b"no image"})
    source = Images(folder.read_tree(open_tree(place)), 8)
    with pytest.raises(DataError, match=r"^b/2\.png: not an image"):
        list(batches(source, 1, workers=1))


SCRIPT = """
import multiprocessing, sys, time
import numpy as np
from alljax.data import synthetic
from alljax.data.pipeline import Images, Loader, Order

def main():
    global loader
    loader = Loader(Images(synthetic.read(4, 40, 32, 1), 32), Order(np.arange(40), 4, epochs=None), workers=1)
    next(loader)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[1] == "wait":
        time.sleep(60)

if __name__ == "__main__":
    main()
"""


def started(tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    (worker,) = map(int, process.stdout.readline().split())
    return process, worker


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def ends(process):
    deadline = time.monotonic() + 10
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(process)


def test_worker_processes_end_with_a_program_that_forgets_them(tmp_path):
    process, worker = started(tmp_path, "leave")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert ends(worker)


def test_worker_processes_leave_signals_to_their_parent_and_end_when_it_is_killed(tmp_path):
    process, worker = started(tmp_path, "wait")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
    time.sleep(0.3)
    assert alive(worker)
    process.kill()
    process.communicate()
    assert ends(worker)


def test_a_killed_worker_process_is_one_line(plant):
    dataset = folder.read_tree(open_tree(plant([f"{'ab'[n % 2]}/{n}.png" for n in range(6)])))
    loader = Loader(Images(dataset, 8), order(6, 2, epochs=None), workers=1)
    with loader:
        next(loader)
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises(DataError, match="^a worker process was killed .* set data.workers=0"):
            list(islice(loader, 20))


@pytest.mark.real
def test_real_cells_in_batches(cnmc_zip):
    whole = cnmc.read(open_tree(cnmc_zip))
    dataset = replace(whole, records=whole.records[::10])
    source = Images(dataset, 224)
    kept = decoded_cache.keep(source, "host")
    resized = [np.asarray(images.load(dataset, record).resize((224, 224), 2)) for record in dataset.records]
    assert np.array_equal(kept.images, resized)
    assert 0.1 < np.mean(kept.images.any(-1)) < 0.25  # a cell on black
    one = next(batches(source, 8, workers=1))
    assert np.array_equal(one.images, resized[:8])
