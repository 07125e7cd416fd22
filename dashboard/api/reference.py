"""The reference page of the HTTP API, made from its OpenAPI document.

python -m dashboard.api.reference > docs/reference/api.md
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from control.commands import COMMANDS, EXEMPT
from dashboard.problems import KINDS, PLAIN, Kind, slug

_TOP = """\
<!-- Made by `python -m dashboard.api.reference`; a test keeps it true. -->

# The HTTP API

Served by `hareline console`; the whole of it, with every field, is the OpenAPI document: `GET /api/v1/openapi.json`.
How to use it: [use the API](../how-to/use-the-api.md). Whatever is here the [command line](cli.md) can do too.
"""
_PROBLEMS = """
## Problems

What goes wrong is answered as `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail` (this time),
`remedy`, and for fields that do not fit `errors`. A program relies on `type`, which is `urn:hareline:problem:` and

| type | status | title |
|---|---|---|
"""


def page(document: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append((method, path, operation))
    parts = [_TOP]
    for tag, operations in by_tag.items():
        parts.append(f"\n## {tag.capitalize()}\n")
        for method, path, operation in operations:
            parts.append("\n" + "\n".join(_operation(document, method, path, operation)) + "\n")
    return "".join(parts) + _PROBLEMS + "".join(f"{line}\n" for line in _kinds())


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    name = operation["operationId"]
    yield f"### {name}"
    yield ""
    yield f"`{method.upper()} {path}`"
    yield ""
    yield operation["description"]
    yield ""
    command = f"`hareline {COMMANDS[name]}`" if name in COMMANDS else f"none: {EXEMPT[name]}"
    yield f"Command: {command}."
    fields = [
        (one["name"], one["in"], one["schema"], one.get("required", False), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    if body := operation.get("requestBody"):
        [media] = body["content"].values()
        schema = _resolved(document, media["schema"])
        required = schema.get("required", ())
        fields += [
            (field, "body", about, field in required, about.get("description", ""))
            for field, about in schema.get("properties", {}).items()
        ]
    if fields:
        yield ""
        yield "| parameter | in | type | |"
        yield "|---|---|---|---|"
        for field, place, schema, required, said in fields:
            words = ". ".join(
                part for part in (said.rstrip(".").replace("|", "\\|"), _default(schema, required)) if part
            )
            yield f"| `{field}` | {place} | {_type(schema)} | {words} |"
    yield ""
    yield "Answers: " + "; ".join(_answers(operation)) + "."


def _answers(operation: Mapping[str, Any]) -> Iterator[str]:
    for status, response in operation["responses"].items():
        if int(status) < 400:
            media = response["content"].items()
            said = (_type(about["schema"]) if name == "application/json" else f"`{name}`" for name, about in media)
            yield f"{status} {' or '.join(said)}"
    yield "problems " + ", ".join(sorted(status for status in operation["responses"] if int(status) >= 400))


def _default(schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    return f"`{str(default).lower() if isinstance(default, bool) else default}` if not given" if default else ""


def _type(schema: Mapping[str, Any]) -> str:
    """In a few words; what a type has is in the document."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].rstrip("_").replace("_", " of ")
    if some := [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]:
        return " or ".join(_type(one) for one in some)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {})) or 'anything'}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("format") or schema.get("type", "anything"))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _kinds() -> Iterator[str]:
    known: list[tuple[str, Kind]] = [*((slug(error), kind) for error, kind in KINDS.items()), *PLAIN.values()]
    for name, kind in sorted(known, key=lambda one: (one[1].status, one[0])):
        yield f"| `{name}` | {kind.status} | {kind.title} |"


if __name__ == "__main__":
    from dashboard.app import build
    from settings import Settings

    print(page(build(Settings()).openapi()), end="")
