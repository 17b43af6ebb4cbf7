"""Imports go one way. Every import statement counts, lazy ones too; only type-checking ones do not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = (
    ("specs", "registry", "paths", "buffer_pool"),
    ("actions", "models", "replay"),
    ("config", "runtime", "algorithms"),
    # What is not named here, such as data, rollout, evaluation and report, lies in between.
    ("sft", "train", "eval", "evaluate", "bench", "audit", "play", "export"),
    ("cli",),
)
BETWEEN = 2.5
LIGHT = ("specs", "registry", "paths", "buffer_pool", "actions", "replay", "config", "envs", "cli")
HEAVY = {"torch", "transformers", "accelerate", "peft"}
OPEN_TO_SIMS = ("vla_rl.specs", "vla_rl.actions", "vla_rl.registry", "vla_rl.paths")


def modules(package: str, root: Path = ROOT) -> dict[str, Path]:
    """Every module of a package: its dotted name and its file."""
    files = sorted((root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it; not those under `if TYPE_CHECKING`."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in skipped:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node not in skipped:
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name: str) -> float:
    """How high `vla_rl.<part>...` lies; the package itself is the ground."""
    part = name.partition(".")[2].partition(".")[0]
    if part in ("", "__version__"):
        return 0
    return next((rank for rank, parts in enumerate(LAYERS) if part in parts), BETWEEN)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def upward(package: str, root: Path = ROOT) -> list[str]:
    """The imports that go from a lower layer to a higher one."""
    return [
        f"{module} imports {name}"
        for module, file in modules(package, root).items()
        for name in imports(file)
        if inside(name, (package,)) and layer(name) > layer(module)
    ]


def test_imports_inside_the_package_go_down_only() -> None:
    assert not upward("vla_rl")


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
    names = [f"vla_rl.{part}" for part in (*LIGHT, "models.settings", "algorithms.configs")]
    code = f"import sys, {', '.join(names)}; sys.exit(bool({HEAVY} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_breach_is_seen_even_where_it_is_lazy(tmp_path: Path) -> None:
    package = tmp_path / "vla_rl"
    package.mkdir()
    (package / "specs.py").write_text("def f():\n    from vla_rl.train import train\n")
    (package / "train.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import vla_rl.cli\n")
    (package / "rollout.py").write_text("from vla_rl import registry, sft\n")
    assert upward("vla_rl", tmp_path) == [
        "vla_rl.rollout imports vla_rl.sft",
        "vla_rl.specs imports vla_rl.train.train",
    ]
