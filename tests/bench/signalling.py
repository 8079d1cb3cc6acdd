"""Just enough HTTP/1.1 to POST an offer and DELETE a session, cheaply.

A general client costs about as much CPU per request as the node needs to answer it; on the load
core that time is better spent on viewers. Bodies are read by Content-Length, connections are kept.
"""

import asyncio
import urllib.parse
from dataclasses import dataclass

_TIMEOUT_S = 15.0


class HttpError(Exception):
    """The node answered with another status than the caller wanted, or not in HTTP."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One kept connection to one node; used by one task at a time."""

    def __init__(self, base_url: str) -> None:
        """`base_url`: http://host:port, no path."""
        parts = urllib.parse.urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/sdp"
    ) -> Response:
        """Send one request and read its answer.

        Raises OSError when the node cannot be reached, HttpError when it does not speak HTTP.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        if body:
            head += f"Content-Type: {content_type}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await self._connection()
            try:
                writer.write(head.encode() + body)
                response = await self._read(reader)
            except asyncio.IncompleteReadError as error:
                await self.close()
                raise HttpError(f"{method} {path}: the node closed the connection") from error
            except BaseException:
                # What is still to come on it would be the answer to this request, not the next.
                await self.close()
                raise
        if response.headers.get("connection", "").lower() == "close":
            await self.close()
        return response

    async def expect(self, wanted: int, method: str, path: str, body: bytes = b"") -> Response:
        """`request`, and an HttpError with the node's own words for any other status."""
        response = await self.request(method, path, body)
        if response.status != wanted:
            words = response.body.decode(errors="replace").strip()[:200]
            raise HttpError(f"{method} {path} answered {response.status}: {words}")
        return response

    async def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self._reader, self._writer

    async def _read(self, reader: asyncio.StreamReader) -> Response:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = head[0].split(" ", 2)
        if len(status) < 2 or not status[1].isdigit():
            raise HttpError(f"not an HTTP status line: {head[0][:80]}")
        headers = {}
        for line in head[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        if "chunked" in headers.get("transfer-encoding", ""):
            raise HttpError("the node sent a chunked body, which this client does not read")
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Response(int(status[1]), headers, body)


def path_of(location: str, request_path: str) -> str:
    """The path of a Location header, absolute or relative to the request's path."""
    return urllib.parse.urlsplit(urllib.parse.urljoin(request_path, location)).path
