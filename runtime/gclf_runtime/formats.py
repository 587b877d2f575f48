"""What counts as an image: by the suffix of its name or by its first bytes.

Being an image and being decodable are two things: a .tiff is an image that gets a row saying that
it is not decoded; a .txt gets none.
"""

DECODED = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
HEAD_BYTES = 32

_SUFFIXES = frozenset(
    """
    .jpg .jpeg .jpe .jfif .jif .png .apng .gif .webp .bmp .dib
    .tif .tiff .avif .avifs .heic .heif .hif .jxl .jp2 .j2k .j2c .jpc .jpf .jpx
    .ico .cur .icns .tga .icb .vda .vst .ppm .pgm .pbm .pnm .pfm .pam .qoi .ff .hdr .exr .dds
    .psd .eps .gd .gd2 .pcx .dcx .xbm .xpm .sgi .rgb .bw .ras .wbmp .fli .flc .blp .ftex .msp .mpo
    .fits .im .svg .svgz .xwd .ief .nie
    .dng .cr2 .cr3 .crw .nef .nrw .arw .raf .orf .rw2 .pef .srw .3fr
    """.split()  # noqa: SIM905 - as a list it is eighty lines, and the families are lost
)
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"8BPS\x00\x01", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"icns", "ICNS"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"n\xc3\xafE", "NIE"),
    (b"\x01\xda\x00\x01", "SGI"),
    (b"\x01\xda\x00\x02", "SGI"),
    (b"\x01\xda\x01\x01", "SGI"),
    (b"\x01\xda\x01\x02", "SGI"),
    (b"\x08\xf2\xa6\xb6", "VIPS"),
    (b"\xb6\xa6\xf2\x08", "VIPS"),
    (b"%!PS-Adobe-3.0 EPSF", "EPS"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"DDS ", "DDS"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
)
_ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIF", b"heix": "HEIF", b"mif1": "HEIF"}
_DIB_HEADER_BYTES = {12, 16, 40, 52, 56, 64, 108, 124}


def has_image_suffix(name: str) -> bool:
    """Tell whether a file name ends like an image's, in any case."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in _SUFFIXES


def sniff(head: bytes) -> str | None:
    """Name the image format that the first bytes announce.

    Args:
        head: The first HEAD_BYTES bytes of a file, or all of a shorter one.

    Returns:
        The format's name, as in `DECODED` for those; None if these are no image's first bytes.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12])
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in (b" ", b"\n", b"\r", b"\t"):
        return "PNM"
    # "BM" begins plain text too ("BMW ..."), so the second header must look like one.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADER_BYTES:
        return "BMP"
    return None
