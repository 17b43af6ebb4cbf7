"""Choose from menu: open the named menu and choose the named item, which may lie in a menu within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.containers import Menu, Panel, Popup, Window, title_height
from sims.gui.paint import mix
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture

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
        texts = iter(pick(rng, 6 * self.items))
        menus = [self._menu(title, [next(texts) for _ in range(self.items)]) for title in titles]
        path = [titles[0], menus[0].below.items[int(rng.integers(self.items))].name]  # type: ignore[union-attr]
        if rng.random() < self.deep:
            within_it = [next(texts) for _ in range(self.items - 1)]
            item = next(each for each in menus[0].below.items if each.name == path[1])  # type: ignore[union-attr]
            item.below = self._menu("", within_it).below  # type: ignore[attr-defined]
            path.append(within_it[int(rng.integers(len(within_it)))])
        self._window(screen, rng, [menus[i] for i in rng.permutation(3)])
        words = one_of(rng, WORDS if len(path) == 2 else DEEP).format(*path)
        return Goal(words, {"path": path}, words=tuple(path[1:]))

    def _menu(self, title: str, texts: list[str]) -> Menu:
        items = [Menu(text, (0, 0, 0, 0), shown(text)) for text in texts]
        return Menu(title, (0, 0, 0, 0), shown(title), Popup(f"{title or texts[0]}_popup", (0, 0, 0, 0), list(items)))

    def _window(self, screen: Screen, rng: np.random.Generator, menus: list[Menu]) -> None:
        style, theme = screen.style, screen.style.theme
        wide = screen.size[0] - int(rng.integers(style.px(10)))
        high = screen.size[1] - int(rng.integers(style.px(20)))
        left, top = layout.anywhere(screen, rng, (wide, high))
        bar = top + title_height(style)
        layout.menu_bar(style, (left + 3, bar), menus)
        for menu in menus:
            menu.in_bar = True
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
