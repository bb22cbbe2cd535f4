"""Downloading known weights from a real local server that misbehaves in every known way."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from effnet_edge.converters import transfer as transfer_module
from effnet_edge.converters.download import fetch
from effnet_edge.errors import DownloadError, StoreError, UsageError
from effnet_edge.models.weights import known

DATA = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = f"efficientnet_b0_test-{SHA256[:8]}.pth"


class Server:
    """Serves ``data``; ``plan`` says how each request in turn goes wrong, "" means well."""

    def __init__(self) -> None:
        self.data = DATA
        self.plan: list[str] = []
        self.ranges_allowed = True
        self.etag: str | None = '"one"'
        self.requests: list[dict[str, str]] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                outer.requests.append({"path": self.path, **dict(self.headers)})
                outer.answer(self, outer.plan.pop(0) if outer.plan else "")

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, fault: str) -> None:
        if fault.isdigit() and fault.startswith("3"):
            handler.send_response(int(fault))
            handler.send_header("Location", f"/elsewhere/{FILE}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if fault.startswith("redirect "):
            handler.send_response(302)
            handler.send_header("Location", fault.split()[1])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if fault.isdigit():
            handler.send_error(int(fault))
            return
        if fault == "silence":
            self.released.wait(30)
            return
        if fault == "hang up":
            handler.connection.close()
            return
        data, status, start = self.data, 200, 0
        asked = handler.headers.get("Range")
        condition = handler.headers.get("If-Range")
        if asked and self.ranges_allowed and condition in (None, self.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(data)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            status = 206
        handler.send_response(status)
        if status == 206:
            shown = start + 1 if fault == "wrong range" else start
            total = "9" * 5000 if fault == "endless range" else len(data)
            handler.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{total}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        if fault == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for at in range(start, len(data), 100_000):
                piece = data[at : at + 100_000]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
            return
        length = {"huge": str(1 << 40), "endless length": "9" * 5000}.get(fault)
        handler.send_header("Content-Length", length or str(len(data) - start))
        handler.end_headers()
        body = data[start:]
        if fault.startswith("break after "):
            handler.wfile.write(body[: int(fault.split()[-1])])
            handler.wfile.flush()
            handler.connection.close()
            return
        if fault == "drip":
            for byte in body:
                handler.wfile.write(bytes([byte]))
                if self.released.wait(0.02):
                    return
        if fault.startswith("stall after "):
            handler.wfile.write(body[: int(fault.split()[-1])])
            handler.wfile.flush()
            self.released.wait(30)
            return
        handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer_module, "_FIRST_PAUSE", 0.001)
    monkeypatch.delenv("EFFNET_EDGE_MIRROR", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.close()


def weights(url: str | None, **changes):
    row = known("torchvision", 0)
    return replace(row, **{"file": FILE, "url": f"{url}/{FILE}", "digest": SHA256, **changes})


def folder(home: Path) -> Path:
    return home / "weights"


def visible(home: Path) -> list[str]:
    return [path.name for path in folder(home).iterdir() if not path.name.startswith(".")]


def test_a_download_is_verified_and_cached(server, tmp_path):
    path = fetch(weights(server.url), tmp_path)
    assert path == folder(tmp_path) / FILE
    assert path.read_bytes() == DATA
    assert visible(tmp_path) == [FILE]
    assert fetch(weights(server.url), tmp_path) == path
    assert len(server.requests) == 1


def test_eight_known_digits_of_the_digest_are_enough_and_are_checked(server, tmp_path):
    fetch(weights(server.url, digest=SHA256[:8]), tmp_path)
    with pytest.raises(DownloadError, match=r"should be deadbeef\.\.\. and is"):
        fetch(weights(server.url, digest="deadbeef"), tmp_path)


def test_an_md5_is_checked_where_that_is_what_is_known(server, tmp_path):
    md5 = hashlib.md5(DATA).hexdigest()
    fetch(weights(server.url, algorithm="md5", digest=md5), tmp_path)
    with pytest.raises(DownloadError, match="MD5"):
        fetch(weights(server.url, algorithm="md5", digest="0" * 32), tmp_path)


def test_a_connection_that_breaks_off_is_resumed_where_it_broke(server, tmp_path):
    server.plan = ["break after 100000", "break after 150000", ""]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=100000-",
        "bytes=250000-",
    ]
    assert server.requests[1]["If-Range"] == '"one"'


def test_the_next_run_resumes_what_an_earlier_one_left(server, tmp_path):
    folder(tmp_path).mkdir()
    (folder(tmp_path) / f"{FILE}.part").write_bytes(DATA[:123_456])
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert [request.get("Range") for request in server.requests] == ["bytes=123456-"]
    assert visible(tmp_path) == [FILE]


def test_a_part_that_is_already_whole_is_accepted(server, tmp_path):
    folder(tmp_path).mkdir()
    (folder(tmp_path) / f"{FILE}.part").write_bytes(DATA)
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA


def test_a_part_of_another_file_is_dropped_and_downloaded_anew(server, tmp_path):
    folder(tmp_path).mkdir()
    for wrong in (b"x" * 1000, b"x" * (len(DATA) + 5)):
        (folder(tmp_path) / f"{FILE}.part").write_bytes(wrong)
        assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
        (folder(tmp_path) / FILE).unlink()


def test_a_file_that_changes_between_two_attempts_is_not_spliced(server, tmp_path):
    server.data = b"old" * 200_000
    server.plan = ["break after 550000", ""]
    answer = server.answer

    def change(handler, fault):
        answer(handler, fault)
        server.data, server.etag = DATA, '"two"'

    server.answer = change
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_server_without_ranges_starts_over(server, tmp_path, etag):
    server.ranges_allowed, server.etag = False, etag
    server.plan = ["break after 200000", ""]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert len(server.requests) == 2


def test_a_server_without_ranges_that_never_gets_further_is_given_up(server, tmp_path):
    server.ranges_allowed = False
    server.plan = ["break after 1000"] * 50
    with pytest.raises(DownloadError, match="broke off after 1000 of 512000 bytes"):
        fetch(weights(server.url), tmp_path, retries=3)
    assert len(server.requests) == 4


def test_a_connection_that_breaks_often_but_gets_further_is_not_given_up(server, tmp_path):
    server.plan = ["break after 70000"] * 7
    assert fetch(weights(server.url), tmp_path, retries=1).read_bytes() == DATA
    assert len(server.requests) == 8


def test_a_server_that_sends_a_byte_per_connection_is_given_up(server, tmp_path):
    server.plan = ["break after 1"] * 50
    with pytest.raises(DownloadError, match=r"\(4 times in a row\)"):
        fetch(weights(server.url), tmp_path, retries=3)
    assert len(server.requests) == 4
    assert (folder(tmp_path) / f"{FILE}.part").read_bytes() == DATA[:4]


def test_small_pieces_that_add_up_are_not_given_up(server, tmp_path):
    server.plan = ["break after 40000"] * 12
    assert fetch(weights(server.url), tmp_path, retries=2).read_bytes() == DATA


def test_a_server_that_drips_is_left_and_asked_again(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer_module, "_PACE_SECONDS", 0.1)
    server.plan = ["drip", ""]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert "under 1000 bytes a second" in capsys.readouterr().err


def test_lengths_of_thousands_of_digits_are_no_lengths(server, tmp_path):
    server.plan = ["break after 1000", "endless range"]
    with pytest.raises(DownloadError, match="another part of the file"):
        fetch(weights(server.url), tmp_path)
    part = folder(tmp_path) / f"{FILE}.part"
    part.unlink()
    server.data = DATA * 2
    server.plan = ["endless length"]
    with pytest.raises(DownloadError, match="should be"):  # the body ends with the connection
        fetch(weights(server.url), tmp_path, timeout=0.2, retries=0)


def test_a_body_without_length_arrives_too(server, tmp_path):
    server.plan = ["chunked"]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA


def test_the_wrong_part_of_the_file_is_refused(server, tmp_path):
    server.plan = ["break after 1000", "wrong range"]
    with pytest.raises(DownloadError, match="another part of the file"):
        fetch(weights(server.url), tmp_path)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, tmp_path, status):
    server.plan = [str(status)]
    if status == 308 and sys.version_info < (3, 11):
        pytest.skip("urllib learned 308 in Python 3.11")
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert [request["path"] for request in server.requests] == [f"/{FILE}", f"/elsewhere/{FILE}"]


def test_a_redirect_in_circles_ends(server, tmp_path):
    server.plan = ["302"] * 100
    with pytest.raises(DownloadError, match="302"):
        fetch(weights(server.url), tmp_path)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_to_something_that_is_not_http_is_refused(server, tmp_path, target):
    server.plan = [f"redirect {target}"]
    with pytest.raises(DownloadError):
        fetch(weights(server.url), tmp_path)
    assert visible(tmp_path) == []


def test_a_redirect_from_https_to_http_is_refused():
    handler = transfer_module._SafeRedirects()
    request = transfer_module.request.Request("https://example.org/x")
    with pytest.raises(DownloadError, match="not https"):
        handler.redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.org/x")


def test_a_missing_file_says_what_to_bring_and_where(server, tmp_path):
    server.plan = ["404"]
    with pytest.raises(DownloadError) as caught:
        fetch(weights(server.url), tmp_path)
    message = str(caught.value)
    assert "404" in message
    assert f"{server.url}/{FILE}" in message
    assert str(folder(tmp_path) / FILE) in message
    assert "EFFNET_EDGE_MIRROR" in message
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path, capsys):
    server.plan = ["503", "500", "429", ""]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert "the server answers 503" in capsys.readouterr().err


def test_a_server_that_stays_busy_is_given_up(server, tmp_path):
    server.plan = ["503"] * 50
    with pytest.raises(DownloadError, match=r"503 .*\(3 times in a row\)"):
        fetch(weights(server.url), tmp_path, retries=2)
    assert len(server.requests) == 3


def test_a_server_that_hangs_up_is_asked_again(server, tmp_path):
    server.plan = ["hang up", ""]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA


def test_a_silent_server_is_left_after_the_timeout(server, tmp_path):
    server.plan = ["silence", "stall after 5000", ""]
    assert fetch(weights(server.url), tmp_path, timeout=0.2).read_bytes() == DATA
    assert server.requests[2]["Range"] == "bytes=5000-"


def test_nobody_listening_says_what_to_bring_at_once(server, tmp_path):
    port = int(server.url.rsplit(":", 1)[1])
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DownloadError, match="refuses the connection") as caught:
        fetch(weights(f"http://127.0.0.1:{port}"), tmp_path)
    assert str(folder(tmp_path) / FILE) in str(caught.value)


def test_a_name_that_cannot_be_resolved_asks_for_the_network(tmp_path, monkeypatch, server):
    def fail(*arguments, **more):
        raise transfer_module.socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(transfer_module.socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match="is there a network"):
        fetch(weights("http://weights.invalid"), tmp_path)


def test_wrong_content_is_deleted_and_both_digests_are_named(server, tmp_path):
    server.data = b"<html>Please log in</html>"
    with pytest.raises(DownloadError) as caught:
        fetch(weights(server.url), tmp_path)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(server.data).hexdigest() in str(caught.value)
    assert "a web page" in str(caught.value)
    assert visible(tmp_path) == []


def test_a_server_that_offers_a_terabyte_is_refused(server, tmp_path):
    server.plan = ["huge"]
    with pytest.raises(DownloadError, match="far more"):
        fetch(weights(server.url), tmp_path)


def test_an_endless_body_is_cut(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer_module, "MAX_BYTES", 300_000)
    server.plan = ["chunked"]
    with pytest.raises(DownloadError, match="did not end"):
        fetch(weights(server.url), tmp_path)


def test_a_full_disk_says_so_and_keeps_what_arrived(server, tmp_path, monkeypatch):
    class FullDisk(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 200_000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(transfer_module, "FileIO", FullDisk)
    with pytest.raises(StoreError, match="the disk is full"):
        fetch(weights(server.url), tmp_path)
    part = folder(tmp_path) / f"{FILE}.part"
    assert DATA.startswith(part.read_bytes())
    assert part.stat().st_size > 0
    monkeypatch.undo()
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA


def test_a_weights_folder_that_cannot_be_made_is_a_store_error(server, tmp_path):
    (tmp_path / "weights").write_bytes(b"")
    with pytest.raises(StoreError):
        fetch(weights(server.url), tmp_path)


CTRL_C = """
import signal
import sys
from dataclasses import replace
from pathlib import Path
from effnet_edge.converters.download import fetch
from effnet_edge.models.weights import known

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
file, digest, url, home = sys.argv[1:]
weights = replace(known("torchvision", 0), file=file, digest=digest, url=url)
try:
    fetch(weights, Path(home))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_ctrl_c_keeps_the_part_and_the_next_run_resumes(server, tmp_path):
    server.plan = ["stall after 300000"]
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, FILE, SHA256, f"{server.url}/{FILE}", str(tmp_path)]
    )
    part = folder(tmp_path) / f"{FILE}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size == 300_000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert part.read_bytes() == DATA[:300_000]
    assert fetch(weights(server.url), tmp_path).read_bytes() == DATA
    assert server.requests[-1]["Range"] == "bytes=300000-"


