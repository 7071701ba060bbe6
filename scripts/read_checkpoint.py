#!/usr/bin/env python3
"""Prints the tensors of a run, a checkpoint or a safetensors file: name, type, shape, norm.

    python3 scripts/read_checkpoint.py runs/mamba_sepcnn/2026-01-31_12-00-00

A run stands for its best checkpoint, else its last. Needs torch and safetensors (docs/python.md).
"""

import argparse
import pathlib
import sys

from safetensors import SafetensorError
from safetensors.torch import load_file


def weights_file(path):
    """The file with the weights of `path`: a run, a checkpoint, or the file itself."""
    if path.is_file():
        return path
    for folder in (path, path / "checkpoints" / "best", path / "checkpoints" / "last"):
        if (folder / "model.safetensors").is_file():
            return folder / "model.safetensors"
    sys.exit(f"{path}: is neither a run (with checkpoints/best or checkpoints/last), nor a "
             "checkpoint (with model.safetensors), nor a file")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=pathlib.Path, help="a run, a checkpoint or a file")
    file = weights_file(parser.parse_args().path)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        sys.exit(f"{file}: no safetensors file ({error}); give a run, a checkpoint or the "
                 "model.safetensors in one")

    print(file)
    width = max((len(name) for name in tensors), default=0)
    for name, tensor in sorted(tensors.items()):
        kind = str(tensor.dtype).removeprefix("torch.")
        norm = tensor.double().norm().item()
        print(f"{name:{width}}  {kind:8}  {str(list(tensor.shape)):18}  {norm:.6g}")
    print(f"{len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")


if __name__ == "__main__":
    main()
