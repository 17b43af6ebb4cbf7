"""A run that is told to stop ends by itself, or is interrupted, but never in what is held."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from vla_rl.runtime import signals
from vla_rl.runtime.schedule import Schedule
from vla_rl.runtime.signals import INTERRUPTED, Interrupted, Stop


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "GRACE", 0.05)
    monkeypatch.setattr(signals, "AGAIN", 0.05)


@pytest.fixture
def stop() -> Iterator[Stop]:
    with Stop() as stop:
        yield stop


def told(number: signal.Signals, times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)


def forever() -> None:
    threading.Event().wait(60)
    raise AssertionError("nothing interrupts it")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_several_signals_are_one_wish(number: signal.Signals, stop: Stop) -> None:
    told(number, times=5)
    assert stop.asked


@pytest.mark.usefixtures("impatient")
def test_what_goes_on_for_too_long_is_interrupted_again_and_again(stop: Stop) -> None:
    told(signal.SIGTERM)
    for _ in range(3):
        with pytest.raises(Interrupted):
            forever()


@pytest.mark.usefixtures("impatient")
def test_what_is_held_is_not_interrupted_and_a_second_ctrl_c_ends_at_once(stop: Stop) -> None:
    told(signal.SIGTERM)
    with stop.held():
        with pytest.raises(TimeoutError):
            _waits_for_alarms(3)
        with pytest.raises(KeyboardInterrupt):
            told(signal.SIGINT)
    with pytest.raises(Interrupted):
        forever()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ends", [False, True])
def test_what_is_over_is_not_interrupted_while_it_closes(ends: bool, stop: Stop) -> None:
    told(signal.SIGTERM)
    if ends:
        with pytest.raises(SystemExit):
            stop.end("at step 3")
    else:
        with stop.held():
            stop.over()
    with pytest.raises(TimeoutError):
        _waits_for_alarms(3)


def _waits_for_alarms(count: int) -> None:
    """Raise TimeoutError once so many alarms have come, each of which wakes whoever waits for signals."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = signal.set_wakeup_fd(writes)
    try:
        for _ in range(count):
            os.read(reads, 1)
        raise TimeoutError
    finally:
        signal.set_wakeup_fd(before)
        os.close(reads)
        os.close(writes)


def test_its_end_says_how_to_go_on(stop: Stop, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        stop.end("at step 3")
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted at step 3\n"


def test_signals_are_heard_as_before_and_no_alarm_is_left() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with Stop():
        told(signal.SIGTERM)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_was_put_off_is_still_due() -> None:
    due = Schedule(0)
    assert due.now("eval", 130, 100)
    due.put_off("eval", 130, 100)
    assert due.now("eval", 134, 100)
    assert not due.now("eval", 138, 100)
