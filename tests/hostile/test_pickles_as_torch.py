"""Nobody is shown another model than torch loads from a pickle: what only loading would tell is said so, or refused."""

import io
import json

import pytest
import torch

from hostile.child import report
from hostile.opcodes import (
    LINEAR,
    MARK,
    MODEL,
    archive,
    attributes,
    built,
    call,
    listed,
    mapping,
    module,
    name,
    parameter,
    program,
    several,
    tensor,
    text,
)

CONTAINERS = "torch.nn.modules.container"
CHILD = module(of=LINEAR)
PAIRS = listed([several(text("hidden"), tensor((2, 2), (2, 1)))])
HIDDEN = listed([several(text("hidden"), CHILD)])
WEIGHT = text("w") + tensor((2, 2), (2, 1)) + b"s"
ONE = [("0", CHILD)]
KEYED = module(more=[("_keys", b"}")], of=(CONTAINERS, "ParameterDict"))
CRAFTED = {
    "a child appended to a Sequential": MODEL + MARK + CHILD + b"e",
    "a child appended to a ModuleList": module(ONE, of=(CONTAINERS, "ModuleList")) + CHILD + b"a",
    "a child set in a ModuleDict": module(ONE, of=(CONTAINERS, "ModuleDict")) + text("x") + CHILD + b"s",
    "a parameter set in a ParameterDict": module(more=[("_keys", b"}")], of=(CONTAINERS, "ParameterDict"))
    + text("x")
    + parameter()
    + b"s",
    "tensors in an OrderedDict's arguments": call("collections", "OrderedDict", PAIRS) + WEIGHT,
    "tensors in a dict's arguments": call("builtins", "dict", PAIRS) + WEIGHT,
    "tensors in a defaultdict's arguments": call("collections", "defaultdict", name("builtins", "int"), PAIRS) + WEIGHT,
    "modules in an OrderedDict's arguments": built(attributes(call("collections", "OrderedDict", HIDDEN))),
    "parameters in an OrderedDict's arguments": built(attributes(parameters=call("collections", "OrderedDict", PAIRS))),
    "a key twice": mapping([("w", tensor((1,))), ("w", tensor((2, 2), (2, 1)))]),
    "a state twice": module(ONE) + mapping([("training", b"\x89"), ("_modules", mapping([("b", CHILD)]))]) + b"b",
    "a state that clears the modules": module(ONE) + mapping([("_modules", mapping([]))]) + b"b",
    "a class called instead of allocated": name("torch.nn", "Flatten") + b")R" + attributes(mapping(ONE)) + b"b",
}


def loaded(data):
    """Give the names of a model's modules and tensors, or those of a dict's tensors, as torch loads them."""
    model = torch.load(io.BytesIO(data), weights_only=False)
    if isinstance(model, torch.nn.Module):
        return {path for path, _ in model.named_modules()}, set(model.state_dict())
    return {""}, set(model)


def full(module, tensor):
    return f"{module['path']}.{tensor['name']}".lstrip(".")


@pytest.mark.parametrize("what", CRAFTED)
def test_what_a_pickle_holds_is_shown_as_torch_loads_it_or_not_at_all(what, tmp_path):
    data = archive(program(CRAFTED[what]))
    (seen,) = report(data, tmp_path, [["--format", "json"]])
    if seen.code == 0:
        record = json.loads(seen.out)
        modules = {one["path"] for one in record["modules"]}
        tensors = {full(one, tensor) for one in record["modules"] for tensor in one["tensors"]}
        admitted = "not told" in record["source"]["content"] or any(name.rpartition(".")[2] == "?" for name in tensors)
        assert admitted or (modules, tensors) == loaded(data)
