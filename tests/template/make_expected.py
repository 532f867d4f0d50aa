#!/usr/bin/env python3
"""Writes what Python's jinja2, set up as Transformers sets it up, makes of the templates here.

    make_expected.py                  rewrites expected.json (needs jinja2 3.1: build/venv or apt)
    make_expected.py --check          exit code 1 when expected.json is not what jinja2 says today
    make_expected.py --cases DIR OUT  the templates of another folder x the conversations, to OUT

A result is {"text": ...}, {"raised": MESSAGE} for raise_exception, or {"error": true}.
"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2025, 7, 4, 12, 30, 15)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CONTEXT = {"given": "g", "data": {"z": 1, "a": {"b": [1, "two"], "e": {}}}}


class Raised(Exception):
    pass


class Generation(jinja2.ext.Extension):
    """{% generation %}: a block with a scope of its own, as Transformers' extension is."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_put"), [], [], body).set_lineno(line)

    def _put(self, caller):
        return caller()


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise Raised(message)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, variables):
    try:
        return {"text": env.from_string(source).render(**variables)}
    except Raised as raised:
        return {"raised": str(raised)}
    except Exception as error:  # whatever Python raises, the engine has to refuse as well
        if "--verbose" in sys.argv:
            print(repr(error), file=sys.stderr)
        return {"error": True}


def case(env, name, source, variables):
    return {"name": name, "template": source, "variables": variables,
            "expected": render(env, source, variables)}


def template_cases(env, folder):
    conversations = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        source = path.read_bytes().decode("utf-8")
        for talk in conversations:
            yield case(env, f"{path.stem}/{talk['name']}", source, {**SPECIAL, **talk["variables"]})


def construct_cases(env):
    for name, source in json.loads((HERE / "constructs.json").read_text(encoding="utf-8")):
        yield case(env, f"construct/{name}", source, {**SPECIAL, **CONTEXT})


def dump(cases):
    return json.dumps(cases, ensure_ascii=False, indent=0) + "\n"


def main():
    env = environment()
    if "--cases" in sys.argv:
        folder, out = sys.argv[sys.argv.index("--cases") + 1:][:2]
        pathlib.Path(out).write_text(dump(list(template_cases(env, folder))), encoding="utf-8")
        return 0
    # Templates and conversations stand in their own files; only what comes out is repeated here.
    found = [*template_cases(env, HERE / "templates"), *construct_cases(env)]
    text = dump([{"name": c["name"], "expected": c["expected"]} for c in found])
    target = HERE / "expected.json"
    if "--check" in sys.argv:
        same = target.read_text(encoding="utf-8") == text
        print("as jinja2 says" if same else "expected.json differs from jinja2: run make_expected.py")
        return 0 if same else 1
    target.write_text(text, encoding="utf-8")
    kinds = [next(iter(c["expected"])) for c in found]
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
