"""Named choices drawn by a seed, each apart from the others, so that one can be changed alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any


class Choices:
    """What a random module is made of. The first option of a choice is the plainest one.

    `fixed` has choices by name, as text; ValueError where one is no option.
    """

    def __init__(self, seed: int, fixed: Mapping[str, str] | None = None) -> None:
        self.seed = seed
        self.fixed = dict(fixed or {})
        self.made: dict[str, str] = {}
        self.plainest: dict[str, str] = {}
        self.prefix = ""

    def within(self, prefix: str) -> Choices:
        """Return these choices for a part of the module, whose names get a prefix."""
        part = Choices(self.seed)
        part.fixed, part.made, part.plainest = self.fixed, self.made, self.plainest
        part.prefix = self.prefix + prefix
        return part

    def pick(self, name: str, *options: Any) -> Any:
        """Choose one of the options, for each name once."""
        name = self.prefix + name
        named = {str(option): option for option in options}
        text = self.fixed.get(name)
        if text is None:
            text = str(random.Random(f"{self.seed} {name}").choice(options))
        if text not in named:
            raise ValueError(f"{name} is {text!r}; accepted: {', '.join(named)}")
        self.made[name], self.plainest[name] = text, str(options[0])
        return named[text]

    def often(self, name: str, usual: Any, *others: Any) -> Any:
        """Choose, the usual option in half of all seeds."""
        return self.pick(name, *[usual] * len(others), *others)

    def __str__(self) -> str:
        return " ".join(f"{name}={text}" for name, text in self.made.items())


def smallest(choices: Choices, fails: Callable[[Choices], bool]) -> Choices:
    """Return the choices with each one made plain that can be while `fails` stays true."""
    for name in list(choices.made):
        if choices.made.get(name) == choices.plainest.get(name):
            continue
        fixed = {**choices.made, name: choices.plainest[name]}
        try:
            plainer = Choices(choices.seed, fixed)
            if fails(plainer):
                choices = plainer
        except ValueError:  # another choice is none with this one
            continue
    return choices
