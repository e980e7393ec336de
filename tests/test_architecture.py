"""The fences of the house: who may import whom, and what nobody does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ditail_ext"
HOST = {"modules", "modules_forge", "gradio", "backend", "ldm_patched"}
"""Top-level names of the WebUI and what only it brings."""


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.AST, package: str = "") -> set[str]:
    """Full names of all modules imported anywhere in a tree, ``package`` being the importing module's own."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            parent = ".".join([*base, *([node.module] if node.module else [])])
            found |= {parent} if node.module else {f"{parent}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and called(node) in ("import_module", "__import__"):
            name = node.args[0]
            found.add(str(name.value) if isinstance(name, ast.Constant) else "?")
    return found


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def imports_of(path: Path) -> set[str]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return imports(parse(path), ".".join(parts[:-1]))


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("def f():\n    from modules import shared", {"modules"}),
        ("import importlib\nimportlib.import_module('modules.shared')", {"importlib", "modules.shared"}),
        ("__import__('gradio')", {"gradio"}),
        ("import_module(name)", {"?"}),
        ("from ..errors import X", {"ditail_ext.errors"}),
        ("from .. import settings", {"ditail_ext.settings"}),
        ("from .bank import X", {"ditail_ext.core.bank"}),
        ("if TYPE_CHECKING:\n    import gradio", {"gradio"}),
    ],
)
def test_the_walk_sees_every_way_to_import(source, found):
    assert imports(ast.parse(source), "ditail_ext.core") == found


@pytest.mark.parametrize("path", python_files(PACKAGE / "core"), ids=lambda path: path.stem)
def test_core_is_torch_only(path):
    for name in imports_of(path):
        own = name.startswith("ditail_ext.core") or name == "ditail_ext.errors"
        assert own or top(name) in {"torch", "safetensors"} | sys.stdlib_module_names, name


def test_settings_and_errors_import_nobody():
    assert {name for name in imports_of(PACKAGE / "errors.py") if top(name) not in sys.stdlib_module_names} == set()
    others = {name for name in imports_of(PACKAGE / "settings.py") if top(name) not in sys.stdlib_module_names}
    assert others == {"ditail_ext.errors", "ditail_ext.further", "ditail_ext.setting"}
    further = {name for name in imports_of(PACKAGE / "further.py") if top(name) not in sys.stdlib_module_names}
    assert further == {"ditail_ext.setting"}
    row = {name for name in imports_of(PACKAGE / "setting.py") if top(name) not in sys.stdlib_module_names}
    assert row == {"ditail_ext.errors"}


def test_only_webui_and_scripts_know_the_host():
    everywhere = [*python_files(PACKAGE, ROOT / "bench", ROOT / "demo"), *ROOT.glob("*.py")]
    knowing = [path for path in everywhere if {top(name) for name in imports_of(path)} & HOST]
    outside = [path for path in knowing if not path.is_relative_to(PACKAGE / "webui")]
    assert not outside


ABOVE = {"core": ("webui", "standalone"), "standalone": ("webui",), "webui": ("standalone",)}


@pytest.mark.parametrize("folder", ABOVE)
def test_nobody_imports_what_lies_above(folder):
    """scripts -> webui -> core and standalone -> core."""
    forbidden = tuple(f"ditail_ext.{name}" for name in ABOVE[folder])
    for path in python_files(PACKAGE / folder):
        assert not [name for name in imports_of(path) if name.startswith(forbidden)], path


CORE = {
    "levels": set(),
    "trajectories": {"levels", "files"},
    "injection": {"levels"},
    "recordings": {"levels", "injection"},
    "aggregation": {"levels"},
    "sampling": {"levels", "trajectories", "injection", "recordings", "aggregation"},
    "mixing": set(),
    "suggest": {"levels"},
    "files": set(),
}
"""The rooms of core, and which others each may import."""

WEBUI = {
    "options": set(),
    "timing": {"options"},
    "rates": {"timing"},
    "request": set(),
    "host": {"timing", "options"},
    "cache": {"host"},
    "shown": set(),
    "failure": {"cache", "request", "host"},
    "source": {"host", "cache", "options", "timing", "shown"},
    "target": {"host", "cache", "options", "timing", "shown", "failure", "request"},
    "aggregation": {"host", "cache", "options", "timing", "source", "target"},
    "notes": {"request", "host", "source", "target", "aggregation"},
    "flow": {"host", "request", "source", "target", "aggregation", "notes", "timing"},
    "advice": {"host", "source", "aggregation", "cache", "timing"},
    "comparing": {"request", "host"},
    "panel": {"request", "cache", "advice", "comparing", "host", "failure"},
    "grid": {
        *("flow", "panel", "request", "host", "cache", "source", "target", "aggregation", "failure"),
        *("options", "rates"),
    },
}
"""The rooms of webui, from below; source and target do not know each other."""


def room_edges(base: Path) -> set[tuple[str, str, Path]]:
    """(room, imported room, file) for each import across rooms of a package."""
    prefix = ".".join(base.relative_to(ROOT).parts)
    edges = set()
    for path in python_files(base):
        room = path.relative_to(base).with_suffix("").parts[0]
        for name in imports_of(path):
            other = name.removeprefix(f"{prefix}.").partition(".")[0] if name.startswith(f"{prefix}.") else ""
            if other and other != room and room != "__init__":
                edges.add((room, other, path))
    return edges


