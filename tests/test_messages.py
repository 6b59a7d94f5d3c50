"""Messages: whatever a client sends is read without harm, and the published schemas are those of the classes."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from serving import STATUS, as_sent, event

from stream.protocol.messages import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    TOPICS,
    Auth,
    EventMessage,
    Gap,
    MessageError,
    Status,
    Subscribe,
    encode,
    parse_client,
)
from stream.protocol.schema import asyncapi_document, json_schema, message_name
from stream.types import Phase

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
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
    if isinstance(message, Subscribe):
        assert message.topics <= set(TOPICS)


@given(REQUESTS)
def test_requests_are_read_for_what_they_say(request):
    """Against the protocol's text: the type decides, unknown types, topics and fields are ignored."""
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
        assert message == Subscribe(frozenset(topics) & frozenset(TOPICS))
    elif kind == "auth":
        assert message == Auth(token)
    else:
        assert message is None


def test_numbers_that_json_does_not_know_leave_as_null_and_numpy_as_plain():
    status = {**STATUS, "fps": float("nan"), "latency_ms": {"p50": np.float32(1.5), "p99": float("inf")}}
    assert json.loads(encode(status)) == {**STATUS, "fps": None, "latency_ms": {"p50": 1.5, "p99": None}}


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_of_an_event_fits_its_schema(phase):
    schema = Draft7Validator(json_schema(EventMessage, strict=True))
    schema.validate(as_sent(event(3, phase), "E", 1))
    schema.validate(as_sent(event(3, phase, apex_s=None, offset_s=None), "E", 1))


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (EventMessage, "phase", "middle"),
        (EventMessage, "seq", "1"),
        (EventMessage, "apex_s", "soon"),
        (EventMessage, "regions", {"brows": "much"}),
        (Status, "faces", [{"face": 1, "state": "asleep", "reason": None}]),
        (Status, "fps", "30"),
        (Gap, "from", None),
    ],
)
def test_the_schemas_refuse_what_is_wrong(message, field, value):
    good = {
        EventMessage: as_sent(event(1), "E", 1),
        Status: {"type": "status", **STATUS, "degraded": []},
        Gap: {"type": "gap", "epoch": "E", "from": 1, "to": 2},
    }[message]
    validator = Draft7Validator(json_schema(message, strict=True))
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, field: value})
    assert not validator.is_valid({name: good[name] for name in good if name != field})
    assert not validator.is_valid({**good, "undocumented": 1})
    assert Draft7Validator(json_schema(message)).is_valid({**good, "of_a_later_version": 1})


def test_the_asyncapi_document_holds_every_message_and_all_its_references_lead_somewhere():
    document = json.loads(asyncapi_document())
    assert document["asyncapi"] == "3.0.0"
    assert set(document["components"]["messages"]) == {message_name(m) for m in SERVER_MESSAGES + CLIENT_MESSAGES}
    for message in document["components"]["messages"].values():
        Draft7Validator.check_schema(message["payload"])

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
