"""One glob grammar over dotted paths, held against an independent reading of it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from freezeinspect.patterns import BadPattern, MatchesNothing, Pattern, escape, nearest

NAMES = ["a", "b", "ab", "1", "10", "layer", "bn1", "lora_A"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(".".join)
PIECES = ["a", "*", "a*", "?", "*b", "[ab]", "[!a]", "[0-3]", "bn[0-9]", "lora_*", "{a,b}", "{a,{1,1?}}x", "l{a,}*"]
GLOBS = st.lists(st.sampled_from([*PIECES, "**"]), min_size=1, max_size=4).map(".".join)
ODD = st.text(st.sampled_from("a1*?[]{},!^-\\|~&$()+ é\n") | st.characters(exclude_characters="."), min_size=1)


def braced(glob: str) -> list[str]:
    """Write out every choice that braces leave, the innermost first."""
    inner = re.search(r"\{([^{}]*)\}", glob)
    if inner is None:
        return [glob]
    choices = (glob[: inner.start()] + choice + glob[inner.end() :] for choice in inner[1].split(","))
    return [written for choice in choices for written in braced(choice)]


def reads(globs: list[str], names: list[str]) -> bool:
    """Match whole names one by one; `**` takes any number, though as the last piece at least one."""
    if not globs:
        return not names
    if globs[0] == "**":
        taken = range(1 if len(globs) == 1 else 0, len(names) + 1)
        return any(reads(globs[1:], names[n:]) for n in taken)
    return bool(names) and fnmatchcase(names[0], globs[0]) and reads(globs[1:], names[1:])


def matched(glob: str, path: str) -> bool:
    """Tell whether the path, or one that holds it, is matched."""
    names = path.split(".")
    holders = [names[:n] for n in range(1, len(names) + 1)]
    return any(reads(one.split("."), holder) for one, holder in product(braced(glob), holders))


@settings(max_examples=500, deadline=None)
@given(GLOBS, PATHS)
def test_a_pattern_matches_what_an_independent_reading_matches(glob: str, path: str) -> None:
    assert Pattern(glob).matches(path) == matched(glob, path)


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("backbone", "backbone backbone.layer1 backbone.layer1.weight", "backbones a.backbone back"),
        ("layer.1", "layer.1 layer.1.weight layer.1.10", "layer.10 layer.11 layer layer.10.1"),
        ("layer.*", "layer.1 layer.10 layer.1.weight", "layer layers.1"),
        ("*.bias", "fc.bias", "bias block.fc.bias fc.bias_mask"),
        ("**.bias", "bias fc.bias block.fc.bias", "fc.bias_mask bias_mask"),
        ("**.lora_*", "lora_A.weight q.lora_A a.q.lora_B.weight", "q.xlora_A lora"),
        ("a.**.b", "a.b a.x.b a.x.y.b.c", "b a ab.b"),
        ("a.**", "a.b a.b.c", "a ab"),
        ("**", "a a.b", ""),
        ("layer?", "layer1 layerx.y", "layer layer10 layer."),
        ("layer[12]", "layer1 layer2.bn", "layer3 layer12"),
        ("layer[!12]", "layer3", "layer1 layer. layer"),
        ("layer.[0-11]", "layer.0 layer.9 layer.10 layer.11.fc", "layer.12 layer.110 layer.1x layer.01"),
        ("bn[8-12]", "bn8 bn12", "bn7 bn13 bn1 bn08 bn80"),
        ("*[10-12]", "11 x12", "110 111 x110"),
        ("[10-12]*", "11 12x", "110 120"),
        ("{stem,layer[1-3]}.bn", "stem.bn layer2.bn.weight", "head.bn layer4.bn stem"),
        ("{a,b{c,d}}", "a bc bd.x", "b ad bcd"),
        ("{**.bias,head}", "head.fc x.y.bias bias", "x.head"),
        ("a,b", "a,b", "a b"),
        ("[[]x]", "[x].weight", "x"),
        ("a|b.c$", "a|b.c$", "a b.c"),
    ],
)
def test_the_grammar(glob: str, yes: str, no: str) -> None:
    assert [path for path in yes.split() if not Pattern(glob).matches(path)] == []
    assert [path for path in no.split() if Pattern(glob).matches(path)] == []


def test_a_hyphen_that_begins_a_negated_bracket_is_itself() -> None:
    assert [name for name in ("x-", "xa", "xb", "x0", "xA") if Pattern("x[!-a]").matches(name)] == ["xb", "x0", "xA"]


@settings(max_examples=300, deadline=None)
@given(ODD, ODD)
def test_an_escaped_name_matches_exactly_itself(name: str, other: str) -> None:
    pattern = Pattern(escape(name))
    assert pattern.matches(name)
    assert pattern.matches(f"{name}.weight")
    assert pattern.matches(other) == (other == name)
    assert not pattern.matches(f"{name}0")
    assert not pattern.matches(f"0{name}")
    assert pattern.matches(f"{other}.{name}") == (other == name)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_range_matches_exactly_its_numbers(data: st.DataObject) -> None:
    low = data.draw(st.integers(0, 2000))
    high = data.draw(st.integers(max(low, 10), 20_000))
    near = st.integers(0, 30_000) | st.integers(low - 3, low + 3) | st.integers(high - 3, high + 3)
    number = abs(data.draw(near))
    pattern = Pattern(f"layers.[{low}-{high}].mlp")
    assert pattern.matches(f"layers.{number}.mlp.weight") == (low <= number <= high)
    assert not pattern.matches(f"layers.0{number}.mlp")
    assert not pattern.matches(f"layers.{number}x.mlp")
    assert not pattern.matches(f"layers.x{number}.mlp")


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 999))
def test_a_range_of_single_digits_is_what_a_shell_does(one: int, two: int, number: int) -> None:
    low, high = sorted((one, two))
    assert Pattern(f"[{low}-{high}]").matches(str(number)) == (low <= number <= high)


@settings(deadline=None)
@given(GLOBS, PATHS, PATHS)
def test_matching_a_module_means_its_subtree(glob: str, path: str, below: str) -> None:
    if Pattern(glob).matches(path):
        assert Pattern(glob).matches(f"{path}.{below}")


@settings(deadline=None)
@given(PATHS, st.text("abc.[*", max_size=8))
def test_a_path_is_never_another_that_begins_alike(path: str, more: str) -> None:
    assert Pattern(path).matches(path + more) == (more == "" or more.startswith("."))


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(".".join), min_size=1, max_size=4), PATHS)
def test_braces_are_the_union_of_their_choices(globs: list[str], path: str) -> None:
    union = any(Pattern(glob).matches(path) for glob in globs)
    assert Pattern("{" + ",".join(globs) + "}").matches(path) == union
    assert Pattern("x.{" + ",".join(globs) + "}").matches(f"x.{path}") == union


@pytest.mark.parametrize(
    ("glob", "path"), [("{a.**,b}", "a.x.y"), ("{b,a.**}", "a.x"), ("{b,**}", "a.x"), ("a.{b,**}", "a.x")]
)
def test_two_stars_may_end_a_choice_as_they_may_end_a_pattern(glob: str, path: str) -> None:
    assert Pattern(glob).matches(path)


@settings(deadline=None)
@given(st.text("ab1_", max_size=3), PATHS)
def test_one_star_stays_within_a_name_and_two_cross_names(prefix: str, path: str) -> None:
    names = path.split(".")
    assert Pattern(f"{prefix}*.end").matches(f"{prefix}{path}.end") == (len(names) == 1 or names[1] == "end")
    assert Pattern(f"**.{prefix}.end").matches(f"{path}.{prefix}.end")


@settings(deadline=None)
@given(st.text("ab[]{},*!-01.", max_size=12))
@example("[!--]")
@example("[a--b]")
def test_any_text_is_a_pattern_or_an_error_that_quotes_it(text: str) -> None:
    said = f"pattern {text!r}: "
    try:
        Pattern(text)
    except BadPattern as error:
        said = str(error)
    assert said.startswith(f"pattern {text!r}: ")


@settings(deadline=2000)
@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
@example(0, 10**18 - 1, 5)
def test_a_range_of_long_numbers_takes_no_longer(one: int, two: int, number: int) -> None:
    low, high = sorted((one, two))
    assert Pattern(f"[{low}-{high}]").matches(str(number)) == (low <= number <= high)


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        ("a**", "`**` stands for whole names: write it between dots, as in '**.bias'"),
        ("**a", "`**` stands for whole names: write it between dots, as in '**.bias'"),
        ("a.***", "`**` stands for whole names: write it between dots, as in '**.bias'"),
        ("{a,b", "a '{' is not closed; write '[{]' for the character itself"),
        ("{{a},b", "a '{' is not closed; write '[{]' for the character itself"),
        ("a[", "a '[' is not closed; write '[[]' for the character itself"),
        ("a[]", "a '[' is not closed; write '[[]' for the character itself"),
        ("layer.[11-2]", "[11-2] runs backwards: write the lower end first"),
        ("layer.[3-0]", "[3-0] runs backwards: write the lower end first"),
        ("layer.[z-a]", "[z-a] runs backwards: write the lower end first"),
        (f"layer.[0-{'9' * 19}]", "a number has more than 18 digits"),
        (f"layer.[0-{'9' * 5000}]", "a number has more than 18 digits"),
        ("{" * 51 + "a" + "}" * 51, "braces stand more than 50 deep in each other"),
    ],
)
def test_a_bad_pattern_says_why_where_it_is_made(glob: str, why: str) -> None:
    with pytest.raises(BadPattern) as error:
        Pattern(glob)
    assert str(error.value) == f"pattern {glob!r}: {why}"


TREE = ["", "backbone", "backbone.layer1", "backbone.layer2", "backbone.layer2.conv", "head"]


@pytest.mark.parametrize(
    ("glob", "hint"),
    [
        ("backbone.layr1", "; did you mean 'backbone.layer1' or 'backbone.layer2' or 'backbone.layer2.conv'?"),
        ("haed", "; did you mean 'head'?"),
        ("zzz", "; there are 'backbone', 'head'"),
        ("features.conv", "; did you mean 'backbone.layer2.conv'?"),
    ],
)
def test_a_pattern_that_matches_nothing_names_the_nearest_or_else_the_topmost(glob: str, hint: str) -> None:
    assert str(MatchesNothing(glob, TREE)) == f"pattern {glob!r} matches nothing{hint}"


def test_the_root_is_near_to_nothing() -> None:
    assert nearest("", TREE) == []


def test_the_empty_pattern_is_the_root_and_so_everything() -> None:
    assert [path for path in TREE if Pattern("").matches(path)] == TREE


def test_equal_patterns_are_one() -> None:
    assert len({Pattern("a.*"), Pattern("a.*"), Pattern("a")}) == 2


def test_the_root_whose_path_is_empty_is_matched_by_the_empty_pattern_and_by_all_names() -> None:
    assert [glob for glob in ("", "**", "*", "**.*", "?", "[!a]", "{a,}") if Pattern(glob).matches("")] == ["", "**"]
