"""The page at ``/``: what is served here and how to call it, for people."""

from collections.abc import Iterable
from html import escape

from grainwise.gateway.entry import Entry

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Grainwise</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}}
code,pre{{font-family:ui-monospace,monospace;background:#f2f2f2;border-radius:4px;padding:.1em .3em}}
pre{{padding:.7em;overflow:auto}} h2{{margin-top:2rem}} dt{{font-weight:600}}
@media (prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}code,pre{{background:#2a2a2a}}a{{color:#8ab4f8}}}}
</style></head><body>
<h1>Grainwise {version}</h1>
<p>{summary}</p>
<p><a href="/openapi.json">OpenAPI</a> · <a href="/metrics">metrics</a> · <a href="/v1/apps">apps as JSON</a> ·
<a href="/v2">Open Inference Protocol</a></p>
{apps}
</body></html>
"""


def page(entries: Iterable[Entry], version: str) -> str:
    """The page as HTML."""
    entries = tuple(entries)
    count = len(entries)
    summary = f"{count} app{'' if count == 1 else 's'} served here."
    return _PAGE.format(version=escape(version), summary=summary, apps="\n".join(_section(entry) for entry in entries))


def _section(entry: Entry) -> str:
    spec = entry.spec
    inputs = ", ".join(f"{slot.name}: {slot.value_type.annotation}" for slot in entry.slots)
    outputs = ", ".join(f"{result.name}: {result.value_type.annotation}" for result in entry.results)
    stages = " → ".join(node.name for node in spec.graph.stages)
    return (
        f"<h2>{escape(spec.name)}</h2><p>{escape(spec.description)}</p><dl>"
        f"<dt>takes</dt><dd><code>{escape(inputs)}</code></dd>"
        f"<dt>answers</dt><dd><code>{escape(outputs)}</code></dd>"
        f"<dt>stages</dt><dd>{escape(stages)}</dd>"
        f"<dt>SLO</dt><dd>{spec.slo.target:.3g} of the requests within {spec.slo.latency_ms:g} ms</dd></dl>"
        f"<pre>{escape(_example(entry))}</pre>"
        f'<p><a href="/v2/models/{escape(spec.name)}">metadata</a></p>'
    )


def _example(entry: Entry) -> str:
    """A command that calls the app."""
    target = f"http://HOST/v1/apps/{entry.spec.name}"
    kind = entry.slots[0].value_type.kind if len(entry.slots) == 1 else ""
    if kind in ("bytes", "tensor"):
        return f"curl -H 'content-type: application/octet-stream' --data-binary @FILE {target}"
    if kind == "text":
        return f"curl -H 'content-type: text/plain' -d 'some text' {target}"
    names = ", ".join(f'"{slot.name}": …' for slot in entry.slots)
    return f"curl -H 'content-type: application/json' -d '{{{names}}}' {target}"
