"""The rule catalogue: what people get wrong. One file a rule; its stem is the rule's name, its docstring its page."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from freezeinspect.rules import (
    dropout_active_in_frozen,
    flags_changed_after_wrap,
    freeze_attribute_ignored,
    freeze_lost_in_flat_parameter,
    freeze_state_not_stored,
    frozen_in_optimizer,
    frozen_norm_updates_stats,
    frozen_norm_uses_batch_stats,
    frozen_stats_moved,
    frozen_weight_moved,
    frozen_with_stale_grad,
    half_frozen_norm,
    misspelled_freeze,
    mixed_leaf,
    mode_flipped,
    moved_outside_step,
    nothing_trains,
    optimizer_holds_orphans,
    parametrized_buffers_move,
    pattern_matches_nothing,
    pickle_calls_unknown_code,
    policy_violated,
    rank_values_diverged,
    ranks_disagree,
    requires_grad_flipped,
    stats_never_updated,
    stats_updated_twice,
    tied_across_boundary,
    trainable_not_in_optimizer,
    trainable_weight_still,
    training_in_eval,
    zero_lr_group,
)
from freezeinspect.rules.facts import Facts
from freezeinspect.state import Finding

RULES: tuple[ModuleType, ...] = (
    frozen_norm_updates_stats,
    half_frozen_norm,
    freeze_attribute_ignored,
    misspelled_freeze,
    frozen_norm_uses_batch_stats,
    dropout_active_in_frozen,
    mixed_leaf,
    tied_across_boundary,
    nothing_trains,
    parametrized_buffers_move,
    trainable_not_in_optimizer,
    frozen_with_stale_grad,
    optimizer_holds_orphans,
    frozen_in_optimizer,
    zero_lr_group,
    frozen_weight_moved,
    frozen_stats_moved,
    trainable_weight_still,
    mode_flipped,
    requires_grad_flipped,
    stats_updated_twice,
    moved_outside_step,
    training_in_eval,
    ranks_disagree,
    flags_changed_after_wrap,
    rank_values_diverged,
    freeze_lost_in_flat_parameter,
    freeze_state_not_stored,
    pickle_calls_unknown_code,
    stats_never_updated,
    policy_violated,
    pattern_matches_nothing,
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
                ranks=hit.ranks,
                fix=hit.fix,
            )
