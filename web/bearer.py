"""The token of a request for a course: in its header, or in the cookie of a page.

`<video>`, `<img>` and `<track>` send no header of ours. So a page that has a token shows it once to
`POST /courses/session`, which keeps it in a cookie that only requests for courses carry, that no
script can read and no other site can send.
"""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

COOKIE: Final = "terrace_courses"


def authorization(request: web.Request) -> str | None:
    """What `relay.access.Access.check` is to look at; None where nothing was shown."""
    shown = request.headers.get(hdrs.AUTHORIZATION)
    if shown is not None or request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
        return shown
    kept = request.cookies.get(COOKIE)
    return f"Bearer {kept}" if kept else None


def keep(request: web.Request, response: web.Response) -> None:
    """Keep the token of this request for the page's pictures and videos, until the browser ends."""
    shown = request.headers.get(hdrs.AUTHORIZATION, "")
    token = shown.partition(" ")[2].strip()
    if token:
        response.set_cookie(
            COOKIE, token, path="/courses", httponly=True, samesite="Strict",
            secure=request.secure,
        )  # fmt: skip
    else:
        response.del_cookie(COOKIE, path="/courses")
