#!/usr/bin/env bash
# `cmake --install` lays out a tree from which the daemon starts with its own model.
#   install_test.sh BUILD_DIR SCRATCH_DIR
set -euo pipefail
build=$1
prefix=$2
rm -rf "$prefix"
cmake --install "$build" --prefix "$prefix" >/dev/null
for file in bin/kvserve share/man/man1/kvserve.1 share/kvserve/models/default/config.json \
  share/kvserve/models/default/tokenizer.json share/kvserve/configs/kvserve.yaml; do
  [ -s "$prefix/$file" ] || { echo "$file was not installed"; exit 1; }
done

log=$prefix/log
"$prefix/bin/kvserve" --port 0 --kv-cache-tokens 4096 --log-level info >"$log" 2>&1 &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true' EXIT
for _ in $(seq 600); do
  if grep -q "ready: http" "$log"; then
    grep -q "model=$prefix/share/kvserve/models/default" "$log" || break
    kill "$daemon"
    wait "$daemon" || { echo "the daemon did not stop cleanly"; cat "$log"; exit 1; }
    exit 0
  fi
  kill -0 "$daemon" 2>/dev/null || break
  sleep 0.1
done
echo "the installed daemon did not start with the installed model:"
cat "$log"
exit 1
