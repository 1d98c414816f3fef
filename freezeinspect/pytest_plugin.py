"""The pytest plugin: policies beside tests, a watch that fails a test, and comparisons that show what differs.

Hooks and fixtures only: our rooms, and so torch, are imported inside them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from freezeinspect.recorder.watch import Watch

FOLDER = "__freeze__"  # beside a test file, with a folder for each such file
_OUTPUT = "freezeinspect"  # of an xdist worker
_NOTES = pytest.StashKey["_Notes"]()


class _Notes:
    """What a session's tests did with policies; a worker's are added to its controller's."""

    def __init__(self) -> None:
        self.used: set[str] = set()  # paths of policies
        self.written: set[str] = set()
        self.collected: set[str] = set()  # paths of policies without their ending, of every test that was collected
        self.passed: set[str] = set()
        self.partial: set[str] = set()  # test files of which some tests were left out
        self.files: set[str] = set()  # test files
        self.is_lost = False  # a worker died with its notes

    def to_lists(self) -> dict[str, list[str]]:
        return {key: sorted(value) for key, value in vars(self).items() if isinstance(value, set)}

    def add(self, lists: dict[str, list[str]]) -> None:
        for key, values in lists.items():
            getattr(self, key).update(values)

    def unused(self) -> Iterator[Path]:
        """Give the policies that no test uses: of test files that ran whole, and of tests that passed or are gone."""
        whole = {Path(file) for file in self.files - self.partial} if not self.is_lost else set()
        folders = {_folder(file) for file in whole}
        for beside in {file.parent for file in whole}:
            folders |= {one for one in (beside / FOLDER).glob("*") if not (beside / f"{one.name}.py").exists()}
        for policy in sorted(policy for folder in folders for policy in folder.glob("*.toml")):
            test = str(policy.with_name(re.sub(r"~\d+$", "", policy.name.removesuffix(".toml"))))
            if str(policy) not in self.used and (test not in self.collected or test in self.passed):
                yield policy


def _folder(file: Path) -> Path:
    return file.parent / FOLDER / file.stem


