"""`python -m vla_rl.cli`."""

from vla_rl.cli import main

raise SystemExit(main())
