"""The whole table of the API. A new part is imported and added here."""

from __future__ import annotations

from web.centre import (
    ballot_routes,
    class_routes,
    file_routes,
    library_routes,
    oidc_routes,
    people_routes,
    record_routes,
    room_routes,
    roster_routes,
    series_routes,
    signing,
    slide_routes,
    tree_routes,
)
from web.centre.table import Route

ROUTES: tuple[Route, ...] = (
    *signing.ROUTES,
    *oidc_routes.ROUTES,
    *tree_routes.ROUTES,
    *people_routes.ROUTES,
    *roster_routes.ROUTES,
    *series_routes.ROUTES,
    *class_routes.ROUTES,
    *record_routes.ROUTES,
    *room_routes.ROUTES,
    *library_routes.ROUTES,
    *slide_routes.ROUTES,
    *file_routes.ROUTES,
    *ballot_routes.ROUTES,
)
