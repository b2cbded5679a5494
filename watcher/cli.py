"""The command line: arguments, exit status, words for people.

Commands import what they need themselves, so that ``--help`` and shell completion stay quick.
"""

import io
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from watcher import __version__
from watcher.errors import ConfigError, WatcherError

if TYPE_CHECKING:
    from watcher.config.load import Config

#: Exit statuses that scripts rely on, beside click's 2 for wrong usage; 78 is EX_CONFIG of sysexits.h.
FAILED, BAD_CONFIG = 1, 78

Result = TypeVar("Result")


class _Group(click.Group):
    """Turns our errors into sentences and exit statuses; nothing of ours ends in a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ConfigError as error:
            _complain(str(error))
            context.exit(BAD_CONFIG)
        except WatcherError as error:
            _complain(str(error))
            context.exit(FAILED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="watcher")
def cli() -> None:
    """Tell people when an agent has replied to their Alibaba Cloud support tickets."""
    for stream in (sys.stdout, sys.stderr):
        # Tickets hold every script there is, and not every terminal does.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


_config_option = click.option(
    "--config",
    "-c",
    "path",
    type=click.Path(path_type=Path),
    help="The configuration file. Default: ./watcher.yaml, then /etc/watcher/watcher.yaml.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


# --- running ----------------------------------------------------------------------------------------------


@cli.command()
@_config_option
@click.option("--once", is_flag=True, help="Look at every ticket once, attempt every due delivery once, and exit.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent; send nothing and write nothing.")
@click.option("--verbose", "-v", is_flag=True, help="Also log every poll.")
def run(path: Path | None, *, once: bool, dry_run: bool, verbose: bool) -> None:
    """Watch the tickets and deliver the replies.

    Exit status with --once: 0 all well, 1 something failed (said on standard error), 2 wrong usage, 78 bad
    configuration.

    Example: watcher run --once --dry-run -c watcher.yaml
    """
    from watcher import serve  # noqa: PLC0415

    config = _load(path)
    _set_up_log(config, verbose=verbose)
    if not once:
        _run(serve.forever, config, dry_run)
        return
    failures = _run(serve.once, config, dry_run)
    for failure in failures:
        _complain(failure)
    if failures:
        raise SystemExit(FAILED)


@cli.command()
@_config_option
@_json_option
def check(path: Path | None, *, as_json: bool) -> None:
    """Say everything that is wrong with the file.

    Example: watcher check -c /etc/watcher/watcher.yaml
    """
    from watcher import trial  # noqa: PLC0415
    from watcher.config.load import find, load  # noqa: PLC0415
    from watcher.document import Mark, Problem, ProblemsFound  # noqa: PLC0415

    file = find(path)
    try:
        config = load(file)
        _set_up_log(config, verbose=False)
        found = _run(trial.problems, config)
        if found:
            raise ProblemsFound(found)
    except ConfigError as error:
        # A file that cannot even be read has no places.
        problems = (
            error.problems if isinstance(error, ProblemsFound) else [Problem(Mark(str(file), 1, 1), "", str(error))]
        )
        if as_json:
            click.echo(_dump([_as_dict(problem, "error") for problem in problems]))
        else:
            _complain(f"{error}\n{_counted(len(problems), 'error')}.")
        raise SystemExit(BAD_CONFIG) from error
    absent = config.absent_secrets()
    if as_json:
        click.echo(_dump([_as_dict(problem, "warning") for problem in absent]))
        return
    for problem in absent:
        _complain(f"{problem} (needed when it runs)")
    model = config.model
    parts = (len(model.accounts), "account"), (len(config.watches), "watch"), (len(model.sinks), "sink")
    click.echo(f"{file}: good; {', '.join(_counted(*part) for part in parts)}.")


def _as_dict(problem: Any, severity: str) -> dict[str, Any]:
    mark = problem.mark
    place = {"file": mark.file, "line": mark.line, "column": mark.column}
    return place | {"key": problem.key, "message": problem.message, "severity": severity}


@cli.command()
def schema() -> None:
    """Print the JSON Schema of watcher.yaml, for editors.

    Example: watcher schema > watcher.schema.json
    """
    from watcher.config.schema import ConfigModel  # noqa: PLC0415

    document = ConfigModel.model_json_schema(by_alias=True)
    click.echo(_dump({"$schema": "https://json-schema.org/draft/2020-12/schema"} | document))


# --- looking ----------------------------------------------------------------------------------------------


@cli.command()
@_config_option
@_json_option
@click.option("--unread", is_flag=True, help="Only tickets with unread replies.")
def tickets(path: Path | None, *, as_json: bool, unread: bool) -> None:
    """List the watched tickets as the last polls saw them.

    Example: watcher tickets --unread
    """
    from watcher import show as shown  # noqa: PLC0415

    config = _load(path)
    rows = [row for row in _run(shown.tickets, config) if row["unread"] or not unread]
    if as_json:
        click.echo(_dump(rows))
    else:
        shown.print_tickets(rows, config.model.defaults.timezone)


@cli.command()
@_config_option
@_json_option
@click.argument("ticket")
@click.option("--account", help="The account, if several know a ticket of this number.")
def show(path: Path | None, ticket: str, account: str | None, *, as_json: bool) -> None:
    """Show one conversation and its deliveries.

    Example: watcher show 0005PYGCW
    """
    from watcher import show as shown  # noqa: PLC0415

    config = _load(path)
    found = _run(shown.conversations, config, ticket, account)
    if not found:
        raise click.ClickException(f"no ticket {ticket} is known; `watcher tickets` lists those that are")
    if as_json:
        click.echo(_dump(found))
    else:
        for each in found:
            shown.print_conversation(each, config.model.defaults.timezone)


@cli.command()
@_config_option
@_json_option
@click.option("--sink", help="Only deliveries to this sink.")
@click.option("--state", type=click.Choice(["due", "held", "delivered", "dead"]), help="Only deliveries in this state.")
@click.option(
    "--limit",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="So many deliveries at the most, newest first.",
)
def history(path: Path | None, *, sink: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List what went where, and what did not.

    Example: watcher history --state dead
    """
    from watcher import show as shown  # noqa: PLC0415

    config = _load(path)
    rows = _run(shown.history, config, limit, sink, state)
    if as_json:
        click.echo(_dump(rows))
    else:
        shown.print_history(rows, config.model.defaults.timezone)


