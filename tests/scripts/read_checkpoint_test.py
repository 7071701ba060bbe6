"""scripts/read_checkpoint.py over what a run leaves."""

import pathlib
import shutil
import tempfile
import unittest

from support import load_file, ribo_run, script, train_tiny


class ReadCheckpointTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.run_directory = pathlib.Path(cls.folder.name) / "run"
        train_tiny(cls.run_directory)

    def test_prints_every_tensor_of_a_run(self):
        file = self.run_directory / "checkpoints" / "best" / "model.safetensors"
        head, *lines, summary = script("read_checkpoint.py", self.run_directory).splitlines()
        self.assertEqual(head, str(file))
        tensors = load_file(file)
        self.assertEqual([line.split()[0] for line in lines], sorted(tensors))
        for line in lines:
            name, kind, *shape, norm = line.split()
            self.assertEqual(kind, "float32")
            self.assertEqual(" ".join(shape), str(list(tensors[name].shape)))
            self.assertAlmostEqual(float(norm), tensors[name].norm().item(), delta=1e-4)
        numbers = sum(t.numel() for t in tensors.values())
        self.assertEqual(summary, f"{len(tensors)} tensors, {numbers:,} numbers")

    def test_says_what_it_wants(self):
        empty = pathlib.Path(self.folder.name) / "empty"
        empty.mkdir()
        self.assertIn(f"{empty}: is neither a run", script("read_checkpoint.py", empty, status=1))
        text = pathlib.Path(self.folder.name) / "text"
        text.write_text("id,sequence\na,ACGU\n")
        self.assertIn(f"{text}: no safetensors file", script("read_checkpoint.py", text, status=1))


if __name__ == "__main__":
    unittest.main()
