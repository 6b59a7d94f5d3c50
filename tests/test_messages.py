"""Messages: whatever a client sends is read without harm, and the published schemas are those of the classes."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from msgspec import to_builtins
from msgspec.structs import replace
from serving import STATUS, as_sent, event, schemas

from stream.protocol.messages import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    TOPICS,
    Auth,
    Gap,
    MessageError,
    Subscribe,
    encode,
    event_message,
    parse_client,
)
from stream.protocol.schema import asyncapi_document, message_name
from stream.types import Phase

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
REQUESTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "auth", "hello", "event", "?"]) | JSON},
    optional={"topics": st.lists(st.sampled_from([*TOPICS, "x"])) | JSON, "token": st.text() | JSON, "v": JSON},
)


@given(st.text() | st.binary() | JSON.map(json.dumps) | REQUESTS.map(json.dumps))
@example("[" * 100_000)
@example('{"type":' * 100_000)
@example('{"type":"subscribe","topics":' + "[" * 50_000 + "]" * 50_000 + "}")
@example("9" * 100_000)
@example('{"type":"auth","token":' + "9" * 10_000 + "}")
@example('{"type":"auth","token":"\\ud800"}')
@example('{"type":"subscribe","topics":["\\udfff","events"]}')
@example("\ud800")
@example("NaN")
@example('{"type":"auth","type":"subscribe","topics":["events"]}')
@example("\x00")
@example("\ufeff{}")
@example(b'{"type":"subscribe","topics":["events"]}')
def test_anything_a_client_sends_is_a_request_or_ignored_or_refused(data):
    try:
        message = parse_client(data)
    except MessageError:
        return  # anything else that is raised fails the test
    assert message is None or isinstance(message, Subscribe | Auth)


@given(REQUESTS)
def test_requests_are_read_for_what_they_say(request):
    """Against the protocol's text: the type decides, unknown types and fields are ignored."""
    kind, topics, token = request["type"], request.get("topics"), request.get("token")
    try:
        message = parse_client(json.dumps(request))
    except MessageError:
        well_formed_topics = isinstance(topics, list) and all(isinstance(topic, str) for topic in topics)
        assert (
            not isinstance(kind, str)
            or (kind == "subscribe" and not well_formed_topics)
            or (kind == "auth" and not isinstance(token, str))
        )
        return
    if kind == "subscribe":
        assert message == Subscribe(tuple(topics))
    elif kind == "auth":
        assert message == Auth(token)
    else:
        assert message is None


def test_numbers_that_json_does_not_know_leave_as_null_and_numpy_as_plain():
    odd = replace(STATUS, fps=float("nan"), latency_ms={"p50": np.float32(1.5), "p99": float("inf")})
    fine = {**to_builtins(STATUS), "fps": None, "latency_ms": {"p50": 1.5, "p99": None}}
    assert json.loads(encode(odd)) == fine


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, st.none() | FLOATS, FLOATS, st.none() | FLOATS, st.text(st.characters()))
@example(1e16, 1e22, 5e-324, 0.00005, "\udce9 ü \n")
def test_the_text_of_an_event_is_that_of_pythons_json(onset_s, apex_s, share, probability, source):
    """Files of events written years ago and today's are the same bytes: order of fields, floats, escapes."""
    phase, regions, quality = Phase.RETRACT, {"brows": share}, {"fps": share, "face_px": 166}
    happened = event(
        1,
        phase,
        onset_s=onset_s,
        apex_s=apex_s,
        regions=regions,
        quality=quality,
        source=source,
        probability=probability,
    )
    fields = {
        "type": "event",
        "v": 1,
        "epoch": "E",
        "seq": 7,
        "phase": "retract",
        "id": happened.id,
        "source": source,
        "face": 1,
        "onset_s": round(onset_s, 4),
        "apex_s": None if apex_s is None else round(apex_s, 4),
        "offset_s": 2.4,
        "score": 0.87,
        "regions": {"brows": round(share, 4)},
        "time": happened.time,
        "latency_ms": 84.0,
        "quality": {"fps": round(share, 4), "face_px": 166.0},
        "suppressed": "blink",
        **({} if probability is None else {"probability": round(probability, 4)}),
    }
    assert encode(event_message(happened, "E", 7)) == json.dumps(fields, separators=(",", ":"))


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_of_an_event_fits_its_schema(phase):
    schema = schemas(strict=True)["event"]
    schema.validate(as_sent(event(3, phase), "E", 1))
    schema.validate(as_sent(event(3, phase, apex_s=None, offset_s=None), "E", 1))


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        ("event", "phase", "middle"),
        ("event", "seq", "1"),
        ("event", "apex_s", "soon"),
        ("event", "regions", {"brows": "much"}),
        ("status", "faces", [{"face": 1, "state": "asleep", "reason": None}]),
        ("status", "fps", "30"),
        ("gap", "from", None),
    ],
)
def test_the_schemas_refuse_what_is_wrong(message, field, value):
    good = {
        "event": as_sent(event(1), "E", 1),
        "status": to_builtins(STATUS),
        "gap": to_builtins(Gap("E", 1, 2)),
    }[message]
    validator = schemas(strict=True)[message]
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, field: value})
    assert not validator.is_valid({name: good[name] for name in good if name != field})
    assert not validator.is_valid({**good, "undocumented": 1})
    assert schemas()[message].is_valid({**good, "of_a_later_version": 1})


def test_the_asyncapi_document_holds_every_message_and_all_its_references_lead_somewhere():
    document = json.loads(asyncapi_document())
    assert document["asyncapi"] == "3.0.0"
    assert set(document["components"]["messages"]) == {message_name(m) for m in SERVER_MESSAGES + CLIENT_MESSAGES}
    for schema in document["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)

    def references(node):
        if isinstance(node, dict):
            for name, value in node.items():
                yield from [value] if name == "$ref" else references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = list(references(document))
    assert len(found) > 10
    for reference in found:
        node = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]
