"""Encodes, decodes and resizes images with Pillow, as expected by test/pure/data-images.test.ts.

Usage: python test/image-data/make.py > test/image-data/pillow.json
"""

import base64
import io
import json
import random
import sys

import PIL
from PIL import Image

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}


def picture(width, height, mode="RGB"):
    generator = random.Random(7)
    smooth = [(20 * x + 5 * y) % 256 for y in range(height) for x in range(width)]
    noise = [generator.randrange(256) for _ in smooth]
    data = bytes(v for a, b in zip(smooth, noise) for v in (a, b, (a + b) // 2))
    return Image.frombytes("RGB", (width, height), data).convert(mode)


def encoded(image, form, **options):
    target = io.BytesIO()
    image.save(target, form, **options)
    return base64.b64encode(target.getvalue()).decode()


def main():
    source = picture(13, 9)
    sizes = [(5, 7), (20, 16), (13, 4), (6, 9)]
    resized = [
        {"filter": name, "width": w, "height": h, "data": list(source.resize((w, h), resample=number).tobytes())}
        for name, number in FILTERS.items()
        for w, h in sizes
    ]
    files = {}
    for name, image in {
        "rgb": source,
        "rgba": source.convert("RGBA"),
        "grey": source.convert("L"),
        "grey with alpha": source.convert("LA"),
        "palette": source.convert("P", palette=Image.ADAPTIVE, colors=16),
        "black and white": source.convert("1"),
    }.items():
        plain = image.convert("L" if name in ("grey", "grey with alpha", "black and white") else "RGB")
        files[name] = {"bytes": encoded(image, "PNG"), "channels": len(plain.getbands()), "data": list(plain.tobytes())}
    deep = Image.frombytes("I;16", (3, 2), bytes(range(12)))
    files["grey of 16 bits"] = {"bytes": encoded(deep, "PNG"), "channels": 1, "width": 3, "height": 2, "data": [int.from_bytes(bytes(range(12))[2 * i : 2 * i + 2], "little") // 256 for i in range(6)]}
    large = picture(24, 16)
    for name, options in {"jpeg": {"quality": 90}, "progressive jpeg": {"quality": 90, "progressive": True}}.items():
        text = encoded(large, "JPEG", subsampling=0, **options)
        plain = Image.open(io.BytesIO(base64.b64decode(text)))
        files[name] = {"bytes": text, "channels": 3, "width": 24, "height": 16, "data": list(plain.tobytes())}
    luminance = list(source.convert("L").tobytes())
    json.dump(
        {
            "version": PIL.__version__,
            "source": {"width": 13, "height": 9, "data": list(source.tobytes()), "luminance": luminance},
            "resized": resized,
            "files": files,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
