"""Messages that let Home Assistant show a source as a device (MQTT discovery)."""

import hashlib
import json


def discovery(source: str, topic: str) -> tuple[str, str]:
    """Returns topic and JSON of the discovery message for `source`, whose own topics begin with `topic`."""
    own = f"mestream_{hashlib.sha256(topic.encode()).hexdigest()[:16]}"
    state, status = f"{topic}/state", f"{topic}/status"
    entities = {
        "movement": {
            "platform": "binary_sensor",
            "name": "Movement",
            "device_class": "motion",
            "state_topic": state,
            "value_template": "{{ 'ON' if value_json.movement else 'OFF' }}",
        },
        "events": _counter("Events", state, "events"),
        "retracted": _counter("Retracted", state, "retracted"),
        "problem": {
            "platform": "binary_sensor",
            "name": "Problem",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": status,
            "value_template": "{{ 'ON' if value_json.degraded else 'OFF' }}",
        },
    }
    message = {
        "device": {"identifiers": [own], "name": f"mestream {source}", "manufacturer": "mestream"},
        "origin": {"name": "mestream"},
        "availability_topic": f"{topic}/availability",
        "components": {name: {**entity, "unique_id": f"{own}_{name}"} for name, entity in entities.items()},
    }
    return f"homeassistant/device/{own}/config", json.dumps(message)


def _counter(name: str, topic: str, field: str) -> dict[str, str]:
    return {
        "platform": "sensor",
        "name": name,
        "state_class": "total_increasing",
        "state_topic": topic,
        "value_template": f"{{{{ value_json.{field} }}}}",
    }
