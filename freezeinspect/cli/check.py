"""The commands check and explain: what is wrong, and the pages of the rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from freezeinspect.cli.output import fail, put
from freezeinspect.patterns import BadPattern
from freezeinspect.readers.limits import Unreadable

if TYPE_CHECKING:
    from freezeinspect.report.run import Run


def _rules(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete a rule's code or name."""
    from freezeinspect.rules import RULES, name_of

    pairs = [pair for rule in RULES for pair in ((rule.CODE, name_of(rule)), (name_of(rule), rule.CODE))]
    return [CompletionItem(word, help=other) for word, other in pairs if word.startswith(typed)]


class _Check(click.Command):
    """A command whose options have their defaults from pyproject.toml."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        return super().make_context(*args, default_map=_settings(), **kwargs)


@click.command(cls=_Check)
@click.argument("files", type=click.Path(allow_dash=True), nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--select",
    shell_complete=_rules,
    multiple=True,
    metavar="RULE",
    help="Apply only this rule, by code or name; repeatable.",
)
@click.option("--ignore", shell_complete=_rules, multiple=True, metavar="RULE", help="Leave this rule out; repeatable.")
@click.option(
    "--allow",
    shell_complete=_rules,
    multiple=True,
    metavar="RULE[:PATTERN]",
    help="Allow what it finds, there; repeatable.",
)
@click.option(
    "--policy", type=click.Path(), metavar="FILE", help="What is expected, as freezeinspect policy writes it."
)
@click.option("--fail-on", type=click.Choice(["error", "warning", "info"]), default="error", show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
def check(files: tuple[str, ...], form: str, fail_on: str, key: str | None, **which: Any) -> None:
    """Find what is wrong in a FILE, or in a run's log.

    Of several files, which are the logs of a run's ranks, find where they differ too.

    `[tool.freezeinspect]` in pyproject.toml, here or above, may have select, ignore, allow and fail-on, and a policy as
    its table, or the path of one beside it. Exit code 1: there are findings of --fail-on or worse; 2: the file or the
    policy cannot be read, or there is no such rule.
    """
    from freezeinspect.policy import BadPolicy
    from freezeinspect.report import check as find
    from freezeinspect.report.findings import NoSuchRule
    from freezeinspect.views.findings import github

    try:
        found = find(files[0] if len(files) == 1 else _run_of_all(files), key=key, **which)
    except (Unreadable, BadPattern, BadPolicy, NoSuchRule) as error:
        fail(str(error))
    put(found.to_json() if form == "json" else github(found, files[0]) if form == "github" else str(found), None)
    if found.at_least(fail_on):
        sys.exit(1)


def _run_of_all(files: tuple[str, ...]) -> Run:
    """Read the logs of ranks as one. Raises Unreadable."""
    from freezeinspect.report import Report, read
    from freezeinspect.report.run import are_of_one_run, together

    runs = [one for one in map(read, files) if not isinstance(one, Report)]
    if len(runs) < len(files) or not are_of_one_run(runs):
        fail("several files: expected the logs of the ranks of one run, each of another; check other files one by one")
    return together(runs)


@click.command()
@click.argument("rule", shell_complete=_rules, required=False)
def explain(rule: str | None) -> None:
    """Show the page of a RULE, or list them all.

    A rule goes by its code or its name.
    """
    from freezeinspect.report.findings import NoSuchRule, rule_of
    from freezeinspect.views.findings import catalogue, page

    try:
        put(catalogue() if rule is None else page(rule_of(rule)), None)
    except NoSuchRule as error:
        fail(str(error))


def _settings() -> dict[str, Any]:
    """Read `[tool.freezeinspect]` of the nearest pyproject.toml: defaults for the options of check."""
    from freezeinspect.policy import BadPolicy, tables
    from freezeinspect.rules import SEVERITIES

    here = Path.cwd()
    file = next((one / "pyproject.toml" for one in (here, *here.parents) if (one / "pyproject.toml").is_file()), None)
    if file is None:
        return {}
    try:
        tool = tables(file).get("tool", {})
    except BadPolicy as error:
        fail(str(error))
    found = tool.get("freezeinspect", {}) if isinstance(tool, dict) else {}
    if not isinstance(found, dict):
        fail(f"{file}: tool.freezeinspect = {found!r}: expected a table")
    policy = found.get("policy")
    if isinstance(policy, dict | str):
        found["policy"] = str(file if isinstance(policy, dict) else file.parent / policy)
    for key, value in found.items():
        kind = {"select": list, "ignore": list, "allow": list, "fail-on": str, "policy": str}.get(key)
        if kind is None or type(value) is not kind:
            expected = "expected select, ignore, allow: lists, fail-on: text, or policy: a table or a path"
            fail(f"{file}: tool.freezeinspect.{key} = {value!r}: {expected}")
    if found.get("fail-on", SEVERITIES[0]) not in SEVERITIES:
        worst = ", ".join(SEVERITIES)
        fail(f"{file}: tool.freezeinspect.fail-on = {found['fail-on']!r}: expected one of {worst}")
    return {key.replace("-", "_"): value for key, value in found.items()}
