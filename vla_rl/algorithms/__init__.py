"""Off-policy algorithms behind one interface: `act`, `update`, `state_dict`."""
