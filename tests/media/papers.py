"""PDF files for tests, good ones and others, written by hand so that nothing else is needed."""

from __future__ import annotations


def pdf(pages: int, *, box: str = "0 0 960 540", content: str = "", extra: str = "") -> bytes:
    """A PDF of so many pages of text, each different. content: in place of the text."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{' '.join(f'{4 + 2 * n} 0 R' for n in range(pages))}] "
        f"/Count {pages} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number in range(pages):
        text = content or "".join(
            f"BT /F1 {28 if line else 48} Tf 60 {480 - 44 * line} Td "
            f"(Page {number + 1}, line {line}: what the terraces hold, the valley drinks) Tj ET\n"
            for line in range(10)
        )
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents {5 + 2 * number} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> {extra} >> >>"
        )
        objects.append(f"<< /Length {len(text)} >>\nstream\n{text}endstream")
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{one}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return out + trailer.encode()
