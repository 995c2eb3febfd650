"""The support matrices, out of the files in experiments/results."""

import json
import re
from collections import defaultdict
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "experiments" / "results"

HEADINGS = (
    "family",
    "networks",
    "MACs left, grouped",
    "MACs left, independent",
    "largest deviation",
    "filters that stay, beside outputs",
    "budget of MACs",
    "TFLite float32",
    "TFLite int8",
)


def table() -> str:
    """One row for each family of architectures, as Markdown."""
    families = defaultdict(list)
    for row in _rows(RESULTS / "architectures.md", "architecture"):
        if row["coupling"] in ("grouped", "independent"):
            families[_family(row["architecture"])].append(row)
    budgets, speeds = _budgets(), _speeds()
    lines = [
        f"| {' | '.join(HEADINGS)} |",
        "| --- |" + " ---: |" * (len(HEADINGS) - 1),
    ]
    for family, rows in sorted(families.items()):
        names = {row["architecture"] for row in rows}
        cells = (
            family,
            str(len(names)),
            *(_left(rows, coupling) for coupling in ("grouped", "independent")),
            f"{max(float(row['deviation']) for row in rows):.1e}",
            _staying(rows),
            _known(budgets, names),
            *(_known(speeds[runtime], names) for runtime in ("float32", "int8")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def networks(name: str) -> str:
    """One row for each network of a set, as Markdown."""
    text = (RESULTS / f"{name}.md").read_text("utf-8")
    return text[text.index("| network") :].strip()


def _rows(path: Path, heading: str) -> list[dict[str, str]]:
    """The rows of the table in a Markdown file whose first heading is `heading`."""
    rows, headings = [], None
    for line in path.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            headings = None
        elif headings is None:
            headings = cells
        elif headings[0] == heading and not line.startswith("| ---"):
            # Some headings come twice: for multiply-accumulates, then parameters.
            pairs = list(zip(headings, cells, strict=True))
            rows.append(dict(reversed(pairs)))
    return rows


def _family(architecture: str) -> str:
    """ResNet50V2 is a ResNetV2, ConvNeXtTiny a ConvNeXt."""
    if architecture.startswith("InceptionResNet"):
        return architecture
    name = re.sub(r"(Tiny|Small|Base|X?Large|Mobile|B\d|[SML])$", "", architecture)
    return re.sub(r"(?<![V\d])\d+(?=V\d|$)", "", name)


def _left(rows: list[dict[str, str]], coupling: str) -> str:
    left = [float(row["ratio"]) for row in rows if row["coupling"] == coupling]
    low, high = f"{min(left):.0%}", f"{max(left):.0%}"
    return low if low == high else f"{low[:-1]} to {high}"


def _staying(rows: list[dict[str, str]]) -> str:
    reasons = {
        re.sub(r" [\d,]+$", "", reason.strip())
        for row in rows
        for reason in re.split(
            r",(?! ?\d)", row["pinned filters, and why"].split(":")[1]
        )
    }
    return ", ".join(sorted(reasons - {"output"})) or "none"


def _budgets() -> dict[str, str]:
    """What a budget of half the multiply-accumulates left, at worst."""
    found = json.loads((RESULTS / "budget.json").read_text("utf-8"))
    left = defaultdict(list)
    for row in found["rows"]:
        left[row["network"].lower()].append(row["macs_left"])
    asked = 1.0 - found["macs"]
    return {
        name: f"{max(values, key=lambda value: abs(value - asked)):.1%} of {asked:.0%}"
        for name, values in left.items()
    }


def _speeds() -> dict[str, dict[str, str]]:
    """How many times as fast a small network is, by runtime and network."""
    speeds: dict[str, dict[str, str]] = defaultdict(dict)
    for row in _rows(RESULTS / "latency.md", "network"):
        if row.get("threads") == row.get("round_to") == "1":
            speeds[row["runtime"]][row["network"]] = f"{float(row['speed-up']):.1f}x"
    return speeds


def _known(figures: dict[str, str], names: set[str]) -> str:
    return ", ".join(
        f"{figures[name.lower()]} ({name})"
        for name in sorted(names)
        if name.lower() in figures
    )


BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def features() -> str:
    """One row for each feature that tests are marked with, as Markdown."""
    rows = _outcomes()
    lines = [f"| feature | {' | '.join(BACKENDS.values())} |", "| --- " * 4 + "|"]
    for feature in sorted(rows, key=lambda name: name.strip("`").lower()):
        cells = (_answer(rows[feature].get(backend, {})) for backend in BACKENDS)
        lines.append(f"| {feature} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _outcomes() -> dict[str, dict[str, dict[str, int]]]:
    """How many tests had which outcome, by feature and backend."""
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for path in sorted(RESULTS.glob("backends_*.json")):
        outcomes = json.loads(path.read_text("utf-8"))["outcomes"]
        for backend, by_feature in outcomes.items():
            for feature, counts in by_feature.items():
                found[feature][backend] = counts
    return found


def _answer(counts: dict[str, int]) -> str:
    if counts.get("failed"):
        return "no"
    known = {"passed": "yes", "refused": "refused"}
    return next((known[outcome] for outcome in known if counts.get(outcome)), "-")
