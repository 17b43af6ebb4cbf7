"""The model card of a policy: what it sees and does, how it did, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from vla_rl.specs import readable

_TABLE = ("task", "episodes", "success", "95% interval", "mean length")
_USE = """## Use
```python
import vla_rl

actor = vla_rl.load("{name}")
action = actor.act(observation)  # {observation}
```
`vla-rl serve {name}` answers robots and programs elsewhere."""
_EVALUATE = """
```
vla-rl pull {name} outputs/pulled
vla-rl eval eval.checkpoint=outputs/pulled
```"""


def card(name: str, policy: Mapping[str, Any], scores: Mapping[str, Any] | None, evaluable: bool) -> str:
    """The text of README.md.

    Args:
        name: the repository. policy: its config.json. scores: its eval_info.json, if there is one.
        evaluable: whether the run's config is there, too, so that `vla-rl eval` knows the environment.
    """
    data = ModelCardData(
        library_name="vla_rl",
        pipeline_tag="robotics",
        tags=["vla_rl", "reinforcement-learning", "vision-language-action"],
        model_name=name.partition("/")[2],
        eval_results=[
            EvalResult("robotics", task, task, "success_rate", success, metric_name="success (%)")
            for task, success in _successes(scores)
        ]
        or None,
    )
    use = _USE.format(
        name=name, observation=", ".join([*(f"observation.images.{each}" for each in policy["cameras"]), "..."])
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name.partition('/')[2]}",
        "A vision-language-action policy, trained by `vla_rl` (`pip install vla-rl`).",
        _about(policy),
        "## Results\n" + _table(scores),
        use + (_EVALUATE.format(name=name) if evaluable else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _about(policy: Mapping[str, Any]) -> str:
    backbone = policy["backbone"] if isinstance(policy["backbone"], dict) else {}
    rows = {
        "cameras": ", ".join(map(str, policy["cameras"])),
        "frames seen at once": policy["stack"],
        "numbers of the state": policy["state_dim"],
        "actions": policy["action_space"].get("type"),
        "backbone": backbone.get("source") or backbone.get("type"),
        "what was trained": policy["train"],
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())


def _table(scores: Mapping[str, Any] | None) -> str:
    """Success on held-out seeds, a line a task."""
    if scores is None:
        return "None were given: `vla-rl push --evaluation FOLDER` takes those of `vla-rl eval`."
    lines = ["| " + " | ".join(_TABLE) + " |", "|---|" + "---:|" * (len(_TABLE) - 1)]
    groups = scores.get("per_group") or {}
    for task in scores["per_task"]:
        low, high = task["pc_success_ci95"]
        length = groups.get(task["task_group"], {}).get("avg_length")
        cells = (
            task["task_group"],
            task["n_episodes"],
            _number(task["pc_success"], " %"),
            f"{_number(low)} to {_number(high)}",
            _number(length),
        )
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    about = scores.get("about") or {}
    acting = f", {about['acting']}" if about.get("acting") else ""
    return "\n".join([f"On held-out seeds{_cell(acting)}:", "", *lines])


def _successes(scores: Mapping[str, Any] | None) -> list[tuple[str, float]]:
    tasks = [] if scores is None else scores["per_task"]
    return [(str(task["task_group"]), task["pc_success"]) for task in tasks if task["pc_success"] is not None]


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.1f}{unit}"


def _cell(value: Any) -> str:
    """A text that ends neither its cell nor its line."""
    return readable(str(value), 200).replace("|", "\\|").replace("\n", " ")
