"""Who is let in to the live page: pages, scripts and the websocket."""

from __future__ import annotations

import asyncio
import http.client
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from made_journals import make_journal, row
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from parimg.dashboard.jobs import WatchedJobs
from parimg.dashboard.server import Dashboard


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    journal = make_journal(tmp_path_factory.mktemp("jobs") / "job", [row(0)])
    with Dashboard(WatchedJobs([journal.directory]), 0, ["hub.example.org"]) as served:
        yield served


def get(page: Dashboard, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")
    connection.close()
    return found


def cookie(page: Dashboard) -> str:
    status, headers, _ = get(page, f"/?{urlsplit(page.url).query}")
    assert status == 302
    return headers["Set-Cookie"].split(";")[0]


def test_the_token_gives_a_cookie_and_the_address_without_it(page: Dashboard) -> None:
    status, headers, _ = get(page, f"/?{urlsplit(page.url).query}")
    assert status == 302
    assert headers["Location"] == "./"
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Lax" in headers["Set-Cookie"]
    assert "path" not in headers["Set-Cookie"].lower()
    assert urlsplit(page.url).query.removeprefix("token=") not in headers["Set-Cookie"]
    status, _, text = get(page, "/", Cookie=cookie(page))
    assert status == 200
    assert 'src="./static/js/bokeh.min.js' in text


_PATHS = ["/", "/?token=", "/?token=wrong", "/static/js/bokeh.min.js", "/autoload.js", "/no"]


@pytest.mark.parametrize("path", _PATHS)
def test_all_else_is_refused_whatever_it_is(page: Dashboard, path: str) -> None:
    status, headers, text = get(page, path)
    assert status == 403
    assert "Set-Cookie" not in headers
    assert text == "parimg: this page wants the address with its token, which was printed where it was started\n"
    name = cookie(page).split("=")[0]
    assert get(page, path, Cookie=f"{name}=forged")[0] == 403


def test_it_listens_on_loopback_only(page: Dashboard) -> None:
    assert page._socket.getsockname()[0] == "127.0.0.1"


def open_websocket(page: Dashboard, **headers: str) -> int:
    """101 if the websocket was opened and answered, else the status."""
    _, _, text = get(page, "/", Cookie=cookie(page))
    token = re.search(r'"token":"([^"]+)"', text)
    assert token is not None

    async def ask() -> int:
        request = HTTPRequest(f"ws://127.0.0.1:{page.port}/ws", headers=headers)
        try:
            socket = await websocket_connect(request, subprotocols=["bokeh", token[1]])
        except HTTPClientError as error:
            return error.code
        assert await socket.read_message()
        socket.close()
        return 101

    return asyncio.run(ask())


def test_the_websocket_wants_the_cookie_and_an_origin_that_is_this_page_or_named(page: Dashboard) -> None:
    known, here = cookie(page), f"http://127.0.0.1:{page.port}"
    assert open_websocket(page, Cookie=known, Origin=here) == 101
    assert open_websocket(page, Origin=here) == 403
    assert open_websocket(page, Cookie=known, Origin="http://127.0.0.1:1") == 403
    assert open_websocket(page, Cookie=known) == 403
    assert open_websocket(page, Cookie=known, Origin="https://hub.example.org") == 101
    assert open_websocket(
        page, Cookie=known, Origin="https://a.example.org", **{"X-Forwarded-Host": "a.example.org"}
    ) == 101  # fmt: skip
