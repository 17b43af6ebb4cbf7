"""Beyond these machines, on paper: what 1,000 actors, 8 learners and a 3B backbone would ask of wires, replay and GPUs.

`python -m scripts.scale wire` measures bytes a transition of shipped environments by replay's own codecs; `check` has
two worker processes really act, and compares them with what is simulated from the time of a step and of a decision;
`scale` simulates. What is not measured is an input, named in `Setup`. docs/scale.md shows what they print.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_rl import build, config, envs
from vla_rl.autotune.feature_cache import any_observation
from vla_rl.envs.vector import VectorEnvs
from vla_rl.replay import coding
from vla_rl.rollout.actor import Actor
from vla_rl.specs import IMAGES, STATE, TASK

PARAMETERS, HIDDEN, LAYERS, INNER, KEYS = 3.75e9, 2048, 36, 11008, 256
"""Of Qwen2.5-VL-3B: all weights; width, layers, inner width and width of keys of its language model."""
RANK, HEAD = 16, 2.2e6
"""Of the adapters; weights of an action head that reads tokens, of the default width."""


@dataclass(frozen=True)
class Setup:
    """What is simulated. Numbers without a measurement here are public peaks of hardware, or plain assumptions."""

    actors: int = 1000
    step: float = 0.010
    """Seconds of a decision in the environment, on a core of its own."""
    servers: int = 8
    """GPUs that decide for the actors, up to `most` of them at a time."""
    most: int = 64
    learners: int = 8
    batch: int = 32
    """Rows of each learner's batch."""
    trains: str = "lora"
    publish: float = 60.0
    """Seconds from one version of the weights to the next."""
    hosts: int = 2
    """That replay lies on, each with a wire of its own."""
    row: float = 30e3
    """Bytes of a transition on the wire: two pictures of 224 pixels, coded to the worst share that `wire` found."""
    wire: float = 25e9 / 8
    """Bytes a second of a host's wire."""
    tokens: int = 100
    """Of a picture and an instruction."""
    peak: float = 990e12
    """Operations a second of a GPU, bfloat16, dense (H100 SXM and H200, by NVIDIA's data sheets)."""
    used: float = 0.35
    """Share of the peak that is reached; an assumption, usual in reports of training."""
    launch: float = 0.010
    """Seconds of a batch of decisions besides arithmetic: weights read once, and launches."""

    def decide(self, rows: int) -> float:
        """Seconds of a batch of decisions."""
        return self.launch + 2 * PARAMETERS * self.tokens * rows / (self.peak * self.used)

    @property
    def update(self) -> float:
        """Seconds of an update: of each weight and token 2 operations forward, 2 back to adapters, 2 to weights."""
        passes = {"head": 0, "lora": 4, "all": 6}[self.trains]
        return 0.005 + passes * PARAMETERS * self.tokens * self.batch / (self.peak * self.used)

    @property
    def weights(self) -> float:
        """Bytes that a new version has: float32 of what trains; bfloat16 of all."""
        linear = LAYERS * (2 * (HIDDEN + HIDDEN) + 2 * (HIDDEN + KEYS) + 3 * (HIDDEN + INNER))
        return {"head": 4 * HEAD, "lora": 4 * (HEAD + RANK * linear), "all": 2 * PARAMETERS}[self.trains]


class Line:
    """Servers that take what waits, up to `most` at a time; how long they were busy."""

    def __init__(self, clock: Clock, servers: int, most: int, seconds: Callable[[list[Any]], float]) -> None:
        self._clock, self._free, self._most, self._seconds = clock, servers, most, seconds
        self._waiting: deque[tuple[Any, Callable[[], None]]] = deque()
        self.servers, self.busy = servers, 0.0

    def ask(self, what: Any, then: Callable[[], None]) -> None:
        """Queue; `then` is called once it is done."""
        self._waiting.append((what, then))
        self._clock.after(0.0, self._serve)

    def _serve(self) -> None:
        if not self._free or not self._waiting:
            return
        taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        self._free -= 1
        took = self._seconds([what for what, _ in taken])
        self.busy += took
        self._clock.after(took, lambda: self._done(taken))

    def _done(self, taken: list[tuple[Any, Callable[[], None]]]) -> None:
        self._free += 1
        for _, then in taken:
            then()
        self._serve()


