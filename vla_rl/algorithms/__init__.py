"""Off-policy algorithms behind one contract, `algorithm.Algorithm`."""
