"""What bad input gets: one line that names the thing and the mend, exit code 2, nothing half-written."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import picture

from alljax.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = f"--config={REPOSITORY / 'configs/quickstart.py'}"
# Small images and short runs: what is tested here is the way in.
SMALL = [
    QUICKSTART, "--config.preprocessing.image_size=32", "--config.train.epochs=1", "--config.study.seeds=1",
    "--config.split.folds=2", "--config.evaluation.resamples=100",
]  # fmt: skip

Refused = Callable[..., str]


def make_cells(folder: Path) -> None:
    """Two classes, four people each, two images a person."""
    for label, name in enumerate(("blast", "normal")):
        for person in range(4):
            for number in range(2):
                path = folder / name / f"{name}{person}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(100 * label + 10 * person + number))


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    make_cells(tmp_path / "trials")
    return tmp_path / "trials"


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command line that must be refused, and returns its one line."""

    def run(*arguments: str, verb: str = "study", workdir: Path | None = None) -> str:
        where = [f"--workdir={workdir or tmp_path / 'run'}"] if verb in ("study", "train") else []
        settings = SMALL if verb in ("study", "train", "features") else []
        code = main([*verb.split(), *settings, *where, *arguments])
        error = capsys.readouterr().err
        assert code == 2, error
        lines = [line for line in error.splitlines() if line.startswith("alljax: ")]
        assert len(lines) == 1
        assert error.rstrip().splitlines()[-1] == lines[0], "the mend is the last thing a person reads"
        assert not (tmp_path / "run").exists(), "nothing half-written"
        return lines[0]

    return run


def source(folder: Path) -> str:
    return f"--config.data.source={folder}"


def test_unknown_key(refused: Refused) -> None:
    assert "train.epochs" in refused("--config.train.epoch=3")


def test_wrong_type(refused: Refused) -> None:
    assert "whole number" in refused("--config.train.epochs=many")


def test_unknown_backbone(refused: Refused) -> None:
    assert "vgg16" in refused("--config.model.backbone=vgg")


def test_unknown_stage(refused: Refused) -> None:
    assert "stage7" in refused("--config.model.stage=stage9")


def test_missing_folder(refused: Refused, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(source(tmp_path / "nowhere"))


def test_empty_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(source(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"not an image at all", "not an image"), (picture()[:700], "truncated")],
    ids=["zero bytes", "text", "truncated"],
)
def test_bad_image(refused: Refused, cells: Path, content: bytes, says: str) -> None:
    (cells / "blast/blast1/0.png").write_bytes(content)
    (cells / "normal/normal2/1.png").write_bytes(content)
    line = refused(source(cells))
    assert "blast/blast1/0.png" in line
    assert "normal/normal2/1.png" in line
    assert says in line


def test_class_without_image(refused: Refused, cells: Path) -> None:
    (cells / "reactive").mkdir()
    assert "'reactive' has no image" in refused(source(cells))


