"""`vla-rl eval`: a checkpoint on held-out seeds, with what a person looks at."""

from __future__ import annotations

from collections.abc import Sequence

from vla_rl import build
from vla_rl.config import CONFIG_FILE, RunConfig
from vla_rl.envs import Past
from vla_rl.evaluation import eval_info
from vla_rl.evaluation.episodes import evaluate, workers_of
from vla_rl.evaluation.films import keep_films, refilmed
from vla_rl.evaluation.outcome import EvalResult
from vla_rl.registry import ConfigError, FaultError
from vla_rl.report import report
from vla_rl.report.drawn import with_marks
from vla_rl.report.html import Score
from vla_rl.rollout.actor import load_actor
from vla_rl.runtime.checkpoint import Place, locate
from vla_rl.runtime.provenance import provenance
from vla_rl.runtime.serialization import load_entry
from vla_rl.specs import HELD_OUT_SEEDS


def evaluate_checkpoint(run: RunConfig, label: str | None = None, before: Sequence[Score] = ()) -> EvalResult:
    """As `evaluate_tasks`, of a run that has one environment. Raises ConfigError where it has several."""
    (result,) = evaluate_tasks(run.only("evaluate_checkpoint"), label, before)
    return result


def evaluate_tasks(run: RunConfig, label: str | None = None, before: Sequence[Score] = ()) -> tuple[EvalResult, ...]:
    """Evaluate `run.eval.checkpoint` on held-out seeds, print a table, and write what a person looks at.

    `eval_info.json`, `config.yaml`, `videos/` and `report.html` go into `run.run_dir`. The report calls the policy
    `label`, and shows the scores `before`, of other policies on the same seeds, first. Of several environments, each
    has `eval.episodes`, one after another.

    Raises:
        ConfigError: no checkpoint is given, or the environment does not suit the config.
        ValueError: the policy was made for other cameras, state or actions.
        FileNotFoundError: the checkpoint is not there.
        FileExistsError: the folder holds an evaluation already.
        FaultError: all episodes of an environment were invalid; all is written.
    """
    if run.eval.checkpoint is None or run.run_dir is None:
        raise ConfigError("eval.checkpoint: give a checkpoint, such as outputs/train/<date>/<run>/checkpoints/last")
    if (run.run_dir / eval_info.INFO_FILE).exists():
        raise FileExistsError(f"run_dir: {run.run_dir} holds an evaluation already; name another folder, or remove it")
    folder, place, best_of = run.run_dir, locate(run.eval.checkpoint), run.eval.best_of
    actor = load_actor(place, run.device, best_of, run.plugins, run.mixed_precision)
    run = build.with_tokens_of(run, actor.policy)
    spec = build.env_spec(run)
    actor.policy.check_fits(spec.tokens, spec.observation.images, spec.observation.state)
    past = Past(_episodes_before(place) if run.eval.after_episodes is None else run.eval.after_episodes)
    rendering = build.env_factories(run, spec, "rgb_array", past)
    results = []
    for name, make in build.env_factories(run, spec, past=past).items():
        with eval_info.episode_bar(name, run.eval.episodes) as on_episode:
            result = evaluate(
                actor,
                make,
                HELD_OUT_SEEDS[run.eval.seed : run.eval.seed + run.eval.episodes],
                num_envs=run.eval.num_envs,
                films=run.eval.videos,
                on_episode=on_episode,
                stack=run.replay.stack,
                workers=workers_of(run),
                timeout=run.train.step_timeout,
                restarts=run.train.restarts,
            )
        filmed = refilmed(keep_films(result, run.eval.videos), rendering[name])
        results.append(with_marks(filmed, spec.tokens, spec.actions))
    acting = "greedy" if best_of == 0 else f"best of {best_of} by Q"
    about = {"checkpoint": str(run.eval.checkpoint), "acting": acting, "after_episodes": past.episodes}
    told = _critic_health(place)
    about |= provenance()
    _save_config(run)
    eval_info.print_table(results)
    eval_info.write(results, folder, about | ({"critic": told} if told else {}))
    if told:
        print(f"in training {told}")
    print(f"report: {report.write_evaluation(run, results, place, acting, label, before, told, spec)}")
    for result in results:
        if not result.valid:
            reason = result.outcomes[-1].error or "their infos tell none"
            raise FaultError(f"{result.env}: all {result.n_invalid} episodes were invalid; the reason: {reason}")
    return tuple(results)


def _save_config(run: RunConfig) -> None:
    """Write the evaluation's config into its folder; where that is a run's, beside the run's own."""
    assert run.run_dir is not None, "a config is made by load()"
    if (run.run_dir / CONFIG_FILE).exists():
        run.save(run.run_dir / eval_info.EVALUATION)
    else:
        run.save(run.run_dir)


def _critic_health(place: Place) -> str:
    """How acting by the critic did in the run of a checkpoint; "" where that was not looked at."""
    state = place.policy.parent / "training_state"
    return load_entry(state, "critic_health", "") if state.is_dir() else ""


def _episodes_before(place: Place) -> int:
    """How many episodes a checkpoint's run had had; 0 for a policy that no environment taught, or that stands alone."""
    state = place.policy.parent / "training_state"
    return int(load_entry(state, "episodes")) if state.is_dir() else 0
