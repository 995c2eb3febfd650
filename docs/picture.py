"""Draws docs/idea.svg, the picture of the idea: `python docs/picture.py`."""

from pathlib import Path

PATH = Path(__file__).with_name("idea.svg")

# Filters per layer, and which of them go. The first and the third layer are added
# together, so that they lose the same ones.
LAYERS = [8, 8, 8, 6]
GOING = [{1, 2, 5, 7}, {0, 3, 4, 6}, {1, 2, 5, 7}, {0, 2, 5}]

SIDE, PITCH, SPACING = 13, 17, 46
PANEL, HEIGHT, TOP = 264, 232, 44
ALIVE, DEAD, INK = "#3f51b5", "#c5cae9", "#37474f"


def _filters(layer: int, small: bool) -> list[int]:
    return [
        index for index in range(LAYERS[layer]) if not (small and index in GOING[layer])
    ]


def _column(x: float, layer: int, masked: bool, small: bool) -> list[str]:
    filters = _filters(layer, small)
    top = TOP + (max(LAYERS) - len(filters)) * PITCH / 2
    shapes = []
    for row, index in enumerate(filters):
        dead = masked and index in GOING[layer]
        style = (
            f'fill="none" stroke="{DEAD}" stroke-dasharray="3 2"'
            if dead
            else f'fill="{ALIVE}" stroke="{ALIVE}"'
        )
        shapes.append(
            f'<rect x="{x:g}" y="{top + row * PITCH:g}" width="{SIDE}" '
            f'height="{SIDE}" rx="3" {style}/>'
        )
    return shapes


def _panel(number: int, code: str, caption: str) -> list[str]:
    left = number * PANEL + 12
    middle = TOP + max(LAYERS) * PITCH / 2 - (PITCH - SIDE) / 2
    columns = [left + 36 + layer * SPACING for layer in range(len(LAYERS))]
    shapes = [
        f'<text x="{left + PANEL / 2 - 12:g}" y="22" class="code">{code}</text>',
        f'<text x="{left + PANEL / 2 - 12:g}" y="{HEIGHT - 12}">{caption}</text>',
    ]
    for x in columns[:-1]:
        shapes.append(
            f'<path d="M{x + SIDE + 6:g} {middle:g}h{SPACING - SIDE - 14:g}" '
            'class="arrow"/>'
        )
    bottom = TOP + max(LAYERS) * PITCH + 3
    start, end = columns[0] + SIDE / 2, columns[2] + SIDE / 2
    shapes.append(
        f'<path d="M{start:g} {bottom:g}q{(end - start) / 2:g} 24 {end - start:g} 0" '
        'class="arrow"/>'
    )
    for layer, x in enumerate(columns):
        shapes += _column(x, layer, masked=number == 1, small=number == 2)
    if number < 2:
        x = (number + 1) * PANEL + 2
        shapes.append(f'<path d="M{x} {middle - 9:g}l9 9l-9 9" class="next"/>')
    return shapes


def picture() -> str:
    """The SVG as text."""
    panels = [
        _panel(0, "keras_model", "any Keras model"),
        _panel(1, "wrap, fit", "half of the filters go to zero"),
        _panel(2, "compact, export", "a smaller model, the same outputs"),
    ]
    width = 3 * PANEL + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
            'role="img">',
            "<title>Filters of a network go to zero in training and are then removed; "
            "layers that are added together lose the same ones.</title>",
            "<style>",
            f"text {{ font: 13px sans-serif; fill: {INK}; text-anchor: middle }}",
            "text.code { font: bold 14px monospace }",
            f".arrow {{ fill: none; stroke: {INK}; stroke-width: 1.2; "
            "marker-end: url(#head) }",
            f".next {{ fill: none; stroke: {INK}; stroke-width: 3 }}",
            "</style>",
            '<marker id="head" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="{INK}"/>'
            "</marker>",
            f'<rect width="{width}" height="{HEIGHT}" rx="8" fill="#fafafa"/>',
            *(shape for panel in panels for shape in panel),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PATH.write_text(picture(), "utf-8")
