"""The OpenAPI 3.1 document, made from the table of routes (pure).

Its schemas are what pydantic says of the models that bodies are checked with and answers are
written with, so the two cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter

from web.centre.models import Problem
from web.centre.signin import COOKIE
from web.centre.table import MOST_ID, Anyone, Node, Passed, Raw, Redirect, Route

REF = "#/components/schemas/{model}"
_HOLE = re.compile(r"{([a-z_]+)(?::[^{}]+)?}")


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document as JSON has it."""
    table = list(routes)
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = []
    for at, route in enumerate(table):
        if route.body is not None and not isinstance(route.body, Raw):
            adapters.append(((at, "body"), "validation", TypeAdapter(route.body)))
        if route.answer is not None and not isinstance(route.answer, Raw | Redirect):
            adapters.append(((at, "answer"), "serialization", TypeAdapter(route.answer)))
    adapters.append(("problem", "serialization", TypeAdapter(Problem)))
    found, shared = TypeAdapter.json_schemas(adapters, ref_template=REF)
    schemas = {key: schema for (key, _mode), schema in found.items()}
    paths: dict[str, dict[str, Any]] = {}
    for at, route in enumerate(table):
        path = _HOLE.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, at, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Terrace centre",
            "version": version,
            "description": "Units, people, timetable, attendance. Lists come in pages: `next` of "
            "an answer is `after` of the next question. Moments are RFC 3339; wall clocks stand "
            "beside a time zone and have no offset.",
        },
        "paths": paths,
        "components": {
            "schemas": shared.get("$defs", {}),
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
                "node": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: Route, at: int, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.sentence,
        "description": f"For {route.who.words}.",
        "tags": [route.path.split("/")[2] if route.path.startswith("/api/") else "feeds"],
        "parameters": [*_path(route), *_query(route)],
        "security": _security(route),
        "responses": _responses(route, at, schemas),
    }
    if isinstance(route.body, Raw):
        operation["requestBody"] = {
            "required": True,
            "content": {one: {"schema": {"type": "string"}} for one in route.body.media_types},
        }
    elif route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[at, "body"]}},
        }
    return operation


def _path(route: Route) -> list[dict[str, Any]]:
    found = []
    for name in _HOLE.findall(route.path):
        schema: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": MOST_ID}
        if not name.endswith("_id"):
            schema = route.words.get(name) or {"type": "string", "minLength": 1, "maxLength": 200}
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    return found


def _query(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=REF)
    needed = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": _inlined(one, schema)}
        for name, one in schema["properties"].items()
    ]


def _inlined(one: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's schema without references, and without null, which a query cannot say."""
    found = {name: value for name, value in one.items() if name not in ("title", "default")}
    if one.get("default") is not None:
        found["default"] = one["default"]
    if "$ref" in found:
        return dict(schema["$defs"][found["$ref"].rsplit("/", 1)[-1]])
    if "anyOf" in found:
        kinds = [kind for kind in found.pop("anyOf") if kind.get("type") != "null"]
        found |= _inlined(kinds[0], schema)
    return found


def _security(route: Route) -> list[dict[str, Any]]:
    if isinstance(route.who, Anyone):
        return []
    if isinstance(route.who, Node):
        return [{"node": []}]
    by_cookie: dict[str, Any] = {"session": [], "csrf": []} if route.changes else {"session": []}
    return [by_cookie, {"node": []}] if isinstance(route.who, Passed) else [by_cookie]


def _responses(route: Route, at: int, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    if isinstance(route.answer, Raw):
        content = {route.answer.media_type: {"schema": {"type": "string"}}}
        good: dict[str, Any] = {"description": route.answer.sentence, "content": content}
    elif isinstance(route.answer, Redirect):
        good = {
            "description": route.answer.sentence,
            "headers": {"Location": {"required": True, "schema": {"type": "string"}}},
        }
    elif route.answer is None:
        good = {"description": "Done."}
    else:
        content = {"application/json": {"schema": schemas[at, "answer"]}}
        good = {"description": "Done.", "content": content}
    responses = {str(204 if route.answer is None else route.status): good}
    refusals = {400, 404}
    if not isinstance(route.who, Anyone) or route.changes:
        refusals |= {401, 403}
    if route.changes:
        refusals.add(409)
    if route.body is not None:
        refusals |= {413, 415}
    refusals |= set(route.also)
    if 304 in refusals:
        refusals.discard(304)
        responses["304"] = {"description": "It is as it was."}
    for status in sorted(refusals):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": schemas["problem"]}},
        }
    return responses
