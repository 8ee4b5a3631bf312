"""Who is let in: whoever has the token, as in Jupyter. One place that every request passes, the websocket's too.

The first visit brings the token in the address, gets a cookie and is sent on to the address without it, so that it
stands in no history and in no picture of a screen. The cookie is a secret of its own.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bokeh.resources import Resources
from bokeh.server.tornado import BokehTornado
from tornado.web import RequestHandler

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

_COOKIE = "parimg-dashboard-"


class GuardedApplication(BokehTornado):
    """Bokeh's application behind a gate.

    Parameters
    ----------
    document : callable
        Fills a Bokeh document for each page that is opened.
    token : str
    origins : collection of str
        Hosts, with their ports, whose pages may open the websocket, besides that of the address itself.
    """

    def __init__(self, document: Callable[[Any], None], token: str, origins: Collection[str] = ()) -> None:
        self._token = token
        self._secret = secrets.token_urlsafe(32)
        self._cookie = f"{_COOKIE}{secrets.token_hex(4)}"  # cookies of one host are shared by its ports
        self._origins = frozenset(origin.lower() for origin in origins)
        # Signed: the websocket takes no session but that of a page that was let in. Origins are checked here.
        super().__init__(
            document,
            extra_websocket_origins=["*"],
            sign_sessions=True,
            secret_key=secrets.token_bytes(32),
            exclude_cookies=[self._cookie],
        )

    def resources(self, absolute_url: str | bool | None = None) -> Resources:  # noqa: ARG002
        """Scripts by addresses that are relative, so that they are found behind whatever path a proxy adds."""
        own = super().resources()
        return Resources(mode="server", root_url="./", path_versioner=own.path_versioner)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Hand a request on, or refuse it."""
        given = _one(request.query_arguments.get("token", []))
        if given is not None and _same(given, self._token):
            return self.get_handler_delegate(request, _Welcome, {"cookie": self._cookie, "secret": self._secret})
        known = request.cookies.get(self._cookie)
        if known is None or not _same(known.value, self._secret):
            return self.get_handler_delegate(request, _Refusal, {"reason": _UNKNOWN})
        if request.headers.get("Upgrade", "").lower() == "websocket" and not self._is_own_page(request):
            return self.get_handler_delegate(request, _Refusal, {"reason": _STRANGE_ORIGIN})
        return super().find_handler(request, **kwargs)

    def _is_own_page(self, request: HTTPServerRequest) -> bool:
        """Whether a websocket is opened by a page of this server, which a proxy may stand before."""
        origin = urlsplit(request.headers.get("Origin", ""))
        if not origin.netloc:
            return False
        host = origin.netloc.lower()
        forwarded = request.headers.get("X-Forwarded-Host", "").split(",")[0].strip().lower()
        named = {request.headers.get("Host", "").lower(), forwarded, *self._origins}
        return host in named


def _one(values: list[bytes]) -> str | None:
    return values[0].decode("utf-8", "replace") if len(values) == 1 else None


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


_UNKNOWN = "this page wants the address with its token, which was printed where it was started"
_STRANGE_ORIGIN = "the page that asks is of another host; name that by --allow-origin"


class _Plain(RequestHandler):
    def set_default_headers(self) -> None:
        self.set_header("Server", "parimg")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")

    def check_xsrf_cookie(self) -> None:
        """Nothing is changed by these pages."""


class _Welcome(_Plain):
    """Gives the cookie, and sends on."""

    def initialize(self, cookie: str, secret: str) -> None:
        self._given = cookie, secret

    def get(self, *_: str) -> None:
        name, secret = self._given
        # Without a path it is that of the page, whatever a proxy adds before it.
        self.set_cookie(name, secret, path=None, httponly=True, samesite="Lax")  # type: ignore[arg-type]
        self.set_status(302)
        self.set_header("Location", "./")


class _Refusal(_Plain):
    """Says no."""

    def initialize(self, reason: str) -> None:
        self._said = reason

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"parimg: {self._said}\n")
