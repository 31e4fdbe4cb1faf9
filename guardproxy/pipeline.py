"""From a text to a decision. Read this first: everything that guards calls inspect(), and there is no more to it.

    text ─► runner: checks, each with its ladder and deadline ─► verdicts ─► policy.evaluate ─► decision
                                                                             (and a judge, if it says so)

A Guard is made once for a worker from a policy. An Inspection is one exchange's use of it: it holds the exchange's
pseudonyms and what was decided so far. A text in a document, a window of a stream and a part that is no text are all
subjects, and are treated alike, so the proxy, a batch and the command line cannot come to different decisions.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from guardproxy.audit import DecisionLog
from guardproxy.checks.runner import BREATH, Judged, Runner
from guardproxy.enforce import merge, resolve, restorations
from guardproxy.escalation import JudgeClient
from guardproxy.policy.evaluate import combine, evaluate, needed
from guardproxy.policy.model import Policy
from guardproxy.stream import Subject
from guardproxy.telemetry import ExchangeSpan
from guardproxy.types import (
    Action,
    Decision,
    Edit,
    Escalation,
    Exchange,
    Outcome,
    Path,
    Scope,
    Segment,
    Side,
    Verdict,
    Window,
)
from guardproxy.vault import Vault
from guardproxy.wire.base import Located, Part


class Guard:
    """What judging needs and requests share: the policy, its checks and its judges. Holds nothing of any request."""

    def __init__(
        self,
        policy: Policy,
        runner: Runner,
        judges: Mapping[str, JudgeClient],
        log: DecisionLog,
        key: bytes,
        *,
        log_allowed: bool = False,
    ) -> None:
        """`key`: for keyed hashes. `judges`: by the names that the policy's rules use.

        `log_allowed`: what passes unchanged is logged as well.
        """
        self.policy = policy
        self.runner = runner
        self.judges = judges
        self.log = log
        self.key = key
        self.logs_all = log_allowed and log.enabled
        self.needed: Mapping[Scope, Sequence[str]] = needed(policy)
        self._questions: set[asyncio.Task[None]] = set()  # judges asked while the text has already passed

    def inspection(self, exchange: Exchange, span: ExchangeSpan, *, restores: bool = True) -> Inspection:
        """The start of one exchange. `restores`: it has an answer in which pseudonyms can be put back."""
        return Inspection(self, exchange, span, restores=restores)

    def later(self, asking: asyncio.Task[None]) -> None:
        """Keeps a task that nobody waits for until it is done."""
        self._questions.add(asking)
        asking.add_done_callback(self._questions.discard)

    @property
    def busy(self) -> bool:
        """Whether as many judges are being asked in the background as there may be."""
        return len(self._questions) >= 256

    async def close(self) -> None:
        """Ends what is asked in the background, and the connections of judges and backends."""
        for asking in tuple(self._questions):
            asking.cancel()
        for judge in self.judges.values():
            await judge.close()
        await self.runner.close()


def decided(policy: Policy, segment: Segment, judged: Sequence[Judged]) -> Decision:
    """What the policy says of a text, given what the checks say of its windows."""
    if not judged:
        return policy.allow
    return combine(
        [evaluate(policy, segment.scope, segment.role, each.verdicts, each.window) for each in judged], policy
    )


class Inspection:
    """One exchange, judged. Not for concurrent use of one side."""

    def __init__(self, guard: Guard, exchange: Exchange, span: ExchangeSpan, *, restores: bool = True) -> None:
        self._guard = guard
        self._restores = restores
        self._span = span
        self.exchange = exchange
        self._vault: Vault | None = None  # made when something is hidden
        self._decisions: dict[Side, list[Decision]] = {Side.REQUEST: [], Side.RESPONSE: []}
        self._verdicts: dict[Side, list[Verdict]] = {Side.REQUEST: [], Side.RESPONSE: []}
        self._answers: dict[str, str] = {}  # what judges said, by rule
        self._spent = {Side.REQUEST: 0.0, Side.RESPONSE: 0.0}

    async def inspect(self, side: Side, subjects: Sequence[Subject], budget: float | None = None) -> Decision:
        """What is done with these subjects, with final edits. Never raises for anything that a check does.

        `budget` in seconds; the policy's own if not given. Where checks answer at once, judging stops at the first
        subject that is blocked; where some have to be waited for, all subjects are judged side by side.
        """
        guard = self._guard
        started = time.monotonic()
        until = started + (guard.policy.deadline if budget is None else budget)
        decisions: list[Decision] = []
        wanted = self._wanted(subjects) if len(subjects) > 1 else guard.needed
        if guard.runner.waits and len(subjects) > 1:
            decisions = await asyncio.gather(*(self._one(side, subject, wanted, until) for subject in subjects))
        else:
            for number, subject in enumerate(subjects):
                if number % BREATH == BREATH - 1:
                    await asyncio.sleep(0)  # a request of very many texts holds up nobody else
                decision = await self._one(side, subject, wanted, until)
                if decision is not guard.policy.allow:
                    decisions.append(decision)
                    if decision.action is Action.BLOCK:
                        break
        combined = combine(decisions, guard.policy) if decisions else guard.policy.allow
        if combined.edits or (self._vault is not None and side is Side.RESPONSE):
            combined = self._final(side, combined, subjects)
        if combined is not guard.policy.allow:
            self._decisions[side].append(replace(combined, edits=()))
        self._spent[side] += time.monotonic() - started
        return combined

    async def document(self, side: Side, located: Located) -> Decision:
        """The same for all that was found in a document."""
        return await self.inspect(side, (*located.parts, *located.segments) if located.parts else located.segments)

    def _wanted(self, subjects: Sequence[Subject]) -> Mapping[Scope, Sequence[str]]:
        """The checks that have to look at each text; one look at all texts of a scope spares the others."""
        guard = self._guard
        texts: dict[Scope, list[Segment]] = {}
        for subject in subjects:
            if isinstance(subject, Segment):
                texts.setdefault(subject.scope, []).append(subject)
        wanted = dict(guard.needed)
        for scope, segments in texts.items():
            if len(segments) > 1 and wanted[scope]:
                wanted[scope] = guard.runner.closer(wanted[scope], segments)
        return wanted

    async def _one(self, side: Side, subject: Subject, wanted: Mapping[Scope, Sequence[str]], until: float) -> Decision:
        guard = self._guard
        if isinstance(subject, Part):
            return self._part(subject)
        segment = subject.segment if isinstance(subject, Window) else subject
        names = wanted[segment.scope]
        budget = until - time.monotonic()
        judged = await guard.runner.run(names, subject, budget, tenant=self.exchange.tenant) if names else ()
        self._note(side, guard.needed[segment.scope], judged)
        decision = decided(guard.policy, segment, judged)
        return await self._escalated(side, decision) if decision.escalations else decision

    def _part(self, part: Part) -> Decision:
        policy = self._guard.policy
        if policy.parts.get(part.kind, Action.BLOCK) is Action.ALLOW:
            return policy.allow
        return Decision(Action.BLOCK, policy.ref, (f"parts.{part.kind}",))

    def _note(self, side: Side, names: Sequence[str], judged: Sequence[Judged]) -> None:
        """Reports the checks' verdicts, and keeps those that say something for the record."""
        if not judged and not self._span.live:
            return
        clean = self._guard.runner.clean
        telling = [v for each in judged for v in each.verdicts if v is not clean(v.check)]
        self._verdicts[side] += telling
        for verdict in telling:
            self._span.verdict(side, verdict, 1)
        for name in names:
            if all(verdict.check != name for verdict in telling):
                self._span.verdict(side, clean(name), max(len(judged), 1))

    def _final(self, side: Side, decision: Decision, subjects: Sequence[Subject]) -> Decision:
        """The decision with what its edits are replaced by, and with the caller's own data put back into responses."""
        if self._vault is None:
            self._vault = Vault(secrets.token_hex(3) if self._restores else "")
        edits = resolve(_with_values(decision.edits, subjects), self._vault, self._guard.key)
        if side is Side.RESPONSE and self._vault:
            for subject in subjects:
                if not isinstance(subject, Part):
                    edits += restorations(subject, self._vault)
            edits = merge(edits)
        return replace(decision, edits=tuple(edits)) if edits else decision

    # -- judges -------------------------------------------------------------------------------------------------------

    async def _escalated(self, side: Side, decision: Decision) -> Decision:
        """The decision once the judges that it waits for have answered. Others are asked in the background."""
        now = [wish for wish in decision.escalations if wish.meanwhile is Action.BLOCK]
        for wish in decision.escalations:
            if wish.meanwhile is not Action.BLOCK:
                self._ask_later(side, wish)
        for violates in await asyncio.gather(*(self._ask(wish) for wish in now)):
            if violates is not False:  # yes, or no answer: what holds meanwhile goes on holding
                return replace(decision, action=Action.BLOCK, edits=(), escalations=())
        return decision

    async def _ask(self, wish: Escalation) -> bool | None:
        judge = self._guard.judges.get(wish.judge)
        if judge is None:
            return None
        answer = await judge.ask(wish.question, wish.text, deadline=judge.endpoint.deadline)
        verdict = {True: "violates", False: "does not violate", None: f"{answer.outcome}: {answer.reason}"}
        self._answers[wish.rule] = verdict[answer.violates]
        return answer.violates

    def _ask_later(self, side: Side, wish: Escalation) -> None:
        if self._guard.busy:
            self._answers[wish.rule] = "not asked: too many questions are open"
            return

        async def ask() -> None:
            await self._ask(wish)
            late = Decision(Action.ALLOW, self._guard.policy.ref, (wish.rule,), escalations=(wish,))
            self._guard.log.record(self.exchange, side, late, (), degraded=False, answers=self._answers, note="late")

        self._guard.later(asyncio.ensure_future(ask()))

    # -- the record ---------------------------------------------------------------------------------------------------

    def conclude(self, side: Side, note: str = "") -> None:
        """Writes down what was decided of this side. Once a side; later calls write nothing."""
        decisions, verdicts = self._decisions.pop(side, None), self._verdicts.pop(side, [])
        guard = self._guard
        if decisions is None or not (decisions or verdicts or self._span.live or guard.logs_all):
            return
        decision = combine(decisions, guard.policy)
        self._span.decision(side, decision, self._spent[side])
        if decisions or guard.logs_all or any(verdict.outcome is not Outcome.OK for verdict in verdicts):
            degraded = any(verdict.outcome is Outcome.DEGRADED for verdict in verdicts)
            guard.log.record(
                self.exchange, side, decision, verdicts, degraded=degraded, answers=self._answers, note=note
            )


def _with_values(edits: Sequence[Edit], subjects: Sequence[Subject]) -> list[Edit]:
    """The edits, with what stood at their places where the replacement depends on it."""
    if not any(edit.method in {"hash", "pseudonym"} for edit in edits):
        return list(edits)
    texts: dict[Path, tuple[str, int]] = {}
    for subject in subjects:
        if isinstance(subject, Window):
            texts[subject.segment.path] = subject.text, subject.context_start
        elif not isinstance(subject, Part):
            texts[subject.path] = subject.text, 0
            for piece in subject.pieces:
                texts[piece.path] = subject.text[piece.start : piece.end], 0
    out: list[Edit] = []
    for edit in edits:
        text, base = texts.get(edit.path, ("", 0))
        out.append(replace(edit, value=text[edit.start - base : edit.end - base]))
    return out
