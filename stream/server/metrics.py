"""The metrics for Prometheus at /metrics. Names carry units. No face, address or source is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stream.protocol.messages import Status

_WRITE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)


class Metrics:
    """Counters of one server. They have their own registry, so that several servers can run in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.events = Counter("mestream_events", "Events journalled and sent", ["phase"], registry=registry)
        self.events_lost = Counter(
            "mestream_events_lost", "Events dropped because the journal stalled", registry=registry
        )
        self.journal_write = Histogram(
            "mestream_journal_write_seconds", "One commit to disk", buckets=_WRITE_BUCKETS_S, registry=registry
        )
        self.degraded = Gauge("mestream_degraded", "Things that do not work as they should", registry=registry)
        self.subscribers = Gauge("mestream_subscribers", "Clients that have been let in", registry=registry)
        self.connections = Gauge("mestream_connections", "Open sockets, handshakes included", registry=registry)
        self.dropped = Counter(
            "mestream_telemetry_dropped", "Messages not sent to slow clients", ["topic"], registry=registry
        )
        self.closed = Counter("mestream_clients_closed", "Clients closed by the server", ["code"], registry=registry)
        self.source_fps = Gauge("mestream_source_frames_per_second", "Measured rate of the source", registry=registry)
        self.faces = Gauge("mestream_faces", "Faces followed now", ["state"], registry=registry)
        self.latency = Gauge("mestream_score_latency_seconds", "Capture to score", ["quantile"], registry=registry)
        self.frames_dropped = Gauge("mestream_frames_dropped", "Frames dropped so far", ["stage"], registry=registry)

    def take_status(self, status: Status) -> None:
        """Copy a status message into the metrics."""
        self.source_fps.set(status.fps or 0)
        for state in ("watching", "calibrating", "cannot_spot"):
            self.faces.labels(state).set(sum(face.state == state for face in status.faces))
        for stage, count in status.dropped.items():
            self.frames_dropped.labels(stage).set(count)
        for quantile, label in (("p50", "0.5"), ("p99", "0.99")):
            if (latency_ms := status.latency_ms.get(quantile)) is not None:
                self.latency.labels(label).set(latency_ms / 1000)

    def text(self) -> bytes:
        """Returns the metrics in the exposition format."""
        return generate_latest(self._registry)
