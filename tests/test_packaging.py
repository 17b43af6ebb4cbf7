"""What is declared is used, what is used is declared, and the wheel works without the repository."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = ("vla_rl", "sims")
# accelerate imports its trackers by name.
BY_NAME = {"tensorboard"}


def declared() -> dict[str, Requirement]:
    return {Requirement(text).name: Requirement(text) for text in PROJECT["dependencies"]}


def optional() -> set[str]:
    return {Requirement(text).name for texts in PROJECT["optional-dependencies"].values() for text in texts}


def imported() -> set[str]:
    """The top-level modules that the packages import, wherever in a file."""
    found = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def distributions(modules: set[str]) -> dict[str, set[str]]:
    """Which distributions have each module."""
    installed = importlib.metadata.packages_distributions()
    return {module: {name.lower().replace("_", "-") for name in installed.get(module, [module])} for module in modules}


def test_every_dependency_is_bounded_above_and_below() -> None:
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        operators = {each.operator for each in requirement.specifier}
        assert requirement.name == PROJECT["name"] or {">=", "<"} <= operators, str(requirement)


def test_every_dependency_is_used_and_every_use_declared() -> None:
    used = distributions(imported())
    known = declared().keys() | optional()
    assert not [module for module, names in used.items() if not names & known], "imported, not declared"
    assert set(declared()) - BY_NAME <= set().union(*used.values()), "declared, not imported"


def test_the_known_good_versions_satisfy_the_bounds() -> None:
    lines = (ROOT / "scripts" / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line and not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name): version for name, version in pins.items()}
    for name, requirement in declared().items():
        assert name in pins, f"scripts/constraints.txt lacks {name}"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} breaks {requirement}"


@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_carries_configs_assets_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs", "assets"):
        files = [file for file in (ROOT / folder).rglob("*") if file.is_file()]
        assert files
        assert {f"vla_rl/_shipped/{folder}/{file.relative_to(ROOT / folder).as_posix()}" for file in files} <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "scripts", "docs", "configs", "assets")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_installed_wheel_trains_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    site = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip()
    # The dependencies, and nothing of this repository: a path file does not follow the path files in there.
    dependencies = Path(pytest.__file__).resolve().parent.parent
    (Path(site) / "dependencies.pth").write_text(f"{dependencies}\n")
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments: str) -> str:
        done = subprocess.run([python, "-m", "vla_rl.cli", *arguments], cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.check_output([python, "-c", "import vla_rl; print(vla_rl.__file__)"], cwd=work, text=True)
    assert where.startswith(site)
    assert "vla_rl/Reach-v0" in run("list")
    run("demos", "experiment=smoke", "demos.path=demos")
    run("sft", "experiment=smoke", "demos.path=demos", "run_dir=sft")
    run("train", "experiment=smoke", "demos.path=demos", "run_dir=rl", "train.checkpoint=sft/checkpoints/last")
    run("eval", "eval.checkpoint=rl/checkpoints/last", "eval.episodes=2", "run_dir=eval")
    assert (work / "eval" / "eval_info.json").is_file()


SB3 = """
import gymnasium
import sims  # registers the environments
from stable_baselines3 import SAC

env = gymnasium.make("vla_rl/Reach-v0")
camera = env.observation_space["observation.images.front"]
env = gymnasium.wrappers.TransformObservation(env, lambda seen: seen["observation.images.front"], camera)
model = SAC("CnnPolicy", env, buffer_size=200, learning_starts=20, batch_size=8)
model.learn(30)
print("steps", model.num_timesteps)
"""


@pytest.mark.slow
def test_stable_baselines3_trains_on_the_environment_as_it_is(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = tmp_path / "torch.txt"
    constraints.write_text("torch==2.13.0\n")
    subprocess.run([*pip, "-c", str(constraints), "torch"], check=True)
    subprocess.run([*pip, "-c", str(constraints), str(wheel), "stable-baselines3"], check=True)
    done = subprocess.run([python, "-c", SB3], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "steps 30" in done.stdout
