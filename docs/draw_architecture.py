"""Draw docs/images/architecture.svg from the imports of the package as they are.

    python docs/draw_architecture.py            # writes the picture
    python docs/draw_architecture.py --check    # fails where it is not that of the imports of now (a test runs this)

A box is a room: a folder or module directly under wavdiff/, and, inside models/, the folder of a family. An arrow from
A to B says that a module of A imports one of B. Arrows that follow from others are left out: where A imports B, B
imports C and A imports C as well, only the first two are drawn. Every arrow points down.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

import grimp

HERE = Path(__file__).parent
PICTURE = HERE / "images" / "architecture.svg"
PACKAGE = "wavdiff"
LAYERS = [
    ["cli"],
    ["batch", "evaluation", "adapters"],
    ["api"],
    ["restoration", "training"],
    ["models.cascade"],
    ["models"],
    ["data"],
    ["images"],
    ["system"],
]
WORDS = {
    "cli": "one file a verb",
    "batch": "many files, many seeds",
    "evaluation": "numbers, reports, a look inside",
    "adapters": "our models inside other libraries",
    "api": "load, sample, denoise, upscale, train",
    "restoration": "pictures of any size, error bars",
    "training": "the engine; knows no family",
    "models.cascade": "read top to bottom: the paper",
    "models": "families, folders of models, wavelets",
    "data": "sources, examples, their order",
    "images": "files to tensors and back",
    "system": "errors, settings, files that appear whole",
}
WIDTH, HEIGHT, GAP, ROW = 250, 58, 40, 100


def room_of(module: str) -> str | None:
    """The room of a module, or None for the package itself and its aliases."""
    parts = module.split(".")[1:]
    for length in (2, 1):
        if ".".join(parts[:length]) in WORDS:
            return ".".join(parts[:length])
    return None


def room_imports() -> dict[str, set[str]]:
    """Rooms that each room imports from."""
    graph = grimp.build_graph(PACKAGE)
    found: dict[str, set[str]] = {room: set() for room in WORDS}
    for module in graph.modules:
        room = room_of(module)
        for other in graph.find_modules_directly_imported_by(module):
            target = room_of(other)
            if room and target and room != target:
                found[room].add(target)
    return found


def reduced(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""

    def reach(room: str) -> set[str]:
        return imports[room].union(*(reach(other) for other in imports[room]))

    return {
        room: {other for other in others if not any(other in reach(third) for third in others if third != other)}
        for room, others in imports.items()
    }


def draw() -> str:
    """The picture as SVG text."""
    imports = room_imports()
    floor = {room: row for row, rooms in enumerate(LAYERS) for room in rooms}
    for room, others in imports.items():
        for other in others:
            if floor[other] <= floor[room]:
                sys.exit(f"{room} imports {other}, which is not below it")
    modules = [module for module in grimp.build_graph(PACKAGE).modules if room_of(module)]
    total = max(len(rooms) for rooms in LAYERS) * (WIDTH + GAP) + GAP
    places = {}
    for row, rooms in enumerate(LAYERS):
        left = (total - len(rooms) * WIDTH - (len(rooms) - 1) * GAP) / 2
        for column, room in enumerate(rooms):
            places[room] = (left + column * (WIDTH + GAP), GAP + row * ROW)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {GAP + len(LAYERS) * ROW}" '
        'font-family="sans-serif" font-size="13">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#456"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for room, others in sorted(reduced(imports).items()):
        for other in sorted(others):
            (x, y), (to_x, to_y) = places[room], places[other]
            lean = max(-WIDTH * 0.35, min(WIDTH * 0.35, (to_x - x) / 4))
            start, end = x + WIDTH / 2 + lean, to_x + WIDTH / 2 - lean
            bend = 30 if to_y - y <= ROW else 70
            side = 0 if to_y - y <= ROW else (-1 if start < total / 2 else 1) * WIDTH * 0.62
            lines.append(
                f'<path d="M{start:.0f},{y + HEIGHT} C{start + side:.0f},{y + HEIGHT + bend} '
                f'{end + side:.0f},{to_y - bend} {end:.0f},{to_y}" fill="none" stroke="#456" stroke-width="1.4" '
                'marker-end="url(#tip)"/>'
            )
    for room, (x, y) in places.items():
        count = sum(room_of(module) == room for module in modules)
        name = room.replace(".", "/") + ("" if room == "api" else "/")
        size = "1 file" if count == 1 else f"{count} files"
        lines += [
            f'<rect x="{x:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef3f8" stroke="#456"/>',
            f'<text x="{x + 12:.0f}" y="{y + 24}" font-weight="bold">{escape(name)}</text>',
            f'<text x="{x + WIDTH - 12:.0f}" y="{y + 24}" text-anchor="end" fill="#678">{size}</text>',
            f'<text x="{x + 12:.0f}" y="{y + 44}" fill="#345" font-size="11.5">{escape(WORDS[room])}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Write the picture, or check it."""
    text = draw()
    if "--check" in sys.argv[1:]:
        if not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PICTURE} is not that of the imports of now: run python {Path(__file__).name}")
        return
    PICTURE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
