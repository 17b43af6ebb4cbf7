"""Choose from menu: open the named menu and choose the named item, which may lie in a menu within."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from sims.gui import hands, layout
from sims.gui.containers import Panel, Window, title_height
from sims.gui.menus import Menu, Popup
from sims.gui.paint import mix
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture

NOWHERE = (0, 0, 0, 0)
"""The box of what is yet to be placed."""
MENUS = ("file", "edit", "view", "help", "go", "tools", "page", "text")
WORDS = (
    "choose {1} from the {0} menu",
    "open {0} and click {1}",
    "go to {0}, then {1}",
    "in the {0} menu select {1}",
)
DEEP = ("open {0}, then {1}, and click {2}", "in the {0} menu choose {1}, then {2}", "go to {0}, {1}, {2}")


@dataclass(frozen=True)
class ChooseFromMenu(Task):
    """Choose the named item of the named menu."""

    items: int = within(3, 2, 4)
    """Items of each menu."""
    deep: float = within(0.3, 0, 1)
    """How often the item lies in a menu within a menu."""
    horizon: int = within(8, 1, 10_000)
    """Steps until truncation."""

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with a menu bar."""
        titles = pick(rng, 3, MENUS)
        texts = pick(rng, 4 * self.items)
        groups = [texts[i : i + self.items] for i in range(0, len(texts), self.items)]
        path = [titles[0], one_of(rng, tuple(groups[0]))]
        deeper = {}
        if rng.random() < self.deep:
            path.append(one_of(rng, tuple(groups[3][1:])))
            deeper = {path[1]: _popup(path[1], groups[3][1:])}
        popups = [_popup(title, group, deeper) for title, group in zip(titles, groups, strict=False)]
        menus = [
            Menu(f"menu_{title}", NOWHERE, shown(title), popup, in_bar=True)
            for title, popup in zip(titles, popups, strict=True)
        ]
        self._window(screen, rng, [menus[i] for i in rng.permutation(3)])
        words = one_of(rng, WORDS if len(path) == 2 else DEEP).format(*path)
        names = [f"menu_{path[0]}", *(f"item_{text}" for text in path[1:])]
        return Goal(words, {"path": names}, words=tuple(path[1:]))

    def _window(self, screen: Screen, rng: np.random.Generator, menus: list[Menu]) -> None:
        style, theme = screen.style, screen.style.theme
        wide = screen.size[0] - int(rng.integers(style.px(10)))
        high = screen.size[1] - int(rng.integers(style.px(20)))
        left, top = layout.anywhere(screen, rng, (wide, high))
        bar = top + title_height(style)
        layout.menu_bar(style, (left + 3, bar), menus)
        for menu in menus:
            if menu.below is not None:
                layout.keep_inside(screen, menu.below)
        fill = theme.window if theme.raised else mix(theme.window, theme.ink, 0.06)
        strip = Panel("bar", (left + 2, bar, wide - 4, style.row), list(menus), fill)
        sheet = (left + 4, bar + style.row + 2, wide - 8, top + high - bar - style.row - 6)
        page = Panel("page", sheet, [], theme.field, framed=True)
        screen.widgets.append(Window("window", (left, top, wide, high), shown(pick(rng, 1)[0]), [page, strip]))
        screen.change()

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been chosen."""
        return screen.happened(goal.facts["path"][-1], "choose")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Click the last part of the path that can be seen; what lies in the way is closed by that."""
        path = goal.facts["path"]
        return next(hands.click(screen, name) for name in reversed(path) if screen.find(name) is not None)


def _popup(title: str, texts: list[str], deeper: Mapping[str, Popup] = MappingProxyType({})) -> Popup:
    """A menu's items; those of `deeper` open a menu of their own."""
    return Popup(
        f"popup_{title}", NOWHERE, [Menu(f"item_{text}", NOWHERE, shown(text), deeper.get(text)) for text in texts]
    )
