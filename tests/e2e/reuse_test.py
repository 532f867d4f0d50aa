# Two requests with one prompt: the second finds its prefix in the cache.
# Requires: pip install openai
import time
from openai import OpenAI
client = OpenAI(base_url="http://localhost:8000/v1", api_key="EMPTY")
SHARED_PREFIX = (
    "You are a precise technical assistant. "
    "Answer the following question concisely and accurately.\n\n"
) * 50 + (
    "Question: What is the boiling point of water at sea level?\n"
)
for i in range(2):
    t0 = time.perf_counter()
    response = client.completions.create(
        model="default",
        prompt=SHARED_PREFIX,
        max_tokens=64,
        temperature=0.0,  # deterministic output simplifies response comparison
    )
    elapsed = time.perf_counter() - t0
    print(f"Request {i+1}: {elapsed:.3f}s — {response.choices[0].text.strip()[:80]}")
