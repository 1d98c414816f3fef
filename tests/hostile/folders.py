"""Hugging Face folders whose index or shards cost much to read, or lead elsewhere: each function fills a folder."""

import json
import os

from hostile import headers
from hostile.opcodes import archive, get, mapping, program, put, tensor

INDEX = "model.safetensors.index.json"
LARGE = 24 * 2**20 - 99
ONE = headers.one()


def index(folder, names, name=INDEX):
    (folder / name).write_text(json.dumps({"weight_map": {f"a{i}": one for i, one in enumerate(names)}}))


def linked(folder, content, count, end="safetensors"):
    """Give one shard under many names."""
    (folder / "shard").write_bytes(content)
    names = [f"{i}.{end}" for i in range(count)]
    for name in names:
        (folder / name).symlink_to("shard")
    return names


def many_shards(folder):
    """More files than a process may have open, each of which is there."""
    index(folder, linked(folder, ONE, 3_000))


def more_shards_than_the_limit(folder):
    index(folder, [f"{i}.safetensors" for i in range(10_001)])


def shards_that_are_one_large_file(folder):
    """Two hundred names of one file, of half as many tensors as a file may have."""
    index(folder, linked(folder, headers.tensors_within_the_limit(), 200))


def shards_that_are_one_bomb(folder):
    """The same of torch's pickles, which a zip makes smaller by a thousand."""
    inner = put(0) + mapping([(f"k{i:x}", get(0)) for i in range(70_000)])
    index(folder, linked(folder, archive(program(tensor() + inner), deflated=True), 200, "bin"))


def shards_of_nothing(folder):
    """The same, of pickles that have much and no tensor but one."""
    inner = tensor() + put(0) + b"0" + b"N0" * 1_000_000 + mapping([("a", get(0))])
    index(folder, linked(folder, archive(program(inner), deflated=True), 50, "bin"))


def shards_that_are_each_other(folder):
    index(folder, ["a.safetensors", "b.safetensors"])
    (folder / "a.safetensors").symlink_to("b.safetensors")
    (folder / "b.safetensors").symlink_to("a.safetensors")


def shards_with_one_name(folder):
    index(folder, linked(folder, ONE, 2))


def shard_that_is_the_index(folder):
    index(folder, [INDEX, "0.safetensors"])


def shard_that_is_the_folder(folder):
    index(folder, ["self", "a"])
    (folder / "self").symlink_to(".")


def shard_that_is_a_pipe(folder):
    index(folder, ["pipe", "a"])
    os.mkfifo(folder / "pipe")


def shard_that_is_a_device(folder):
    index(folder, ["zero", "a"])
    (folder / "zero").symlink_to("/dev/zero")


def shard_that_is_a_folder_of_shards(folder):
    index(folder, ["inner"])
    (folder / "inner").mkdir()
    index(folder / "inner", ["../inner"])


def index_that_is_a_pipe(folder):
    os.mkfifo(folder / INDEX)


def index_that_is_a_loop(folder):
    (folder / INDEX).symlink_to(INDEX)


def index_that_is_a_device(folder):
    (folder / INDEX).symlink_to("/dev/zero")


def index_without_an_end(folder):
    (folder / INDEX).write_bytes(b"")
    os.truncate(folder / INDEX, 2**40)


def index_of_many_names(folder):
    """As many names as fit, all of one file."""
    names = b"".join(b'"%x":"a",' % i for i in range(1_900_000))
    (folder / INDEX).write_bytes(b'{"weight_map":{' + names + b'"a":"a"}}')


def index_of_as_many_as_are_parsed(folder):
    names = b"".join('"Ā%x":"a",'.encode() % i for i in range(900_000))
    (folder / INDEX).write_bytes(b'{"weight_map":{' + names + b'"a":"a"}}')


def index_of_many_lists(folder):
    (folder / INDEX).write_bytes(b'{"weight_map":{"a":[' + b"[]," * (LARGE // 3 - 9) + b"[]]}}")


def index_of_deep_lists(folder):
    (folder / INDEX).write_bytes(b'{"weight_map":' + b"[" * (LARGE - 20))


def index_of_a_long_number(folder):
    (folder / INDEX).write_bytes(b'{"weight_map":' + b"9" * (LARGE - 20) + b"}")


def index_of_a_long_name(folder):
    index(folder, ["a" * (LARGE - 99)])


def index_of_odd_names(folder):
    index(folder, ["\ud800", "a\0b"])


def index_with_a_terminal(folder):
    """CVE-2003-0063's family: escape sequences for whoever prints a name."""
    index(folder, ["\x1b]0;x\x07\x1b[2J\n"])


def config_of_many_lists(folder):
    """The config beside an adapter, which is read for what it says of it."""
    adapter(folder, b"[" + b"[]," * (2**20 // 3 - 9) + b"[]]")


def config_of_deep_lists(folder):
    adapter(folder, b"[" * 2**20)


def config_past_its_limit(folder):
    adapter(folder, b'{"peft_type":"' + b"a" * 2**26 + b'"}')


def config_of_odd_values(folder):
    values = {"peft_type": ["LORA"], "r": 10**4000, "bias": {}, "base_model_name_or_path": 7, "target_modules": [None]}
    adapter(folder, json.dumps(values).encode())


def config_with_a_terminal(folder):
    bad = "\x1b[2J\n\u202e\ud800"
    values = {"peft_type": bad, "r": 3, "bias": bad, "base_model_name_or_path": bad * 9_000}
    adapter(folder, json.dumps({**values, "target_modules": [bad] * 9_000, "modules_to_save": bad}).encode())


def config_that_is_a_device(folder):
    adapter(folder, b"")
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to("/dev/zero")


def adapter(folder, config):
    (folder / "adapter_model.safetensors").write_bytes(ONE)
    (folder / "adapter_config.json").write_bytes(config)


FOLDERS = (
    many_shards, more_shards_than_the_limit, shards_that_are_one_large_file, shards_that_are_one_bomb,
    shards_of_nothing, shards_that_are_each_other, shards_with_one_name, shard_that_is_the_index,
    shard_that_is_the_folder, shard_that_is_a_pipe, shard_that_is_a_device, shard_that_is_a_folder_of_shards,
    index_that_is_a_pipe, index_that_is_a_loop, index_that_is_a_device, index_without_an_end, index_of_many_names,
    index_of_as_many_as_are_parsed, index_of_many_lists, index_of_deep_lists, index_of_a_long_number,
    index_of_a_long_name, index_of_odd_names, index_with_a_terminal, config_of_many_lists, config_of_deep_lists,
    config_past_its_limit, config_of_odd_values, config_with_a_terminal, config_that_is_a_device,
)  # fmt: skip
