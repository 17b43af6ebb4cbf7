"""The campaign of scripts/chaos.py, on a world of no cost; and that its books tell of what is lost or doubled."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests import fakes
from vla_rl import config
from vla_rl.train import train

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PLUGINS = "plugins=[tests.fakes,chaos.world]"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("PYTHONPATH", f"{SCRIPTS}:{SCRIPTS.parent}")


def settings(line: list[str], *further: str) -> list[str]:
    own = [each for each in line if not each.startswith(("run_dir", "train.workers"))]
    column = "replay.signals=[{name: ledger, dtype: int64}]"
    return [*own, column, "replay.capacity=20000", "train.save_every=64", *further]


@pytest.fixture
def kept(line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A run of one life, and its ledger."""
    from chaos import ledger, world

    book, run, orders = tmp_path / "ledger", tmp_path / "run", tmp_path / "orders"
    orders.mkdir()
    for name, value in ((ledger.LEDGER, book), (ledger.LIFE, 1), (ledger.ORDERS, orders), (ledger.ENV, fakes.LINE)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setitem(gymnasium.registry, fakes.LINE, gymnasium.registry[fakes.LINE])
    world._take_over(fakes.LINE)
    train(config.load([*settings(line), f"run_dir={run}", "train.steps=128", "train.workers=0"]))
    return run, book


def balance(run: Path, book: Path, content: np.ndarray) -> list[str]:
    """What the accountant has to say, where the ledger tells this."""
    from chaos.account import Accountant

    book.write_bytes(content.tobytes())
    accountant = Accountant(run, book, 1)
    accountant.begin(None)
    accountant.close(1, 0.0, (), "")
    return accountant.balance.problems


def test_the_books_tell_of_what_is_lost_doubled_or_in_disorder(kept: tuple[Path, Path]) -> None:
    from chaos import ledger

    lines = ledger.read(kept[1])
    assert (lines["kind"] == ledger.STEP).sum() >= 128
    assert balance(*kept, lines) == []
    steps = np.flatnonzero(lines["kind"] == ledger.STEP)
    some = steps[len(steps) // 2]

    more = lines[some : some + 1].copy()
    more["id"] += 1 << 32
    assert any("1 steps lost" in each for each in balance(*kept, np.insert(lines, some, more)))
    assert any("the ledger does not tell of" in each for each in balance(*kept, np.delete(lines, some)))
    other = lines.copy()
    other["reward"][some] += 1
    assert any("reward is not what the ledger tells" in each for each in balance(*kept, other))
    other = lines.copy()
    other["life"][some] = 0
    assert any("1 steps doubled" in each for each in balance(*kept, other)), "it was an earlier life's, and given up"


@pytest.mark.faults
def test_a_campaign_on_the_line_loses_and_doubles_nothing(line: list[str], tmp_path: Path) -> None:
    from chaos.campaign import Campaign
    from chaos.life import adopt_orphans

    adopt_orphans()
    own = settings(line, PLUGINS, "train.workers=2", "train.step_timeout=5")
    campaign = Campaign(tmp_path / "out", own, 100_000_000, fakes.LINE, 0, PLUGINS)
    try:
        campaign.go(60.0)
    finally:
        campaign.close()
    record, found = campaign.record, campaign.accountant.balance
    assert len(record.faults) > 10
    assert not [each for each in record.faults if each.wrong]
    assert not record.problems + found.problems + record.orphans, json.dumps(found.problems)
    assert (found.lost, found.doubled, record.hung) == (0, 0, 0)
    assert found.remembered > 200
