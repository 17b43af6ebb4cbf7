"""Table-top worlds in MuJoCo."""

from sims.mujoco.gl import check_choice

check_choice()