def _policy_of(item: pytest.Item) -> Path:
    """Give the path of a test's policy without its ending: by its file, class and name, as a file may be called."""
    name = ".".join(part for part in item.nodeid.split("::")[1:])
    said = re.sub(r"[^\w.,=+\-\[\] ]", "_", name)[:150]
    if said != name:
        said += "-" + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return _folder(item.path) / said


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --freeze-update."""
    group = parser.getgroup("freezeinspect")
    group.addoption(
        "--freeze-update", action="store_true", help="Write the policies of freeze_policy that do not hold."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin the notes of a session."""
    config.stash[_NOTES] = _Notes()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which tests there are, and whether only some were asked for."""
    notes = config.stash[_NOTES]
    for item in items:
        if "freeze_policy" in getattr(item, "fixturenames", ()):
            notes.collected.add(str(_policy_of(item)))
        notes.files.add(str(item.path))
    if any("::" in arg for arg in config.args):
        notes.partial |= notes.files


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Note the files of which some tests are left out."""
    for item in items:
        item.config.stash[_NOTES].partial.add(str(item.path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the tests that passed."""
    report = yield
    if report.when == "call" and report.passed and "freeze_policy" in getattr(item, "fixturenames", ()):
        item.config.stash[_NOTES].passed.add(str(_policy_of(item)))
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give a worker's notes to its controller."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output[_OUTPUT] = session.config.stash[_NOTES].to_lists()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's notes."""
    notes = node.config.stash[_NOTES]
    if _OUTPUT in (output := getattr(node, "workeroutput", {})):
        notes.add(output[_OUTPUT])
    else:
        notes.is_lost = True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the policies that were written, and those that no test uses."""
    notes, here = config.stash[_NOTES], config.invocation_params.dir
    unused = list(notes.unused())
    if notes.written or unused:
        terminalreporter.section("freeze policies")
    for path in sorted(notes.written):
        terminalreporter.line(f"written: {os.path.relpath(path, here)}")
    for one in unused:
        terminalreporter.line(f"unused: {os.path.relpath(one, here)}; no test asks for it, so delete it")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show what differs between two reports that are not equal."""
    if op != "==" or not all(type(one).__module__.startswith("freezeinspect.") for one in (left, right)):
        return None
    from freezeinspect.report import Report, diff

    if not isinstance(left, Report) or not isinstance(right, Report):
        return None
    found = diff(left, right)
    differs = found.has("flags") or found.has("structure")
    told = str(found).splitlines() if differs else ["the optimizers differ, or their groups, gradients or states"]
    return ["the freeze states differ (left is before, right is after)", *told]


@pytest.fixture
def freeze_policy(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Hold a model, with its optimizer, to the policy in a file beside the test.

    The first `freeze_policy(model)` of test_body in test_model.py has `__freeze__/test_model/test_body.toml`, further
    ones `test_body~2.toml` and so on. A missing one fails; `--freeze-update` writes it, and those that do not hold.
    """
    notes: _Notes = request.config.stash[_NOTES]
    calls = 0

    def hold(model: Any, optimizer: Any = None) -> None:
        nonlocal calls
        calls += 1
        base = _policy_of(request.node)
        path = base.with_name(base.name + (f"~{calls}" if calls > 1 else "") + ".toml")
        notes.used.add(str(path))
        _hold(path, model, optimizer, notes, request.config)

    return hold


def _hold(path: Path, model: Any, optimizer: Any, notes: _Notes, config: pytest.Config) -> None:
    __tracebackhide__ = True
    from freezeinspect.report import check

    is_updated, shown = config.getoption("freeze_update"), os.path.relpath(path, config.invocation_params.dir)
    if not path.exists() and not is_updated:
        pytest.fail(f"no policy {shown}: write it with pytest --freeze-update, and review it", pytrace=False)
    found = check(model, optimizer, policy=path, select=["FI601", "FI602"]) if path.exists() else None
    if found is not None and not found:
        return
    if not is_updated:
        said = "if this is meant, pytest --freeze-update writes the new policy, for review"
        pytest.fail(f"the model is not as {shown} expects:\n{found}\n\n{said}", pytrace=False)
    _write(path, model, optimizer)
    notes.written.add(str(path))


def _write(path: Path, model: Any, optimizer: Any) -> None:
    """Write the policy of a model, and keep what the one before allowed; whole or not at all."""
    from dataclasses import replace

    from freezeinspect.policy import load
    from freezeinspect.report import policy_of

    policy = policy_of(model, optimizer)
    if path.exists():
        before = load(path)
        policy = replace(policy, allow=before.allow, complete=before.complete)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(policy.to_toml(), encoding="utf-8")
    draft.replace(path)


@pytest.fixture
def freeze_watch() -> Callable[..., AbstractContextManager[Watch]]:
    """Watch a training loop, and fail where rules find something.

    As in `with freeze_watch(model, optimizer) as watch: train()`. `fail_on` has rules by code or name, as ("FI301",
    "FI302"), or a severity, which means that and worse: "error" by default. `allow` and `policy` are those of fi.check,
    further options those of fi.watch; every step is looked at whole.
    """
    return _watched


@contextmanager
def _watched(
    model: Any,
    optimizer: Any = None,
    *,
    fail_on: str | Sequence[str] = "error",
    allow: Sequence[str] = (),
    policy: Any = None,
    **options: Any,
) -> Iterator[Watch]:
    __tracebackhide__ = True
    from freezeinspect.recorder.opening import watch
    from freezeinspect.report import check
    from freezeinspect.report.findings import asked

    wrong = asked(fail_on)
    with watch(model, optimizer, **{"every": 1, **options}) as watched:
        yield watched
    found = check(watched.run, policy=policy, allow=allow).asked_for(wrong)
    if found:
        pytest.fail(f"what was watched is not as it should be:\n{found}", pytrace=False)
