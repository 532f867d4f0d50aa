#!/usr/bin/env bash
# Installs the packages that are missing, on Debian 12 or Ubuntu 24.04.
#   scripts/packages.sh build        what the daemon is built from
#   scripts/packages.sh test         and what its tests need
#   scripts/packages.sh check        and what scripts/check.sh needs
#   scripts/packages.sh fuzz         and what scripts/fuzz.sh needs
#   scripts/packages.sh hip          and what scripts/build_hip.sh needs
#   scripts/packages.sh --list SET   prints the names alone
set -euo pipefail

build=(g++ cmake ninja-build pkg-config curl libcpp-httplib-dev libssl-dev nlohmann-json3-dev
  libspdlog-dev libfmt-dev libxxhash-dev libyaml-cpp-dev libcli11-dev libexpected-dev
  prometheus-cpp-dev libpcre2-dev libutf8proc-dev)
test=("${build[@]}" libgtest-dev libgmock-dev libbenchmark-dev python3 python3-venv openssl
  universal-ctags mandoc)
check=("${test[@]}" git clang-format-14 clang-tidy-14)
fuzz=("${build[@]}" clang-14 libclang-rt-14-dev)
hip=("${build[@]}" python3 hipcc libamdhip64-dev clang-19 clang-tools-19 lld-19 llvm-19)

names() {
  case "$1" in
    build) printf '%s\n' "${build[@]}" ;;
    test) printf '%s\n' "${test[@]}" ;;
    check) printf '%s\n' "${check[@]}" ;;
    fuzz) printf '%s\n' "${fuzz[@]}" ;;
    hip) printf '%s\n' "${hip[@]}" ;;
    *) echo "packages.sh: expected build, test, check, fuzz or hip, got '$1'" >&2; exit 2 ;;
  esac
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if [ "${1:-}" = --list ]; then
  names "${2:-build}"
  exit
fi
wanted=$(names "${1:-build}")
if ! command -v dpkg-query >/dev/null; then
  echo "packages.sh: this system has no dpkg; install the counterparts of:" >&2
  echo $wanted >&2
  exit 1
fi
missing=()
for name in $wanted; do
  is_installed "$name" || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo)
  # Without a terminal sudo cannot ask for a password.
  if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
    echo "packages.sh: these packages are missing, and installing them needs root. As root, run:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    echo "then start this script again." >&2
    exit 1
  fi
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}"
