"""ELAN (.eaf): each rater and face has a tier of intervals, with other fields on dependent tiers. Times are
integer ms.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

from stream.sessions.formats.placing import per_video
from stream.sessions.rows import Row, VideoRows, lanes, mark_in, rater_and_face, units_text

FIELDS = ("id", "apex", "units", "note", "score")
SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns one file per video."""
    return per_video(videos, out, _text)


def _text(one: VideoRows) -> str:
    root = ET.Element("ANNOTATION_DOCUMENT", AUTHOR="mestream", DATE=one.started, FORMAT="3.0", VERSION="3.0")
    root.set(f"{XSI}noNamespaceSchemaLocation", SCHEMA)
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    path = one.video.path.resolve()
    kind = "video/mp4" if path.suffix.lower() in (".mp4", ".m4v") else "video/*"
    ET.SubElement(
        header, "MEDIA_DESCRIPTOR", MEDIA_URL=path.as_uri(), MIME_TYPE=kind, RELATIVE_MEDIA_URL=f"./{quote(path.name)}"
    )
    ET.SubElement(header, "PROPERTY", NAME="clocks").text = one.clocks
    order, slots, ids = ET.SubElement(root, "TIME_ORDER"), count(1), count(1)
    for lane, rows in lanes(one.rows).items():
        tiers = {name: _tier(name, lane) for name in ("", *FIELDS)}
        for row in rows:
            onset, offset = round(1000 * row.mark.onset_s), round(1000 * row.mark.offset_s)
            times = [f"ts{next(slots)}", f"ts{next(slots)}"]
            for slot, ms in zip(times, (onset, max(offset, onset + 1)), strict=True):  # ELAN has no empty intervals
                ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
            parent = f"a{next(ids)}"
            slot_refs = {"TIME_SLOT_REF1": times[0], "TIME_SLOT_REF2": times[1]}
            _annotate(tiers[""], "ALIGNABLE_ANNOTATION", parent, row.verdict or "detected", slot_refs)
            for name, text in _fields(row):
                _annotate(tiers[name], "REF_ANNOTATION", f"a{next(ids)}", text, {"ANNOTATION_REF": parent})
        root.extend(tier for name, tier in tiers.items() if len(tier) or not name)
    _types(root)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True).replace("'us-ascii'", "'UTF-8'") + "\n"


def _fields(row: Row) -> Iterator[tuple[str, str]]:
    mark = row.mark
    apex = "" if mark.apex_s is None else f"{mark.apex_s:.3f}"
    score = "" if row.score is None else f"{row.score:.3f}"
    for name, text in zip(FIELDS, (mark.id, apex, units_text(mark.units), mark.note, score), strict=True):
        if text:
            yield name, text


def _tier(name: str, lane: str) -> ET.Element:
    tier = ET.Element("TIER", LINGUISTIC_TYPE_REF=name or "interval", PARTICIPANT=rater_and_face(lane)[0])
    tier.set("TIER_ID", f"{lane} {name}".strip())
    if name:
        tier.set("PARENT_REF", lane)
    return tier


def _annotate(tier: ET.Element, kind: str, id: str, text: str, refs: dict[str, str]) -> None:
    annotation = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), kind, {"ANNOTATION_ID": id, **refs})
    ET.SubElement(annotation, "ANNOTATION_VALUE").text = "".join(c if c >= " " or c in "\t\n" else " " for c in text)


def _types(root: ET.Element) -> None:
    for name in ("interval", *FIELDS):
        kind = {"LINGUISTIC_TYPE_ID": name, "GRAPHIC_REFERENCES": "false"}
        kind["TIME_ALIGNABLE"] = "true" if name == "interval" else "false"
        if name != "interval":
            kind["CONSTRAINTS"] = "Symbolic_Association"
        ET.SubElement(root, "LINGUISTIC_TYPE", kind)
    ET.SubElement(root, "CONSTRAINT", STEREOTYPE="Symbolic_Association",
                  DESCRIPTION="1-1 association with a parent annotation")  # fmt: skip


def rows(path: Path) -> list[Row]:
    """Returns the intervals of all tiers that depend on no other. Raises ValueError that names the annotation."""
    try:
        root = ET.fromstring(path.read_bytes())
    except ET.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"it is a {root.tag}, not an ANNOTATION_DOCUMENT")
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    url = "" if media is None else media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL") or ""
    video = unquote(url.rpartition("/")[2])
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    fields = _dependent(root)
    found = []
    for tier in (tier for tier in root.iter("TIER") if "PARENT_REF" not in tier.attrib):
        rater, face = rater_and_face(tier.get("TIER_ID", ""))
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            id = one.get("ANNOTATION_ID", "")
            said = fields.get(id, {})
            times = [slots.get(one.get(f"TIME_SLOT_REF{n}")) for n in (1, 2)]
            if times[0] is None or times[1] is None:
                raise ValueError(f"annotation {id} has no time; align it in ELAN")
            try:
                apex_s = float(said["apex"]) if said.get("apex") else None
                onset_s, offset_s = int(times[0]) / 1000, int(times[1]) / 1000
                text = one.findtext("ANNOTATION_VALUE") or ""
                mark = mark_in(said.get("id", ""), face, (onset_s, apex_s, offset_s), text,
                               units=said.get("units", ""), note=said.get("note", ""))  # fmt: skip
            except ValueError as error:
                raise ValueError(f"annotation {id}: {error}") from None
            found.append(Row(video, rater or tier.get("PARTICIPANT", ""), mark))
    return found


def _dependent(root: ET.Element) -> dict[str, dict[str, str]]:
    """Returns, by annotation, what its dependent tiers `... id`, `... apex` and so on hold."""
    said: dict[str, dict[str, str]] = {}
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "").rpartition(" ")[2]
        for one in tier.iter("REF_ANNOTATION") if name in FIELDS else ():
            said.setdefault(one.get("ANNOTATION_REF", ""), {})[name] = one.findtext("ANNOTATION_VALUE") or ""
    return said
