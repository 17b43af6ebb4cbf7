"""Pages in a real browser: Chromium, seen and handled as a person does, on a clock of its own."""
