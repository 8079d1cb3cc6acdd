"""Fixtures of the live tests: real trees, and the nodes' logs with every test that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from playwright.async_api import Playwright, async_playwright

from tests.live import tree
from tests.live.tree import Tree


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Centre, province, city and county, one below the other, for all tests of a file.

    Each test uses a stream name of its own.
    """
    with Tree(tmp_path_factory.mktemp("chain")) as nodes:
        yield nodes


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """A stream name that no other test uses."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return name[-64:].strip("-")


@pytest.fixture
async def browsers() -> AsyncIterator[Playwright]:
    """What starts browsers; it ends them with the test."""
    async with async_playwright() as playwright:
        yield playwright


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        report.sections += [("what the nodes logged", one.logs()) for one in tree.RUNNING]
    return report
