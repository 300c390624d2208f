"""The server's doors: who gets in, and what it answers to everything that is not a vote."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tunesmith.errors import OutputError
from tunesmith.evaluate.rating.folder import VOTES, Rating, read_answers_of, read_votes
from tunesmith.evaluate.rating.json_log import JsonLog
from tunesmith.evaluate.rating.server import MAX_BODY_BYTES, RatingServer
from tunesmith.evaluate.rating.session import RatingSession


@dataclass
class Site:
    """A server that runs, and the way to it."""

    server: RatingServer
    rating: Rating

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Ask once; header names with _ for -. A ``Host`` of "" leaves the header out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.putrequest(method, path, skip_host="Host" in headers)
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if content is not None and "Content-Length" not in named:
            named["Content-Length"] = str(len(content))
        for name, value in named.items():
            connection.putheader(name, value)
        connection.endheaders(content)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), text

    def ask(self, path: str, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
        """Post a question with the token."""
        status, _, text = self.request("POST", path, body, **{"Authorization": f"Bearer {self.server.token}", **headers})
        return status, json.loads(text)


@pytest.fixture
def site(make_rating: Any) -> Iterator[Site]:
    """A server on loopback."""
    rating = make_rating()
    with JsonLog(rating.folder / VOTES) as log, RatingServer(RatingSession(rating, read_answers_of(rating), log)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield Site(server, rating)
        server.shutdown()
        thread.join()


def test_the_link_opens_the_page(site: Site) -> None:
    path = site.server.link.split(str(site.server.server_port))[1]
    status, headers, text = site.request("GET", path)
    assert (status, "<title>Rate answers</title>" in text) == (200, True)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not any(word in policy for word in ("unsafe", "http:", "https:", "*"))
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert headers["Cache-Control"] == "no-store"
    assert "Python" not in headers["Server"]


def test_the_page_loads_nothing_from_elsewhere(site: Site) -> None:
    _, _, page = site.request("GET", f"/?token={site.server.token}")
    for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, headers, text = site.request("GET", path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        page += text
    assert "http://" not in page
    assert "https://" not in page
    assert "innerHTML" not in page, "answers are hostile: they are set as text"


def test_a_vote_is_saved(site: Site) -> None:
    status, reply = site.ask("/begin", {"rater": "Ada"})
    assert (status, reply["number"]) == (200, 1)
    status, reply = site.ask("/vote", {"rater": "Ada", "number": 1, "verdict": 2, "comment": "<script>"})
    assert (status, reply["number"], reply["done"]) == (200, 2, 1)
    assert [vote.comment for vote in read_votes(site.rating)] == ["<script>"]
    assert site.ask("/screen", {"rater": "Ada", "number": 1})[1]["vote"] == {"verdict": 2, "comment": "<script>"}


@pytest.mark.parametrize("token", ["", "wrong", "é", "x" * 32])
def test_without_the_token_nobody_gets_in(token: str, site: Site) -> None:
    assert site.request("GET", f"/?token={token.encode().hex()}")[0] == 403
    assert site.request("GET", "/")[0] == 403
    status, reply = site.ask("/vote", {"rater": "Eve", "number": 1, "verdict": 1}, Authorization=f"Bearer {token.encode().hex()}")
    assert (status, list(reply)) == (403, ["error"])
    status, _, _ = site.request("POST", f"/vote?token={site.server.token}", {"rater": "Eve", "number": 1, "verdict": 1})
    assert status == 403, "a form of another site can send an address, but no header"
    assert read_votes(site.rating) == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "evil@127.0.0.1", "", "::::", "[::1", "a b"])
def test_a_name_that_is_not_this_machines_is_refused(host: str, site: Site) -> None:
    assert site.request("GET", f"/?token={site.server.token}", Host=host)[0] == 403
    assert site.ask("/begin", {"rater": "Eve"}, Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:9999", "[::1]:80", "LOCALHOST:1"])
def test_a_tunnel_to_this_machine_may_have_another_port(host: str, site: Site) -> None:
    assert site.ask("/begin", {"rater": "Ada"}, Host=host)[0] == 200


def test_too_large(site: Site) -> None:
    assert site.ask("/vote", b"x" * (MAX_BODY_BYTES + 1))[0] == 413
    assert site.ask("/vote", b"{}", Content_Length=str(10**12))[0] == 413, "a length that is not true is not waited for"
    assert site.ask("/vote", {"rater": "Ada", "number": 1, "verdict": 1, "comment": "x" * 11_000})[0] == 400


@pytest.mark.parametrize("length", ["", "-1", "ten", "1" * 30])
def test_a_body_without_a_length(length: str, site: Site) -> None:
    headers = {"Content_Length": length} if length else {}
    assert site.ask("/begin", None, **headers)[0] == 411


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 20_000, b"1e999", b'"text"', b"null", b"[]"])
def test_bodies_that_are_no_question(body: bytes, site: Site) -> None:
    status, reply = site.ask("/begin", body)
    assert (status, list(reply)) == (400, ["error"])


def test_unknown_prompts_and_places(site: Site) -> None:
    assert site.ask("/vote", {"rater": "Ada", "number": 99, "verdict": 1})[0] == 404
    assert site.ask("/screen", {"rater": "Ada", "number": 0})[0] == 404
    assert site.ask("/nothing", {"rater": "Ada"})[0] == 404
    assert site.request("GET", "/../../etc/passwd")[0] == 404
    assert site.request("GET", "/vote")[0] == 404
    assert site.request("PUT", "/")[0] == 501


def test_a_disk_that_fails_is_told_to_the_rater(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", broken)
        status, reply = site.ask("/vote", {"rater": "Ada", "number": 1, "verdict": 1, "comment": ""})
    assert status == 507
    assert "Input/output error" in reply["error"]
    assert site.ask("/vote", {"rater": "Ada", "number": 1, "verdict": 1, "comment": ""})[0] == 200


def test_the_token_is_in_no_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        site.request("GET", f"/?token={site.server.token}")
        site.request("GET", f"/nothing?token={site.server.token}")
    assert "GET /" in caplog.text
    assert site.server.token not in caplog.text


def test_every_start_has_a_token_of_its_own(site: Site) -> None:
    with RatingServer(site.server.session) as other:
        assert other.token != site.server.token
        assert len(other.token) >= 32


def test_a_port_in_use(site: Site) -> None:
    with pytest.raises(OutputError, match=f"port {site.server.server_port} is in use"):
        RatingServer(site.server.session, port=site.server.server_port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here(host: str, site: Site) -> None:
    with pytest.raises(OutputError, match="no address of this machine"):
        RatingServer(site.server.session, host=host)


def test_beyond_loopback_addresses_are_names_enough(site: Site) -> None:
    with RatingServer(site.server.session, host="0.0.0.0") as server:
        assert not server.is_local
        assert f"//{socket.gethostname()}:" in server.link
        known = ["192.168.1.5:80", "localhost", socket.gethostname(), "[fe80::1]"]
        assert [server.knows_host(host) for host in known] == [True] * 4
        assert not server.knows_host("evil.example")
