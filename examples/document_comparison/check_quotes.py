"""Say which quotes in `facts_NAME` (lines that begin with `>`) are not in what `read_NAME` gave.

A command of plan.yaml: it finds the outputs of the tasks that it depends on in the folder `ALLREADY_DEPS`.
"""

import os
import re
import sys
from pathlib import Path

ENDS = " \t\"'“”„«»…."
"""What people and models put around a quote."""


def plain(text: str) -> str:
    """Take away what may differ in a faithful copy: breaks, marks of Markdown, quotation marks around it."""
    return " ".join(re.sub(r"[*_`#|>]", " ", text).split()).strip(ENDS).lower()


def missing_quotes(facts: str, document: str) -> list[str]:
    """Give the quotes that are not in the document."""
    quotes = [line.lstrip("> ").strip() for line in facts.splitlines() if line.lstrip().startswith(">")]
    whole = plain(document)
    return [quote for quote in quotes if plain(quote) not in whole]


def main() -> None:
    """Check each of the documents named on the command line, as far as it was read."""
    outputs = Path(os.environ["ALLREADY_DEPS"])
    for name in sys.argv[1:]:
        facts, document = (outputs / f"{task}_{name}" / "output.txt" for task in ("facts", "read"))
        if not facts.exists() or not document.exists():
            print(f"{name}: was not read")
            continue
        missing = missing_quotes(facts.read_text(encoding="utf-8"), document.read_text(encoding="utf-8"))
        print(f"{name}: {'all quotes are in the document' if not missing else 'not in the document:'}")
        for quote in missing:
            print(f"  > {quote}")


if __name__ == "__main__":
    main()
