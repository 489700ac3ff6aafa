"""The house's rules that no type checker knows: which way imports point, and what stays unloaded until it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "edge_classifierd"
ROOT = Path(__file__).resolve().parents[2]

# From the bottom up; what stands on one level does not import one another.
LEVELS = (
    ("errors",),
    ("clock", "log", "state_file", "memory_maps", "scaler", "decision"),
    ("backoff", "health", "config", "model"),
    ("events", "preprocess"),
    ("motion",),
    ("mqtt", "frames", "inference"),
    ("pipeline", "learning"),
    ("teaching",),
    ("web",),
    ("daemon", "doctor", "replay", "fleet", "benchmark"),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

RUNTIMES = {"ai_edge_litert", "tflite_runtime", "pycoral"}
OF_THE_PAGE = {"starlette", "uvicorn", "prometheus_client", "h11"}
HEAVY = RUNTIMES | {"numpy", "av", "paho", "pydantic", "yaml", "flatbuffers", "amqtt", "sqlite3", "astral"}


class Import(NamedTuple):
    """One import statement: dotted names from the top, and whether it runs when the module is loaded."""

    importer: str
    imported: str
    line: int
    at_load: bool


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_under(root: Path) -> dict[str, Path]:
    return {module_name(path, root): path for path in sorted((root / PACKAGE).rglob("*.py"))}


def imports_of(modules: dict[str, Path]) -> list[Import]:
    """Every import statement; `from package import name` counts as the module `name` when there is one."""
    found: list[Import] = []
    for importer, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        deferred = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(node)
            for inner in ast.walk(node)
        }
        package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names]
            found += [Import(importer, name, node.lineno, id(node) not in deferred) for name in names]  # type: ignore[attr-defined]
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def room(module: str) -> str:
    """The part of the house a module stands in: `mqtt` for `edge_classifierd.mqtt.client`, empty for the package."""
    return module.split(".")[1] if "." in module else ""


def upward(imports: list[Import]) -> list[str]:
    """Imports between rooms that do not point down."""
    return [
        f"{one.importer}:{one.line} imports {one.imported}"
        for one in imports
        if one.imported.split(".")[0] == PACKAGE
        and (here := room(one.importer)) != (there := room(one.imported))
        and there
        and (not here or LEVEL[there] >= LEVEL[here])
    ]


def out_of_place(imports: list[Import], modules: dict[str, Path]) -> list[str]:
    """Inside a package `base` imports no sibling and nobody imports `factory`."""
    wrong = []
    for one in imports:
        siblings = one.imported in modules and one.importer.rpartition(".")[0] == one.imported.rpartition(".")[0]
        if siblings and (one.importer.endswith(".base") or one.imported.endswith(".factory")):
            wrong.append(f"{one.importer}:{one.line} imports {one.imported}")
    return wrong


def cycle(imports: list[Import], modules: dict[str, Path]) -> list[str]:
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for one in imports:
        # A package's own file is loaded before its modules; that is not a choice of theirs.
        if one.imported in modules and not one.importer.startswith(one.imported + "."):
            graph[one.importer].add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def misplaced_runtimes(imports: list[Import]) -> list[str]:
    return [
        f"{one.importer}:{one.line} imports {one.imported}"
        for one in imports
        if one.imported.split(".")[0] in RUNTIMES and (one.at_load or one.importer != f"{PACKAGE}.inference.runtime")
    ]


def page_libraries_outside_the_page(imports: list[Import]) -> list[str]:
    """Imports of the page's libraries outside `web`, and imports of `web` that run when a module is loaded."""
    return [
        f"{one.importer}:{one.line} imports {one.imported}"
        for one in imports
        if room(one.importer) != "web"
        and (one.imported.split(".")[0] in OF_THE_PAGE or (one.at_load and room(one.imported) == "web"))
    ]


def teaching_outside_its_rooms(imports: list[Import]) -> list[str]:
    """Imports of `teaching` and of its routes that run when a module outside of both is loaded; commands may."""
    rooms = (f"{PACKAGE}.teaching", f"{PACKAGE}.web.teach")
    return [
        f"{one.importer}:{one.line} imports {one.imported}"
        for one in imports
        if one.at_load and one.imported.startswith(rooms) and not one.importer.startswith((*rooms, f"{PACKAGE}.cli."))
    ]


