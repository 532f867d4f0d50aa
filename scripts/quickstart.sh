#!/usr/bin/env bash
# Installs what is missing, builds kvserve in release mode and serves the bundled model with an FP8
# KV cache and prefix caching on 127.0.0.1:8000, in the foreground; Ctrl-C stops it. A second run
# reuses the build. Arguments go to kvserve:
#   scripts/quickstart.sh --port 9000 --log-level debug
set -euo pipefail
cd "$(dirname "$0")/.."
preset=release
kvserve=build/$preset/src/kvserve

scripts/packages.sh build
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
if [ ! -f "build/$preset/CMakeCache.txt" ]; then
  cmake --preset "$preset" -DKVS_JOINED_SOURCES=ON -DKVS_BUILD_TESTS=OFF \
    -DKVS_BUILD_BENCHMARKS=OFF "${launcher[@]}"
fi
cmake --build --preset "$preset" --target kvserve

# Where it will listen, for the lines to print.
host=${KVSERVE_HOST:-127.0.0.1}
port=${KVSERVE_PORT:-8000}
previous=
for argument in "$@"; do
  case "$previous" in --host) host=$argument ;; --port) port=$argument ;; esac
  case "$argument" in --host=*) host=${argument#*=} ;; --port=*) port=${argument#*=} ;; esac
  previous=$argument
done
case "$host" in 0.0.0.0 | ::) host=127.0.0.1 ;; esac
url=http://$host:$port

announce() {
  local tries=0 model
  until curl -fs -o /dev/null "$url/health" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 1200 ] && kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  model=$(curl -fs "$url/v1/models" | tr ',{' '\n\n' | sed -n 's/^ *"id": *"\([^"]*\)".*/\1/p' |
    head -n 1) || true
  model=${model:-default}
  cat <<TEXT

kvserve is ready at $url. In another terminal:

  curl -s $url/v1/completions -H 'Content-Type: application/json' -d '{"model": "$model", "prompt": "The capital of Italy is", "max_tokens": 8, "temperature": 0}'

  python3 -c 'import json, urllib.request as r; print(json.load(r.urlopen(r.Request("$url/v1/completions", json.dumps({"model": "$model", "prompt": "The capital of Italy is", "max_tokens": 8, "temperature": 0}).encode(), {"Content-Type": "application/json"})))["choices"][0]["text"])'

  $kvserve check-cache $url     # is a repeated prefix reused?
  curl -s $url/metrics | grep prefix_cache

With the openai package: OpenAI(base_url="$url/v1", api_key="EMPTY"). Ctrl-C stops the server.

TEXT
}

# The daemon takes this process over, so that signals reach it directly.
(announce $$ &)
exec "$kvserve" --kv-cache-dtype fp8 --enable-prefix-caching "$@"
