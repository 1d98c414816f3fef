"""The fixture freeze_policy: a model is held to the policy beside its test."""

from __future__ import annotations

import pytest

from plugged import installed, policies, run

pytest_plugins = ["pytester"]
__all__ = ["installed"]
TEST = """
    from model import SGD, network

    def test_body(freeze_policy):
        model = network()
        {spoil}
        freeze_policy(model, SGD(model.head.parameters(), 0.1))
"""


def project(at: pytest.Pytester, spoil: str = "pass") -> pytest.Pytester:
    at.makepyfile(test_model=TEST.format(spoil=spoil))
    return at


def test_a_missing_policy_fails_and_says_what_to_do(installed: pytest.Pytester) -> None:
    done = run(project(installed))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["no policy __freeze__/test_model/test_body.toml: write it with pytest --freeze-update, and review it"]
    )
    assert policies(installed) == []


def test_a_policy_that_holds_passes_and_one_that_does_not_names_module_and_mend(installed: pytest.Pytester) -> None:
    run(project(installed), "--freeze-update").assert_outcomes(passed=1)
    run(project(installed)).assert_outcomes(passed=1)
    done = run(project(installed, "model.train()"))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "the model is not as __freeze__/test_model/test_body.toml expects:",
            "FI601 policy-violated error: body: training is yes, but the policy's line 'body'",
            "    model.body.eval()",
            "if this is meant, pytest --freeze-update writes the new policy, for review",
        ]
    )


def test_each_call_and_each_parameter_has_its_own(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        test_many="""
        import pytest
        from model import network

        class TestIt:
            @pytest.mark.parametrize("name", ["a/b", "a?b", "c", "d::e", "x" * 300])
            def test_all(self, freeze_policy, name):
                freeze_policy(network())
                freeze_policy(network().eval())
        """
    )
    run(installed, "--freeze-update").assert_outcomes(passed=5)
    names = policies(installed)
    assert len(names) == 10
    assert "__freeze__/test_many/TestIt.test_all[c].toml" in names
    assert "__freeze__/test_many/TestIt.test_all[c]~2.toml" in names
    done = run(installed)
    done.assert_outcomes(passed=5)
    done.stdout.no_fnmatch_line("*unused*")


def test_a_policy_that_is_none_is_told_with_its_place(installed: pytest.Pytester) -> None:
    project(installed)
    folder = installed.path / "__freeze__/test_model"
    folder.mkdir(parents=True)
    (folder / "test_body.toml").write_text("expect = [{pattern = 'body', trainin = true}]")
    done = run(installed)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*test_body.toml: expect[[]0[]].trainin: no such key; did you mean training?*"])


def test_a_policy_by_hand_is_held_too(installed: pytest.Pytester) -> None:
    project(installed)
    folder = installed.path / "__freeze__/test_model"
    folder.mkdir(parents=True)
    (folder / "test_body.toml").write_text("expect = [{pattern = 'body', requires_grad = false}]")
    run(installed).assert_outcomes(passed=1)
    (folder / "test_body.toml").write_text("expect = [{pattern = 'bodi', requires_grad = false}]")
    done = run(installed)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["FI602*: pattern 'bodi' matches nothing; did", "you mean 'body' or*"])
