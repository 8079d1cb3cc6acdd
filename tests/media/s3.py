"""A real S3 server for tests: moto's, in a thread of its own, over HTTP."""

from __future__ import annotations

import contextlib
import logging
import urllib.request
from collections.abc import Iterator

from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """A server with one empty bucket; its URL, which `AWS_ENDPOINT_URL` takes."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        urllib.request.urlopen(  # the address is our own
            urllib.request.Request(f"{url}/{bucket}", method="PUT"), timeout=60
        ).close()
        yield url
    finally:
        server.stop()
