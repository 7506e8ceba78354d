"""Put what the benchmarks found where the documentation quotes it.

Between ``<!-- NAME -->`` and ``<!-- end NAME -->`` stands ``results/name.md``.
"""

from __future__ import annotations

import re

from common import RESULTS, ROOT

PAGES = ["README.md", "docs/paper.md", "docs/default.md"]


def main() -> None:
    for name in PAGES:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")

        def found(match: re.Match[str]) -> str:
            marker = match.group(1)
            result = (RESULTS / f"{marker.lower()}.md").read_text(encoding="utf-8")
            return f"<!-- {marker} -->\n{result}<!-- end {marker} -->"

        filled = re.sub(r"<!-- ([A-Z][A-Z_-]*) -->.*?<!-- end \1 -->", found, text, flags=re.DOTALL)
        page.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
