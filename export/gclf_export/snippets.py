"""How to use an exported file without gclf: ten lines at most of Python, JavaScript and C#.

They are written once, filled from the spec, and run by tests/examples/test_snippets.py (C# where
there is a dotnet). The model was trained with Pillow's resize. Others come close, but not close
enough for every answer: libvips' (sharp) moved 10 of 1,000 answers of the embedded model, so that
JavaScript takes the resize of examples/web.
"""

import json

from gclf_runtime import ModelSpec

PICTURE = "picture.jpg"

# The names of Pillow's filters elsewhere; Triangle where there is none.
_IMAGESHARP = {
    "nearest": "NearestNeighbor",
    "box": "Box",
    "bilinear": "Triangle",
    "bicubic": "CatmullRom",
    "lanczos": "Lanczos3",
}
# A centering of one half would round 7.5 to 8, where the contract takes 7.
_PYTHON_FIT = {
    "stretch": "image.resize(({width}, {height}), Image.Resampling.{filter})",
    "crop": "ImageOps.fit(image, ({width}, {height}), Image.Resampling.{filter})",
    "pad": (
        "ImageOps.pad(image, ({width}, {height}), Image.Resampling.{filter}, "
        "centering=(0.49999, 0.49999))"
    ),
}
_PYTHON = """\
import json, onnxruntime, numpy as np
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession({model}, providers=["CPUExecutionProvider"])
spec = json.loads(session.get_modelmeta().custom_metadata_map["gclf.spec"])
image = Image.open({picture})
{draft}image = ImageOps.exif_transpose(image).convert("RGB")
image = {fit}
probabilities = session.run(["probabilities"], {{"images": np.asarray(image)[None]}})[0][0]
print(json.dumps(dict(zip(spec["label_names"], probabilities.tolist()))))
"""
_DRAFT = """\
image.draft(None, ({margin}, {margin}))  # a large JPEG is decoded at a reduced scale
"""
_JAVASCRIPT = """\
import {{ readFile }} from "node:fs/promises";
import * as ort from "onnxruntime-web"; // or onnxruntime-node
import sharp from "sharp";
import {{ Classifier }} from "./gclf.js"; // with its neighbours, from examples/web

const classifier = await Classifier.open(ort, await readFile({model}));
const decoded = sharp({picture}).autoOrient().toColourspace("srgb").ensureAlpha().raw();
const {{ data, info }} = await decoded.toBuffer({{ resolveWithObject: true }});
const answers = await classifier.predict({{ data, width: info.width, height: info.height }});
console.log(JSON.stringify(Object.fromEntries(answers.map((a) => [a.label, a.probability]))));
"""
_CSHARP = """\
using System.Text.Json; using Microsoft.ML.OnnxRuntime; using Microsoft.ML.OnnxRuntime.Tensors;
using SixLabors.ImageSharp; using SixLabors.ImageSharp.PixelFormats; using SixLabors.ImageSharp.Processing;
using var session = new InferenceSession({model});
using var spec = JsonDocument.Parse(session.ModelMetadata.CustomMetadataMap["gclf.spec"]);
using var image = Image.Load<Rgb24>({picture});
image.Mutate(x => x.AutoOrient().Resize(new ResizeOptions {{ Size = new Size({width}, {height}), Mode = ResizeMode.{fit}, Sampler = KnownResamplers.{sampler} }}));
var pixels = new byte[{height} * {width} * 3]; image.CopyPixelDataTo(pixels);
var images = NamedOnnxValue.CreateFromTensor("images", new DenseTensor<byte>(pixels, new[] {{ 1, {height}, {width}, 3 }}));
using var outputs = session.Run(new[] {{ images }}, new[] {{ "probabilities" }}); var shares = outputs.First().AsEnumerable<float>();
foreach (var (label, share) in spec.RootElement.GetProperty("label_names").EnumerateArray().Zip(shares)) Console.WriteLine($"{{label}}: {{share:P1}}");
"""  # noqa: E501 - ten lines


def python(spec: ModelSpec, model: str) -> str:
    """Write Python for onnxruntime and Pillow: the very answers of gclf_runtime for RGB pictures.

    Where bars are added, Pillow rounds some 30 of a million sizes to one row more or less.

    Args:
        spec: Of the model.
        model: Its path, as the code shall name it.
    """
    names = _names(spec, model)
    fit = _PYTHON_FIT[spec.input.fit].format(filter=spec.input.interpolation.upper(), **names)
    margin = spec.input.jpeg_scale_margin * max(spec.input.height, spec.input.width)
    draft = _DRAFT.format(margin=margin) if margin else ""
    return _PYTHON.format(fit=fit, draft=draft, **names)


def javascript(spec: ModelSpec, model: str) -> str:
    """Write JavaScript for Node: onnxruntime-web or -node, sharp, and gclf.js of examples/web.

    The file's own spec says how to fit a picture; onnxruntime does not show it to JavaScript, so
    gclf.js reads it. Its resize is Pillow's.
    """
    return _JAVASCRIPT.format(**_names(spec, model))


def csharp(spec: ModelSpec, model: str) -> str:
    """Write C# for Microsoft.ML.OnnxRuntime and ImageSharp, whose own resize it takes."""
    sampler = _IMAGESHARP.get(spec.input.interpolation, "Triangle")
    fit = spec.input.fit.capitalize()
    return _CSHARP.format(fit=fit, sampler=sampler, **_names(spec, model))


def quoted(text: str) -> str:
    """Write a text as JSON's string, which is one in all three languages.

    Signs beyond 16 bits stay as they are: Python does not join the two halves JSON makes of them.
    """
    signs = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in signs)


def _names(spec: ModelSpec, model: str) -> dict[str, str | int]:
    texts = {"model": quoted(model), "picture": quoted(PICTURE)}
    return {**texts, "width": spec.input.width, "height": spec.input.height}
