"""`vla-rl bench SUITE`: hands over to the suite's own module, which is imported then."""

from __future__ import annotations

import argparse


def bench(options: argparse.Namespace) -> None:
    """Run a suite. Raises ValueError for arguments that it does not take."""
    if options.suite == "envs":
        from vla_rl.bench.envs import bench_envs

        bench_envs(options.names, as_json=options.json)
    elif options.suite == "replay":
        from vla_rl.bench.replay.command import bench_replay

        bench_replay(options.names, as_json=options.json)
    elif options.suite == "critic":
        if not options.names:
            raise ValueError("bench critic: name the folder of a run, such as outputs/train/<date>/<run>")
        from vla_rl.bench.critic import bench_critic

        run, *overrides = options.names
        bench_critic(run, overrides, options.states, options.decisions, options.rollouts, as_json=options.json)
    else:
        _bench_alone(options)


def _bench_alone(options: argparse.Namespace) -> None:
    """A suite that takes no names."""
    if options.names:
        raise ValueError(
            f"bench {options.suite}: takes no environments, got {' '.join(options.names)}; try `bench envs`"
        )
    if options.large and options.suite != "policy":
        raise ValueError(f"bench {options.suite}: takes no --large; try `bench policy --large`")
    if options.suite == "policy":
        from vla_rl.bench.policy import bench_policy

        bench_policy(as_json=options.json, large=options.large)
    elif options.suite == "learner":
        from vla_rl.bench.learner import bench_learner

        bench_learner(as_json=options.json)
    else:
        from vla_rl.bench.smoke import smoke

        smoke(as_json=options.json)
