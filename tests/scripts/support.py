"""What the tests of scripts/ share. Importing it skips the test where Python has no torch."""

import os
import pathlib
import subprocess
import sys
import unittest

try:
    import safetensors.torch
    import torch
except Exception as e:  # torch raises several kinds where the libraries of CUDA are absent
    why = str(e).partition("\n")[0]
    print(f"skipped: Python cannot import torch and safetensors (docs/python.md): {why}")
    sys.exit(77)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["RIBO_BINARY_DIR"])

load_file = safetensors.torch.load_file
save_file = safetensors.torch.save_file


def run(*command, status=0):
    """What a command writes to both its outputs; it must end with `status`."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != status:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def ribo_run(*arguments):
    return run(BUILD / "bin" / "ribo-run", *arguments)


def script(name, *arguments, status=0):
    return run(sys.executable, SOURCE / "scripts" / name, *arguments, status=status)


def train_tiny(directory):
    """A run of two updates in `directory`."""
    sets = ("data.train=16", "data.valid=8", "data.min_length=30", "data.max_length=40",
            "model.streams.single=16", "train.batch=8", "train.duration=2u",
            "train.schedule.warmup=1u", "train.threads=1")
    ribo_run(SOURCE / "pipelines" / "mamba_sepcnn.yaml", "--run-dir", directory,
             *(word for text in sets for word in ("--set", text)))


class SameTensors(unittest.TestCase):
    def assert_same(self, got, want):
        """The same names, types, shapes and bits."""
        self.assertEqual(sorted(got), sorted(want))
        for name, tensor in want.items():
            self.assertEqual(got[name].dtype, tensor.dtype, name)
            self.assertEqual(got[name].shape, tensor.shape, name)
            self.assertTrue(torch.equal(got[name].reshape(-1).view(torch.uint8),
                                        tensor.reshape(-1).view(torch.uint8)), name)
