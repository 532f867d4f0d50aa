#!/usr/bin/env bash
# Makes a folder of ROCm's device bitcode that also knows architectures newer than the distribution's
# package: links to what the package has, and for each architecture without a file of its version one
# made from another's, from which it differs by a single number.
#   scripts/hip_device_libs.sh FOLDER ARCHITECTURE...
# Prints nothing. Needs rocm-device-libs and llvm-dis and llvm-as, of LLVM 15 or newer.
set -euo pipefail
folder=$1
shift

tool() {  # the newest NAME-VERSION, or NAME
  local found
  found=$(compgen -c "$1-" | grep -xE "$1-(1[5-9]|2[0-9])" | sort -V | tail -1)
  echo "${found:-$1}"
}
source_folder=
for candidate in "${ROCM_PATH:-/opt/rocm}/amdgcn/bitcode" /usr/lib/*/amdgcn/bitcode /usr/lib/amdgcn/bitcode; do
  [ -f "$candidate/ockl.bc" ] && source_folder=$candidate && break
done
if [ -z "$source_folder" ]; then
  echo "hip_device_libs.sh: no device bitcode; install rocm-device-libs" >&2
  exit 1
fi
mkdir -p "$folder"
ln -sf "$source_folder"/*.bc "$folder"

# Bitcode of the LLVM that made it is read by any newer one, and must be written by none newer than
# the compiler that will read it: Debian's hipcc has LLVM 15.
dis=$(tool llvm-dis)
as=llvm-as-15
command -v "$as" >/dev/null || as=$(tool llvm-as)
[ "$as" != llvm-as-15 ] || dis=llvm-dis-15
for architecture in "$@"; do
  version=${architecture#gfx}
  [ ! -e "$folder/oclc_isa_version_$version.bc" ] || continue
  case "$version" in
    94?) model=940 ;;
    *) model=1036 ;;
  esac
  # gfx1036 is 10306 and gfx90a 9010: major * 1000 + minor * 100 + stepping.
  number() {
    local digits=$1
    echo $((10#${digits%??} * 1000 + 10#${digits: -2:1} * 100 + 16#${digits: -1}))
  }
  "$dis" "$source_folder/oclc_isa_version_$model.bc" -o - |
    sed "s/i32 $(number $model)\\b/i32 $(number "$version")/" |
    "$as" -o "$folder/oclc_isa_version_$version.bc"
done
