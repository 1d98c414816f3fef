"""The rule catalogue: what people get wrong. One file a rule; its stem is the rule's name, its docstring its page."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from freezeinspect.rules import (
    freeze_state_not_stored,
    frozen_norm_updates_stats,
    frozen_stats_moved,
    frozen_weight_moved,
    mode_flipped,
    moved_outside_step,
    pickle_calls_unknown_code,
    requires_grad_flipped,
    stats_never_updated,
    stats_updated_twice,
    trainable_weight_still,
    training_in_eval,
)
from freezeinspect.rules.facts import Facts
from freezeinspect.state import Finding

RULES: tuple[ModuleType, ...] = (
    frozen_norm_updates_stats,
    frozen_weight_moved,
    frozen_stats_moved,
    trainable_weight_still,
    mode_flipped,
    requires_grad_flipped,
    stats_updated_twice,
    moved_outside_step,
    training_in_eval,
    freeze_state_not_stored,
    pickle_calls_unknown_code,
    stats_never_updated,
)
SEVERITIES = ("error", "warning", "info")


def name_of(rule: ModuleType) -> str:
    """Give a rule's name: the stem of its file, with hyphens."""
    return rule.__name__.rpartition(".")[2].replace("_", "-")


def find(facts: Facts) -> Iterator[Finding]:
    """Apply every rule to a record, in the order of their codes."""
    for rule in RULES:
        for hit in rule.check(facts):
            yield Finding(
                code=rule.CODE,
                name=name_of(rule),
                severity=hit.severity or rule.SEVERITY,
                path=hit.path,
                message=hit.message,
                tensor=hit.tensor,
                step=hit.step,
                call=hit.call,
                fix=hit.fix,
            )
