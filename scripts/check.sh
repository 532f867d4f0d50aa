#!/usr/bin/env bash
# What a change must pass: format, tidy.py, clang-tidy, build, test.
#   scripts/check.sh         clang-tidy on the files that differ from the main branch
#   scripts/check.sh --all   clang-tidy on every file
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh check

mapfile -t sources < <(git ls-files -co --exclude-standard -- '*.cc' '*.h' '*.inl' '*.cu' '*.cuh')
echo "== format"
clang-format-14 --dry-run -Werror "${sources[@]}"

echo "== tidy"
python3 scripts/tidy.py

echo "== clang-tidy"
cmake --preset release -DKVS_BUILD_TESTS=ON >/dev/null
if [ "${1:-}" = --all ]; then
  changed=("${sources[@]}")
else
  base=$(git merge-base HEAD main 2>/dev/null || git rev-parse HEAD)
  mapfile -t changed < <({ git diff --name-only --diff-filter=d "$base" -- '*.cc'
    git ls-files -o --exclude-standard -- '*.cc'; } | sort -u)
fi
translation_units=()
for file in "${changed[@]}"; do
  # Files that no target of this machine's build compiles have no command to tidy them with.
  grep -qF "$PWD/$file\"" build/release/compile_commands.json && translation_units+=("$file")
done
if [ ${#translation_units[@]} -gt 0 ]; then
  printf '%s\0' "${translation_units[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p build/release
fi

echo "== build and test"
scripts/test.sh
