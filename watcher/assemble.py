"""The composition root: the only place that turns configuration into parts and puts them together."""

import os
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from watcher.auth import Sources
from watcher.config import schema
from watcher.config.load import Config
from watcher.config.values import reveal
from watcher.daemon import Daemon
from watcher.detect import WatchRule
from watcher.discover import Discovery
from watcher.dispatch import Lane
from watcher.document import Problem, ProblemsFound
from watcher.errors import ConfigError
from watcher.model import Account, Ticket, TicketStatus
from watcher.outlets import Outlets, open_outlets
from watcher.pacer import Pacer
from watcher.poll import Poller
from watcher.ports import Clock, Sink
from watcher.remind import Reminders
from watcher.retry import RetryPolicy
from watcher.route import Routing
from watcher.schedule import Cadence, Pace
from watcher.store import Store, TicketRow, open_store
from watcher.store.database import copied, locked
from watcher.ticketapi.client import TicketApiClient, endpoint_for
from watcher.ticketapi.credentials import CachedCredentials
from watcher.watched import Watched
from watcher.web.desks import socket_beside

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SYSTEM_STATE = Path("/var/lib/watcher")


def state_path(config: Config) -> Path:
    """Return the database file: the configured one, else one in the state directory of service or user."""
    environ = config.vault.environ
    if config.model.storage.path:
        return config.beside(config.model.storage.path)
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0]) / "watcher.db"
    if os.geteuid() == 0 or os.access(_SYSTEM_STATE, os.W_OK):
        return _SYSTEM_STATE / "watcher.db"
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "watcher" / "watcher.db"
    try:
        return Path.home() / ".local" / "state" / "watcher" / "watcher.db"
    except RuntimeError as error:
        raise ConfigError("there is no home directory to keep the state in; set `storage.path`") from error


def address_of(account: schema.AccountModel) -> str:
    """Return the service address of an account: the configured one, else that of its region or site."""
    return account.endpoint or endpoint_for(site=account.site, region=account.region or "")


@asynccontextmanager
async def assembled(config: Config, *, clock: Clock, dry_run: bool = False) -> AsyncIterator[Daemon]:
    """Open everything that the configuration names; a dry run works on a copy of the store and sends nothing."""
    _refuse_absent(config.absent_secrets())
    path = state_path(config)
    async with AsyncExitStack() as stack:
        if dry_run:
            path = stack.enter_context(copied(path))
        else:
            stack.enter_context(locked(path))
        store = await stack.enter_async_context(open_store(path))
        outlets = await stack.enter_async_context(open_outlets(config))
        yield await _Assembly(config, clock, store, outlets, dry_run=dry_run).daemon()


@asynccontextmanager
async def opened_lanes(
    config: Config, *, clock: Clock, sinks: Collection[str]
) -> AsyncIterator[tuple[Store, list[Lane]]]:
    """Open the store and the lanes of these sinks, and nothing that asks the Ticket API."""
    _refuse_absent(problem for name in sinks for problem in config.absent_secrets("sinks", name))
    path = state_path(config)
    with locked(path):
        async with open_store(path) as store, open_outlets(config) as outlets:
            assembly = _Assembly(config, clock, store, outlets, dry_run=False)
            yield store, await assembly.lanes(sinks)


def _refuse_absent(absent: Iterable[Problem]) -> None:
    problems = list(absent)
    if problems:
        raise ProblemsFound(problems)


