#!/usr/bin/env python3
"""Makes a Hugging Face directory with the shape of a published model and random weights.

    hf_random.py smollm2|qwen2 DIR TOKENIZER.JSON

SmolLM2-135M-Instruct is a Llama, Qwen2.5-0.5B-Instruct a Qwen2. The weights are N(0, 0.02) in
bfloat16; the tokenizer is copied (of any model that has no more tokens). DIR/logp.txt holds eleven
tokens and the log-probabilities that PyTorch gives, in double precision: hf_random.c compares. Needs
PyTorch and NumPy.
"""
import json
import os
import shutil
import struct
import sys

import torch

import hf_vectors
import model_vectors as reference

SHAPES = {  # as their config.json say
    "smollm2": (dict(vocab=49152, layers=30, heads=9, kv=3, dim=576, ffn=1536, bias=False, tied=True),
                dict(model_type="llama", rope_theta=100000.0, rms_norm_eps=1e-5)),
    "qwen2": (dict(vocab=151936, layers=24, heads=14, kv=2, dim=896, ffn=4864, bias=True, tied=True),
              dict(model_type="qwen2", rope_theta=1000000.0, rms_norm_eps=1e-6)),
}


def weights(c):
    made = {}
    for name, like in reference.parameters(c).items():
        value = like.detach() - 1 if "norm" in name else like.detach()
        made[name] = (value * (0.02 / 0.35) + ("norm" in name)).bfloat16()
    return made


def write(path, tensors):
    """safetensors, a tensor after the other: a gigabyte is not built in memory."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, t in tensors.items():
        header[name] = dict(dtype="BF16", shape=list(t.shape), data_offsets=[at, at + 2 * t.numel()])
        at += 2 * t.numel()
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(t.view(torch.int16).numpy().astype("<i2").tobytes())


def main():
    name, directory, tokenizer = sys.argv[1:]
    c, more = SHAPES[name]
    torch.manual_seed(7)
    os.makedirs(directory, exist_ok=True)
    shutil.copy(tokenizer, os.path.join(directory, "tokenizer.json"))
    w = weights(c)
    hf_vectors.write_json(os.path.join(directory, "config.json"), hf_vectors.settings(
        c, torch_dtype="bfloat16", tie_word_embeddings=True, **more) | dict(max_position_embeddings=8192))
    write(os.path.join(directory, "model.safetensors"), w)
    w = {k: v.double() for k, v in w.items()}
    hf_vectors.write_logp(os.path.join(directory, "logp.txt"), c, w, more["rope_theta"], more["rms_norm_eps"])


if __name__ == "__main__":
    main()
