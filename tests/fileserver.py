"""A web server of files that gives parts of them, as static file servers and object stores do."""

from http.server import BaseHTTPRequestHandler

from tests.scripted import Scripted, respond, status


class FileServer(Scripted):
    """``files`` are what it has, by path.  Within ``with``."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.ranges: list[str] = []  #: that were asked for
        self.answer = self._as_files

    def _as_files(self, request: BaseHTTPRequestHandler) -> None:
        data = self.files.get(request.path.partition("?")[0])
        if data is None:
            respond(404, {"error": "no such file"})(request)
            return
        asked = request.headers.get("range", "")
        self.ranges.append(asked)
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        if first >= len(data):
            status(416, Content_Range=f"bytes */{len(data)}", ETag=f'"{hash(data)}"')(request)
            return
        part = data[first : last + 1]
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(part)))
        request.send_header("ETag", f'"{hash(data)}"')
        request.end_headers()
        request.wfile.write(part)
