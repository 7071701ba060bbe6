"""Times kernels_bench and its Python peers in turns and prints one table.

A case is an operator at a shape, in one direction (f = forward, f+b = forward and backward), at a
number of threads. In each round every peer of a case runs, in Python and in kernels_bench, so that a
busy neighbour slows them all, and the fastest call of each counts; a cell is the median over the
rounds, a ratio the median of the rounds' ratios. Run it through compare.sh.
"""

import argparse
import collections
import json
import re
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from mambapy.pscan import pscan

CHANNELS, STATES, WIDTH = 512, 16, 4  # those of selective_scan.cpp and conv1d.cpp


def scan_inputs(length):
    torch.manual_seed(1)
    u = torch.randn(1, length, CHANNELS)
    delta = torch.rand(1, length, CHANNELS) * 0.1
    A = -torch.rand(CHANNELS, STATES) - 0.1
    B, C = torch.randn(1, length, STATES), torch.randn(1, length, STATES)
    return [x.requires_grad_() for x in (u, delta, A, B, C, torch.randn(CHANNELS))]


def scan_coefficients(u, delta, A, B):
    return torch.exp(delta.unsqueeze(-1) * A), (delta * u).unsqueeze(-1) * B.unsqueeze(2)


def scan_output(states, u, C, D):
    return (states @ C.unsqueeze(-1)).squeeze(3) + D * u


def scan_mambapy(u, delta, A, B, C, D):
    return scan_output(pscan(*scan_coefficients(u, delta, A, B)), u, C, D)


def scan_sequential(u, delta, A, B, C, D):
    decay, drive = scan_coefficients(u, delta, A, B)
    h = torch.zeros(1, CHANNELS, STATES)
    states = []
    # Not decay[:, t], whose backward pass fills a tensor of decay's size for each t.
    for a, x in zip(decay.unbind(1), drive.unbind(1)):
        h = a * h + x
        states.append(h)
    return scan_output(torch.stack(states, dim=1), u, C, D)


def conv_inputs(length):
    torch.manual_seed(1)
    x = torch.randn(1, CHANNELS, length)
    return [t.requires_grad_() for t in (x, torch.randn(CHANNELS, 1, WIDTH), torch.randn(CHANNELS))]


def conv_torch(x, weight, bias):
    y = F.conv1d(x, weight, bias, padding=WIDTH - 1, groups=CHANNELS)
    return F.silu(y[..., : x.shape[-1]])


def conv_rows_inputs(length):
    x, weight, bias = conv_inputs(length)
    return [x.detach().transpose(1, 2).contiguous().requires_grad_(), weight, bias]


def conv_torch_rows(x, weight, bias):
    return conv_torch(x.transpose(1, 2), weight, bias).transpose(1, 2)


# operator -> {peer: (inputs of a length, call)}. Where channels lie side by side, as in ours and in
# what surrounds it in a model, torch transposes; [B, C, L] is what suits it.
PEERS = {
    "selective_scan": {
        "mambapy": (scan_inputs, scan_mambapy),
        "PyTorch": (scan_inputs, scan_sequential),
    },
    "causal_conv1d": {
        "PyTorch [B, C, L]": (conv_inputs, conv_torch),
        "PyTorch [B, L, C]": (conv_rows_inputs, conv_torch_rows),
    },
}


class Case(collections.namedtuple("Case", "operator shape direction threads")):
    def __str__(self):
        return " ".join(self)

    def python_peers(self):
        """{peer: the call to time}"""
        return {
            name: self.timed(call, inputs(int(self.shape.removeprefix("L="))))
            for name, (inputs, call) in PEERS.get(self.operator, {}).items()
        }

    def timed(self, call, args):
        if self.direction == "f":
            return torch.no_grad()(lambda: call(*args))
        gradient = torch.randn_like(call(*args))

        def both():
            for x in args:
                x.grad = None
            call(*args).backward(gradient)

        return both


