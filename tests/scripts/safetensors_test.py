"""Files of this framework in Python's safetensors, and Python's in this framework."""

import csv
import pathlib
import tempfile
import unittest

from support import SameTensors, load_file, ribo_run, save_file, torch, train_tiny

# The names of a tiny run as another program would spell them: a pair for each depth.
MAP = "names:\n" + "".join(
    f'  - {{ours: "blocks.{names}", theirs: "layers.{names}"}}\n'
    for names in (".".join(f"{{n{i}}}" for i in range(depth)) for depth in range(1, 8)))


class SafetensorsTest(SameTensors):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.temp = pathlib.Path(cls.folder.name)
        train_tiny(cls.temp / "run")
        (cls.temp / "map.yaml").write_text(MAP)

    def convert(self, source, destination, *more):
        ribo_run("convert", source, destination, "--map", self.temp / "map.yaml", *more)
        return load_file(destination)

    def test_weights_there_and_back(self):
        model = load_file(self.temp / "run" / "checkpoints" / "last" / "model.safetensors")
        self.assertTrue(model)
        layers = self.convert(self.temp / "run" / "checkpoints" / "last",
                              self.temp / "layers.safetensors")
        self.assert_same(layers, {name.replace("blocks.", "layers.", 1): tensor
                                  for name, tensor in model.items()})
        # Python's own file; the pipeline's model has each tensor with this name and shape.
        save_file(layers, self.temp / "python.safetensors")
        back = self.convert(self.temp / "python.safetensors", self.temp / "back.safetensors",
                            "--pipeline", self.temp / "run" / "pipeline.yaml")
        self.assert_same(back, model)

    def test_every_type_and_shape_of_python(self):
        tensors = {f"layers.{i}.{t}": torch.tensor(values).to(dtype) for t, dtype in enumerate((
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
            torch.int16, torch.int8, torch.uint8, torch.bool))
            for i, values in enumerate(([[0, 1, 2], [3, 4, 5]], 7, []))}
        save_file(tensors, self.temp / "types.safetensors", metadata={"format": "pt"})
        ours = self.convert(self.temp / "types.safetensors", self.temp / "ours.safetensors")
        self.assert_same(ours, {name.replace("layers.", "blocks."): tensor
                                for name, tensor in tensors.items()})

    def test_predictions_are_those_of_the_table(self):
        (self.temp / "rna.fasta").write_text(">a\nGGGAAACCC\n>b\nACGU\n")
        for out in ("profiles.csv", "profiles.safetensors"):
            ribo_run("predict", self.temp / "run", "--input", self.temp / "rna.fasta", "--out",
                     self.temp / out)
        want = {"a": [], "b": []}
        with open(self.temp / "profiles.csv", newline="") as file:
            for row in csv.DictReader(file):
                want[row["id"]].append([float(row["2a3"]), float(row["dms"])])
        self.assert_same(load_file(self.temp / "profiles.safetensors"),
                         {name: torch.tensor(rows) for name, rows in want.items()})


if __name__ == "__main__":
    unittest.main()
