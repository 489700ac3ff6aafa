"""The files of the page: their size, and what the Content-Security-Policy and the rules of the page forbid."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from starlette.requests import Request
from web_scene import completed

import edge_classifierd
from edge_classifierd.learning import report
from edge_classifierd.web.files import PageFiles

STATIC = Path(edge_classifierd.__file__).parent / "web" / "static"
FILES = {path.name: path.read_text() for path in sorted(STATIC.iterdir())}
MODULES = {name: text for name, text in FILES.items() if name.endswith(".js")}
FIRST_LOAD = ("index.html", "tokens.css", "page.css", "theme.js", "router.js")


def served(name: str) -> bytes:
    """A file as the browser gets it."""
    index, static = (route.handle for route in PageFiles(STATIC).routes())
    scope = {"type": "http", "method": "GET", "path_params": {"file": name}, "query_string": b"", "headers": []}
    answer = completed((index if name == "index.html" else static)(Request(scope)))  # type: ignore[arg-type]
    assert answer.status_code == 200
    return bytes(answer.body)


def compressed(name: str) -> int:
    return len(gzip.compress(served(name), mtime=0))


def imported(name: str) -> set[str]:
    """What a module and those that it names import statically."""
    found = {name}
    for other in re.findall(r'^import .* from "\./(\w+\.js)\?v=__BUILD__";$', FILES[name], re.MULTILINE):
        found |= imported(other)
    return found


def test_the_page_is_small() -> None:
    assert sum(compressed(name) for name in FILES) < 60_000
    first = {*FIRST_LOAD, *imported("router.js"), *imported("live.js")}
    assert sum(compressed(name) for name in first) < 25_000


def test_scripts_are_served_without_comments_and_with_every_other_line() -> None:
    for name, text in MODULES.items():
        lines = [line for line in text.splitlines() if not line.lstrip().startswith(("//", "/**"))]
        sent = served(name).decode()

        assert re.sub(r"v=[0-9a-f]{12}", "v=__BUILD__", sent).splitlines() == lines, name
    assert "// Requests to the device." in MODULES["api.js"]
    assert b"// Requests to the device." not in served("api.js")


def test_what_live_imports_is_loaded_at_once_with_the_page() -> None:
    wanted = (imported("router.js") | imported("live.js")) - {"router.js"}

    assert set(re.findall(r'rel="modulepreload" href="static/(\w+\.js)\?v=__BUILD__"', FILES["index.html"])) == wanted


@pytest.mark.parametrize("name", MODULES)
def test_script_makes_no_markup_from_text_and_runs_no_text(name: str) -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|cssText"

    assert not re.findall(forbidden, MODULES[name])


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_address(name: str) -> None:
    text = FILES[name].replace('xmlns="http://www.w3.org/2000/svg"', "") if name.endswith(".svg") else FILES[name]

    assert not re.findall(r"https?:|(?:href|src|import\(|from )\s*=?\s*[\"'(]/", text, re.IGNORECASE)


def test_page_has_no_inline_script_style_or_handler() -> None:
    page = FILES["index.html"]

    assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page, re.IGNORECASE)


@pytest.mark.parametrize("name", MODULES)
def test_imported_modules_exist_and_carry_the_build(name: str) -> None:
    for target in re.findall(r"""(?:from|import\()\s*["'](.+?)["']""", MODULES[name]):
        path, _, query = target.removeprefix("./").partition("?")
        assert (path in MODULES, query) == (True, "v=__BUILD__"), f"{name} imports {target}"


def tokens(text: str, scheme: str) -> dict[str, str]:
    """The colours of a style sheet in a scheme; the light ones hold where the dark do not say otherwise."""
    light, dark = re.search(r":root\{([^}]*)\}.*?:root[^{]*\{([^}]*)\}", text, re.DOTALL).groups()  # type: ignore[union-attr]
    found = dict(re.findall(r"--(\w+):(#\w+)", light))
    return found if scheme == "light" else found | dict(re.findall(r"--(\w+):(#\w+)", dark))


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.1."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(scheme: str) -> None:
    colours = tokens(FILES["tokens.css"], scheme)
    texts = [(text, ground) for text in ("ink", "dim", "accent", "bad") for ground in ("card", "bg")]
    texts += [
        ("warmtext", "card"),
        ("onaccent", "accent"),
        ("ink", "soft"),
        ("warnink", "warn"),
        ("bg", "ink"),
        ("good", "card"),
    ]

    low = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in texts}
    assert not {pair: round(ratio, 2) for pair, ratio in low.items() if ratio < 4.5}
    graphics = {name: contrast(colours[name], colours["card"]) for name in ("edge", "warm", "accent", "good")}
    assert not {name: round(ratio, 2) for name, ratio in graphics.items() if ratio < 3}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_has_the_colours_of_the_page(scheme: str) -> None:
    sheet = (Path(report.__file__).parent / "report.css").read_text()
    of_the_page = tokens(FILES["tokens.css"], scheme)

    assert tokens(sheet, scheme).items() <= of_the_page.items()


def test_chosen_dark_scheme_has_the_colours_of_the_systems() -> None:
    blocks = re.findall(r"\{(color-scheme:dark;[^}]*)\}", FILES["tokens.css"])

    assert len(blocks) == 2
    assert len({re.sub(r"\s", "", block) for block in blocks}) == 1
