"""Speed and memory, as shares of what is possible."""
