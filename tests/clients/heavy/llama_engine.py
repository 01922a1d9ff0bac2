"""A real engine with a model of random weights: llama.cpp's own server, as `xllamacpp` has it. `python
llama_engine.py` prints its address and runs until its standard input ends.

What such a model says is noise, but everything around it is real: the chat template, a grammar made of a JSON
Schema, streams, usage, and the wording of every refusal.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

_WIDTH = 64
_HIDDEN = 128
_LAYERS = 2
_HEADS = 4
_CONTEXT = 1024
_SPECIAL = ("<unk>", "<s>", "</s>")
_TEMPLATE = (
    "{% if tools %}tools: {{ tools | tojson }}\n{% endif %}{% for message in messages %}{{ "
    "message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_model(path: Path) -> None:
    """Write a Llama of two layers whose tokens are bytes, ASCII characters and three special ones; the
    same each time.
    """
    letters = ["\u2581", *map(chr, range(0x21, 0x7F))]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    control = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds = [*control, *[gguf.TokenType.BYTE] * 256, *[gguf.TokenType.NORMAL] * len(letters)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(_TEMPLATE)
    random = np.random.default_rng(7)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(np.float32))

    add("token_embd.weight", len(tokens), _WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    add("output.weight", len(tokens), _WIDTH)
    for layer in range(_LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", _WIDTH, _WIDTH)
        add(f"blk.{layer}.ffn_gate.weight", _HIDDEN, _WIDTH)
        add(f"blk.{layer}.ffn_up.weight", _HIDDEN, _WIDTH)
        add(f"blk.{layer}.ffn_down.weight", _WIDTH, _HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.gguf"
        write_model(path)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.model_alias = {"random"}
        params.n_ctx = _CONTEXT
        params.n_parallel = 1
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.use_jinja = True
        params.cpuparams.n_threads = 1
        params.warmup = False
        server = xllamacpp.Server(params)
        print(server.listening_address, flush=True)
        sys.stdin.read()
        del server


if __name__ == "__main__":
    main()