def test_two_fetches_of_one_file_download_it_once(server, tmp_path, capsys):
    server.plan = ["stall after 1000"]
    threads = [
        threading.Thread(target=fetch, args=(weights(server.url), tmp_path)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    waiting = ""
    while "waiting for it" not in waiting and time.monotonic() < deadline:
        waiting += capsys.readouterr().err
        time.sleep(0.01)
    server.released.set()
    for thread in threads:
        thread.join(30)
    assert "another process is downloading" in waiting
    assert (folder(tmp_path) / FILE).read_bytes() == DATA
    assert [request.get("Range") for request in server.requests] == [None, "bytes=1000-"]


def test_a_file_brought_by_hand_is_used_without_a_network_if_it_is_the_right_one(tmp_path):
    folder(tmp_path).mkdir()
    path = folder(tmp_path) / FILE
    path.write_bytes(DATA)
    row = weights("http://192.0.2.1")
    assert fetch(row, tmp_path) == path
    path.write_bytes(DATA[:-1])
    with pytest.raises(DownloadError, match="Remove or replace it") as caught:
        fetch(row, tmp_path)
    assert str(path) in str(caught.value)
    assert path.exists()


def test_a_mirror_replaces_the_address_and_keeps_the_file_name(server, tmp_path, monkeypatch):
    row = weights("http://192.0.2.1")
    fetch(row, tmp_path / "a", mirror=f"{server.url}/some/place/")
    monkeypatch.setenv("EFFNET_EDGE_MIRROR", f"{server.url}/other")
    fetch(row, tmp_path / "b")
    assert [request["path"] for request in server.requests] == [
        f"/some/place/{FILE}",
        f"/other/{FILE}",
    ]


def test_a_folder_or_a_file_address_can_be_the_mirror(tmp_path):
    mirror = tmp_path / "a mirror"
    mirror.mkdir()
    (mirror / FILE).write_bytes(DATA)
    row = weights("http://192.0.2.1")
    home = tmp_path / "home"
    assert fetch(row, home, mirror=str(mirror)) == mirror / FILE
    assert fetch(row, home, mirror=mirror.as_uri()) == mirror / FILE
    assert not home.exists()
    (mirror / FILE).write_bytes(b"something else")
    with pytest.raises(DownloadError, match="is not the released file"):
        fetch(row, home, mirror=str(mirror))
    with pytest.raises(DownloadError, match="has no") as caught:
        fetch(row, home, mirror=str(tmp_path))
    assert "EFFNET_EDGE_MIRROR" not in str(caught.value)


def test_what_a_mirror_lacks_is_blamed_on_the_mirror(server, tmp_path, monkeypatch):
    row = weights("http://192.0.2.1")
    server.plan = ["404", "404"]
    with pytest.raises(DownloadError, match="404") as caught:
        fetch(row, tmp_path, mirror=server.url)
    message = str(caught.value)
    assert "Without a network" not in message
    assert "EFFNET_EDGE_MIRROR" not in message
    assert "Check that the mirror has the file" in message
    assert str(folder(tmp_path) / FILE) in message
    monkeypatch.setenv("EFFNET_EDGE_MIRROR", server.url)
    with pytest.raises(DownloadError, match="unset EFFNET_EDGE_MIRROR"):
        fetch(row, tmp_path)
    monkeypatch.setenv("EFFNET_EDGE_MIRROR", str(tmp_path))
    with pytest.raises(DownloadError, match=r"has no .* unset EFFNET_EDGE_MIRROR"):
        fetch(row, tmp_path)


@pytest.mark.parametrize(
    "mirror", ["ftp://host/x", "s3://bucket", "file://host/share", "http://[", "~nosuchuser/m"]
)
def test_another_kind_of_mirror_is_refused(tmp_path, mirror):
    with pytest.raises(UsageError, match=r"can't be used|home folder"):
        fetch(weights("http://192.0.2.1"), tmp_path, mirror=mirror)


@pytest.mark.parametrize("mirror", ["http://", "http://host:port/x", "http://a b/"])
def test_a_mistyped_mirror_address_is_a_download_error(tmp_path, mirror):
    with pytest.raises(DownloadError):
        fetch(weights("http://192.0.2.1"), tmp_path, mirror=mirror)


def packaged():
    row = replace(known("lite", 0), package="effnet-edge-test-weights")
    return replace(row, file=FILE, digest=SHA256)


def test_weights_of_a_package_that_is_missing_name_the_pip_command(tmp_path, monkeypatch):
    monkeypatch.delenv("EFFNET_EDGE_MIRROR", raising=False)
    with pytest.raises(DownloadError, match="pip install effnet-edge-test-weights"):
        fetch(packaged(), tmp_path)


def test_weights_of_a_package_are_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "effnet_edge_test_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "models" / FILE).write_bytes(DATA)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert fetch(packaged(), tmp_path / "home") == package / "models" / FILE
    (package / "models" / FILE).write_bytes(b"tampered with")
    with pytest.raises(DownloadError, match="is not the released file"):
        fetch(packaged(), tmp_path / "home")


def test_the_progress_bar_is_shown_when_asked_and_not_into_a_pipe(server, tmp_path, capsys):
    fetch(weights(server.url), tmp_path / "a", progress=True)
    assert "100%" in capsys.readouterr().err
    fetch(weights(server.url), tmp_path / "b")
    assert capsys.readouterr().err == ""


def test_no_address_is_asked_that_is_not_http(tmp_path):
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(DownloadError):
            fetch(replace(weights(None), url=url), tmp_path)
    assert visible(tmp_path) == []
