#!/usr/bin/env python3
"""Writes tests/reference/model_*.{txt,safetensors}: what PyTorch makes of three tiny decoders.

An independent statement of the model, in double precision: log-probabilities, loss, every gradient,
the losses of 10 AdamW steps, and the same with low-rank adapters. tests/test_model.c must agree.
Needs PyTorch (any version since 1.10). Run it from the repository's root.
"""
import json
import struct

import torch
from torch.nn.functional import log_softmax, silu, softmax

CASES = {
    "gqa_bias_tied": dict(vocab=37, layers=2, heads=4, kv=2, dim=16, ffn=20, bias=True, tied=True),
    "mha_untied": dict(vocab=33, layers=2, heads=2, kv=2, dim=12, ffn=18, bias=False, tied=False),
    "mqa_bias_untied": dict(vocab=29, layers=1, heads=4, kv=1, dim=24, ffn=10, bias=True, tied=False),
}
THETA, EPS = 10000.0, 1e-5
LENGTHS = [7, 1, 9]
RANK, ALPHA = 3, 5.0
TARGETS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
LR, BETAS, DECAY, CLIP, STEPS = 1e-2, (0.9, 0.95), 0.1, 1.0, 10


def parameters(c):
    """Names and shapes in the order of Hugging Face's Llama; values that float32 holds exactly."""
    head = c["dim"] // c["heads"]
    shapes = {"model.embed_tokens.weight": (c["vocab"], c["dim"])}
    for l in range(c["layers"]):
        p = f"model.layers.{l}."
        shapes[p + "input_layernorm.weight"] = (c["dim"],)
        for name, n in (("q", c["heads"]), ("k", c["kv"]), ("v", c["kv"])):
            shapes[p + f"self_attn.{name}_proj.weight"] = (n * head, c["dim"])
            if c["bias"]:
                shapes[p + f"self_attn.{name}_proj.bias"] = (n * head,)
        shapes[p + "self_attn.o_proj.weight"] = (c["dim"], c["dim"])
        shapes[p + "post_attention_layernorm.weight"] = (c["dim"],)
        shapes[p + "mlp.gate_proj.weight"] = (c["ffn"], c["dim"])
        shapes[p + "mlp.up_proj.weight"] = (c["ffn"], c["dim"])
        shapes[p + "mlp.down_proj.weight"] = (c["dim"], c["ffn"])
    shapes["model.norm.weight"] = (c["dim"],)
    if not c["tied"]:
        shapes["lm_head.weight"] = (c["vocab"], c["dim"])
    made = {}
    for name, shape in shapes.items():
        value = torch.randn(shape) * (0.2 if "norm" in name else 0.35) + ("norm" in name)
        made[name] = value.float().double().requires_grad_()
    return made


def adapters(c, w):
    made = {}
    for l in range(c["layers"]):
        for target in TARGETS:
            rows, cols = w[f"model.layers.{l}.{target}.weight"].shape
            for name, shape in ((".A", (RANK, cols)), (".B", (rows, RANK))):
                value = (torch.randn(shape) * 0.3).float().double()
                made[f"{l}.{target}{name}"] = value.requires_grad_()
    return made


def forward(c, w, tokens, lora=None):
    """Log-probabilities (length, vocab) of one sequence."""
    T, head = len(tokens), c["dim"] // c["heads"]

    def norm(x, gain):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * gain

    def linear(x, l, target):
        name = f"model.layers.{l}.{target}"
        y = x @ w[name + ".weight"].T
        if name + ".bias" in w:
            y = y + w[name + ".bias"]
        if lora:
            y = y + ALPHA / RANK * (x @ lora[f"{l}.{target}.A"].T) @ lora[f"{l}.{target}.B"].T
        return y

    def rope(x):  # (T, heads, head)
        angle = torch.outer(torch.arange(T).double(),
                            THETA ** (-torch.arange(0, head, 2).double() / head))
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = x[..., : head // 2], x[..., head // 2:]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    x = w["model.embed_tokens.weight"][tokens]
    for l in range(c["layers"]):
        p = f"model.layers.{l}."
        n = norm(x, w[p + "input_layernorm.weight"])
        q = rope(linear(n, l, "self_attn.q_proj").view(T, c["heads"], head))
        k = rope(linear(n, l, "self_attn.k_proj").view(T, c["kv"], head))
        v = linear(n, l, "self_attn.v_proj").view(T, c["kv"], head)
        group = c["heads"] // c["kv"]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        score = torch.einsum("ihd,jhd->hij", q, k) / head ** 0.5
        score = score.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
        mixed = torch.einsum("hij,jhd->ihd", softmax(score, -1), v).reshape(T, c["dim"])
        x = x + linear(mixed, l, "self_attn.o_proj")
        n = norm(x, w[p + "post_attention_layernorm.weight"])
        x = x + linear(silu(linear(n, l, "mlp.gate_proj")) * linear(n, l, "mlp.up_proj"), l,
                       "mlp.down_proj")
    head_weight = w["model.embed_tokens.weight" if c["tied"] else "lm_head.weight"]
    return log_softmax(norm(x, w["model.norm.weight"]) @ head_weight.T, -1)


def losses_of_steps(loss, trained, decays):
    """Losses before each of 10 steps of AdamW, in the values of `trained`, which are put back."""
    kept = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in trained if decays(p)], "weight_decay": DECAY},
         {"params": [p for p in trained if not decays(p)], "weight_decay": 0.0}],
        lr=LR, betas=BETAS, eps=1e-8)
    values = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        values.append(value.item())
    with torch.no_grad():
        for p, value in zip(trained, kept):
            p.copy_(value)
            p.grad = None
    return values


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        raw = t.detach().float().contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).tolist()


def write_case(name, c):
    w = parameters(c)
    lora = adapters(c, w)
    tokens = [torch.randint(c["vocab"], (n,)) for n in LENGTHS]
    # every row is asked for two tokens, with weights of either sign
    wanted = torch.randint(c["vocab"], (sum(LENGTHS), 2))
    weights = (torch.randn(sum(LENGTHS), 2) / sum(LENGTHS)).float().double()

    def logp(adapted):
        return torch.cat([forward(c, w, t, adapted) for t in tokens])

    def loss(adapted=None):
        return -(weights * logp(adapted).gather(1, wanted)).sum()

    lines = {"tokens": torch.cat(tokens).tolist(), "lengths": LENGTHS,
             "wanted": wanted.reshape(-1).tolist(), "weights": flat([weights]),
             "logp": flat([logp(None)]), "loss": [loss().item()],
             "adapters": flat(lora.values()), "adapted_logp": flat([logp(lora)])}
    loss().backward()
    base = f"tests/reference/model_{name}"
    write_safetensors(base + ".safetensors", w)
    write_safetensors(base + "_grad.safetensors", {k: v.grad for k, v in w.items()})
    lines["steps"] = losses_of_steps(loss, list(w.values()), lambda p: p.dim() == 2)
    loss(lora).backward()
    lines["adapters_grad"] = flat([p.grad for p in lora.values()])
    for p in list(w.values()) + list(lora.values()):
        p.grad = None
    lines["adapted_steps"] = losses_of_steps(lambda: loss(lora), list(lora.values()),
                                             lambda p: True)
    with open(base + ".txt", "w") as f:
        for key, values in lines.items():
            f.write(f"{key} {len(values)} " + " ".join(f"{v:.9g}" for v in values) + "\n")


if __name__ == "__main__":
    torch.manual_seed(3)
    for name, case in CASES.items():
        write_case(name, case)
