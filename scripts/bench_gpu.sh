#!/usr/bin/env bash
# Checks and measures the CUDA backend on this machine's GPU, and prints tables: the kernel tests
# against float64, the kernels beside the ceilings measured in the same run, then the daemon with the
# shape of Llama-3.1-8B and random weights: BF16 with both kinds of cache, and FP8.
#   scripts/bench_gpu.sh                  builds what it needs (cmake --preset cuda)
#   scripts/bench_gpu.sh --bundle FOLDER  takes it from FOLDER (scripts/bundle.sh --with-tests FOLDER)
# Needs curl, and about 40 GB of device memory; with 95 GB free it also times the largest step.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --bundle ]; then
  bin=$2/bin
else
  cmake --preset cuda -DKVS_BUILD_TESTS=ON -DKVS_BUILD_BENCHMARKS=OFF
  cmake --build --preset cuda -j "$(nproc)" --target kvserve kvserve_cuda gpu_tests gpu_bench
  bin=build/cuda/bench
  mkdir -p "$bin"
  ln -sf ../src/kvserve ../tests/gpu/gpu_tests ../tests/gpu/gpu_bench "$bin"
fi
work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

echo "== kernel tests"
"$bin/gpu_tests" --gtest_brief=1 | tail -n 12
echo "== kernels"
"$bin/gpu_bench"

mkdir "$work/bf16" "$work/fp8"
cp models/default/tokenizer.json models/default/tokenizer_config.json "$work/bf16"
cp models/default/tokenizer.json models/default/tokenizer_config.json "$work/fp8"
cat >"$work/bf16/config.json" <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
 "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
 "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
 "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
 "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 8192, "rope_type": "llama3"},
 "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
 "torch_dtype": "bfloat16", "bos_token_id": 4091, "eos_token_id": 4095}
JSON
# A scale for each row, inputs quantized on the way.
sed '1s/{/{"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized",\
   "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"],\
     "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},\
     "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": true}}}},\
 /' "$work/bf16/config.json" >"$work/fp8/config.json"

url=http://127.0.0.1:8321
# Seconds that the device worked on steps, and that it waited between two.
device_seconds() {
  curl -sf "$url/metrics" | awk '/^kvserve_device_busy_seconds_total/ {busy = $2}
    /^kvserve_device_idle_seconds_total/ {idle = $2} END {print busy, idle}'
}
for run in "bf16 fp8" "bf16 bfloat16" "fp8 bfloat16"; do
  read -r weights kv <<<"$run"
  name="daemon, $weights weights, $kv cache"
  "$bin/kvserve" --device cuda --model "$work/$weights" --load-format dummy --served-model-name default \
    --kv-cache-dtype "$kv" --enable-prefix-caching --max-num-seqs 512 \
    --max-num-batched-tokens 8192 --max-model-len 16384 --port 8321 >"$work/log" 2>&1 &
  server=$!
  started=$(date +%s%N)
  for _ in $(seq 1200); do
    ! curl -sf "$url/readyz" >/dev/null || break
    kill -0 "$server" 2>/dev/null || { tail -n 3 "$work/log" >&2; exit 1; }
    sleep 0.1
  done
  echo "== $name: ready after $((($(date +%s%N) - started) / 1000000)) ms," \
    "random weights made on the host included"
  # concurrency, requests, tokens in, tokens out
  for load in "1 4 1024 128" "64 256 1024 128" "256 512 1000 256" "512 1024 1000 1000"; do
    read -r clients requests in out <<<"$load"
    echo "== $name: $clients clients, $in tokens in, $out out"
    read -r busy idle <<<"$(device_seconds)"
    "$bin/kvserve" bench "$url" --num-prompts "$requests" --concurrency "$clients" \
      --prompt-tokens "$in" --output-tokens "$out" | grep -E 'to first|inter-token|output thr'
    device_seconds | awk -v busy="$busy" -v idle="$idle" '
      {printf "device waited for the host: %.2f%% of %.1f s\n", 100 * ($2 - idle) / ($1 - busy + $2 - idle), $1 - busy}'
  done
  echo "== $name: a prefix of 8K tokens"
  # Three of them, as the first hit of a kind may take longer. Random weights are full of near ties,
  # so the two texts may differ without --batch-invariant.
  for _ in 1 2 3; do
    "$bin/kvserve" check-cache "$url" --prompt-tokens 8192 |
      grep -E 'first token|cached|PASS|FAIL' || true
  done
  kill "$server"
  wait "$server" || true
  server=
done
