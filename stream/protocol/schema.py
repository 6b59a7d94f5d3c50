"""JSON Schemas and the AsyncAPI 3 document, derived from the classes of `stream.protocol.messages` alone."""

import json
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from stream.protocol.messages import CLIENT_MESSAGES, SERVER_MESSAGES, VERSION

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def json_schema(message: Any, strict: bool = False) -> dict[str, Any]:
    """JSON Schema (draft 07, as in AsyncAPI 3) of a TypedDict. `strict` also forbids fields that it does not name."""
    properties = {name: _schema_of(hint, strict) for name, hint in get_type_hints(message, include_extras=True).items()}
    return {
        "type": "object",
        "description": message.__doc__,
        "properties": properties,
        "required": sorted(message.__required_keys__),
        "additionalProperties": not strict,
    }


def _schema_of(hint: Any, strict: bool) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_schema_of(arguments[0], strict), "description": arguments[1]}
    if origin in (NotRequired, Required):
        return _schema_of(arguments[0], strict)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"type": "string", "enum": list(arguments)}
    if origin in (Union, UnionType):
        return {"type": [_PLAIN[argument] for argument in arguments]}
    if origin is list:
        return {"type": "array", "items": _schema_of(arguments[0], strict)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], strict)}
    if is_typeddict(hint):
        return json_schema(hint, strict)
    return {"type": _PLAIN[hint]}


def message_name(message: Any) -> str:
    """The value of a message's `type` field."""
    return str(get_args(get_type_hints(message)["type"])[0])


def asyncapi_document() -> str:
    """The AsyncAPI 3.0 document of the service, as JSON (which is YAML)."""
    names = {"receive": [message_name(m) for m in SERVER_MESSAGES], "send": [message_name(m) for m in CLIENT_MESSAGES]}
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
                message_name(message): {
                    "name": message_name(message),
                    "summary": message.__doc__,
                    "payload": json_schema(message),
                }
                for message in SERVER_MESSAGES + CLIENT_MESSAGES
            }
        },
    }
    return json.dumps(document, indent=2)


def _query_schema() -> dict[str, Any]:
    after = "EPOCH:SEQ of the last event that was seen; :SEQ within the running epoch; 0 for all there is"
    return {"type": "object", "properties": {"after": {"type": "string", "description": after}}}