@pytest.mark.parametrize(("folder", "rooms"), [("core", CORE), ("webui", WEBUI)], ids=["core", "webui"])
def test_rooms_import_only_what_lies_below(folder, rooms):
    edges = room_edges(PACKAGE / folder)
    assert {room for room, _, _ in edges} <= set(rooms)
    wrong = [(str(path.relative_to(PACKAGE)), other) for room, other, path in edges if other not in rooms[room]]
    assert not wrong


@pytest.mark.parametrize("rooms", [CORE, WEBUI], ids=["core", "webui"])
def test_the_rooms_lie_above_one_another(rooms):
    """No room is, by way of others, below itself."""
    rest = {room: below & set(rooms) for room, below in rooms.items()}
    while rest:
        ground = {room for room, below in rest.items() if not below & set(rest)}
        assert ground, f"a circle among {sorted(rest)}"
        rest = {room: below for room, below in rest.items() if room not in ground}


def face(room: Path) -> set[str]:
    """The modules that a room's ``__init__`` offers to others."""
    for node in parse(room / "__init__.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_others_import_a_room_s_face_alone():
    webui = PACKAGE / "webui"
    everyone = [*python_files(PACKAGE, ROOT / "scripts")]
    for room in (path for path in webui.iterdir() if (path / "__init__.py").is_file()):
        offered, prefix = face(room), f"ditail_ext.webui.{room.name}"
        assert offered, f"{room.name} offers nothing"
        for path in (path for path in everyone if not path.is_relative_to(room)):
            others = [name.removeprefix(f"{prefix}.") for name in imports_of(path) if name.startswith(f"{prefix}.")]
            taken = {top(name) for name in others}  # a room within a room is offered whole
            assert taken <= offered, (path, taken - offered)


def test_every_room_says_what_it_is():
    rooms = [path.parent for path in PACKAGE.rglob("__init__.py")]
    assert [room for room in rooms if not (ast.get_docstring(parse(room / "__init__.py")) or "").endswith(".")] == []


def test_tests_mirror_the_rooms():
    for folder, rooms in (("core", CORE), ("webui", WEBUI)):
        here = {path.name for path in (ROOT / "tests" / folder).iterdir() if path.is_dir() and path.name[0] != "_"}
        assert here <= set(rooms)


def test_no_import_is_hidden_behind_a_variable():
    hidden = [path for path in python_files(PACKAGE, ROOT / "scripts") if "?" in imports_of(path)]
    assert not hidden


def test_the_package_itself_loads_neither_torch_nor_a_host():
    code = "import sys, ditail_ext; print(ditail_ext.__version__); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    version, *loaded = done.stdout.splitlines()
    assert version.count(".") == 2
    assert "ditail_ext" in loaded
    assert not {top(name) for name in loaded} & ({"torch", "numpy", "PIL", "safetensors", "ldm"} | HOST)


def test_settings_load_without_torch():
    code = "import sys, ditail_ext.settings; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_prints():
    for path in python_files(PACKAGE, ROOT / "scripts"):
        names = [called(node) for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
        assert not {"print", "pprint"} & set(names), path


def test_no_room_is_called_utils():
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    everything = [*PACKAGE.rglob("*"), *(ROOT / "scripts").rglob("*"), *(ROOT / "bench").rglob("*")]
    assert not [path for path in everything if path.stem in vague]


def test_scripts_holds_one_file_at_most():
    """The WebUI runs every file in there as a script."""
    assert len(python_files(ROOT / "scripts")) <= 1


LINES, BODY, ARGUMENTS = 250, 40, 6
"""A file, a function's body without its docstring, a constructor's arguments: so much at most."""

LARGER = {
    "ditail_ext/settings.py": "the table: one row a setting",
    "tests/standalone/bad_inputs.py": "a table: one row a wrong input",
    "tests/webui/host/test_second_model.py": "half of it is the host that it needs",
    "tests/webui/host/test_forge.py": "half of it is the host that it needs",
    "tests/webui/host/test_foreign.py": "half of it is the neighbours that it needs",
    "tests/test_architecture.py": "one story: the fences",
}
MORE_ARGUMENTS = {
    "ditail_ext/core/injection/injection.py": "the method's own settings, by name, all but the windows with defaults",
    "tests/webui/conftest.py": "the WebUI's own signature",
}


def every_file() -> list[Path]:
    return [path for path in python_files(*(ROOT / name for name in FOLDERS)) if "golden" not in path.parts]


FOLDERS = ("ditail_ext", "scripts", "bench", "demo", "tests")


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef)]


def body_lines(function: ast.FunctionDef) -> int:
    doc = function.body[0] if ast.get_docstring(function) is not None else None
    said = 0 if doc is None else (doc.end_lineno or 0) - doc.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - said


def test_rooms_are_small():
    long = {str(path.relative_to(ROOT)) for path in every_file() if path.read_text("utf-8").count("\n") > LINES}
    assert long <= set(LARGER)
    assert not [
        (str(path.relative_to(ROOT)), function.name)
        for path in every_file()
        for function in functions(path)
        if body_lines(function) > BODY
    ]


def test_constructors_take_few_arguments():
    many = {
        str(path.relative_to(ROOT))
        for path in every_file()
        for function in functions(path)
        if function.name == "__init__" and len(function.args.args + function.args.kwonlyargs) - 1 > ARGUMENTS
    }
    assert many == set(MORE_ARGUMENTS)
