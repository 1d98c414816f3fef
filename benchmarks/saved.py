"""Save the files that report is timed on: `python -m benchmarks.saved FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import torch
from torch import nn

from benchmarks.inspect_cost import transformers_resnet
from benchmarks.resnet import ResNet

MIB, GIB = 2**20, 2**30


def main() -> None:
    folder = Path(sys.argv[1])
    model = ResNet()
    torch.save(model, folder / "resnet50.pt")
    torch.save(transformers_resnet(), folder / "transformers.pt")
    optimizer = torch.optim.AdamW(model.parameters())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "checkpoint.pt")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(before, folder / "before.pt")
    for name, tensor in before.items():  # what a frozen backbone that leaks, and a head that trains, come to
        if "running_" in name or name.startswith("fc."):
            tensor += 1
    torch.save(before, folder / "after.pt")
    many = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Dropout()) for _ in range(1000)]
    torch.save(nn.Sequential(*many), folder / "modules.pt")
    save_sparse(folder / "small.pt", 10 * MIB)
    save_sparse(folder / "large.pt", 10 * GIB)


def save_sparse(path: Path, size: int) -> None:
    """Save a layer whose one storage has `size` bytes that the disk never sees."""
    torch.save(nn.Linear(4, 4), path)
    with ZipFile(path) as small:
        parts = [(one.filename, small.read(one)) for one in small.infolist() if not one.filename.endswith("/data/0")]
    with path.open("wb") as file, ZipFile(file, "w") as archive:
        for name, content in parts:
            archive.writestr(ZipInfo(name), content)
        large = ZipInfo(f"{parts[0][0].partition('/')[0]}/data/0")
        large.header_offset, large.CRC = file.tell(), 0
        large.file_size = large.compress_size = size
        file.write(large.FileHeader(zip64=True))
        file.seek(size, os.SEEK_CUR)
        archive.filelist.append(large)
        archive.start_dir = file.tell()


if __name__ == "__main__":
    main()
