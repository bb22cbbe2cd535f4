"""One file over HTTP: resumed where it broke off, retried, and bounded."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import sys
import time
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from effnet_edge.errors import DownloadError
from effnet_edge.files import storage_error

if TYPE_CHECKING:
    from tqdm import tqdm

MAX_BYTES = 1 << 30
"""No known weights come near; a server that sends more is not sending them."""

_CHUNK = 1 << 16
_FIRST_PAUSE = 1.0
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
# Longer numbers are no sizes, and int() refuses very long ones.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")

_PROGRESS_BYTES = 1 << 16
"""What an attempt must bring to count as one that got further."""
_PACE_SECONDS = 60.0
_PACE_BYTES = 1000
"""Per second, on average over `_PACE_SECONDS`: a server slower than that never ends."""


class _TransientError(Exception):
    """Something that may work a moment later."""


def transfer(
    url: str, part: Path, *, progress: bool, timeout: float = 20.0, retries: int = 4
) -> None:
    """Download ``url`` to ``part``, continuing what ``part`` already holds.

    On return ``part`` is as long as the server says, but unverified: the server may have changed
    the file since an earlier run. On any error, Ctrl-C included, ``part`` keeps what arrived.
    ``timeout`` in seconds is for each silence of the server; ``retries`` counts attempts in a row
    that brought next to nothing, all together under 64 kB. Raises DownloadError with the bare
    reason, and StoreError.
    """
    opener = _opener()
    validator: str | None = None
    failures = 0
    longest = _size(part)
    with _bar(part.name.removesuffix(".part"), shown=progress) as bar:
        while True:
            try:
                with _open(opener, url, _size(part), validator, timeout) as response:
                    validator = _validator(response)
                    _receive(response, part, bar)
                return
            except _NothingLeftError:
                return
            except _TransientError as error:
                size = _size(part)
                further = size >= longest + _PROGRESS_BYTES
                failures = 1 if further else failures + 1
                longest = size if further else longest
                if failures > retries:
                    raise DownloadError(f"{error} ({failures} times in a row)") from error
                pause = _FIRST_PAUSE * 2 ** (failures - 1)
                bar.write(f"{error}; trying again in {pause:.0f} s", file=sys.stderr)
                time.sleep(pause)


class _NothingLeftError(Exception):
    """The server has no byte after those that are here (status 416)."""


class _SafeRedirects(request.HTTPRedirectHandler):
    """Follow redirects, but never from https to something weaker.

    The digest of some weights is known in its first 32 bits only: enough against accidents, not
    against somebody on the line.
    """

    def redirect_request(
        self,
        req: request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(f"the server redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> request.OpenerDirector:
    """An opener for http and https alone: urllib's own would follow a redirect to ftp."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    return opener


def _open(
    opener: request.OpenerDirector, url: str, offset: int, validator: str | None, timeout: float
) -> http.client.HTTPResponse:
    headers = {"User-Agent": "effnet-edge", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator is not None:
            headers["If-Range"] = validator
    try:
        response: Any = opener.open(request.Request(url, headers=headers), timeout=timeout)  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            raise _NothingLeftError from error
        message = f"the server answers {error.code} {error.reason}".rstrip()
        if error.code in _TRANSIENT_STATUS:
            raise _TransientError(message) from error
        raise DownloadError(message) from error
    except URLError as error:
        reason = error.reason
        raise _explained(reason if isinstance(reason, Exception) else error) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _explained(error) from error
    if not isinstance(response, http.client.HTTPResponse):
        raise DownloadError("the address is neither http nor https")
    return response


def _receive(response: http.client.HTTPResponse, part: Path, bar: tqdm[Any]) -> None:
    offset, total = _extent(response, _size(part))
    if total is not None and total > MAX_BYTES:
        raise DownloadError(f"the server offers {total} bytes, far more than any known weights")
    try:
        file = FileIO(part, "r+" if offset else "w")
        file.seek(offset)
    except OSError as error:
        raise storage_error("can't write", part, error) from error
    bar.total = total
    bar.n = offset
    bar.refresh()
    received = offset
    pace = _Pace()
    with file:
        while True:
            try:
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _explained(error) from error
            if not chunk:
                break
            received += len(chunk)
            if received > MAX_BYTES:
                raise DownloadError(f"the server sent over {MAX_BYTES} bytes and did not end")
            _append(file, chunk, part)
            bar.update(len(chunk))
            pace.check(len(chunk))
    if total is not None and received < total:
        raise _TransientError(f"the connection broke off after {received} of {total} bytes")


class _Pace:
    """Ends what drips: one byte now and then keeps any timeout for silence from running out."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.received = 0

    def check(self, received: int) -> None:
        self.received += received
        seconds = time.monotonic() - self.since
        if seconds >= _PACE_SECONDS:
            if self.received < _PACE_BYTES * seconds:
                raise _TransientError(f"the server sends under {_PACE_BYTES} bytes a second")
            self.since += seconds
            self.received = 0


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the response's body starts in the file, and how long the whole file is."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise DownloadError("the server sends another part of the file than was asked for")
        return have, None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if _CONTENT_LENGTH.fullmatch(length) else None


def _append(file: FileIO, chunk: bytes, part: Path) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise storage_error("can't write", part, error) from error


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What If-Range takes: a strong ETag, or else the date (RFC 9110, section 13.1.5)."""
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _explained(error: Exception) -> DownloadError | _TransientError:
    if isinstance(error, TimeoutError):
        return _TransientError("the server doesn't answer in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        return DownloadError(f"the server's certificate is not trusted: {error.verify_message}")
    if isinstance(error, socket.gaierror):
        return DownloadError("the server's name can't be resolved: is there a network?")
    if isinstance(error, ConnectionRefusedError):
        return DownloadError("the server refuses the connection")
    if isinstance(error, http.client.InvalidURL):
        return DownloadError(f"the address can't be used: {error}")
    if isinstance(error, (ConnectionError, ssl.SSLError, http.client.HTTPException)):
        return _TransientError(f"the connection broke off ({type(error).__name__})")
    strerror = error.strerror if isinstance(error, OSError) else None
    return DownloadError(strerror or str(error))


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error("can't read", part, error) from error


def _bar(description: str, *, shown: bool) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(desc=description, unit="B", unit_scale=True, disable=not shown, file=sys.stderr)
