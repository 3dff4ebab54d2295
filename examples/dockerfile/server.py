"""A web server from Python's standard library, in a Dockerfile of its own."""

import http.server
import os
import pathlib
import signal
import threading

VERSION = pathlib.Path(__file__).with_name("VERSION").read_text().strip()
PAGES = {"/": f"Hello from Berth (dockerfile) version {VERSION}\n", "/healthz": "ok\n"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        page = PAGES.get(self.path)
        body = (page or "no such page\n").encode()
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Berth's Nginx counts the requests; a line for each would say nothing new."""


server = http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler)
# `shutdown` waits for the loop below, so it may not run in the loop's own thread.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print(f"listening on port {server.server_port}", flush=True)
server.serve_forever()
