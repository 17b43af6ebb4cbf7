"""Teaches a backbone and its pointers where things are, and scores how well they know."""
