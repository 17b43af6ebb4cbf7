"""Other people's Gymnasium environments, by id: their observations, pictures and success as a policy meets them."""

from sims.mujoco.gl import check_choice

check_choice()