@cli.command()
@_config_option
@click.argument("event")
@click.option("--sink", "sinks", multiple=True, help="Only to this sink (may be repeated).")
def replay(path: Path | None, event: str, sinks: tuple[str, ...]) -> None:
    """Send an event again, under the same id.

    The running daemon sends it; if none runs, this command does.

    Example: watcher replay msg_5h5eccfg3kmttwqsyhiroxjevv --sink hub
    """
    from watcher import serve  # noqa: PLC0415

    config = _load(path)
    _set_up_log(config, verbose=False)
    _refuse_unknown(sinks, config, "--sink")
    outcomes = _run(serve.replay, config, event, sinks)
    for outcome in outcomes:
        click.echo(outcome.sentence)
    if not all(outcome.is_delivered for outcome in outcomes):
        raise SystemExit(FAILED)


# --- trying sinks out -------------------------------------------------------------------------------------


@cli.command()
@_config_option
@click.argument("sinks", nargs=-1)
def test(path: Path | None, sinks: tuple[str, ...]) -> None:
    """Send a test message through SINKS, or through all of them.

    It goes the way of every message: the running daemon sends it; if none runs, this command does. It is marked as
    a test and tried once.

    Example: watcher test ops-mail hub
    """
    from watcher import log, trial  # noqa: PLC0415

    config = _load(path)
    # What came of it is said below.
    log.set_up(level="critical", form=config.model.log.format)
    _refuse_unknown(sinks, config, "SINKS")
    outcomes = _run(trial.test, config, tuple(dict.fromkeys(sinks)))
    for outcome in outcomes:
        click.echo(str(outcome))
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(FAILED)


