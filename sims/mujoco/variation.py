"""How a world may differ from the one that the files describe: its looks, its cameras, its dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from sims.shifting import check_stage

if TYPE_CHECKING:
    from sims.mujoco.world import World

_VARIED = (
    *("geom_rgba", "geom_friction", "body_mass", "body_inertia", "dof_damping", "actuator_gainprm"),
    *("actuator_biasprm", "cam_pos", "cam_quat", "cam_fovy", "light_dir", "light_diffuse"),
)


@dataclass(frozen=True)
class Randomisation:
    """Draws a variation of the world at every reset from the `from_episode`-th on.

    Args:
        appearance: 0 to 1: shades of the things, colours of table and floor, light.
        camera: 0 to 1: place (1: 5 cm standard deviation), direction (3 degrees) and field of view (2 degrees) of
            the cameras that stand still.
        dynamics: 0 to 1: masses, friction, damping and the drives' strength, each times exp(0.4 x) for a normal x.
        from_episode: the first episode (counted from 0) that this holds for: of this environment, or, in training, of
            all environments of the run. Of several randomisations the last one that has begun holds, so that the
            environment shifts in mid-run.
        seed: None draws anew in every episode; a number gives all of them the same variation.
    """

    appearance: float = 0.0
    camera: float = 0.0
    dynamics: float = 0.0
    from_episode: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("appearance", "camera", "dynamics"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        check_stage(self.from_episode)

    def apply(self, world: World, rng: np.random.Generator) -> None:
        """Vary a world whose things were just placed; `undo` takes it back."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        looks, views, forces = (np.random.default_rng(rng.integers(2**63)) for _ in range(3))
        if self.appearance:
            _vary_looks(world, self.appearance, looks)
        if self.camera:
            _vary_cameras(world, self.camera, views)
        if self.dynamics:
            _vary_dynamics(world, self.dynamics, forces)


def undo(world: World) -> None:
    """Give back what a randomisation may have changed; before the things are placed."""
    for name in _VARIED:
        getattr(world.model, name)[:] = world.compiled[name]
    world.model.vis.headlight.diffuse[:] = world.headlight


def derive(world: World) -> None:
    """Bring the model's own constants up to date with its masses; after the things are placed, since it looks at
    which of them are solid.
    """
    mujoco.mj_setConst(world.model, mujoco.MjData(world.model))


def _vary_looks(world: World, strength: float, rng: np.random.Generator) -> None:
    model = world.model
    for name in ("table", "floor"):
        rgb = model.geom(name).rgba[:3]
        rgb[:] = rgb + strength * (rng.uniform(0.1, 0.9, 3) - rgb)
    shades = rng.normal(0, 0.05 * strength, (model.ngeom, 3))
    painted = model.geom_group == 0
    model.geom_rgba[painted, :3] = np.clip(model.geom_rgba[painted, :3] + shades[painted], 0, 1)
    model.light_dir[:] += strength * rng.uniform(-0.6, 0.6, model.light_dir.shape) * (1, 1, 0)
    brightness = np.exp(strength * rng.normal(0, 0.25, 2))
    model.light_diffuse[:] = np.clip(model.light_diffuse * brightness[0], 0, 1)
    model.vis.headlight.diffuse[:] = np.clip(model.vis.headlight.diffuse * brightness[1], 0, 1)


def _vary_cameras(world: World, strength: float, rng: np.random.Generator) -> None:
    model = world.model
    still = np.flatnonzero(model.cam_bodyid == 0)
    model.cam_pos[still] += rng.normal(0, 0.05 * strength, (len(still), 3))
    model.cam_fovy[still] += rng.normal(0, 2 * strength, len(still))
    for camera in still:
        vector = rng.normal(0, np.radians(3) * strength, 3)
        mujoco.mju_quatIntegrate(model.cam_quat[camera], vector, 1.0)


def _vary_dynamics(world: World, strength: float, rng: np.random.Generator) -> None:
    model = world.model

    def factors(count: int) -> np.ndarray:
        return np.exp(0.4 * strength * rng.standard_normal(count))

    mass = factors(model.nbody)
    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass[:, None]
    model.geom_friction[:, 0] *= factors(model.ngeom)
    model.dof_damping[:] *= factors(model.nv)
    # Gain and bias together: a weaker drive goes to the same place, more slowly.
    drive = np.exp(0.2 * strength * rng.standard_normal(model.nu))[:, None]
    model.actuator_gainprm[:] *= drive
    model.actuator_biasprm[:] *= drive
