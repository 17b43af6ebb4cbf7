"""One self-contained HTML page: success with intervals, learning curves, film strips."""
