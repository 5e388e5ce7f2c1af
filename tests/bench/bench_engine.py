#!/usr/bin/env python3
"""Compares the engine with PyTorch and OpenBLAS: interleaved runs, medians, ratios.

    bench_engine.py PROGRAM OUT.json [ROUNDS [WORD...]]

PROGRAM is the compiled bench_engine.c. WORDs choose the rows whose name holds one of them. A peer
that is not installed is named and left out; `make bench PEERS=install` installs them where it can.
Only ratios of one run mean anything: machines are noisy. Beside the medians stand the best rounds:
where the two disagree, somebody else used the machine.

Each thread of either side stays on a processor of its own. Left to the kernel, a thread that wakes
up is often put on the processor of the one that woke it. Both share it until the balancer looks,
which takes many milliseconds: a product shorter than that then runs at half its speed in one round
and at the whole of it in the next.
"""
import ctypes
import ctypes.util
import json
import os
import statistics
import subprocess
import sys
import time

THREADS = int(os.environ.get("THREADS") or 2)
# what makes PyTorch fastest on few cores: threads that sleep and stay, memory that is kept
TUNED = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(THREADS),
         "OMP_PROC_BIND": "true",
         "OPENBLAS_NUM_THREADS": str(THREADS), "MALLOC_TRIM_THRESHOLD_": "4000000000",
         "MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "200000000"}
if any(os.environ.get(k) != v for k, v in TUNED.items()):
    os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, **TUNED})
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def load_blas():
    """OpenBLAS with its threads, which OMP_PROC_BIND does not know, on processors of their own."""
    path = ctypes.util.find_library("openblas")
    library = path and ctypes.CDLL(path)
    if library and PROCESSORS:
        for i, thread in enumerate(sorted(map(int, os.listdir("/proc/self/task")))):
            os.sched_setaffinity(thread, {PROCESSORS[i % len(PROCESSORS)]})
    return library


BLAS = load_blas()  # before PyTorch, whose threads come later
try:
    import torch
    torch.set_num_threads(THREADS)
except ImportError:
    torch = None
SIZES = [(512, 512, 128), (2048, 128, 128), (2048, 352, 128), (2048, 4096, 128), (4096, 512, 512),
         (1024, 1024, 1024)]
COLUMNS = (("ours", "9.1f"), ("peer", "9.1f"), ("ratio", "6.2f"), ("ours_best", "11.1f"),
           ("peer_best", "9.1f"), ("ratio_best", "6.2f"))
SHAPES = {"small": (128, 4, 4, 352), "big": (384, 6, 6, 1024)}  # width, layers, heads, hidden


