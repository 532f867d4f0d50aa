#!/usr/bin/env bash
# Compiles the CUDA plugin for compute capability 8.0 and 9.0 and runs its tests that need no device.
# Without nvcc 12.4 or newer it says so and does nothing: Debian 12 packages 11.8, which knows no C++20.
# Takes about 10 minutes on two cores without a compiler cache.
set -euo pipefail
cd "$(dirname "$0")/.."

needed=12.4
version=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p' || true)
if [ "$(printf '%s\n' "$needed" "${version:-0}" | sort -V | head -n 1)" != "$needed" ]; then
  echo "check_cuda.sh: SKIPPED, the CUDA plugin was not compiled: nvcc $needed or newer is not on PATH" \
    "(found: ${version:-none})"
  exit 0
fi
launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
fi
cmake --preset cuda -B build/cuda-check -DKVS_BUILD_TESTS=ON -DKVS_BUILD_BENCHMARKS=OFF \
  "-DCMAKE_CUDA_ARCHITECTURES=80-real;90a-real" "${launcher[@]}"
cmake --build build/cuda-check -j "${KVS_JOBS:-$(nproc)}" --target kvserve_cuda gpu_host_tests
ctest --test-dir build/cuda-check -R '^gpu_host_tests\.' --no-tests=error --output-on-failure
