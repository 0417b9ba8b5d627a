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
from heliodor.errors import CheckpointError, DownloadError, ModelError

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
