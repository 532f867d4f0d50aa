#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test that needs no GPU.
#   scripts/test.sh              release build
#   scripts/test.sh --asan       under ASan+UBSan
#   scripts/test.sh --tsan       under TSan
#   scripts/test.sh --all        all three
# More arguments go to ctest: scripts/test.sh -R blocks_tests
set -euo pipefail
cd "$(dirname "$0")/.."

presets=(release)
case "${1:-}" in
  --asan) presets=(asan-ubsan); shift ;;
  --tsan) presets=(tsan); shift ;;
  --all) presets=(release asan-ubsan tsan); shift ;;
esac
jobs=${KVS_JOBS:-$(nproc)}

scripts/packages.sh test
# The end-to-end tests' packages; again when their list changes.
if ! cmp -s tests/e2e/requirements.txt build/venv/requirements.txt; then
  python3 -m venv build/venv
  build/venv/bin/pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt
  cp tests/e2e/requirements.txt build/venv/requirements.txt
fi

# g++ 12's ThreadSanitizer does not start where the kernel randomizes addresses by more than 28 bits.
without_aslr() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then
    setarch "$(uname -m)" -R "$@"
  else
    "$@"
  fi
}

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
# A crash that a test asks for ends the process as it does without the sanitizer.
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:handle_segv=0:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp}
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

summary=()
failed=0
for preset in "${presets[@]}"; do
  echo "== $preset: configure and build"
  benchmarks=OFF
  [ "$preset" != release ] || benchmarks=ON
  # A first build joins sources; one that a developer has set up stays as it is.
  joined=()
  [ -f "build/$preset/CMakeCache.txt" ] || joined=(-DKVS_JOINED_SOURCES=ON)
  cmake --preset "$preset" -DKVS_BUILD_TESTS=ON -DKVS_BUILD_BENCHMARKS=$benchmarks \
    "${joined[@]}" "${launcher[@]}"
  cmake --build --preset "$preset" -j "$jobs"
  echo "== $preset: test"
  log=build/$preset/ctest.log
  without_aslr ctest --preset "$preset" -j "$jobs" "$@" 2>&1 | tee "$log" || failed=1
  summary+=("== $preset" "$(grep -A 1000 '^[0-9]*% tests passed' "$log" || tail -n 20 "$log")")
done
printf '%s\n' "" "${summary[@]}"
exit $failed
