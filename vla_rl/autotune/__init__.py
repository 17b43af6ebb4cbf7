"""What is measured before a run, and chosen by that: precision, compiling, cached features."""
