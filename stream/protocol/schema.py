"""JSON Schemas and the AsyncAPI 3 document, derived from the classes of `stream.protocol.messages` alone."""

import json
from typing import Any

import msgspec
from msgspec import Struct

from stream.protocol.messages import CLIENT_MESSAGES, SERVER_MESSAGES, VERSION


def message_name(message: type[Struct]) -> str:
    """Returns the value of a message's `type` field."""
    return str(message.__struct_config__.tag)


def asyncapi_document() -> str:
    """Returns the AsyncAPI 3.0 document of the service, as JSON (which is YAML)."""
    names = {"receive": [message_name(m) for m in SERVER_MESSAGES], "send": [message_name(m) for m in CLIENT_MESSAGES]}
    messages = SERVER_MESSAGES + CLIENT_MESSAGES
    payloads, schemas = msgspec.json.schema_components(messages, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            _absent_not_null(field)
    channel = "#/channels/events"
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Micro-expression stream",
            "version": f"{VERSION}.0.0",
            "description": "Facial-movement intervals as they are spotted. Fields are only added within a version; "
            "clients ignore types and fields that they do not know. Written from a client's point of view.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8765", "protocol": "ws", "description": "wss with --tls-cert"}},
        "channels": {
            "events": {
                "address": "/events",
                "description": "One JSON object per text frame; the first from the server is hello.",
                "bindings": {"ws": {"method": "GET", "query": _query_schema(), "bindingVersion": "0.1.0"}},
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in names["receive"] + names["send"]
                },
            }
        },
        "operations": {
            action: {
                "action": action,
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in those],
            }
            for action, those in names.items()
        },
        "components": {
            "messages": {
                message_name(message): {"name": message_name(message), "summary": message.__doc__, "payload": payload}
                for message, payload in zip(messages, payloads, strict=True)
            },
            "schemas": schemas,
        },
    }
    return json.dumps(document, indent=2)


def _absent_not_null(field: dict[str, Any]) -> None:
    """Remove null from optional fields. A field with its default value is left out of a message, so null is
    never sent.
    """
    if field.pop("default", field) is None:
        (what,) = (choice for choice in field.pop("anyOf") if choice != {"type": "null"})
        field |= what


def _query_schema() -> dict[str, Any]:
    after = "EPOCH:SEQ of the last event that was seen; :SEQ within the running epoch; 0 for all there is"
    return {"type": "object", "properties": {"after": {"type": "string", "description": after}}}
