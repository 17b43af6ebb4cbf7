"""The Gymnasium environment of every page."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import gymnasium
import numpy as np
from PIL import Image

from sims.observe import Observer
from sims.screen.interaction import KEYS, Gesture, Interaction
from sims.tasks import settings_of, task_of
from sims.web import bench, chromium, experts
from sims.web.chromium import ClosedError, PageError, ScriptError, StartError
from sims.web.hand import Event, away, events
from sims.web.page import Page, statement
from sims.web.pointer import draw_arrow
from sims.web.tab import Tab
from vla_rl import registry
from vla_rl.registry import ConfigError, SetupError
from vla_rl.specs import TASK, Observation

SENSORS: tuple[dict[str, Any], ...] = ({"type": "screenshot"}, {"type": "instruction", "length": 600})
"""What is observed unless a config says otherwise."""
GESTURES = ("click", "double_click", "drag", "scroll_up", "scroll_down", "type", "write", "key")
TRIES = 3
"""Browsers that are tried before a reset gives up."""
SHOWN = 400
"""`render` enlarges a page until it is at least so many pixels high."""


class Settings(Protocol):
    """What a config says of an environment of pages."""

    @property
    def page(self) -> Page:
        """The page."""


class PageWorld:
    """A page as sensors see it; see `sims.screen.world.ScreenWorld`. Places are in pixels of the observed region."""

    def __init__(self, page: Page, kinds: tuple[str, ...], cursor: bool) -> None:
        self.page = page
        self.size = page.view[2:]
        self.kinds = kinds
        self.instruction = self.focused = self.clipboard = self.answer = ""
        self.cursor = (0.0, 0.0)
        self.gestures: list[Gesture] = []
        self.tab: Tab | None = None
        self._arrow = cursor
        self._png, self._whole, self._seen = "", np.zeros((page.size[1], page.size[0], 3), np.uint8), False

    def show(self, png: str) -> None:
        """Take in a frame's picture; "" where it looks as the last one."""
        self._png, self._seen = png or self._png, False

    def picture(self) -> np.ndarray:
        """The whole page, uint8 [height, width, 3]; not to be changed."""
        if not self._seen and self._png:
            whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(self._png))).convert("RGB"))
            x, y, *_ = self.page.view
            self._whole = draw_arrow(whole, (self.cursor[0] + x, self.cursor[1] + y)) if self._arrow else whole
            self._seen = True
        return self._whole

    def screenshot(self) -> np.ndarray:
        """The observed region, uint8 [height, width, 3]; not to be changed."""
        x, y, width, height = self.page.view
        return self.picture()[y : y + height, x : x + width]


