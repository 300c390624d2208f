"""The local web server of a rating: one page, three questions it may ask, and nothing for anybody without the link.

Who may ask: requests with the token of the link (compared in constant time), sent to a name that is this machine's (a page of another
site that lets its own name point here, DNS rebinding, comes with that name in its Host header). Votes come by POST with the token in
a header, which no form of another site can send.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import importlib.resources
import ipaddress
import json
import logging
import os
import secrets
import socket
import socketserver
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tunesmith.errors import OutputError, TunesmithError, UsageError
from tunesmith.evaluate.rating.session import RatingSession, Reply, UnknownScreen

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
#: How much of a refused body is read all the same, and how long is waited for it.
MAX_DRAINED_BYTES, DRAIN_SECONDS = 1024 * 1024, 1.0
_PAGE = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"), "/page.js": ("page.js", "text/javascript")}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RatingServer(ThreadingHTTPServer):
    """Serves one rating until it is shut down.

    Attributes:
        session: what the page is told.
        token: what the link carries.
        link: what raters open.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, session: RatingSession, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen.

        Args:
            session: what is rated.
            host: address or name of this machine to listen at.
            port: 0 for any that is free.

        Raises:
            OutputError: when the port is taken or not allowed, or the host is no address of this machine.
        """
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self._host = host
        self.is_local = is_loopback(host)
        self.allow_reuse_address = os.name != "nt"  # Windows would share the port with another program
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), RatingHandler)
        except OSError as error:
            raise _cannot_listen(host, port, error) from error

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, as ``HTTPServer`` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self._host, int(self.server_address[1])

    @property
    def link(self) -> str:
        """The address of the page, with the token."""
        name = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        shown = f"[{name}]" if ":" in name else name
        return f"http://{shown}:{self.server_port}/?token={self.token}"

    def knows_host(self, header: str | None) -> bool:
        """Return whether a Host header names this machine; whatever port, since a tunnel may lead here from another."""
        name = _host_name(header or "")
        if name is None:
            return False
        if name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback):
            return True
        # beyond loopback: an address can't be rebound, and names are those that the user or the machine gave
        return not self.is_local and (_is_address(name) or name in (self._host.lower(), socket.gethostname().lower()))

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that break; what is wrong inside a request is answered there."""
        log.debug("a connection broke", exc_info=True)


class RatingHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: RatingServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tunesmith", ""
    timeout = 60

    def do_GET(self) -> None:
        """Send the page, its style or its program."""
        parts = urlsplit(self.path)
        if not self.server.knows_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.FORBIDDEN, "this name is not one of the rating's machine")
        elif parts.path not in _PAGE:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        elif parts.path == "/" and not self._is_token(parse_qs(parts.query).get("token", [""])[0]):
            self._refuse(HTTPStatus.FORBIDDEN, "the link is not complete: open the one that tunesmith rate printed, from its newest start")
        else:
            name, kind = _PAGE[parts.path]
            page = importlib.resources.files("tunesmith.evaluate.rating") / "page" / name
            self._send(HTTPStatus.OK, page.read_bytes(), kind)

    def do_POST(self) -> None:
        """Answer the page's questions, each an object in JSON."""
        length = self._body_length()
        if not self.server.knows_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.FORBIDDEN, "this name is not one of the rating's machine")
        elif not self._is_token((self.headers.get("Authorization") or "").removeprefix("Bearer ")):
            self._refuse(HTTPStatus.FORBIDDEN, "the token is another one: open the link that tunesmith rate printed, from its newest start")
        elif length is None:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the length of the body is missing")
        elif length > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY_BYTES // 1024} KiB at once")
        else:
            self._answer(self.rfile.read(length))

    def _answer(self, body: bytes) -> None:
        try:
            self._send_json(HTTPStatus.OK, self._ask(json.loads(body)))
        except (ValueError, RecursionError):
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "the body is not JSON"})
        except UnknownScreen as error:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": str(error)})
        except UsageError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except TunesmithError as error:
            log.error("%s", error)
            self._send_json(HTTPStatus.INSUFFICIENT_STORAGE, {"error": str(error)})

    def _ask(self, asked: object) -> Reply:
        """Return the session's reply to one question."""
        if not isinstance(asked, dict):
            raise UsageError("a question is a JSON object")
        session, rater = self.server.session, asked.get("rater")
        if self.path == "/begin":
            return session.begin(rater)
        if self.path == "/screen":
            return session.screen(rater, asked.get("number"))
        if self.path == "/vote":
            return session.vote(rater, asked.get("number"), asked.get("verdict"), asked.get("comment", ""))
        raise UnknownScreen(f"there is nothing at {self.path[:60]}")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", errors="replace"), self.server.token.encode())

    def _body_length(self) -> int | None:
        text = self.headers.get("Content-Length") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        """Answer without having listened, and hang up."""
        self._drain()
        self.close_connection = True
        if self.command == "POST":
            self._send_json(status, {"error": words})
        else:
            self._send(status, f"{words}\n".encode(), "text/plain")

    def _drain(self) -> None:
        """Read a refused body, within limits, so that the answer arrives before the connection is reset."""
        remaining = min(self._body_length() or 0, MAX_DRAINED_BYTES)
        self.connection.settimeout(DRAIN_SECONDS)
        with contextlib.suppress(OSError):
            while remaining > 0 and (read := self.rfile.read1(remaining)):
                remaining -= len(read)

    def _send_json(self, status: HTTPStatus, reply: Reply) -> None:
        self._send(status, json.dumps(reply).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep requests out of the terminal, and the token out of the log."""
        log.debug("%s %s: %s", self.command, urlsplit(self.path).path, int(code))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class calls it so)
        """Say what the base class has to say only when asked for."""
        log.debug("%s", self.requestline.partition("?")[0] if self.requestline else "no request")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(header: str) -> str | None:
    """Return the name in a Host header, without port and brackets, in small letters; None for what is no such header."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # a port that is none raises
    except ValueError:
        return None
    odd = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    return None if odd or not parts.hostname else parts.hostname


def _cannot_listen(host: str, port: int, error: OSError) -> OutputError:
    if error.errno == errno.EADDRINUSE:
        return OutputError(f"port {port} is in use", fix="Choose another one, or leave --port out to get one that is free")
    if isinstance(error, PermissionError):
        return OutputError(f"port {port} is not allowed", fix="Choose one above 1023, or leave --port out to get one that is free")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return OutputError(f"--host {host} is no address of this machine", fix="Leave it out to listen on this machine alone")
    return OutputError(f"can't listen at {host}, port {port}: {error.strerror or error}")
