#!/usr/bin/env python3
"""Calls torch.ops.ribo.selective_scan beside a plain scan in PyTorch, forward and backward.

    python3 scripts/call_kernels.py
    python3 scripts/call_kernels.py --length 1000 --threads 1

Prints the largest difference of the output and of every gradient, relative to the largest value,
and the fastest of a few calls. Ends with status 1 where one differs by more than float32's rounding
explains. Needs torch (docs/python.md).
"""

import argparse
import pathlib
import sys
import time

import torch

LIBRARY = pathlib.Path(__file__).parent.parent / "build" / "lib" / "libribo_kernels.so"
TOLERANCE = 1e-4
CALLS = 3


def plain_scan(u, delta, A, B, C, D, z):
    """The scan as kernels/selective_scan/selective_scan.h states it, position by position."""
    h = torch.zeros(u.shape[0], *A.shape, dtype=u.dtype)  # [B, D, N]
    y = []
    for t in range(u.shape[1]):
        drive = (delta[:, t] * u[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
        h = torch.exp(delta[:, t].unsqueeze(-1) * A) * h + drive
        y.append((h * C[:, t].unsqueeze(1)).sum(-1) + D * u[:, t])
    return torch.stack(y, dim=1) * torch.nn.functional.silu(z)


def ribo_scan(u, delta, A, B, C, D, z):
    y, _last_state = torch.ops.ribo.selective_scan(u, delta, A, B, C, D, z)
    return y


def make_inputs(batch, length, channels, states):
    torch.manual_seed(1)
    rows = batch, length
    inputs = {
        "u": torch.randn(*rows, channels),
        "delta": torch.rand(*rows, channels) * 0.1,
        "A": -torch.rand(channels, states) - 0.1,
        "B": torch.randn(*rows, states),
        "C": torch.randn(*rows, states),
        "D": torch.randn(channels),
        "z": torch.randn(*rows, channels),
    }
    return {name: x.requires_grad_() for name, x in inputs.items()}


def call(scan, inputs):
    """({name: output or gradient}, milliseconds forward, milliseconds backward), the fastest."""
    forward, backward = [], []
    for _ in range(CALLS):
        start = time.perf_counter()
        y = scan(**inputs)
        middle = time.perf_counter()
        grads = torch.autograd.grad(y, list(inputs.values()), torch.ones_like(y))
        forward.append(middle - start)
        backward.append(time.perf_counter() - middle)
    results = {"y": y.detach(), **{"d" + name: g for name, g in zip(inputs, grads)}}
    return results, min(forward) * 1e3, min(backward) * 1e3


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, default=LIBRARY, help="libribo_kernels.so")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=177)
    parser.add_argument("--channels", type=int, default=192)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--threads", type=int, help="the default is PyTorch's: one a core")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.library.exists():
        sys.exit(f"{args.library}: no such library; build it with ./ribo-run or give --library")
    torch.ops.load_library(args.library)

    inputs = make_inputs(args.batch, args.length, args.channels, args.states)
    plain, *plain_times = call(plain_scan, inputs)
    ours, *our_times = call(ribo_scan, inputs)
    agree = True
    for name, want in plain.items():
        difference = ((ours[name] - want).abs().max() / want.abs().max()).item()
        agree = agree and difference <= TOLERANCE  # NaN does not
        print(f"{name:7} {str(list(want.shape)):14} differs by {difference:.1e}")
    for what, plain_time, our_time in zip(("forward", "backward"), plain_times, our_times):
        print(f"{what:8} {our_time:8.2f} ms, a plain loop {plain_time:8.2f} ms")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
