"""Whether an environment can be trusted: policies that should fail there, and what they get."""
