"""Imports go one way, never in a circle. Every import statement counts, lazy ones and type-only ones too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = {
    "vla_rl": (
        ("__init__",),
        ("specs", "registry", "paths", "buffer_pool", "fault_points"),
        ("actions", "config"),
        ("models", "replay", "envs"),
        ("algorithms", "rewards", "adaptation", "runtime", "media"),
        ("rollout", "data", "autotune", "grounding"),
        ("evaluation", "report", "serving"),
        ("build", "train_state", "resume", "serve", "sharing"),
        (
            "train",
            "sft",
            "eval",
            "evaluate",
            "export",
            "compare",
            "sweep",
            "play",
            "cockpit",
            "audit",
            "bench",
            "planning",
        ),
        ("cli",),
    ),
    "sims": (
        ("vocabulary", "ranges", "shifting", "tasks", "observe", "arrays"),
        ("screen",),
        ("mujoco", "gui", "web"),
        ("adapters", "grounding"),
        ("register",),
        ("__init__",),
    ),
}
"""Every folder and file of a package, from the ground up; one imports its own layer and those below."""
LIGHT = (
    *("specs", "registry", "paths", "buffer_pool", "fault_points"),
    *("actions", "config", "replay", "envs", "adaptation", "cli"),
)
HEAVY = {"torch", "transformers", "accelerate", "peft"}
OPEN_TO_SIMS = ("vla_rl.specs", "vla_rl.actions", "vla_rl.registry", "vla_rl.paths")


def modules(package: str, root: Path = ROOT) -> dict[str, Path]:
    """Every module of a package: its dotted name and its file."""
    files = sorted((root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@cache
def imports(file: Path) -> tuple[str, ...]:
    """The dotted names that a file imports, wherever in it."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(package: str, root: Path = ROOT) -> dict[str, set[str]]:
    """Each module of a package, and which others of it its file imports."""
    known = modules(package, root)

    def owner(name: str) -> str:
        """The module that an imported name is, or lies in."""
        return name if name in known else name.rpartition(".")[0]

    found = {module: {owner(name) for name in imports(file)} for module, file in known.items()}
    return {module: (names & known.keys()) - {module} for module, names in found.items()}


def layer(name: str) -> int:
    """How high a module lies in its package."""
    package, *parts = name.split(".")
    part = parts[0] if parts else "__init__"
    return next(rank for rank, parts in enumerate(LAYERS[package]) if part in parts)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def upward(package: str, root: Path = ROOT) -> list[str]:
    """The imports that go from a lower layer to a higher one."""
    return [
        f"{module} imports {name}"
        for module, names in graph(package, root).items()
        for name in sorted(names)
        if layer(name) > layer(module)
    ]


@pytest.mark.parametrize("package", LAYERS)
def test_every_folder_and_file_has_its_layer(package: str) -> None:
    there = {name.split(".")[1] if "." in name else "__init__" for name in modules(package)}
    assert there == {part for parts in LAYERS[package] for part in parts}


@pytest.mark.parametrize("package", LAYERS)
def test_imports_inside_a_package_go_down_only(package: str) -> None:
    assert not upward(package)


@pytest.mark.parametrize("package", LAYERS)
def test_modules_do_not_import_each_other_in_a_circle(package: str) -> None:
    TopologicalSorter(graph(package)).prepare()


def test_the_top_of_the_package_holds_commands_and_what_all_share() -> None:
    assert len(list((ROOT / "vla_rl").glob("*.py"))) <= 18


def test_the_package_never_imports_the_simulators() -> None:
    assert not [
        module for module, file in modules("vla_rl").items() for name in imports(file) if inside(name, ("sims",))
    ]


def test_simulators_see_the_shared_words_only_and_never_torch() -> None:
    for module, file in modules("sims").items():
        for name in imports(file):
            assert not inside(name, ("vla_rl",)) or inside(name, OPEN_TO_SIMS), f"{module} imports {name}"
            assert name.split(".")[0] not in HEAVY, f"{module} imports {name}"


@pytest.mark.parametrize("part", LIGHT)
def test_light_parts_never_import_what_is_heavy(part: str) -> None:
    found = {name: file for name, file in modules("vla_rl").items() if inside(name, (f"vla_rl.{part}",))}
    assert found
    for module, file in found.items():
        heavy = [name for name in imports(file) if name.split(".")[0] in HEAVY]
        assert not heavy, f"{module} imports {heavy}"


def test_light_parts_do_not_reach_torch_through_others() -> None:
    names = [f"vla_rl.{part}" for part in (*LIGHT, "models.settings", "algorithms.configs")] + ["tests.fakes"]
    code = f"import sys, {', '.join(names)}; sys.exit(bool({HEAVY} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_breach_is_seen_even_where_it_is_lazy_or_for_types_only(tmp_path: Path) -> None:
    package = tmp_path / "vla_rl"
    package.mkdir()
    (package / "cli.py").touch()
    (package / "sft.py").touch()
    (package / "specs.py").write_text("def f():\n    from vla_rl.train import train\n")
    (package / "train.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import vla_rl.cli\n")
    (package / "rollout.py").write_text("from vla_rl import registry, sft\n")
    assert upward("vla_rl", tmp_path) == [
        "vla_rl.rollout imports vla_rl.sft",
        "vla_rl.specs imports vla_rl.train",
        "vla_rl.train imports vla_rl.cli",
    ]


def test_a_circle_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "vla_rl"
    package.mkdir()
    (package / "one.py").write_text("from vla_rl.two import something\n")
    (package / "two.py").write_text("def f():\n    from vla_rl import one\n")
    with pytest.raises(CycleError):
        TopologicalSorter(graph("vla_rl", tmp_path)).prepare()


def test_no_file_is_longer_than_a_subject_needs() -> None:
    files = [file for part in ("vla_rl", "sims", "scripts") for file in (ROOT / part).rglob("*.py")]
    long = {str(file.relative_to(ROOT)): lines for file in files if (lines := len(file.read_text().splitlines())) > 400}
    assert not long
