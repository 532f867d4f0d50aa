"""Prompts that the bundled model has something to say to, the same in every run."""

import random

NAMES = "Ivy Tom Nora Max Lily Oscar Ruby Finn Zoe Hugo".split()
ANIMALS = "owl fox rabbit bear mouse cat duck frog horse otter".split()
PLACES = "river forest hill garden village lake castle market".split()
COUNTRIES = "France Italy Spain Germany Japan Egypt Norway Peru Kenya Poland".split()
FACTS = [
    "An FP8 KV cache holds keys and values in",
    "A block is a fixed number of token slots in",
    "Prefix caching reuses the blocks of",
    "The opposite of hot is",
    "A telescope gathers light with",
    "There are three calibration modes:",
    "E4M3 is an 8-bit float with",
    "Continuous batching means that",
]
SYLLABLES = "ba bo du fa fi ga ge ka ku lo mo na ne pe ri ro sa si ta to vi vu ze zu".split()


def chat(question):
    """One turn in the model's chat format."""
    return (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        f"{question}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def lookup(rng, lines):
    """A list of keys with values, a question for one of them, and the answer."""
    keys = set()
    while len(keys) < lines:
        keys.add("".join(rng.choice(SYLLABLES) for _ in range(3)))
    table = {key: rng.randrange(1000, 10000) for key in sorted(keys)}
    key = rng.choice(list(table))
    listing = "\n".join(f"{k}: {v}" for k, v in table.items())
    return listing, key, str(table[key])


def story(rng):
    return (
        f"Once upon a time there was a {rng.choice(ANIMALS)} named {rng.choice(NAMES)}. "
        f"One day {rng.choice(NAMES)} walked to the {rng.choice(PLACES)} near the "
        f"{rng.choice(PLACES)} and"
    )


def words(rng, count):
    """Text nobody has sent before."""
    return " ".join(
        "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 3))) for _ in range(count)
    )


def mixed_prompts(count, seed):
    """Stories, facts, questions and lists, some behind one of three shared prefixes."""
    rng = random.Random(seed)
    prefixes = [words(rng, n) + ".\n\n" for n in (12, 30, 60)]
    prompts = []
    for i in range(count):
        kind = i % 5
        if kind == 0:
            prompt = story(rng)
        elif kind == 1:
            prompt = rng.choice(FACTS)
        elif kind == 2:
            prompt = chat(f"What is the capital of {rng.choice(COUNTRIES)}?")
        elif kind == 3:
            listing, key, _ = lookup(rng, rng.randint(3, 20))
            prompt = chat(f"{listing}\n\nWhat is the value of {key}?")
        else:
            prompt = words(rng, rng.randint(4, 60))
        prompts.append(rng.choice(prefixes) + prompt if rng.random() < 0.4 else prompt)
    return prompts
