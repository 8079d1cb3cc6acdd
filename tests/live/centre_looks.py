"""Pictures of every page of a centre for eyes, in both languages, on a phone and a desktop.

    terrace demo            # prints the address, the name and the password
    python -m tests.live.centre_looks http://127.0.0.1:8710 NAME PASSWORD --shots FOLDER

and says what axe finds on each of them, and which words are cut off.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from playwright.async_api import Browser, Page

from tests.live import tabs
from tests.live.centre_house import barriers

LOCALES = ("zh-CN", "en-GB")
SIZES = ("phone", "desktop")
PAGES = {
    "today": "", "calendar": "calendar", "editor": "series/new", "approvals": "approvals",
    "attendance": "attendance", "logbook": "logbook", "units": "units", "people": "people",
    "places": "places", "plans": "plans", "feeds": "feeds", "audit": "audit",
    "messages": "messages", "account": "account",
}  # fmt: skip
WITHIN_MS = 20_000


async def look(url: str, login: str, password: str, shots: Path) -> list[str]:
    """Take the pictures; what was wrong, a line each."""
    wrong: list[str] = []
    async with tabs.chromium() as browser:
        for locale in LOCALES:
            for size in SIZES:
                wrong += await _visit(browser, locale, size, (url, login, password), shots)
    return wrong


async def _visit(
    browser: Browser, locale: str, size: str, whom: tuple[str, str, str], shots: Path
) -> list[str]:
    url, login, password = whom
    width, height = tabs.SIZES[size]
    context = await browser.new_context(
        viewport={"width": width, "height": height}, locale=locale, timezone_id="Asia/Shanghai"
    )
    page = await context.new_page()
    wrong: list[str] = []

    async def keep(name: str) -> None:
        await page.wait_for_load_state("networkidle", timeout=WITHIN_MS)
        found = await barriers(page)
        cut = await page.evaluate(tabs.CUT_OFF)
        wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        await page.screenshot(path=shots / f"{name}-{locale[:2]}-{size}.png", full_page=True)
        wrong.extend(f"{name} {locale} {size}: {one}" for one in found)
        wrong.extend(f"{name} {locale} {size}: cut off: {one}" for one in cut)
        if wide:
            wrong.append(f"{name} {locale} {size}: wider than the screen")

    await page.goto(f"{url}/centre/signin")
    await keep("signin")
    await _sign_in(page, login, password)
    for name, path in PAGES.items():
        await page.goto(f"{url}/centre/{path}".rstrip("/"))
        await keep(name)
    await page.goto(f"{url}/centre/calendar")
    await page.locator("a[href*='/centre/occurrence/']").first.click(timeout=WITHIN_MS)
    await page.wait_for_url("**/centre/occurrence/*", timeout=WITHIN_MS)
    await keep("occurrence")
    await context.close()
    return wrong


async def _sign_in(page: Page, login: str, password: str) -> None:
    await page.fill("#login", login)
    await page.fill("#password", password)
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda at: "/centre/signin" not in at, timeout=WITHIN_MS)


def main() -> int:
    """Take the pictures; 1 when something is wrong."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("login")
    parser.add_argument("password")
    parser.add_argument("--shots", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.shots.mkdir(parents=True, exist_ok=True)
    wrong = asyncio.run(look(arguments.url, arguments.login, arguments.password, arguments.shots))
    sys.stdout.write("".join(f"{one}\n" for one in wrong) or "nothing wrong\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
