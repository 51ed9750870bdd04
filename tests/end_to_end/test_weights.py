"""`alljax weights`: sources, contents, conversion, and refusals in a study."""

from pathlib import Path

import pytest
from end_to_end.conftest import SMALL, Refused, Run

from alljax.weights import store


@pytest.fixture
def lite() -> Path:
    return store.find("", "", "efficientnet_lite0").path


def test_sources_and_contents_are_listed(lite: Path, run: Run) -> None:
    code, out, _ = run("weights", "list")
    assert code == 0
    assert "torchvision-vgg16" in out
    code, out, _ = run("weights", "show", lite)
    assert code == 0
    assert "efficientnet_lite0" in out
    assert "57934424" in out


def test_converted_weights_give_the_same_features(lite: Path, tmp_path: Path, run: Run) -> None:
    converted, outputs = tmp_path / "lite.safetensors", []
    assert run("weights", "convert", lite, "--backbone=efficientnet_lite0", f"--out={converted}")[0] == 0
    for path in (lite, converted):
        assert run("features", *SMALL, f"--config.weights.path={path}", f"--out={tmp_path / 'f.npz'}")[0] == 0
        outputs.append((tmp_path / "f.npz").read_bytes())
    assert outputs[0] == outputs[1]


def test_wrong_weights_are_one_line(
    lite: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["study", *SMALL, "--config.model.backbone=vgg16", "--config.model.stage=", f"--workdir={tmp_path / 'r'}"]
    assert "efficientnet" in refused(*command, f"--config.weights.path={lite}")
    renamed = tmp_path / "vgg16-397923af.pth"
    renamed.write_bytes(lite.read_bytes())
    assert "397923af" in refused(*command, f"--config.weights.path={renamed}")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network
    line = refused(*command)
    for way in ("--config.weights.path", "alljax weights fetch", "https://download.pytorch.org", "copy it to"):
        assert way in line