class PageEnv(gymnasium.Env):
    """A page in Chromium: reward 1 exactly when its proxy holds, which terminates; its horizon truncates.

    Actions are commands, see `sims.screen.interaction.Interaction`; `done` ends the episode. A page that crashes, hangs
    or throws makes the episode invalid: truncated, `info["invalid"]`, and `info["error"]` says why. The next reset goes
    on with a fresh one.

    Args:
        task: a registered name of the group `envs` ("vla_rl/Page-v0"), a "module:Class" of `plugins`, or settings.
        sensors: what to observe: names, mappings with `type`, or sensors.
        plugins: modules whose components may be named as "module:Class".
        render_mode: "rgb_array" or None.
        gestures, frame, keys, words, characters, length: fields of `Interaction`; all keys, unless some are listed.
        cursor: whether the mouse is drawn, which Chromium does not do.
        patience: seconds within which a page must answer.
        parameters: fields of a task that is given by name.

    Raises:
        ConfigError: a sensor, component, gesture or parameter that does not exist or does not fit.
        SetupError: there is no browser.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's)
    return_range = (0.0, 1.0)

    def __init__(
        self,
        task: str | Settings,
        sensors: Sequence[Any] = SENSORS,
        plugins: Sequence[str] = (),
        render_mode: str | None = None,
        gestures: Sequence[str] = GESTURES,
        cursor: bool = False,
        patience: float = chromium.PATIENCE,
        **parameters: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        chromium.program()
        hands = {each.name for each in dataclasses.fields(Interaction)}
        hand: dict[str, Any] = {"gestures": list(gestures), "keys": list(KEYS)} | {
            name: parameters.pop(name) for name in hands & parameters.keys()
        }
        self.interaction: Interaction = registry.validated(Interaction, hand, "env.kwargs")
        own = settings_of(type(self), Interaction)
        self.task = task_of(task, plugins, parameters, own, "env.kwargs")
        self.page = self.task.page
        self.render_mode = render_mode
        self._patience = patience
        self._commands = self.interaction.space(self.page.view[2:])
        self.action_space = self._commands
        self.world = PageWorld(self.page, self._commands.kinds, cursor)
        self._observer = Observer(sensors, self.world, plugins)
        self.observation_space = self._observer.space()
        self.marks = self._observer.marks
        self._seen: Observation = {}
        self._said: dict[str, Any] = {}
        self._steps: int | None = None
        self._known = False
        self._seed, self._tab_change = 0, ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode on a page that is loaded anew. One seed, one episode. `options` are not used.

        Raises:
            ConfigError: an expression that throws at once.
            PageError: the page does not come up, whatever is tried.
            SetupError: nor has the browser ever started.
        """
        super().reset(seed=seed)
        number = int(self.np_random.integers(2**31)) if seed is None else seed
        for tried in range(TRIES):
            try:
                self._begin(number)
                break
            except PageError as error:
                self._drop(everything=tried > 0)
                if tried == TRIES - 1 and isinstance(error, StartError) and not self._known:
                    raise SetupError(str(error)) from error
                if tried == TRIES - 1:
                    raise
        self._steps, self._tab_change = 0, ""
        self._observer.begin(self.world, self.np_random)
        self._seen = self._observer.read(self.world)
        return self._seen, self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out `action`, and let `seconds` pass on the page.

        Raises:
            ValueError: not an action of the space.
        """
        if self._steps is None or self.world.tab is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step, and after an episode that was invalid")
        size = self.world.size
        gesture = self.interaction.read(action, self._commands, size, self._seen.get(TASK, ""))
        self._steps += 1
        try:
            self._act(self.world.tab, gesture)
        except PageError as error:
            self._drop()
            self._said = {}
            return self._seen, 0.0, False, True, {**self._info(), "invalid": True, "error": str(error)}
        self._seen = self._observer.read(self.world)
        paid = self._said.get(self.page.reward, self._said["success"])
        ended = paid or self._said.get("over", False) or gesture.kind == "done"
        return self._seen, float(paid), ended, not ended and self._steps >= self.page.horizon, self._info()

    def render(self) -> np.ndarray | None:
        """The whole page, enlarged, uint8 [height, width, 3], where the render mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        times = max(1, -(-SHOWN // self.page.size[1]))
        return self.world.picture().repeat(times, 0).repeat(times, 1)

    def expert_action(self) -> dict[str, Any]:
        """What the scripted expert would do now. Raises ConfigError where there is none, or where it throws."""
        if self.page.expert is None:
            raise ConfigError("env.kwargs.expert: null; give an expression, or train from reward alone")
        if self.world.tab is None:
            raise gymnasium.error.ResetNeeded("call reset first")
        x, y, *_ = self.page.view
        try:
            gesture = experts.gesture(self.world.tab.run(experts.code(self.page.expert)), (-x, -y))
            return self.interaction.write(gesture, self._commands, self.world.size, self._seen.get(TASK, ""))
        except (ScriptError, ValueError) as error:
            raise ConfigError(f"env.kwargs.expert: {error}") from error

    def measure(self) -> dict[str, float]:
        """Speeds for `vla-rl bench envs`; see `sims.web.bench`."""
        return bench.measure(self.task, partial(type(self), self.task, gestures=("click",)))

    def close(self) -> None:
        """Close the page; the last one to go ends the browser."""
        self._drop()

    def _begin(self, seed: int) -> None:
        world, page = self.world, self.page
        if world.tab is not None and not world.tab.fresh:
            self._drop()
        if world.tab is None:
            world.tab = Tab(chromium.shared(page.online, page.root is not None), page.size, self._patience)
            world.tab.watch(page.reach)
        self._seed, world.tab.scripts = seed, self._scripts
        world.tab.open(page.address, *self._scripts(world.tab.clock.elapsed()))
        if page.setup:
            self._evaluate("setup", statement(page.setup, seed=seed))
        if not self._known:  # whoever mistypes hears of it at once; later every frame evaluates them
            for name, code in page.expressions.items():
                self._evaluate(name, code)
            self._known = True
        world.gestures.clear()
        # The mouse is taken away, so that nothing lies below it from an episode before.
        x, y, *_ = page.view
        world.cursor = (-float(x), -float(y))
        self._pass(world.tab, away())
        words = page.instruction
        said = words if isinstance(words, str) else str(self._evaluate("instruction", words["js"]))
        world.instruction = " ".join(said.split())

    def _evaluate(self, name: str, code: str) -> Any:
        """The value of an expression of the config. Raises ConfigError naming it where it throws."""
        assert self.world.tab is not None
        try:
            return self.world.tab.run(f"({code}\n)")
        except ScriptError as error:
            raise ConfigError(f"env.kwargs.{name}: {code!r} fails in {self.page.address}: {error}") from error

    def _act(self, tab: Tab, gesture: Gesture) -> None:
        world = self.world
        world.gestures.append(gesture)
        at, to = (place and self._on_page(place) for place in (gesture.at, gesture.to))
        moved = dataclasses.replace(gesture, at=at, to=to)
        world.cursor = gesture.to or gesture.at or world.cursor
        try:
            self._pass(tab, events(moved, self.page.wheel))
        except ClosedError:
            if tab.opener is None:
                raise
        self._tab_change = ""
        if tab.closed and tab.opener:
            tab.opener.clock.rejoin()
            self._show(tab.opener, "back")
        elif opened := tab.popup():
            self._show(opened, self.page.new_tab)
            if self.page.new_tab == "same":
                tab.leave()

    def _show(self, tab: Tab, change: str) -> None:
        """Go on in another tab; the steps of the one that waited are its own."""
        self.world.tab, self._tab_change = tab, change
        self._pass(tab, [], milliseconds=0)

    def _scripts(self, start: float) -> tuple[str, str]:
        """What runs in the page, and in its workers, in an episode that began at `start` on the browser's clock."""
        may_close = self.page.new_tab == "follow"
        return self.page.script(self._seed, start, may_close), self.page.worker(self._seed, start)

    def _on_page(self, place: tuple[float, float]) -> tuple[float, float]:
        """A place of the region, in pixels of the page; what lies on the far edge belongs to the last pixel."""
        x, y, width, height = self.page.view
        return min(place[0], width - 1) + x, min(place[1], height - 1) + y

    def _pass(self, tab: Tab, happening: list[Event], milliseconds: int | None = None) -> None:
        """Let events happen and time pass, by default that of a step."""
        said, png = tab.step(happening, self.page.milliseconds if milliseconds is None else milliseconds)
        self._said = said
        if "error" in self._said:
            raise PageError(self._said["error"])
        # JavaScript may cut a character in half.
        self.world.focused = self._said["focused"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self.world.show(png)

    def _drop(self, everything: bool = False) -> None:
        """Give the page up, and the browser too where even fresh pages fail."""
        tab, self.world.tab = self.world.tab, None
        if tab is not None:
            tab.close()
            if everything:
                tab.browser.close()

    def _info(self) -> dict[str, Any]:
        success = self._said.get("success", False)
        info = {"is_success": success, "proxy": self._said.get("proxy", success), "cost": 0.0}
        score = {"raw_reward": self._said["score"]} if "score" in self._said else {}
        changed = {"tab": self._tab_change} if self._tab_change else {}
        return {**info, **score, **changed, "episode_steps": self._steps}