@dataclass
class _Assembly:
    """What the parts have in common while they are being built."""

    config: Config
    clock: Clock
    store: Store
    outlets: Outlets
    dry_run: bool
    reminders: Reminders = field(init=False)

    def __post_init__(self) -> None:
        self.reminders = Reminders(store=self.store, clock=self.clock)

    async def daemon(self) -> Daemon:
        model = self.config.model
        daemon = Daemon(
            store=self.store,
            clock=self.clock,
            pollers=[],
            discoveries=[],
            lanes=await self.lanes(model.sinks),
            history=model.storage.history,
        )
        routing = Routing(sinks=tuple(model.defaults.to or model.sinks))
        pollers = {name: self._poller(name, account, daemon, routing) for name, account in model.accounts.items()}
        daemon.pollers = list(pollers.values())
        self.outlets.fresh_attachments.sources = {name: (each.api, each.pacer) for name, each in pollers.items()}
        known: dict[str, list[TicketRow]] = {}
        for row in await self.store.tickets():
            known.setdefault(row.account, []).append(row)
        for name, watch in self.config.watches.items():
            account = self.config.account_of(watch)
            discovery = await self._watch(name, watch, pollers[account], known.get(account, []))
            daemon.discoveries += [discovery] if discovery else []
        self._connect_desktops(daemon)
        return daemon

    # --- desktops -----------------------------------------------------------------------------------------

    def _connect_desktops(self, daemon: Daemon) -> None:
        """Let desktops say that they are there and what is to be told again, and serve them a socket."""
        lanes = {lane.name: lane for lane in daemon.lanes}
        for sink in self.outlets.desktops:
            sink.on_ready = lanes[sink.name].recover
            sink.on_remind = partial(self.reminders.remind, sink.name)
            self.reminders.shown.append(sink)
            daemon.loops.append(sink.run)
        if self.outlets.desktops:
            socket = socket_beside(self.store.path.absolute(), self.config.vault.environ.get("RUNTIME_DIRECTORY"))
            daemon.loops.append(partial(self.outlets.desks.serve, socket))

    # --- accounts and watches -----------------------------------------------------------------------------

    def _poller(self, name: str, account: schema.AccountModel, daemon: Daemon, routing: Routing) -> Poller:
        return Poller(
            account=name,
            api=self._api(name, account),
            store=self.store,
            clock=self.clock,
            pacer=Pacer(self.clock, _pace(account)),
            routing=routing,
            on_recorded=daemon.on_recorded,
            on_read=self.reminders.was_read,
            uids=tuple(account.uids),
        )

    def _api(self, name: str, account: schema.AccountModel) -> TicketApiClient:
        proxy = reveal(account.proxy, self.config.vault) or None
        sources = Sources(self.outlets.session, self.clock, self.config.vault)
        return TicketApiClient(
            self.outlets.session,
            account=name,
            endpoint=address_of(account),
            credentials=CachedCredentials(sources.build(name, account.auth, proxy), self.clock),
            clock=self.clock,
            timeout=self.config.model.defaults.poll.timeout,
            proxy=proxy,
        )

    async def _watch(
        self, name: str, watch: schema.WatchModel, poller: Poller, known: list[TicketRow]
    ) -> Discovery | None:
        """Put the watch's tickets on the poller's list; return what finds further ones, if anything does."""
        model = self.config.model.accounts[poller.account]
        rule = WatchRule(
            name=name,
            since=await self.store.watch_since(name, now=self.clock.now()),
            first_run=watch.first_run or self.config.model.defaults.first_run,
            labels=watch.labels,
            ticket_url=model.console,
        )
        cadence = self._cadence(watch.poll)
        account = Account(name=poller.account, uid=_only(model.uids), site=model.site)
        rows = {row.ticket: row for row in known}
        since = await self.store.listed_since(poller.account, watch.tickets, now=self.clock.now())
        for number in watch.tickets:
            own = replace(rule, since=max(rule.since, since[number]))
            poller.enlist(_listed(number, rows.get(number), account, own, cadence))
        discover = watch.discover or (None if watch.tickets else schema.DiscoverModel())
        if discover is None:
            return None
        discovery = Discovery(
            poller=poller,
            api=poller.api,
            clock=self.clock,
            account=account,
            uids=tuple(model.uids) or ("",),
            rule=rule,
            cadence=cadence,
            statuses=frozenset(discover.status),
            created_within=discover.created_within,
            every=discover.every,
        )
        for row in known:
            if row.watch == name:
                discovery.resume(row, now=self.clock.now())
        return discovery

    def _cadence(self, own: schema.PollModel) -> Cadence:
        inherited = self.config.model.defaults.poll
        usual = Cadence()
        jitter = own.jitter if own.jitter is not None else inherited.jitter
        return Cadence(
            interval=own.interval or inherited.interval or usual.interval,
            idle_interval=own.idle_interval or inherited.idle_interval,
            jitter=usual.jitter if jitter is None else jitter,
        )

    # --- sinks --------------------------------------------------------------------------------------------

    async def lanes(self, names: Iterable[str]) -> list[Lane]:
        """Return the lanes of these sinks; what waits for sinks that are no longer configured is given up."""
        sinks: list[Sink] = [self.outlets.dry(name) if self.dry_run else self.outlets.build(name) for name in names]
        disabled = await self.store.disabled()
        lanes = []
        for sink in sinks:
            target, reason = disabled.get(sink.name, ("", ""))
            if reason and target != sink.target:
                await self.store.enable(sink.name)
                reason = ""
            lanes.append(
                Lane(
                    sink=sink,
                    store=self.store,
                    clock=self.clock,
                    policy=self._retry_policy(sink.name),
                    success="not sent (dry run)" if self.dry_run else "delivered",
                    disabled=f"the sink is switched off: {reason}" if reason else "",
                )
            )
        for name, count in (await self.store.waiting()).items():
            if name not in self.config.model.sinks and not self.dry_run:
                await self.store.bury(name, reason="the sink was removed from the configuration")
                log.warning("deliveries given up", sink=name, count=count, error="the sink is no longer configured")
        return lanes

    def _retry_policy(self, sink: str) -> RetryPolicy:
        own = self.config.model.sinks[sink].retry or self.config.model.defaults.retry
        return RetryPolicy(schedule=tuple(own.schedule))


def _listed(number: str, row: TicketRow | None, account: Account, rule: WatchRule, cadence: Cadence) -> Watched:
    """Return a ticket listed by hand, with what an earlier run knew of it."""
    watched = Watched(account=account, ticket=Ticket(id=number), rule=rule, cadence=cadence, is_listed=True)
    if row:
        watched.ticket = Ticket(id=number, title=row.title, status=TicketStatus(row.status))
        watched.account = replace(account, uid=account.uid or row.uid)
        watched.saved(error=row.error)
    return watched


def _pace(account: schema.AccountModel) -> Pace:
    return Pace(rate=account.quota, is_learnt=False) if account.quota else Pace()


def _only(uids: list[str]) -> str:
    return uids[0] if len(uids) == 1 else ""