def test_one_class_only(refused: Refused, cells: Path) -> None:
    for path in sorted((cells / "normal").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (cells / "normal").rmdir()
    assert "only one class" in refused(source(cells))


def test_more_folds_than_people(refused: Refused, cells: Path) -> None:
    line = refused(source(cells), "--config.split.folds=5")
    assert "5" in line
    assert "4" in line


def weights(file: Path) -> str:
    return f"--config.weights.path={file}"


def real_lite() -> Path:
    from alljax.weights import store

    return store.find("", "", "efficientnet_lite0").path


def test_missing_weight_file(refused: Refused, cells: Path, tmp_path: Path) -> None:
    assert "no.pth" in refused(source(cells), weights(tmp_path / "no.pth"))


def test_truncated_weight_file(refused: Refused, cells: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.pth"
    file.write_bytes(real_lite().read_bytes()[:1_000_000])
    assert "cut.pth" in refused(source(cells), weights(file))


def test_weights_of_another_network(refused: Refused, cells: Path) -> None:
    line = refused(source(cells), weights(real_lite()), "--config.model.backbone=vgg16")
    assert "efficientnet" in line


def test_weight_file_of_the_wrong_hash(refused: Refused, cells: Path, tmp_path: Path) -> None:
    file = tmp_path / "vgg16-397923af.pth"
    file.write_bytes(real_lite().read_bytes())
    line = refused(source(cells), weights(file), "--config.model.backbone=vgg16")
    assert "397923af" in line
    assert "57934424" in line


class Canary:
    """Its pickle writes a file when it is opened freely."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.place,)


def test_a_pickle_that_wants_to_run_code_does_not(refused: Refused, cells: Path, tmp_path: Path) -> None:
    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps({"features.0.weight": Canary(str(tmp_path / "ran"))}))
    line = refused(source(cells), weights(file), "--config.model.backbone=vgg16")
    assert "mkdir" in line
    assert not (tmp_path / "ran").exists()


def test_no_weights_to_be_had_says_the_four_ways(
    refused: Refused, cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network, whatever the machine has
    line = refused(source(cells), "--config.model.backbone=resnet50")
    for way in ("--config.weights.path", "alljax weights fetch", "https://download.pytorch.org", "cache"):
        assert way in line


def test_workdir_under_a_file(refused: Refused, cells: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "file" in refused(source(cells), workdir=tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_no_write_permission(cells: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    # Root may write anywhere; without this capability it is a person like others.
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "alljax.cli", "study", *SMALL, source(cells), f"--workdir={closed / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("alljax: cannot write in")
    assert not list(closed.iterdir())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cells`` and ``finished``, a study of them."""
    folder = tmp_path_factory.mktemp("study")
    make_cells(folder / "trials")
    assert main(["study", *SMALL, source(folder / "trials"), f"--workdir={folder / 'finished'}"]) == 0
    return folder


@pytest.fixture
def finished(study: Path, tmp_path: Path) -> Path:
    """A finished study's own copy; its images are still where they were."""
    shutil.copytree(study / "finished", tmp_path / "finished")
    return tmp_path / "finished"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_workdir_of_another_run(refused: Refused, study: Path, finished: Path) -> None:
    before = snapshot(finished)
    line = refused(source(study / "trials"), "--config.train.epochs=2", workdir=finished)
    assert "train.epochs: 1 → 2" in line
    assert snapshot(finished) == before


def test_workdir_of_other_images(refused: Refused, study: Path, finished: Path) -> None:
    before, image = snapshot(finished), study / "trials/blast/blast0/0.png"
    original = image.read_bytes()
    try:
        image.write_bytes(picture(999))
        assert "images" in refused(source(study / "trials"), workdir=finished)
    finally:
        image.write_bytes(original)
    assert snapshot(finished) == before


def test_same_command_again_changes_no_number(study: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(finished)
    assert main(["study", *SMALL, source(study / "trials"), f"--workdir={finished}"]) == 0
    assert "done before" in capsys.readouterr().out
    assert snapshot(finished) == before


def test_a_cell_that_is_missing_is_run_again_to_the_same_bits(study: Path, finished: Path) -> None:
    before = snapshot(finished)
    gone = next((finished / "trials").iterdir())
    shutil.rmtree(gone)
    assert main(["study", *SMALL, source(study / "trials"), f"--workdir={finished}"]) == 0
    for name in ("predictions.csv", "history.csv"):
        assert (gone / name).read_bytes() == before[str(gone / name)]


def test_predict_refuses_what_is_no_study_or_no_image(refused: Refused, finished: Path, tmp_path: Path) -> None:
    out = f"--out={tmp_path / 'predictions.csv'}"
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for image, says in [("nowhere", "no such file"), ("bad.png", "empty"), ("folder", "no image")]:
        line = refused(f"--workdir={finished}", out, str(tmp_path / image), verb="predict")
        assert image in line
        assert says in line
    good = tmp_path / "good.png"
    good.write_bytes(picture())
    assert "config.json" in refused(f"--workdir={tmp_path}", out, str(good), verb="predict")
    assert "adam" in refused(f"--workdir={finished}", out, "--trial=x", str(good), verb="predict")
    assert "named twice" in refused(f"--workdir={finished}", out, str(good), str(good), verb="predict")
    assert not (tmp_path / "predictions.csv").exists()


def test_predict_refuses_a_damaged_checkpoint(refused: Refused, finished: Path, tmp_path: Path) -> None:
    for file in (finished / "trials").rglob("checkpoint/**/d/*"):
        file.write_bytes(b"damaged")
    (tmp_path / "good.png").write_bytes(picture())
    arguments = [f"--workdir={finished}", f"--out={tmp_path / 'p.csv'}", str(tmp_path / "good.png")]
    assert "damaged checkpoint" in refused(*arguments, verb="predict")


def test_gray_and_alpha_are_converted_and_said(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, mode in enumerate(["L", "L", "RGBA"]):
        (cells / f"blast/blast{number}/0.png").write_bytes(picture(number, mode))
    assert main(["study", *SMALL, source(cells), f"--workdir={tmp_path / 'run'}"]) == 0
    assert "converted to RGB: 2 of mode L, 1 of mode RGBA" in capsys.readouterr().out


def test_names_that_do_not_parse_are_listed_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, prefix in (("all", ""), ("hem", "H")):
        folder = tmp_path / "set/fold_0" / label
        folder.mkdir(parents=True)
        for person in range(1, 5):
            (folder / f"UID_{prefix}{person}_1_1_{label}.bmp").write_bytes(picture(person, suffix="bmp"))
    (tmp_path / "set/fold_0/all/Thursday.bmp").write_bytes(picture(9, suffix="bmp"))
    command = ["study", *SMALL, source(tmp_path / "set"), "--config.data.allow_partial=true"]
    assert main([*command, f"--workdir={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().out
    assert "1 image left out, names that do not parse: fold_0/all/Thursday.bmp" in said


def test_unreadable_images_stop_the_study_or_are_left_out_by_name(
    refused: Refused, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = sorted(path for path in cells.rglob("*") if path.is_file())[0]
    broken.write_bytes(broken.read_bytes()[:60])
    assert str(broken.relative_to(cells)) in refused(source(cells))
    run = tmp_path / "run"
    assert main(["study", *SMALL, source(cells), "--config.data.on_error=skip", f"--workdir={run}"]) == 0
    assert "1 image left out, cannot be read (data.on_error=skip): " in capsys.readouterr().out
    name = broken.relative_to(cells).as_posix()
    assert f"{name}," not in (run / "split.csv").read_text()
    notes = json.loads((run / "metrics.json").read_text())["dataset"]["notes"]
    assert any(name in note for note in notes)


def test_a_learning_rate_that_diverges(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", *SMALL, source(cells), f"--workdir={tmp_path / 'run'}"]
    assert main([*command, "--config.train.learning_rate=1e30"]) == 2
    assert "lower train.learning_rate" in capsys.readouterr().err
    left = [path for path in (tmp_path / "run/cells").rglob("*") if path.is_file()]
    assert {path.name for path in left} == {"failed.txt"}, "they say why, and nothing half-written lies beside them"
    assert main(command) == 0, "the mend it names works in the same folder"
    assert not any(path.exists() for path in left)


def test_results_without_their_config_are_not_taken_over(refused: Refused, study: Path, finished: Path) -> None:
    (finished / "config.json").unlink()
    assert "config.json" in refused(source(study / "trials"), workdir=finished)


def test_a_folder_in_use(refused: Refused, study: Path, finished: Path) -> None:
    from alljax.study import workdir

    with workdir.alone(finished):
        assert "another alljax is at work" in refused(source(study / "trials"), workdir=finished)


def test_a_cache_that_cannot_be_written_is_only_said(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "file"))
    assert main(["train", *SMALL, source(cells), f"--workdir={tmp_path / 'run'}"]) == 0
    assert "ALLJAX_CACHE_DIR" in capsys.readouterr().out


def test_predict_asks_for_the_weights_it_was_trained_with(
    refused: Refused, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, image = tmp_path / "mine.pth", tmp_path / "good.png"
    file.write_bytes(real_lite().read_bytes())
    image.write_bytes(picture())
    assert main(["train", *SMALL, source(cells), weights(file), f"--workdir={tmp_path / 'trained'}"]) == 0
    capsys.readouterr()
    predict = [f"--workdir={tmp_path / 'trained'}", f"--out={tmp_path / 'p.csv'}", str(image)]
    file.rename(tmp_path / "moved.pth")
    assert "--weights=FILE" in refused(*predict, verb="predict")
    assert main(["predict", *predict, f"--weights={tmp_path / 'moved.pth'}"]) == 0
    capsys.readouterr()
    assert main(["weights", "convert", str(real_lite()), "--backbone=efficientnet_lite0", f"--out={file}"]) == 0
    assert "SHA-256" in refused(*predict, verb="predict")


def test_outputs_are_looked_at_before_long_work(refused: Refused, finished: Path, cells: Path, tmp_path: Path) -> None:
    assert "is a folder" in refused(source(cells), f"--out={tmp_path}", verb="features")
    assert "is a folder" in refused(f"--workdir={finished}", f"--out={tmp_path}", str(cells), verb="predict")
    assert "is empty" in refused("--workdir=", verb="report")
