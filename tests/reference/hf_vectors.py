#!/usr/bin/env python3
"""Writes tests/reference/hf/: two tiny models as Hugging Face directories, and an adapter as PEFT
writes one, each with the log-probabilities that PyTorch gives (logp.txt: the tokens, then a row of
the vocabulary per token). tests/test_model.c must load them and agree.

The decoder is that of model_vectors.py. Needs PyTorch. Run it from the repository's root.
"""
import json
import os
import struct

import torch

import model_vectors as reference

LLAMA = dict(vocab=31, layers=2, heads=4, kv=2, dim=16, ffn=20, bias=False, tied=False)
QWEN2 = dict(vocab=37, layers=2, heads=2, kv=1, dim=12, ffn=18, bias=True, tied=True)
ROOT = "tests/reference/hf/"


def settings(c, **more):
    return dict(hidden_size=c["dim"], intermediate_size=c["ffn"], num_hidden_layers=c["layers"],
                num_attention_heads=c["heads"], num_key_value_heads=c["kv"], vocab_size=c["vocab"],
                max_position_embeddings=64, hidden_act="silu", **more)


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_tensors(path, tensors, dtype):
    """safetensors; bfloat16 is the upper half of a float."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        raw = t.detach().float().contiguous().numpy().astype("<f4")
        raw = raw.tobytes() if dtype == "F32" else raw.view("<u2")[..., 1::2].tobytes()
        header[name] = dict(dtype=dtype, shape=list(t.shape), data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def write_logp(path, c, w, theta, eps, lora=None):
    reference.THETA, reference.EPS = theta, eps
    tokens = torch.randint(c["vocab"], (11,))
    rows = reference.forward(c, w, tokens, lora).reshape(-1).tolist()
    with open(path, "w") as f:
        f.write(" ".join(map(str, tokens.tolist())) + "\n" + " ".join(f"{v:.9g}" for v in rows) + "\n")


def main():
    torch.manual_seed(5)
    for name in ("llama", "qwen2", "adapter"):
        os.makedirs(ROOT + name, exist_ok=True)

    # old keys, one file in float32, a head of its own
    w = reference.parameters(LLAMA)
    write_json(ROOT + "llama/config.json", settings(
        LLAMA, model_type="llama", rope_theta=50000.0, rms_norm_eps=1e-5, torch_dtype="float32",
        tie_word_embeddings=False, rope_scaling=None, attention_bias=False, mlp_bias=False))
    write_tensors(ROOT + "llama/model.safetensors", w, "F32")
    write_logp(ROOT + "llama/logp.txt", LLAMA, w, 50000.0, 1e-5)

    # its adapter, on some projections
    reference.TARGETS, reference.RANK, reference.ALPHA = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"], 2, 3.0
    lora = reference.adapters(LLAMA, w)
    named = {f"base_model.model.model.layers.{k[:-2]}.lora_{k[-1]}.weight": v for k, v in lora.items()}
    write_tensors(ROOT + "adapter/adapter_model.safetensors", named, "F32")
    write_json(ROOT + "adapter/adapter_config.json", dict(
        peft_type="LORA", task_type="CAUSAL_LM", base_model_name_or_path="llama", r=2, lora_alpha=3,
        target_modules=["down_proj", "v_proj", "q_proj"], lora_dropout=0.05, bias="none",
        fan_in_fan_out=False, modules_to_save=None, rank_pattern={}, use_rslora=False))
    every = {**lora}
    for l in range(LLAMA["layers"]):  # the decoder asks for all seven: the others are zero
        for target in ("self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"):
            rows, cols = w[f"model.layers.{l}.{target}.weight"].shape
            every[f"{l}.{target}.A"] = torch.zeros(2, cols).double()
            every[f"{l}.{target}.B"] = torch.zeros(rows, 2).double()
    write_logp(ROOT + "adapter/logp.txt", LLAMA, w, 50000.0, 1e-5, every)

    # new keys, two shards in bfloat16, tied head, biases
    w = {k: v.detach().bfloat16().double() for k, v in reference.parameters(QWEN2).items()}
    write_json(ROOT + "qwen2/config.json", settings(
        QWEN2, model_type="qwen2", rope_parameters=dict(rope_theta=1000000.0, rope_type="default"),
        rms_norm_eps=1e-6, dtype="bfloat16", tie_word_embeddings=True, use_sliding_window=False,
        sliding_window=None, layer_types=["full_attention"] * QWEN2["layers"]))
    parts = [{k: v for k, v in w.items() if (".layers.1." in k) == second} for second in (False, True)]
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for part, file in zip(parts, files):
        write_tensors(ROOT + "qwen2/" + file, part, "BF16")
    write_json(ROOT + "qwen2/model.safetensors.index.json", dict(
        metadata=dict(total_size=sum(2 * v.numel() for v in w.values())),
        weight_map={k: f for part, f in zip(parts, files) for k in part}))
    write_logp(ROOT + "qwen2/logp.txt", QWEN2, w, 1000000.0, 1e-6)


if __name__ == "__main__":
    main()