class Ours:
    """The compiled program, asked line by line."""

    def __init__(self, program):
        # each side as suits it best: one token is many short regions, so threads wait awake for a
        # fraction of a millisecond; longer, they would starve whoever else uses this machine
        own = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        own["GOMP_SPINCOUNT"] = "30000"
        # a child inherits where it may run; nothing of Python's may run in it (preexec_fn), since
        # OpenBLAS ends its threads at a true fork and makes others, which nobody has placed
        if PROCESSORS:
            os.sched_setaffinity(0, PROCESSORS)
        self.process = subprocess.Popen([program, str(THREADS)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=own)
        if PROCESSORS:
            os.sched_setaffinity(0, PROCESSORS[:1])

    def __call__(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def blas():
    """seconds(layout, M, N, K) of cblas_sgemm, or None."""
    if not BLAS:
        print("OpenBLAS is not installed: no comparison of matrix products")
        return None
    sgemm = BLAS.cblas_sgemm

    def seconds(layout, M, N, K):
        a, b, c = ((ctypes.c_float * n)(*([0.5] * n)) for n in (M * K, N * K, M * N))
        repeats = 1 + int(4e9 / (M * N * K))

        def run():
            sgemm(101, 112 if layout == 2 else 111, 112 if layout == 0 else 111, M, N, K,
                  ctypes.c_float(1), a, M if layout == 2 else K, b, K if layout == 0 else N,
                  ctypes.c_float(0), c, N)
        run()
        return timed(lambda: [run() for _ in range(repeats)]) / repeats
    return seconds


class Llama:
    """The same decoder as a PyTorch user would write it for speed: fused projections."""

    def __init__(self, vocab, width, layers, heads, hidden, context):
        torch.manual_seed(1)
        self.heads, self.head = heads, width // heads
        make = lambda *shape: (torch.randn(*shape) * 0.02).requires_grad_()
        self.embed = make(vocab, width)
        self.layers = [dict(qkv=make(3 * width, width), o=make(width, width),
                            gu=make(2 * hidden, width), down=make(width, hidden),
                            n1=make(width), n2=make(width)) for _ in range(layers)]
        self.norm = make(width)
        angle = torch.outer(torch.arange(context).float(),
                            10000 ** (-torch.arange(0, self.head, 2) / self.head))
        self.cos, self.sin = (torch.cat((f, f), -1) for f in (angle.cos(), angle.sin()))

    def parameters(self):
        return [self.embed, self.norm] + [p for l in self.layers for p in l.values()]

    @staticmethod
    def rms(x, gain):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * gain

    def rope(self, x, at):  # (B, heads, T, head)
        cos, sin = self.cos[at:at + x.shape[2]], self.sin[at:at + x.shape[2]]
        half = self.head // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    def forward(self, tokens, cache=None, at=0):
        """(B, T) -> (B, T, width) before the head; cache: (layers, 2, B, heads, context, head)."""
        B, T = tokens.shape
        x = self.embed[tokens]
        mask = torch.full((T, T), float("-inf")).triu(1) if T > 1 else None
        single = cache is not None and B * T == 1
        mul = (lambda v, w: torch.mv(w, v.view(-1)).view(1, 1, -1)) if single else (
            lambda v, w: v @ w.T)
        for i, l in enumerate(self.layers):
            q, k, v = mul(self.rms(x, l["n1"]), l["qkv"]).view(B, T, 3, self.heads, self.head) \
                .permute(2, 0, 3, 1, 4)
            q, k = self.rope(q, at), self.rope(k, at)
            if cache is not None:
                cache[i, 0, :, :, at:at + T], cache[i, 1, :, :, at:at + T] = k, v
                k, v = cache[i, 0, :, :, :at + T], cache[i, 1, :, :, :at + T]
            score = q @ k.transpose(-1, -2) * self.head ** -0.5
            score = score + mask if mask is not None else score
            y = (score.softmax(-1) @ v).transpose(1, 2).reshape(B, T, -1)
            x = x + mul(y, l["o"])
            g, u = mul(self.rms(x, l["n2"]), l["gu"]).chunk(2, -1)
            x = x + mul(torch.nn.functional.silu(g) * u, l["down"])
        return self.rms(x, self.norm)


def torch_trainer(shape):
    width, layers, heads, hidden = shape
    model = Llama(4096, width, layers, heads, hidden, 256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    tokens = (torch.arange(2049) * 7919 % 4096)
    x, y = tokens[:-1].view(8, 256), tokens[1:]

    def step():
        logits = model.forward(x).view(2048, width) @ model.embed.T
        torch.nn.functional.cross_entropy(logits, y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return lambda: timed(step)


def torch_decoder():
    model = Llama(32000, 288, 6, 6, 768, 272)

    def decode(batch):
        with torch.inference_mode():
            cache = torch.zeros(6, 2, batch, 6, 272, 48)
            token = torch.zeros(batch, 1, dtype=torch.long)
            for at in range(64):
                h = model.forward(token, cache, at)[:, -1]
                logits = torch.mv(model.embed, h[0])[None] if batch == 1 else h @ model.embed.T
                token = logits.argmax(-1, keepdim=True)

    def prefill():
        with torch.inference_mode():
            model.forward(torch.arange(256)[None])[:, -1] @ model.embed.T
    return lambda batch: timed(lambda: decode(batch)), lambda: timed(prefill)


def main():
    ours, rounds = Ours(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 5
    words, rows, peaks, speeds = sys.argv[4:], [], [], []

    def wanted(name):
        return not words or any(word in name for word in words)

    def limits():
        """What this machine can do; the best of several times, since others may use it too."""
        peaks.append(ours("peak"))
        speeds.append(ours("bandwidth"))

    def compare(name, unit, amount, our, peer, peer_name):
        """Medians and best of alternating runs; each result is amount / seconds."""
        if not wanted(name):
            return
        mine, theirs = [], []
        limits()
        our(), peer and peer()
        for _ in range(rounds):
            for side, times in ((our, mine), (peer, theirs)):
                time.sleep(0.1)  # the other's threads wait awake for a while: let them go to sleep
                if side:
                    times.append(side())
        row = dict(name=name)
        for suffix, pick in (("", statistics.median), ("_best", min)):
            a, b = amount / pick(mine), amount / pick(theirs) if peer else None
            row.update({"ours" + suffix: a, "peer" + suffix: b,
                        "ratio" + suffix: a / b if peer else None})
        row.update(peer_name=peer_name if peer else None, unit=unit)
        rows.append(row)
        print(f"{name:28}" + "".join(f" {row[key] or float('nan'):{form}}" for key, form in COLUMNS)
              + f"  {unit}", flush=True)

    print(f"{THREADS} threads, medians and best of {rounds}\n{'':28} {'ours':>9} {'peer':>9}"
          f" {'ratio':>6}  {'best ours':>10} {'peer':>9} {'ratio':>6}")
    if not torch:
        print(f"PyTorch is not installed for {sys.executable}: no comparison of models")
    gemm = blas()
    for size in SIZES:
        for layout, letters in enumerate(("NT", "NN", "TN")):
            compare(f"matmul {letters} {'x'.join(map(str, size))}", "GFLOP/s",
                    2e-9 * size[0] * size[1] * size[2],
                    lambda: ours("matmul %d %d %d %d" % (layout, *size)),
                    gemm and (lambda: gemm(layout, *size)), "OpenBLAS")
    for name, shape in SHAPES.items():
        peer = torch_trainer(shape) if torch and wanted(f"train {name}") else None
        compare(f"train {name}", "tokens/s", 2048, lambda: ours(f"train {name} 0"), peer,
                "PyTorch, tuned")
        if name == "small" and wanted("memory of train small"):
            alone = Ours(sys.argv[1])
            alone("train small 0")
            rows.append(dict(name="memory of train small", ours=alone("memory") / 1e9, peer=None,
                             peer_name=None, ratio=None, unit="GB"))
        compare(f"train {name} LoRA", "tokens/s", 2048, lambda: ours(f"train {name} 1"),
                lambda: ours(f"train {name} 0"), "full training")
    decode, prefill = None, None
    if torch and (wanted("decode") or wanted("prefill")):
        decode, prefill = torch_decoder()
    for batch in (1, 8, 32):
        compare(f"decode batch {batch}", "tokens/s", 64 * batch, lambda: ours(f"decode {batch}"),
                decode and (lambda: decode(batch)), "PyTorch, tuned")
    compare("decode batch 1, limit", "tokens/s", 64, lambda: ours("decode 1"), lambda: ours("read"),
            "reading the weights once a token")
    compare("prefill 256", "tokens/s", 256, lambda: ours("prefill"), prefill, "PyTorch, tuned")
    limits()
    peak, speed = max(peaks), max(speeds)
    rows.append(dict(name="peak", ours=peak, peer=None, peer_name=None, ratio=None, unit="GFLOP/s"))
    rows.append(dict(name="bandwidth", ours=speed, peer=None, peer_name=None, ratio=None,
                     unit="GB/s"))
    found = {row["name"]: row["ours"] for row in rows}
    for suffix, what in (("", "medians"), ("_best", "best")):
        ratios = [row["ratio" + suffix] for row in rows
                  if row["name"].startswith("matmul") and row["peer"]]
        if ratios:
            print(f"matmul, {what}: geometric mean {statistics.geometric_mean(ratios):.2f} of"
                  f" OpenBLAS, least {min(ratios):.2f}, {sum(r >= 0.9 for r in ratios)} of"
                  f" {len(ratios)} at 0.9 or more")
    # per token: 6 FLOP per weight that multiplies, causal attention; a decoded token reads them all
    for name, (C, L, _, F) in SHAPES.items():
        flop = 6 * (L * (4 * C * C + 3 * C * F) + 4096 * C) + 6 * L * C * 256
        if f"train {name}" not in found:
            continue
        print(f"train {name}: {found['train ' + name] * flop / peak / 1e7:.0f} % of the peak")
    weights = 4e-9 * (6 * (4 * 288 * 288 + 3 * 288 * 768) + 32000 * 288)
    if "decode batch 1" in found:
        share = found["decode batch 1"] * weights / speed
        print(f"decode batch 1: {share * 100:.0f} % of the bandwidth")
    print(f"FMA peak {peak:.0f} GFLOP/s, reading {speed:.1f} GB/s")
    if "memory of train small" in found:
        print(f"memory of train small {found['memory of train small']:.3f} GB")
    os.makedirs(os.path.dirname(sys.argv[2]) or ".", exist_ok=True)
    with open(sys.argv[2], "w") as f:
        json.dump(rows, f, indent=1)


main()
