#!/usr/bin/env python3
"""What the kernels of a HIP build take, read from its objects, and whether they are as they must be.

    hip_resources.py [--tools 19] [--report-only] OBJECT_OR_FOLDER...

Prints one line per kernel and architecture: vector registers, bytes of static shared memory (LDS), spilled
vector registers, spilled scalar registers (which go to lanes of vector registers, not to memory), bytes of
scratch memory, and how many matrix instructions stand inside loops. Attention and linear kernels (those of kernels/gpu/matrix) must spill nothing, use no scratch, and multiply by v_wmma (gfx11, gfx12)
or v_mfma (gfx90a, gfx94x) inside a loop. Exit status 1 and a FAIL line where they do not.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

MATRIX_KERNEL = re.compile(r"Matrix(Decode|Prefill)Kernel|(Few|Many|Expert)RowsKernel")
MATRIX_INSTRUCTION = {"gfx11": "v_wmma", "gfx12": "v_wmma", "gfx90a": "v_mfma", "gfx94": "v_mfma"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def device_code(path, tools, folder):
    """Yields (architecture, ELF file) for what a host object carries."""
    bundle = folder / "bundle"
    bundle.unlink(missing_ok=True)
    sections = run(f"llvm-readelf-{tools}", "-S", "-W", str(path))
    if ".hip_fatbin" not in sections:
        return
    run(f"llvm-objcopy-{tools}", f"--dump-section=.hip_fatbin={bundle}", str(path), str(folder / "unused"))
    bundler = f"clang-offload-bundler-{tools}"
    for target in run(bundler, "--list", "--type=o", f"--input={bundle}").split():
        match = re.search(r"(gfx\w+)", target)
        if match is None:
            continue
        elf = folder / "device.elf"
        run(bundler, "--unbundle", "--type=o", f"--targets={target}", f"--input={bundle}", f"--output={elf}")
        yield match[1], elf


def kernels(elf, tools):
    """Yields a dict of each kernel's numbers."""
    notes = run(f"llvm-readelf-{tools}", "--notes", str(elf))
    body = notes.partition("amdhsa.kernels:")[2].partition("amdhsa.target:")[0]
    for part in re.split(r"\n  - ", body)[1:]:
        fields = dict(re.findall(r"^ {0,4}\.(\w+): +(\S+)$", part, re.M))
        yield {"name": fields["name"],
               "vgprs": int(fields["vgpr_count"]),
               "lds": int(fields["group_segment_fixed_size"]),
               "spills": int(fields.get("vgpr_spill_count", 0)),
               "scalar_spills": int(fields.get("sgpr_spill_count", 0)),
               "scratch": int(fields["private_segment_fixed_size"])}


def matrix_in_loops(elf, tools, instruction):
    """Kernel -> how many matrix instructions lie between a backward branch and its target."""
    counts = {}
    name, addresses, loops = None, [], []

    def close():
        if name is not None:
            counts[name] = sum(any(begin <= at <= end for begin, end in loops) for at in addresses)

    for line in run(f"llvm-objdump-{tools}", "-d", str(elf)).splitlines():
        header = re.match(r"^([0-9a-f]+) <(\S+)>:", line)
        if header:
            close()
            name, addresses, loops = header[2], [], []
            start = int(header[1], 16)
            continue
        at = re.search(r"// ([0-9A-F]+):", line)
        if at is None:
            continue
        address = int(at[1], 16)
        if instruction in line:
            addresses.append(address)
        target = re.search(r"s_c?branch.*<\S+?\+0x([0-9a-f]+)>", line)
        if target and start + int(target[1], 16) <= address:
            loops.append((start + int(target[1], 16), address))
    close()
    return counts


def short_name(mangled):
    text = run("c++filt", mangled).strip()
    text = re.sub(r"kvs::gpu::|\(anonymous namespace\)::|^void ", "", text)
    text = re.sub(r"\(kvs::KvCacheDType\)(\d)", lambda m: ["bf16", "f16", "f32", "e4m3", "e5m2"][int(m[1])], text)
    return re.sub(r"(\d)u\b", r"\1", text).partition("(")[0]


def check(architecture, kernel):
    if not MATRIX_KERNEL.search(kernel["name"]):
        return []
    faults = []
    if kernel["spills"] or kernel["scratch"]:
        faults.append("spills registers")
    if kernel["matrix"] == 0 and kernel["instruction"]:
        faults.append(f"has no {kernel['instruction']} in a loop")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", default="19", help="version in the names of LLVM's tools (default: %(default)s)")
    parser.add_argument("--report-only", action="store_true", help="exit with 0 whatever is found")
    parser.add_argument("paths", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    objects = [file for path in arguments.paths
               for file in (sorted(path.rglob("*.o")) if path.is_dir() else [path])]
    print(f"{'kernel':58} {'device':8} {'VGPRs':>5} {'LDS':>6} {'spills':>6} {'scalar':>6} {'scratch':>7} {'matrix':>6}")
    num_faults = num_matrix = 0
    with tempfile.TemporaryDirectory() as temporary:
        for path in objects:
            for architecture, elf in device_code(path, arguments.tools, pathlib.Path(temporary)):
                instruction = next((text for prefix, text in MATRIX_INSTRUCTION.items()
                                    if architecture.startswith(prefix)), "")
                counts = matrix_in_loops(elf, arguments.tools, instruction) if instruction else {}
                for kernel in kernels(elf, arguments.tools):
                    kernel["instruction"] = instruction
                    kernel["matrix"] = counts.get(kernel["name"], 0)
                    num_matrix += kernel["matrix"] > 0
                    print(f"{short_name(kernel['name']):58} {architecture:8} {kernel['vgprs']:5} {kernel['lds']:6} "
                          f"{kernel['spills']:6} {kernel['scalar_spills']:6} {kernel['scratch']:7} {kernel['matrix']:6}")
                    for fault in check(architecture, kernel):
                        num_faults += 1
                        print(f"FAIL: {short_name(kernel['name'])} on {architecture} {fault}")
    if num_matrix == 0:
        num_faults += 1
        print("FAIL: no kernel with matrix instructions was found")
    print("all as it must be" if num_faults == 0 else f"{num_faults} faults")
    return 1 if num_faults and not arguments.report_only else 0


if __name__ == "__main__":
    sys.exit(main())
