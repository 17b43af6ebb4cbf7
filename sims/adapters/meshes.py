"""Meshes no finer than a small picture shows: robots' scans have more triangles than a 64 x 64 picture has pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mujoco
import numpy as np

_PARALLEL = ("mesh_face", "mesh_facenormal", "mesh_facetexcoord")
_FINEST = 12
"""A mesh keeps at least so many cells along its diagonal."""


@contextmanager
def coarse(model: mujoco.MjModel, cell: float) -> Iterator[None]:
    """Let the model have coarser meshes for as long as this lasts: what is uploaded to OpenGL meanwhile stays coarse.

    The vertices of each cell of `cell` metres become one, and the triangles that thereby vanish are left out.
    Physics, and everything else, is as before afterwards.
    """
    kept = {name: getattr(model, name).copy() for name in (*_PARALLEL, "mesh_facenum")}
    try:
        for mesh in range(model.nmesh):
            _thin(model, mesh, cell)
        yield
    finally:
        for name, values in kept.items():
            getattr(model, name)[:] = values


def _thin(model: mujoco.MjModel, mesh: int, cell: float) -> None:
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    vertices = model.mesh_vert[first : first + count]
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    cells = np.floor(vertices / max(min(cell, diagonal / _FINEST), 1e-9)).astype(np.int64)
    _, representative, of = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    begin, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    corners = representative[of.ravel()][model.mesh_face[begin : begin + faces]]
    a, b, c = corners.T
    (left,) = np.nonzero((a != b) & (b != c) & (c != a))
    for name in _PARALLEL:
        rows = corners if name == "mesh_face" else getattr(model, name)[begin : begin + faces]
        getattr(model, name)[begin : begin + len(left)] = rows[left]
    model.mesh_facenum[mesh] = len(left)