class Clock:
    """What happens, in order."""

    def __init__(self) -> None:
        self.now, self._events, self._number = 0.0, list[tuple[float, int, Callable[[], None]]](), 0

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, then))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()


def simulate(setup: Setup, seconds: float = 3.0) -> dict[str, Any]:
    """Rates, how busy everything is, and how old the weights of a decision are, once things run steadily."""
    clock, made = Clock(), [0, 0]
    deciding = Line(clock, setup.servers, setup.most, lambda rows: setup.decide(len(rows)))
    storing = Line(clock, setup.hosts, 1, lambda rows: sum(rows) / setup.wire)

    def step() -> None:
        made[0] += 1
        storing.ask(setup.row, lambda: None)
        clock.after(setup.step, decide)

    def decide() -> None:
        deciding.ask(1, step)

    def learn() -> None:
        made[1] += 1
        storing.ask(2 * setup.row * setup.batch * setup.learners, lambda: None)  # each row and the one after it
        clock.after(setup.update, learn)

    for number in range(setup.actors):
        clock.after(setup.step * number / setup.actors, decide)
    clock.after(0.0, learn)
    clock.run(seconds)
    out = setup.weights / setup.wire  # along a chain of servers, each passes on what it gets
    rate = made[1] / seconds
    return {
        "decisions_per_s": made[0] / seconds,
        "updates_per_s": rate,
        "rows_read_over_made": rate * setup.batch * setup.learners / (made[0] / seconds),
        "actors": setup.step * made[0] / (setup.actors * seconds),
        "GPUs that decide": min(deciding.busy / (setup.servers * seconds), 1.0),
        "wires of replay": min(storing.busy / (setup.hosts * seconds), 1.0),
        "wire of weights": out / setup.publish,
        "age": setup.publish / 2 + out,
        "updates_behind": (setup.publish / 2 + out) * rate,
    }


def wire(names: list[str]) -> None:
    """Bytes of a frame and a transition, raw and coded, by random decisions of two episodes."""
    _print("environment", "pictures", "raw, bytes", "coded, bytes", "codec", "share", "state, decision, text, bytes")
    _print(*["---"] * 7)
    for name in names:
        frames, groups, rest = _played(name)
        raw, coded, codecs = 0.0, 0.0, set()
        for key in frames[0]:
            pictures, of = np.stack([frame[key] for frame in frames]), np.array(groups)
            codec = coding.choose(pictures, of)
            codecs.add(codec)
            raw += pictures.nbytes / len(of)
            coded += len(coding.encode(pictures, of, codec).data) / len(of)
        shapes = ", ".join("x".join(map(str, value.shape[:2])) for value in frames[0].values())
        sizes = f"{raw:,.0f}", f"{coded:,.0f}"
        _print(name, shapes, *sizes, ", ".join(sorted(codecs)), f"{coded / raw:.2f}", str(rest))


def _played(name: str) -> tuple[list[dict[str, np.ndarray]], list[int], int]:
    """The pictures of two episodes of random actions, at most 100 steps each; which is of which; bytes of the rest."""
    env = envs.factory(config.load([f"env={name}"], command="bench"))()
    frames, groups = list[dict[str, np.ndarray]](), list[int]()
    env.action_space.seed(0)
    for episode in range(2):
        seen, _ = env.reset(seed=episode)
        for _ in range(100):
            frames.append({key: value for key, value in seen.items() if key.startswith(IMAGES)})
            groups.append(episode)
            seen, _, ended, cut, _ = env.step(env.action_space.sample())
            if ended or cut:
                break
    env.close()
    return frames, groups, 4 * (seen[STATE].size if STATE in seen else 0) + 64 + len(str(seen.get(TASK, "")))


