"""Draw docs/faces.png: the example pictures with the embedded model's answers.

uv run python examples/make_sheet.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gclf_runtime import Classifier

HERE = Path(__file__).parent
COLUMNS, SIDE, CAPTION, GAP = 6, 160, 44, 8


def main() -> None:
    """Write the picture."""
    paths = sorted((HERE / "faces").glob("*.jpg"))
    rows = -(-len(paths) // COLUMNS)
    width = COLUMNS * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, rows * (SIDE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(17), ImageFont.load_default(13)
    for number, result in enumerate(Classifier.default().predict_files(paths)):
        if result.prediction is None:
            raise SystemExit(f"error: {result.error}")
        x, y = (number % COLUMNS) * (SIDE + GAP), (number // COLUMNS) * (SIDE + CAPTION)
        with Image.open(result.path) as face:
            sheet.paste(face.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        answer = f"{result.prediction.label} {result.prediction.probability:.0%}"
        draw.text((x, y + SIDE + 2), answer, "#1f2933", bold)
        draw.text((x, y + SIDE + 23), Path(result.path).name, "#7b8794", small)
    sheet.save(HERE.parent / "docs" / "faces.png")


if __name__ == "__main__":
    main()
