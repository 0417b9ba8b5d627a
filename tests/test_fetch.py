"""Downloads against a server of our own on loopback: resumed, checked, and plain when offline."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import heliodor
from heliodor import fetch as fetching
from heliodor import registry
from heliodor.checkpoint import read_header, sha256
from heliodor.convert import mace_any
from heliodor.errors import CheckpointError, DownloadError, ModelError
from heliodor.registry import ModelEntry
from support import shared

CONTENT = np.random.default_rng(0).bytes(700_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Server(BaseHTTPRequestHandler):
    ranges: ClassVar[list[str | None]] = []
    break_after: ClassVar[int | None] = None

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted else 0
        if self.path != "/model.bin":
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT) if self.break_after is None else start + self.break_after
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Server.ranges = []
    _Server.break_after = None
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_broken_download_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    _Server.break_after = 300_000
    with pytest.raises(DownloadError, match=r"run the command again|could not fetch"):
        fetching.download(f"{server}/model.bin", target, DIGEST, progress=False)
    assert not target.exists()
    _Server.break_after = None
    fetching.download(f"{server}/model.bin", target, DIGEST, progress=False)
    assert target.read_bytes() == CONTENT
    assert _Server.ranges == [None, "bytes=300000-"]
    fetching.download(f"{server}/model.bin", target, DIGEST, progress=False)
    assert len(_Server.ranges) == 2, "a file that is there is not fetched again"


def test_wrong_content_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with pytest.raises(DownloadError, match="not the expected file"):
        fetching.download(f"{server}/model.bin", target, "0" * 64, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_part_is_finished_without_another_byte(server: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin.part").write_bytes(CONTENT)
    fetching.download(f"{server}/model.bin", tmp_path / "model.bin", DIGEST, progress=False)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_missing_file_and_no_network_say_so(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetching.download(f"{server}/other.bin", tmp_path / "x", DIGEST, progress=False)
    with pytest.raises(DownloadError, match=r"Without internet.*heliodor models import"):
        fetching.download("http://127.0.0.1:9/model.bin", tmp_path / "x", DIGEST, progress=False)


def test_fetch_of_an_embedded_model_needs_no_network() -> None:
    assert fetching.fetch("so3lr") == registry.find_model("so3lr").path
    with pytest.raises(ModelError, match="known models"):
        fetching.fetch("so4lr")


def test_imported_models_load_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    source = registry.find_model("so3lr").path
    assert source is not None
    fetching.import_model(source, "mine")
    assert "mine" in registry.imported()
    loaded = heliodor.load("mine", dtype="float64").state_dict()
    original = heliodor.load("so3lr", dtype="float64").state_dict()
    assert all((loaded[key] == original[key]).all() for key in original)
    with pytest.raises(CheckpointError, match="no such model file"):
        fetching.import_model(tmp_path / "absent.pkl")


# licences ---------------------------------------------------------------------------------------------------


OFF = ("mace-off23-small", "mace-off23-medium", "mace-off23-large", "mace-off24-medium")


def test_the_registry_says_which_licences_restrict() -> None:
    known = registry.models()
    assert {name for name, entry in known.items() if entry.restricted} == set(OFF)
    for name in OFF:
        entry = known[name]
        assert "Academic Software License" in entry.licence and "https://github.com/gabor1/ASL" in entry.licence
        assert "10.1021/jacs.4c07099" in entry.citation
        assert entry.elements == ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I")
        assert entry.embedded is None and entry.sha256 is None
        assert entry.official is not None
        assert str(entry.official["url"]).startswith("https://raw.githubusercontent.com/ACEsuit/mace-off/")
        assert len(str(entry.official["sha256"])) == 64
    assert len({str(known[name].official) for name in OFF}) == 4


def local_model(server: str, **changes: object) -> dict[str, ModelEntry]:
    official = {"url": f"{server}/model.bin", "sha256": DIGEST, "bytes": len(CONTENT), "converter": "mace"}
    entry = ModelEntry(
        name="local",
        summary="a model on this server",
        elements=("H",),
        licence="Academic Software License, see https://example.org/asl",
        citation="Nobody (2026)",
        official=official | changes,
        restricted=True,
    )
    return registry.models() | {"local": entry}


def test_a_licence_that_restricts_has_to_be_accepted(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    known = local_model(server)
    monkeypatch.setattr(registry, "models", lambda: known)
    monkeypatch.setattr(fetching, "models", lambda: known)
    with pytest.raises(ModelError, match=r"https://example\.org/asl.*--accept-licence"):
        fetching.fetch("local", progress=False)
    assert _Server.ranges == [], "nothing is asked of the server before"
    with pytest.raises(CheckpointError):
        fetching.fetch("local", accept_licence=True, progress=False)
    official = tmp_path / "official" / "local" / "model.bin"
    assert official.read_bytes() == CONTENT, "the file came; it only is no model"


def test_fetched_models_say_what_they_were_made_from(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    known = local_model(server)
    monkeypatch.setattr(registry, "models", lambda: known)
    monkeypatch.setattr(fetching, "models", lambda: known)
    mini = heliodor.load("heliodor-mini", device="cpu", dtype="float64")
    monkeypatch.setattr(fetching, "_read_any", lambda path, head: (mini, path.name, sha256(path)))
    path = fetching.fetch("local", accept_licence=True, progress=False)
    card = read_header(path)["card"]
    assert card["source_sha256"] == DIGEST
    assert card["licence"].startswith("Academic Software License")
    assert card["citation"] == "Nobody (2026)"
    assert fetching.fetch("local", progress=False) == path, "what is here needs nothing accepted"
    assert heliodor.load("local").card["name"] == "local"
    other = tmp_path / "other.bin"
    other.write_bytes(b"another file")
    with pytest.raises(CheckpointError, match="not the official file of local"):
        fetching.import_model(other, "local")
    known["local"].official["sha256"] = "0" * 64  # type: ignore[index]
    with pytest.raises(CheckpointError, match="not made from its official file"):
        heliodor.load("local")


def test_a_server_that_sends_too_much(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="more than 1000 bytes"):
        fetching.download(f"{server}/model.bin", tmp_path / "model.bin", DIGEST, progress=False, limit=1000)
    assert list(tmp_path.iterdir()) == []
    fetching.download(f"{server}/model.bin", tmp_path / "model.bin", DIGEST, progress=False, limit=len(CONTENT))


def test_an_official_file_imported_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by its hash: licence and citation are written into its card."""
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    path = fetching.import_model(shared("weights/so3lr/params.pkl"), "mine")
    card = read_header(path)["card"]
    entry = registry.find_model("so3lr")
    assert entry.official is not None
    assert card["source_sha256"] == entry.official["sha256"]
    assert card["licence"] == entry.licence


def test_an_official_mace_file_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its licence is told although it was neither fetched nor imported."""
    source = shared("weights/mace/rand_OFF23_S.model")
    entry = registry.find_model("mace-off23-small")
    monkeypatch.setattr(mace_any, "official_model", lambda digest: entry if digest == sha256(source) else None)
    assert heliodor.load(source).card["licence"] == entry.licence


def test_a_mace_file_imported_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.ENVIRONMENT, str(tmp_path))
    source = shared("weights/mace/rand_OFF23_S.model")
    card = read_header(fetching.import_model(source, "mine"))["card"]
    assert card["source_sha256"] == sha256(source)
    assert "licence" not in card
    with pytest.raises(CheckpointError, match="not the official file of mace-off23-small"):
        fetching.import_model(source, "mace-off23-small")
    a, b = (heliodor.load(name, device="cpu", dtype="float64") for name in ("mine", source))
    assert all((x == y).all() for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
