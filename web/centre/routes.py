"""The whole table of the API. A new part is imported and added here."""

from __future__ import annotations

from web.centre import signing
from web.centre.table import Route

ROUTES: tuple[Route, ...] = (*signing.ROUTES,)