@cli.command()
@_config_option
@click.option("--sink", "sinks", multiple=True, help="Only this sink (may be repeated).")
@click.option(
    "--event",
    default="reply",
    show_default=True,
    metavar="KIND|ID",
    help="An example of a kind of event (reply, unread, digest, test), or the id of one in the history.",
)
def preview(path: Path | None, sinks: tuple[str, ...], event: str) -> None:
    """Show what would be sent, and send nothing.

    Secrets are left out; none needs to be there.

    Example: watcher preview --sink ops-mail --event digest
    """
    from watcher import trial  # noqa: PLC0415
    from watcher.render import printable  # noqa: PLC0415

    config = _load(path)
    _set_up_log(config, verbose=False)
    _refuse_unknown(sinks, config, "--sink")
    shown = _run(trial.preview, config, sinks, event)
    for name, text in shown:
        if len(shown) > 1:
            click.secho(f"=== {name} ===", bold=True)
        # What a ticket says may steer a terminal.
        click.echo(printable(text).rstrip("\n"))
        if len(shown) > 1:
            click.echo()


def _refuse_unknown(sinks: tuple[str, ...], config: "Config", parameter: str) -> None:
    unknown = sorted(set(sinks) - set(config.model.sinks))
    if unknown:
        there = ", ".join(config.model.sinks)
        raise click.BadParameter(f"there is no sink named {', '.join(unknown)}; there is {there}", param_hint=parameter)


# --- on a desktop -----------------------------------------------------------------------------------------


@cli.command()
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    help="The daemon's socket for desktops. Default: the first that exists of those that daemons use.",
)
def desktop(socket: Path | None) -> None:
    """Show pop-ups in this login session, for a daemon that runs elsewhere on this machine.

    It needs neither the configuration nor any secret, and waits for the daemon if there is none yet. Which users are
    served stands in the daemon's configuration: `users` of a sink of type `desktop`.

    Example: watcher desktop
    """
    from watcher import desktop as session  # noqa: PLC0415

    _run(session.show, socket)


# --- without an account -----------------------------------------------------------------------------------


@cli.command()
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after so many seconds.")
def demo(seconds: float | None) -> None:
    """See the product without an account.

    A simulator of the Ticket API plays a made-up conversation with a support agent, and the real daemon watches it.
    Nothing leaves this machine.

    Example: watcher demo --seconds 30
    """
    from watcher import demo as demonstration  # noqa: PLC0415

    _run(demonstration.play, seconds)


@cli.command()
@click.option("--port", default=0, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Accounts, tickets and a timeline in YAML; without it there are a few tickets.",
)
def simulator(port: int, host: str, script: Path | None) -> None:
    """Run a Ticket API on this machine, for trying things out.

    Example: watcher simulator --port 8765
    """
    from watcher import demo as demonstration  # noqa: PLC0415

    _run(demonstration.simulate, host, port, script)


# --- helpers ----------------------------------------------------------------------------------------------


def _load(path: Path | None) -> "Config":
    from watcher.config.load import find, load  # noqa: PLC0415

    return load(find(path))


def _set_up_log(config: "Config", *, verbose: bool) -> None:
    from watcher import log  # noqa: PLC0415

    log.set_up(level="debug" if verbose else config.model.log.level, form=config.model.log.format)


def _run(function: Callable[..., Awaitable[Result]], *args: object) -> Result:
    """Run an async function; errors that a task group wrapped come out as they were raised."""
    import anyio  # noqa: PLC0415

    try:
        return anyio.run(function, *args)
    except BaseExceptionGroup as group:
        ours = _first_of_ours(group)
        if ours is None:
            raise
        raise ours from group


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> WatcherError | None:
    for error in group.exceptions:
        found = _first_of_ours(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, WatcherError):
            return found
    return None


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