def _print(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def check(rounds: int, cores: int) -> None:
    """Decisions a second of two environments in two worker processes against what is simulated of them."""
    run = config.load(["experiment=reach"], command="bench")
    spec = build.env_spec(run)
    actor = Actor(build.fresh_policy(run, spec))
    seen = any_observation(actor.policy, spec.observation, 2)
    alone, both = (VectorEnvs(build.env_factory(run, spec), count, workers=count) for count in (1, 2))
    alone.reset([0])
    both.reset([0, 1])
    found = []
    for _ in range(rounds):
        decide = _seconds(lambda: actor(seen), 30)
        step = _seconds(lambda: alone.step(actor(seen)[0][:1]), 30) - decide
        real = 2 / _seconds(lambda: both.step(actor(seen)[0]), 30)
        found.append((decide, step, real, _two(decide, step, cores)))
    alone.close()
    both.close()
    decide, step, real, told = np.median(found, axis=0)
    print(f"a decision for two {1e3 * decide:.1f} ms, a step {1e3 * step:.1f} ms, {cores} core(s)")
    print(f"{told:.1f} decisions/s simulated, {real:.1f} measured; {told / real:.2f}")


def _two(decide: float, step: float, cores: int) -> float:
    """Decisions a second of two lanes that are decided for together, and stepped on so many cores."""
    clock, made = Clock(), [0, 0]
    working = Line(clock, cores, 1, lambda what: what[0])

    def acted() -> None:
        made[1] = 2
        for _ in range(2):
            working.ask(step, stepped)

    def stepped() -> None:
        made[0], made[1] = made[0] + 1, made[1] - 1
        if not made[1]:
            working.ask(decide, acted)

    working.ask(decide, acted)
    clock.run(20.0)
    return made[0] / 20.0


def _seconds(work: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def scale(setup: Setup, gpu: float, core: float) -> None:
    """Tables of what trains, of actors, and of how often weights go out; what an hour takes."""
    busy = ("actors", "GPUs that decide", "wires of replay", "wire of weights")
    _print("setup", "decisions/s", "updates/s", "rows read for one made", *busy, "weights old, s", "updates behind")
    _print(*["---"] * 10)
    cases = [(f"trains {name}", replace(setup, trains=name)) for name in ("head", "lora", "all")]
    cases += [(f"{count:,} actors", replace(setup, actors=count)) for count in (100, 250, 500, 2000)]
    cases += [(f"weights each {seconds} s", replace(setup, publish=seconds)) for seconds in (1, 10, 300)]
    cases += [("raw frames", replace(setup, row=301e3)), ("features of tokens", replace(setup, row=1640e3))]
    cases += [("32 GPUs decide", replace(setup, servers=32))]
    for name, each in cases:
        told = simulate(each)
        rates = f"{told['decisions_per_s']:,.0f}", f"{told['updates_per_s']:.1f}", f"{told['rows_read_over_made']:.2f}"
        shares = [f"{100 * told[part]:.0f}%" for part in busy]
        _print(name, *rates, *shares, f"{told['age']:.1f}", f"{told['updates_behind']:,.0f}")
    print()
    _print("trains", "a version of the weights", "to each GPU that decides, one version a minute")
    _print(*["---"] * 3)
    for name in ("head", "lora", "all"):
        size = replace(setup, trains=name).weights
        _print(name, f"{size / 1e6:,.0f} MB", f"{size / 60e6:,.2f} MB/s")
    gpus = setup.servers + setup.learners
    dollars = gpus * gpu + setup.actors * core
    print(f"\nAn hour: {gpus} GPU-hours and {setup.actors:,} core-hours; at {gpu} and {core} dollars, {dollars:,.0f}.")


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("wire", "check", "scale"))
    parser.add_argument(
        "--envs", nargs="+", default=["reach", "push", "arm_reach", "press_in_order", "gui_click_label", "gui_desk"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1, help="with check: cores that the program may use")
    parser.add_argument("--row", type=float, default=Setup.row, help="bytes of a transition on the wire")
    parser.add_argument("--step", type=float, default=Setup.step, help="seconds of a decision in the environment")
    parser.add_argument("--gpu-dollars", type=float, default=3.0, help="an hour of a GPU; an assumption, no price list")
    parser.add_argument("--core-dollars", type=float, default=0.04)
    options = parser.parse_args()
    if options.what == "wire":
        wire(options.envs)
    elif options.what == "check":
        check(options.rounds, options.cores)
    else:
        scale(Setup(row=options.row, step=options.step), options.gpu_dollars, options.core_dollars)


if __name__ == "__main__":
    main()
