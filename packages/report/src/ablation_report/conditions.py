"""What a run records of the conditions that it was measured under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def condition_facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return the quota of processor time that a run had, and what made its times untrustworthy.

    Empty for a run that had neither, and for one from before there were conditions. What is not of
    the expected form is left out.
    """
    facts = {}
    quota, entries = machine.get("processor_quota"), machine.get("conditions")
    if isinstance(quota, float):
        facts["Quota"] = f"{quota:g} processors"
    told: dict[str, None] = {}
    for entry in entries if isinstance(entries, list) else ():
        warnings = entry.get("warnings") if isinstance(entry, dict) else None
        for warning in warnings if isinstance(warnings, list) else ():
            if isinstance(warning, str):
                told[warning] = None
    if told:
        facts["Warnings"] = "; ".join(told)
    return facts
