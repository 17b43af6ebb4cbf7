"""A policy to the hub: the files that its digests cover, its run's config and its evaluation, and a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi

from vla_rl import config
from vla_rl.config import saved
from vla_rl.config.compose import CONFIG_FILE, to_yaml
from vla_rl.evaluation.eval_info import INFO_FILE
from vla_rl.models import storage
from vla_rl.paths import digests_in, resealed
from vla_rl.rollout.hub import is_id
from vla_rl.runtime.checkpoint import Place, locate
from vla_rl.sharing.card import card
from vla_rl.sharing.errors import told

CARD, _POLICY = "README.md", "config.json"
_PLACES = ("video_paths", "video_path", "checkpoint", "run_dir")
"""What an evaluation says of this machine's folders."""


def push(
    checkpoint: Path,
    name: str,
    overrides: Sequence[str] = (),
    config_dir: Path | None = None,
    evaluation: Path | None = None,
    private: bool = False,
    revision: str | None = None,
) -> str:
    """Upload the policy of a checkpoint in one commit; returns its address.

    Args:
        checkpoint: a run's folder, any of its checkpoints, or a policy's folder.
        name: the repository, `owner/name`, which is made if it is not there.
        overrides: of the run's config, such as the `plugins` that it needs.
        evaluation: a folder of `vla-rl eval`; by default the run's own, where it holds one.
        private: of a repository that is made. revision: a branch.

    Raises:
        FileNotFoundError: there is no such checkpoint, or no such evaluation.
        SetupError: the hub does not answer, or does not let you.
        ValueError: the checkpoint is damaged, or of an older version that wrote no digests.
    """
    place = locate(checkpoint)
    policy, files = _of_policy(place.policy)
    scores = _scores(place, evaluation)
    if scores is not None:
        files[INFO_FILE] = as_json(scores)
    shared = _config(place, overrides, config_dir)
    if shared is not None:
        files[CONFIG_FILE] = shared.encode()
    try:
        files[CARD] = card(name, policy, scores, shared is not None).encode()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{INFO_FILE}: is not as vla-rl eval writes it ({type(error).__name__}: {error})") from error
    with told(name, "pushed"):
        hub = HfApi()
        hub.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            hub.create_branch(name, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        done = hub.create_commit(name, operations, commit_message="Upload a policy of vla_rl", revision=revision)
    return str(done.commit_url)


def _of_policy(folder: Path) -> tuple[dict[str, Any], dict[str, Path | bytes]]:
    """What a policy's config tells, and its files by name: those that its digests cover, and no others."""
    storage.verify(folder)
    path, told = folder / _POLICY, storage.read_config(folder)
    digests = digests_in(path, told)
    if digests is None:
        raise ValueError(f"{path}: an older version wrote it, without digests; load it and save_pretrained it anew")
    policy = resealed({**told, "backbone": _backbone(told.get("backbone"))})
    return policy, {_POLICY: as_json(policy), **{name: folder / name for name in digests}}


def _backbone(told: Any) -> Any:
    """Of what a backbone's settings tell, only the name of a folder that it came from: a record, which nobody reads."""
    source = told.get("source") if isinstance(told, dict) else None
    return {**told, "source": Path(source).name} if isinstance(source, str) and not is_id(source) else told


def _scores(place: Place, evaluation: Path | None) -> dict[str, Any] | None:
    """What an evaluation found, less where its files lie; None where there was none."""
    folder = evaluation if evaluation is not None else place.run_dir
    file = None if folder is None else folder / INFO_FILE
    if file is None or not file.is_file():
        if evaluation is not None:
            raise FileNotFoundError(f"--evaluation: {evaluation} holds no {INFO_FILE}; vla-rl eval writes one")
        return None
    try:
        info = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(info, dict) or not isinstance(info.get("per_task"), list):
        raise ValueError(f"{file}: expected what vla-rl eval writes")
    return _without_places(info)


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(each) for key, each in value.items() if key not in _PLACES}
    return [_without_places(each) for each in value] if isinstance(value, list) else value


def _config(place: Place, overrides: Sequence[str], config_dir: Path | None) -> str | None:
    """The run's config as `vla-rl eval` takes a stranger's: without paths and addresses. None where there is none."""
    if saved.beside(place.policy) is None:
        return None
    run = config.load([*overrides, f"eval.checkpoint={place.policy}"], config_dir=config_dir, command="eval")
    values = run.model_dump(mode="json")
    values["run_dir"] = values["demos"]["path"] = values["eval"]["checkpoint"] = None
    values["policy"]["backbone"] = _backbone(values["policy"]["backbone"])
    return to_yaml(values)


def as_json(content: Any) -> bytes:
    """As a file holds it."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
