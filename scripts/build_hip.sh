#!/usr/bin/env bash
# Builds the HIP plugin without an AMD device: with the distribution's packages on Debian 12 or Ubuntu
# 24.04, or with the ROCm of /opt/rocm (or ROCM_PATH). Then prints what each kernel takes and checks
# that attention and linear layers spill nothing and use the matrix instructions
# (scripts/hip_resources.py).
#   scripts/build_hip.sh [ARCHITECTURE...]   default: gfx90a gfx1100; clang++-19 also gfx942 gfx1101 gfx1201
#   scripts/build_hip.sh --compiler hipcc    the distribution's hipcc; 5.2 has LLVM 15, which uses half of
#                                            gfx1100's registers, so that kernels spill: reported alone
#   scripts/build_hip.sh --only-kernels      no daemon: what CI runs
# The plugin is build/hip/kernels/gpu/libkvserve_hip.so, the daemon build/hip/src/kvserve.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=
targets=(kvserve kvserve_hip)
architectures=()
while [ $# -gt 0 ]; do
  case "$1" in
    --compiler) compiler=$2; shift ;;
    --only-kernels) targets=(kvs_hip_kernels) ;;
    gfx*) architectures+=("$1") ;;
    *) echo "build_hip.sh: expected an architecture such as gfx1100, --compiler NAME or" \
            "--only-kernels, got '$1'" >&2; exit 2 ;;
  esac
  shift
done
[ ${#architectures[@]} -gt 0 ] || architectures=(gfx90a gfx1100)

rocm=${ROCM_PATH:-/opt/rocm}
options=()
if [ -d "$rocm" ]; then
  compiler=${compiler:-$rocm/bin/hipcc}
else
  scripts/packages.sh hip
  compiler=${compiler:-clang++-19}
  scripts/hip_device_libs.sh build/hip-device-libs "${architectures[@]}"
  options+=(-DKVS_HIP_DEVICE_LIBS="$PWD/build/hip-device-libs")
fi
if command -v ccache >/dev/null; then
  options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
folder=build/hip
[ "$(basename "$compiler")" != hipcc ] || folder=build/hipcc
list=$(IFS=';'; echo "${architectures[*]}")
cmake --preset hip -B "$folder" -DKVS_BUILD_TESTS=OFF -DKVS_BUILD_BENCHMARKS=OFF \
  -DKVS_HIP_COMPILER="$(command -v "$compiler")" -DKVS_HIP_ARCHITECTURES="$list" "${options[@]}" >/dev/null
cmake --build "$folder" -j "${KVS_JOBS:-$(nproc)}" --target "${targets[@]}"

# The newest LLVM here: its tools read what older ones have written.
tools=$(compgen -c llvm-readelf- | grep -oE '[0-9]+$' | sort -n | tail -1)
report=()
version=$("$compiler" --version 2>/dev/null)
[[ ! $version =~ "clang version 1"[0-6]\. ]] || report=(--report-only)
scripts/hip_resources.py --tools "$tools" "${report[@]}" "$folder/hip/kernels/gpu"
