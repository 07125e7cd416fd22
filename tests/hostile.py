"""Texts that do something where they are not escaped: in HTML, attributes, scripts, a terminal, a reader."""

CORPUS = (
    "<script>window.__pwned=1</script>",
    "\"><img src=x onerror='window.__pwned=1'>",
    "' onmouseover='window.__pwned=1' x='",
    "</pre></textarea></title><svg onload=window.__pwned=1>",
    "{{ 7*7 }}{% raw %}${7*7}",
    "javascript:window.__pwned=1//%0a<!--",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\u202eesrever\u2066",
    "a/b?c=d&e#f%2e.. \\ ;",
)
