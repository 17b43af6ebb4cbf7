"""Table-top worlds in MuJoCo."""
