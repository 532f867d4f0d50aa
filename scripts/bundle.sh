#!/usr/bin/env bash
# Makes a folder that can be copied to another machine and run there: the executable, the GPU
# plugins that were built, the libraries they need besides the C library, and the bundled model.
#   scripts/bundle.sh [FOLDER]           default: build/bundle; it is made anew
#   scripts/bundle.sh --with-tests FOLDER  also what scripts/bench_gpu.sh --bundle runs
#   KVS_PRESET=release scripts/bundle.sh without the CUDA plugin (the default where nvcc is missing)
# The target needs x86-64 or arm64 as this machine, and a C library at least as new as this one's.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=OFF
if [ "${1:-}" = --with-tests ]; then
  tests=ON
  shift
fi
folder=${1:-build/bundle}
preset=${KVS_PRESET:-}
if [ -z "$preset" ]; then
  preset=release
  ! command -v nvcc >/dev/null || preset=cuda
fi
scripts/packages.sh build
launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
fi
cmake --preset "$preset" -DKVS_BUILD_TESTS=$tests -DKVS_BUILD_BENCHMARKS=OFF "${launcher[@]}" >/dev/null
targets=(kvserve)
[ "$preset" = release ] || targets+=(kvserve_cuda)
[ "$tests" = OFF ] || targets+=(gpu_tests gpu_bench)
cmake --build --preset "$preset" -j "${KVS_JOBS:-$(nproc)}" --target "${targets[@]}"

rm -rf "$folder"
cmake --install "build/$preset" --prefix "$folder" --strip >/dev/null
if [ "$tests" = ON ]; then
  for name in gpu_tests gpu_bench; do
    strip -o "$folder/bin/$name" "build/$preset/tests/gpu/$name"
  done
fi
# The plugins find the libraries through the executable that loads them.
libraries="$folder/lib/kvserve"
mkdir -p "$libraries"
{ ldd "$folder/bin/kvserve"; find "$libraries" -name 'libkvserve_*.so' -exec ldd {} +; } |
  awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u |
  while read -r name path; do
    case "$name" in
      libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.*) ;;
      *) cp -L "$path" "$libraries/$name" ;;
    esac
  done
"$folder/bin/kvserve" --version
du -sh "$folder" | sed 's/\t/  /'
