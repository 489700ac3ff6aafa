"""`web password`: sets the password of the page."""

from __future__ import annotations

import contextlib
import getpass
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, LogLevel, reporting
from edge_classifierd.cli.streams import complain, show
from edge_classifierd.errors import ConfigurationError, EdgeClassifierError, ExitCode, UsageError

if TYPE_CHECKING:
    from edge_classifierd.config.sections.web import WebSection

app = typer.Typer(help="Set the password of the page.")

CREDENTIAL: Final = "web_password"
_UNIT: Final = "edge-classifierd.service"
SYSTEMD: Final = Path("/run/systemd/system")
_SECTION: Final = f'web: {{listen: "0.0.0.0:8480", password: !credential {CREDENTIAL}}}'
_SHORTEST: Final = 8


@app.callback()
def _group() -> None:
    """Set the password of the page."""


@app.command("password")
@reporting
def password(
    config: Config = DEFAULT_CONFIG,
    *,
    typed: Annotated[
        bool, typer.Option("--typed", help="Ask for the password, or read a line of standard input.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart/--no-restart", help="Restart the service if it runs.")] = True,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Set a new password for the page, and sign out all browsers.

    Prints a generated password once, with the address of the page. Only its hash is stored, as the credential
    web_password of the service, which is restarted. Needs root.

    Example: sudo edge-classifierd web password
    """
    from edge_classifierd.config.loading.secrets import STORE
    from edge_classifierd.web.access.password import hash_password, make_password

    chosen = _typed() if typed else make_password()
    _store(STORE / f"edge-classifierd.{CREDENTIAL}", hash_password(chosen))
    section = _section(config)
    if not typed:
        show(chosen)
    if restart:
        _restart()
    if section is not None:
        complain(f"the page: {page_address(section)}")
    return ExitCode.OK


def _typed() -> str:
    """Return the password that is typed twice, or the first line of stdin. Raises UsageError."""
    if sys.stdin.isatty():
        given = getpass.getpass("New password: ")
        if getpass.getpass("Again: ") != given:
            raise UsageError("the two passwords differ; nothing was changed")
    else:
        given = sys.stdin.readline().removesuffix("\n")
    if not _SHORTEST <= len(given) <= 1000 or given.startswith("scrypt$"):
        raise UsageError(f"the password must have between {_SHORTEST} and 1,000 characters; nothing was changed")
    return given


def _store(file: Path, content: str) -> None:
    """Write a credential that only root can read. Raises EdgeClassifierError."""
    from edge_classifierd.state_file import replace_file

    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(file, f"{content}\n".encode(), durably=True, mode=0o600)
    except PermissionError as error:
        raise EdgeClassifierError(f"{file}: permission denied; run this as root (`sudo`)") from error
    except OSError as error:
        raise EdgeClassifierError(f"{file}: cannot be written ({error.strerror or error})") from error


def _section(config: Path) -> WebSection | None:
    """Return the section `web`, None with a hint on stderr when the new password is not in use."""
    from edge_classifierd.config.loading.load import load

    try:
        section = load(config).configuration.web
        used = f"!credential {CREDENTIAL}" in config.read_text(encoding="utf-8")
    except (ConfigurationError, OSError) as error:
        complain(f"stored, but whether it is used is not known: {error}")
        return None
    if section is None:
        complain(f"stored; the page is not configured yet, add to {config}:\n  {_SECTION}")
        return None
    if not used:
        complain(f"stored, but not used: in {config} write `password: !credential {CREDENTIAL}` below `web`")
    return section


def _restart() -> None:
    """Restart the service if it runs. Raises EdgeClassifierError."""
    if not SYSTEMD.is_dir():
        complain("systemd does not run here; restart the daemon for the new password")
        return
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["systemctl", "try-restart", _UNIT],  # noqa: S607 - wherever the system has it
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise EdgeClassifierError(f"systemctl: {error.strerror or error}; restart the service yourself") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["it failed"]
        raise EdgeClassifierError(f"stored, but the service was not restarted: {reason[0]}")


def page_address(section: WebSection) -> str:
    """Return the address of the page as another machine reaches it."""
    from edge_classifierd.config.sections.web import is_loopback, split_listen

    if section.url is not None:
        return section.url
    address, port = split_listen(section.listen)
    if not is_loopback(section.listen) and address in {"0.0.0.0", "::"}:  # noqa: S104 - compared only
        address = _own_address() or socket.gethostname()
    shown = f"[{address}]" if ":" in address else address
    return f"{'https' if section.tls is not None else 'http'}://{shown}:{port}/"


def _own_address() -> str | None:
    """Return the address of this machine's default route. Nothing is sent: connecting UDP only chooses the route."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # TEST-NET-1 of RFC 5737
        return str(probe.getsockname()[0])
    return None
