"""A model that says what a test wants: after a token of its vocabulary comes always the same other.

Nothing of it but its embedding and output layer counts: attention and MLP add zero, and the output
row of a token is the embedding of the token before it. So a reply is a chain of tokens of which no
two are alike, begun by the last token of the prompt.
"""

import json
import random
import struct

HIDDEN = 64
LAYER = "model.layers.0."


def byte_alphabet():
    """GPT-2's names of the 256 bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    names = {b: chr(b) for b in shown}
    return {**names, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


def pieces_of(text, used):
    """Cuts text into pieces that are not in `used`, and adds them to it."""
    pieces = []
    while text:
        size = 6
        # A single character at the end would be a byte's token.
        while (text[:size] in used or len(text) - size == 1) and size < len(text):
            size += 1
        assert text[:size] not in used, f"the end of a reply is a piece of another one: {text!r}"
        pieces.append(text[:size])
        used.add(text[:size])
        text = text[size:]
    return pieces


def write_safetensors(path, tensors):
    """tensors: name -> (shape, floats)."""
    header, blob = {}, b""
    for name, (shape, values) in tensors.items():
        data = struct.pack(f"<{len(values)}f", *values)
        offsets = [len(blob), len(blob) + len(data)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        blob += data
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + blob)


def weights(num_tokens, next_token):
    rng = random.Random(5)
    rows = [[rng.choice((-1.0, 1.0)) for _ in range(HIDDEN)] for _ in range(num_tokens)]
    output = [[0.0] * HIDDEN for _ in range(num_tokens)]
    for token, following in next_token.items():
        output[following] = rows[token]
    square, ones = [0.0] * (HIDDEN * HIDDEN), [1.0] * HIDDEN
    projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                   "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]  # fmt: skip
    norms = [LAYER + "input_layernorm", LAYER + "post_attention_layernorm", "model.norm"]
    return {
        "model.embed_tokens.weight": ([num_tokens, HIDDEN], [x for row in rows for x in row]),
        "lm_head.weight": ([num_tokens, HIDDEN], [x for row in output for x in row]),
        **{f"{LAYER}{name}.weight": ([HIDDEN, HIDDEN], square) for name in projections},
        **{f"{name}.weight": ([HIDDEN], ones) for name in norms},
    }


def make(directory, replies, chat_template):
    """replies: mark -> what the model says after a prompt that ends with the mark."""
    vocab = {name: byte for byte, name in byte_alphabet().items()}
    added, next_token, used = ["<eos>"], {}, set()

    def token(content):
        added.append(content)
        return 256 + len(added) - 1

    for mark, text in replies.items():
        last = token(mark)
        for piece in pieces_of(text, used):
            following = token(piece)
            next_token[last] = following
            last = following
        # Each reply ends with an eos of its own: the output row of a token knows one predecessor.
        next_token[last] = token(f"<eos of {mark}>")
    ends = [256 + i for i, content in enumerate(added) if content.startswith("<eos")]
    marks = ["<eos", *replies]
    tokenizer = {
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [
            {"id": 256 + i, "content": content, "special": content.startswith(tuple(marks)),
             "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            for i, content in enumerate(added)
        ],
    }  # fmt: skip
    num_tokens = 256 + len(added)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "head_dim": HIDDEN, "vocab_size": num_tokens,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32",
        "bos_token_id": 256, "eos_token_id": ends,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    tokenizer_config = {"eos_token": "<eos>", "chat_template": chat_template}
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    write_safetensors(directory / "model.safetensors", weights(num_tokens, next_token))
    return directory
