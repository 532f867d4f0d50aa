#!/usr/bin/env bash
# Builds the coverage-guided fuzzers with clang and runs each for a while. Exit code 1 when one found a
# crash, a hang, or a leak; the input is then in build/fuzz/artifacts.
#   scripts/fuzz.sh                           every fuzzer, 60 s each
#   scripts/fuzz.sh --seconds 600 safetensors
#   build/fuzz/tests/fuzz/coverage/safetensors_fuzzer build/fuzz/artifacts/...   to see it again
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
if [ "${1:-}" = --seconds ]; then
  seconds=$2
  shift 2
fi
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: expected seconds, got '$seconds'" >&2; exit 2; }
folder=tests/fuzz/coverage
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for source in "$folder"/*_fuzzer.cc; do
    name=${source##*/}
    names+=("${name%_fuzzer.cc}")
  done
fi

scripts/packages.sh fuzz
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
# A first build joins sources; one that a developer has set up stays as it is.
joined=()
[ -f build/fuzz/CMakeCache.txt ] || joined=(-DKVS_JOINED_SOURCES=ON)
cmake --preset fuzz "${joined[@]}" "${launcher[@]}"
cmake --build build/fuzz -j "${KVS_JOBS:-$(nproc)}" --target "${names[@]/%/_fuzzer}"

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
failed=()
for name in "${names[@]}"; do
  echo "== $name: $seconds s"
  # What is new goes to the first folder; the committed seeds are only read.
  mkdir -p "build/fuzz/corpus/$name" build/fuzz/artifacts
  log=build/fuzz/$name.log
  if "build/fuzz/$folder/${name}_fuzzer" -max_total_time="$seconds" -timeout=10 \
    -rss_limit_mb=2048 -dict="$folder/json.dict" -print_final_stats=1 \
    -artifact_prefix="build/fuzz/artifacts/$name-" \
    "build/fuzz/corpus/$name" "$folder/corpus/$name" >"$log" 2>&1; then
    grep -E '^(#[0-9]+[[:space:]]+DONE|stat::number_of_executed_units|stat::new_units_added)' "$log"
  else
    tail -n 60 "$log"
    failed+=("$name")
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz.sh: failed: ${failed[*]}" >&2
  exit 1
fi