def milliseconds(call, least):
    """The fastest of as many calls as fill `least` seconds, two at least."""
    fastest, spent, calls = float("inf"), 0, 0
    while calls < 2 or spent < least:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        fastest, spent, calls = min(fastest, seconds), spent + seconds, calls + 1
    return fastest * 1e3


def run_bench(program, filter_, *flags):
    command = [program, f"--benchmark_filter={filter_}", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def list_cases(program, only, threads):
    cases = []
    for name in run_bench(program, "-^machine/|/cuda/", "--benchmark_list_tests").split():
        operator, implementation, *shape, direction, count, _ = name.split("/")
        case = Case(operator, "/".join(shape), direction, count.removeprefix("threads="))
        if implementation == "ribo" and case.threads in threads and re.search(only, str(case)):
            cases.append(case)
    return cases


def cpp_round(program, case, least):
    """{implementation: result} of a case in kernels_bench, ours and its peers."""
    operator, shape, direction, threads = map(re.escape, case)
    filter_ = f"^{operator}/[^/]*/{shape}/{direction}/threads={threads}/"
    out = run_bench(program, filter_, "--benchmark_format=json", f"--benchmark_min_time={least}")
    return {b["name"].split("/")[1]: b for b in json.loads(out)["benchmarks"]}


def measure(program, case, rounds, least):
    torch.set_num_threads(int(case.threads))
    python = case.python_peers()
    ours, limits, bound = [], [], ""
    peers = collections.defaultdict(list)
    for _ in range(rounds):
        for name, call in python.items():
            peers[name].append(milliseconds(call, least))
        results = cpp_round(program, case, least)
        mine = results.pop("ribo")
        ours.append(mine["fastest"])
        limits.append(mine["limit"])
        bound = mine["label"]
        for name, result in results.items():
            peers[name + " (C++)"].append(result["fastest"])
    rows = []
    for name, times in peers.items() or [("-", [])]:
        ratios = [t / o for t, o in zip(times, ours)]
        rows.append(
            dict(case=str(case), peer=name, peer_ms=statistics.median(times) if times else None,
                 ours_ms=statistics.median(ours),
                 ratio=statistics.median(ratios) if times else None,
                 limit=statistics.median(limits), bound=bound))
    return rows


def machine_lines(program, threads):
    """The rates of this machine, the best that kernels_bench saw: 100 % of the limit."""
    out = run_bench(program, "^machine/.*threads=", "--benchmark_format=json", "--benchmark_min_time=0.05")
    for b in json.loads(out)["benchmarks"]:
        _, name, count, _ = b["name"].split("/")
        if count.removeprefix("threads=") in threads:
            ((unit, rate),) = [(u, b[u]) for u in ("bytes", "exps", "ops", "products") if u in b]
            yield f"{name} {count}: {rate / b['limit'] / 1e7:.1f} G {unit}/s"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True, help="the program kernels_bench")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, joined by commas")
    parser.add_argument("--only", default="", help="a regular expression that picks cases")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.1, help="seconds of one measurement")
    parser.add_argument("--json", help="write the table there too")
    args = parser.parse_args()
    threads = args.threads.split(",")

    for line in machine_lines(args.bench, threads):
        print(line)
    print()
    print("| case | threads | peer | peer ms | ours ms | ratio | % of the limit | limit |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    table = []
    for case in list_cases(args.bench, args.only, threads):
        for row in measure(args.bench, case, args.rounds, args.least):
            table.append(row)
            peer = f"{row['peer_ms']:.3g} | {{ours}} | {row['ratio']:.1f}" if row["ratio"] else (
                "| {ours} |")
            cells = peer.format(ours=f"{row['ours_ms']:.3g}")
            name = f"{case.operator} {case.shape} {case.direction}"
            print(f"| {name} | {case.threads} | {row['peer']} | {cells} | {row['limit']:.0f} | "
                  f"{row['bound']} |", flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(table, f, indent=1)


if __name__ == "__main__":
    main()
