"""scripts/call_kernels.py: the operators from Python, with their gradients."""

import unittest

from support import BUILD, script, torch

LIBRARY = next(BUILD.glob("lib*/**/libribo_kernels.so"))


class CallKernelsTest(unittest.TestCase):
    def test_agrees_with_a_plain_scan(self):
        out = script("call_kernels.py", "--library", LIBRARY, "--length", 50, "--channels", 24)
        for name in ("y", "du", "ddelta", "dA", "dB", "dC", "dD", "dz"):
            self.assertRegex(out, rf"(?m)^{name} .* differs by \d")
        self.assertRegex(out, r"(?m)^backward +[\d.]+ ms")

    def test_names_a_library_that_is_not_there(self):
        out = script("call_kernels.py", "--library", BUILD / "nowhere.so", status=1)
        self.assertIn("nowhere.so: no such library", out)

    def test_errors_of_an_operator_are_exceptions(self):
        torch.ops.load_library(LIBRARY)
        x = torch.ones(1, 4, 2)
        with self.assertRaisesRegex(RuntimeError, "selective_scan.*A"):
            torch.ops.ribo.selective_scan(x, x, torch.ones(3, 2), x, x)


if __name__ == "__main__":
    unittest.main()