MODULES = modules_under(ROOT)
IMPORTS = imports_of(MODULES)


def test_every_room_has_a_level() -> None:
    assert {room(name) for name in MODULES} - {""} <= set(LEVEL)


def test_imports_between_rooms_point_down_only() -> None:
    assert upward(IMPORTS) == []


def test_base_is_lowest_and_factory_highest_inside_a_package() -> None:
    assert out_of_place(IMPORTS, MODULES) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert cycle(IMPORTS, MODULES) == []


def test_a_runtime_is_imported_only_inside_functions_of_the_runtime_module() -> None:
    assert misplaced_runtimes(IMPORTS) == []


def test_the_page_and_its_libraries_are_loaded_only_when_it_is_configured() -> None:
    assert page_libraries_outside_the_page(IMPORTS) == []
    assert loaded_after("import edge_classifierd.daemon.service") & OF_THE_PAGE == set()


def test_teaching_is_loaded_only_when_it_is_used() -> None:
    assert teaching_outside_its_rooms(IMPORTS) == []


def test_each_class_name_occurs_once() -> None:
    names = [
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_modules_and_packages_stay_small() -> None:
    """A module over 350 lines holds two things; so does a package with more than 20 modules."""
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 350} == {}
    folders = [path.parent for path in MODULES.values()]
    assert {str(folder): folders.count(folder) for folder in folders if folders.count(folder) > 20} == {}


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"config/loading/load.py": "from edge_classifierd.mqtt import topics", "mqtt/topics.py": ""}, "upward"),
        ({"events/a.py": "import edge_classifierd.frames.b", "frames/b.py": ""}, "upward"),
        ({"events/a.py": "def f():\n    from edge_classifierd.daemon.b import x", "daemon/b.py": "x = 1"}, "upward"),
        ({"log.py": "from .cli import main", "cli/main.py": ""}, "upward"),
        ({"__init__.py": "from edge_classifierd import log", "log.py": ""}, "upward"),
        ({"mqtt/a.py": "from . import b", "mqtt/b.py": "from edge_classifierd.mqtt.a import x"}, "cycle"),
        ({"frames/base.py": "from edge_classifierd.frames.b import x", "frames/b.py": "x = 1"}, "out_of_place"),
        ({"frames/b.py": "from edge_classifierd.frames import factory", "frames/factory.py": ""}, "out_of_place"),
        ({"inference/cpu.py": "def f():\n    import tflite_runtime.interpreter"}, "misplaced_runtimes"),
        ({"inference/runtime.py": "import ai_edge_litert"}, "misplaced_runtimes"),
        ({"mqtt/a.py": "def f():\n    import starlette"}, "page_libraries"),
        ({"daemon/a.py": "import edge_classifierd.web.b", "web/b.py": ""}, "page_libraries"),
        ({"web/page.py": "import edge_classifierd.web.teach.b", "web/teach/b.py": ""}, "teaching_outside"),
    ],
)
def test_a_broken_rule_is_noticed(tmp_path: Path, files: dict[str, str], rule: str) -> None:
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    modules = modules_under(tmp_path)
    imports = imports_of(modules)
    broken = {
        "upward": upward(imports),
        "cycle": cycle(imports, modules),
        "out_of_place": out_of_place(imports, modules),
        "misplaced_runtimes": misplaced_runtimes(imports),
        "page_libraries": page_libraries_outside_the_page(imports),
        "teaching_outside": teaching_outside_its_rooms(imports),
    }
    assert [name for name, found in broken.items() if found] == [rule]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    script = f"import json, sys\n{statement}\nprint('LOADED' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.rpartition("LOADED")[2])}


def run_main(*arguments: str) -> str:
    return (
        f"sys.argv = ['edge-classifierd', *{list(arguments)!r}]\n"
        "from edge_classifierd.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code in (0, None), stop.code"
    )


@pytest.mark.parametrize(
    "statement",
    ["import edge_classifierd.cli.main", run_main("--help"), run_main("--version")],
    ids=["import", "--help", "--version"],
)
def test_the_command_line_starts_without_loading_anything_heavy(statement: str) -> None:
    assert loaded_after(statement) & HEAVY == set()


def test_the_lazy_import_test_sees_what_is_loaded() -> None:
    assert "sqlite3" in loaded_after("import edge_classifierd.errors, sqlite3")
