"""Settings: flag over environment over file over default, and one clear line for whatever is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config import Config, parse
from stream.errors import UserError


def test_defaults_are_local_and_store_nothing():
    config = parse(["--camera", "0"], {})
    assert config == Config(camera="0")
    assert (config.host, config.port, config.token) == ("127.0.0.1", 8765, None)
    assert config.record is None
    assert config.events is None


@pytest.mark.parametrize(
    ("flags", "environ", "file", "port"),
    [
        ([], {}, "", 8765),
        ([], {}, "port = 1", 1),
        ([], {"MESTREAM_PORT": "2"}, "port = 1", 2),
        (["--port", "3"], {"MESTREAM_PORT": "2"}, "port = 1", 3),
    ],
)
def test_flag_over_environment_over_file_over_default(tmp_path, flags, environ, file, port):
    path = tmp_path / "stream.toml"
    path.write_text(f'camera = "0"\n{file}\n')
    assert parse([*flags, "--config", str(path)], environ).port == port
    assert parse(flags, {**environ, "MESTREAM_CONFIG": str(path)}).port == port


def test_every_setting_can_be_given_in_every_way(tmp_path):
    flags = ["--source", "a.mp4", "--max-faces", "2", "--threshold", "0.5", "--width", "640", "--log-format", "json"]
    path = tmp_path / "stream.toml"
    path.write_text('source = "a.mp4"\nmax-faces = 2\nthreshold = 0.5\nwidth = 640\nlog_format = "json"\n')
    environ = {
        "MESTREAM_SOURCE": "a.mp4",
        "MESTREAM_MAX_FACES": "2",
        "MESTREAM_THRESHOLD": "0.5",
        "MESTREAM_WIDTH": "640",
        "MESTREAM_LOG_FORMAT": "json",
    }
    expected = Config(source="a.mp4", max_faces=2, threshold=0.5, width_px=640, log_format="json")
    assert parse(flags, {}) == parse([], environ) == expected
    for in_file in (parse(["--config", str(path)], {}), parse([], {"MESTREAM_CONFIG": str(path)})):
        assert in_file == replace(expected, config=path)


def test_a_source_named_by_a_flag_is_not_in_conflict_with_the_file(tmp_path):
    path = tmp_path / "stream.toml"
    path.write_text('source = "a.mp4"\n')
    config = parse(["--demo", "--config", str(path)], {})
    assert config.demo
    assert config.source is None


@pytest.mark.parametrize(
    "given", ["https://lab.example,http://localhost:3000", "https://Lab.example/ , http://localhost:3000/"]
)
def test_origins_are_as_browsers_send_them(given):
    assert parse(["--demo", "--allow-origin", given], {}).allow_origin == (
        "https://lab.example",
        "http://localhost:3000",
    )
    assert parse(["--demo"], {}).allow_origin == ()


BAD = {
    "": "no source: give --camera 0",
    "--camera 0 --demo": "--camera and --demo: one source at a time",
    "--demo --port 65536": "--port 65536: is not a whole number from 0 to 65535",
    "--demo --port ²": "--port ²: is not a whole number",
    "--demo --port -1": "--port",
    "--demo --threshold nan": "--threshold nan: is not a number from 0 to 1",
    "--demo --threshold high": "--threshold high: is not a number",
    "--demo --runtime cpu": "--runtime cpu: is not one of auto, tensorrt, cuda, onnx",
    "--demo --max-faces 0": "--max-faces 0: is not a whole number from 1 to 64",
    "--demo --fps 0": "--fps 0: is not a number from 1 to 1000",
    "--camera": "--camera: expected one argument",
    "--frobnicate": "unrecognized arguments: --frobnicate",
    "--demo --offline": "add --events FILE or --record DIR",
    "--demo --record d --copy": "it is for --offline --record DIR",
    "--demo --offline --events e --copy": "it is for --offline --record DIR",
    "--demo --consent signed": "nothing is recorded; add --record DIR",
    "--camera 0 --offline --events e": "leave --offline out",
    "--demo --offline --events e --lsl": "offline has none",
    "--demo --offline --events e --mqtt mqtt://h/p": "only what a live run stores is sent",
    "--demo --mqtt-password p --mqtt-password-file f": "--mqtt-password and --mqtt-password-file: give one of them",
    "--demo --mqtt-password-file no-such-file": "--mqtt-password-file no-such-file: No such file or directory",
    "--demo --host 0.0.0.0": "without a token; put this new one into a file for --token-file",
    "--demo --host 192.0.2.1": "or listen on 127.0.0.1: ",
    "--demo --host 0.0.0.0 --token hunter2": "a token of less than 16 characters",
    "--demo --host no.such.host.invalid": "--host no.such.host.invalid: no such host",
    "--demo --allow-host https://lab.example": "is not a name such as lab.example",
    "--demo --allow-host lab.example:443": "is not a name such as lab.example",
    "--demo --allow-host a,,b": "is not a name such as lab.example",
    "--demo --trusted-proxy lab.example": "is not an address or network such as 127.0.0.1 or 10.0.0.0/8",
    "--demo --trusted-proxy 10.0.0.1/8": "is not an address or network",
    "--demo --token-file no-such-file": "--token-file no-such-file: No such file or directory",
    "--demo --token-file f --token t": "--token and --token-file: give one of them",
    "--demo --tls-cert c.pem": "one needs the other",
    "--demo --allow-origin lab.example": "--allow-origin lab.example: is not an origin such as https://lab.example",
    "--demo --allow-origin https://lab.example/page": "is not an origin",
    "--demo --allow-origin *": "is not an origin",
    "--demo --allow-origin https://[": "--allow-origin https://[: Invalid IPv6 URL",
    "--demo --allow-origin https://me@lab.example": "a name before @",
    "--demo --config no-such.toml": "--config no-such.toml: No such file or directory",
}


@pytest.mark.parametrize(("line", "says"), BAD.items())
def test_bad_input_is_one_line_with_value_and_remedy(line, says):
    with pytest.raises(UserError) as caught:
        parse(line.split(), {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "prot: no such setting; did you mean port?"),
        ("port = [1]", "port: one value is expected"),
        ("port = true", "port = True: is not a whole number"),
        ("port = ", "is not TOML"),
        ("doctor = true", "doctor: no such setting"),
        ("\xff", "is not UTF-8 text"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, text, says):
    path = tmp_path / "stream.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=str(path)) as caught:
        parse(["--demo", "--config", str(path)], {})
    assert says in str(caught.value)
    assert caught.value.code == 2


def test_a_misspelt_variable_is_refused_not_ignored():
    with pytest.raises(UserError, match="MESTREAM_PROT: no such setting; did you mean port"):
        parse(["--demo"], {"MESTREAM_PROT": "1", "PATH": "/bin"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_token(host):
    assert parse(["--demo", "--host", host], {}).host == host.strip("[]")


def test_the_token_of_a_file_counts_as_if_it_were_given(tmp_path):
    """A flag is over the environment, whichever of the two ways each of them takes."""
    secret, environ = tmp_path / "token", {"MESTREAM_TOKEN": "from the environment"}
    secret.write_text("a-token-of-a-file\n")
    flags = ["--demo", "--host", "0.0.0.0"]
    assert parse([*flags, "--token-file", str(secret)], environ).token == "a-token-of-a-file"
    assert parse(flags, {"MESTREAM_TOKEN_FILE": str(secret)}).token == "a-token-of-a-file"
    given = parse([*flags, "--token", "on the command line"], {"MESTREAM_TOKEN_FILE": str(secret)})
    assert given.token == "on the command line"


@pytest.mark.parametrize("content", [b"", b" \n", b"a secret\nb", b"\xff", b"x" * 5000])
def test_a_file_that_holds_no_token_is_refused_without_showing_what_it_holds(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(UserError, match="--token-file") as caught:
        parse(["--demo", "--token-file", str(tmp_path / "token")], {})
    assert caught.value.code == 2
    assert "a secret" not in str(caught.value)


def test_the_token_is_never_shown():
    config = parse(["--demo", "--host", "0.0.0.0"], {"MESTREAM_TOKEN": "hunter2 hunter2 hunter2"})
    assert config.token == "hunter2 hunter2 hunter2"
    assert "hunter2" not in repr(config)
    with pytest.raises(UserError) as caught:
        parse(["--demo", "--token", "  "], {})
    assert str(caught.value).startswith("--token : is empty")


def test_the_brokers_password_comes_from_wherever_secrets_do_and_is_never_shown(tmp_path):
    """From a file, from the environment or within the URL; the settings' repr shows neither it nor the URL."""
    secret, flags = tmp_path / "password", ["--demo", "--mqtt", "mqtt://me:hunter2@host/lab"]
    secret.write_text("of a file\n")
    assert parse([*flags, "--mqtt-password-file", str(secret)], {}).mqtt_password == "of a file"
    config = parse(flags, {"MESTREAM_MQTT_PASSWORD": "hunter3"})
    assert config.mqtt_password == "hunter3"
    assert "hunter" not in repr(config)


def test_a_home_directory_is_expanded():
    assert parse(["--demo", "--record", "~/x"], {}).record == Path.home() / "x"


@pytest.mark.slow
@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["--port", "--camera", "--demo", "--token", "=", "--"]), max_size=6)
)
def test_no_command_line_gives_anything_but_a_config_or_one_user_error(argv):
    argv = [word for word in argv if word not in ("-h", "--help", "--version")]
    try:
        code = 0 if isinstance(parse(argv, {}), Config) else 1
    except UserError as error:
        code = error.code
    assert code in (0, 2)
