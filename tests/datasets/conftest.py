"""A server of files that cuts connections, knows ranges or not, and says what it was asked for."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FileServer:
    """Files by path, and how they are served.

    Attributes
    ----------
    files : dict of bytes
    cut_after : int or None
        Bytes after which each answer is cut, whatever it announced.
    ranges : bool
        Whether parts of files are sent.
    says_length : bool
        Whether the length is announced.
    asked : list of (str, str or None)
        Path and range of each request.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.cut_after: int | None = None
        self.ranges = True
        self.says_length = True
        self.asked: list[tuple[str, str | None]] = []


@pytest.fixture
def server() -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            files.asked.append((self.path, asked))
            content = files.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if asked is not None and files.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206)
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            else:
                self.send_response(200)
            if files.says_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            stop = None if files.cut_after is None else start + files.cut_after
            self.wfile.write(content[start:stop])

        def log_message(self, *args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        files = FileServer(f"http://127.0.0.1:{listening.server_port}")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield files
        listening.shutdown()
