"""A small program to run as a container's command: serves /readyz and /healthz, and shows what it was given.

`POD_READY_FILE` delays readiness until the file exists; `POD_SICK_FILE` makes /healthz fail while the file exists;
`POD_STUBBORN` makes it ignore SIGTERM; `POD_EXIT` makes it end at once with that code. `/env` answers with its
environment, `/file?PATH` with a file's content.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path.partition("?"):
            case ("/healthz", _, _):
                sick = os.environ.get("POD_SICK_FILE")
                self.answer(503 if sick and Path(sick).exists() else 200, "alive")
            case ("/readyz", _, _):
                gate = os.environ.get("POD_READY_FILE")
                self.answer(200 if gate is None or Path(gate).exists() else 503, "ready")
            case ("/env", _, _):
                self.answer(200, json.dumps(dict(os.environ)))
            case ("/file", _, path):
                self.answer(200, Path(path).read_text())

    def answer(self, code: int, body: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        sys.stderr.write(format % args + "\n")


if __name__ == "__main__":
    if "POD_EXIT" in os.environ:
        sys.exit(int(os.environ["POD_EXIT"]))
    if "POD_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    host, port = os.environ["POSTFLEET_HEALTH_HOST"], int(os.environ["POSTFLEET_HEALTH_PORT"])
    ThreadingHTTPServer((host, port), Handler).serve_forever()
