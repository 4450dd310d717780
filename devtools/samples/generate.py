"""Generates the records. Each record is a pure function of the seed and its number.

So records can be generated in any order, and a million users need no more memory than ten. A record is a
`Draft`: the command that creates it and the later changes by staff, each with actor and reason. All ids are UUIDs of
version 5 in one namespace, so a record has the same id and the same idempotency keys on every machine.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Any, Final, NamedTuple

from backoffice.sections.forms.domain import CreateForm, DeleteForm, UpdateForm
from backoffice.sections.site_settings.domain import SetSetting
from backoffice.sections.submissions.domain import DeleteSubmission, ReceiveSubmission
from backoffice.sections.users.domain import CreateUser, DeleteUser, RestoreUser, UpdateUser
from devtools.samples import answers, catalogue, people
from devtools.samples.rhythm import Rhythm
from events.types import Command, CommandData

NAMESPACE: Final = uuid.UUID("6f0c1f5e-3a57-4d0e-9c1b-8f3f2b7a9d41")
HISTORY: Final = timedelta(days=270)

PLANS: Final = {"free": 68, "premium": 25, "enterprise": 7}
ROLES: Final = {"member": 80, "owner": 16, "partner": 4}
GONE: Final = 0.02  # share of users and forms that are deleted, some users only for a time; they own nothing


class Step(NamedTuple):
    """A later change of a record by a member of staff."""

    role: str
    reason: str
    data: CommandData


class Draft(NamedTuple):
    """A record to create: `name` identifies it permanently, `key` is its id."""

    name: str
    key: str
    create: CommandData
    steps: tuple[Step, ...] = ()

    def command(self, number: int) -> Command:
        """The command with this number in the record's history; 0 creates the record."""
        data = self.steps[number - 1].data if number else self.create
        reason = self.steps[number - 1].reason if number else None
        return Command(id=uuid.uuid5(NAMESPACE, f"{self.name}#{number}"), key=self.key, data=data, reason=reason)


def key_of(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


class World:
    """The records to generate: users, forms and submissions of the nine months before `until`."""

    def __init__(self, users: int, forms: int, submissions: int, *, until: datetime, seed: int = 0) -> None:
        self.sizes = {"user": users, "form": forms if users else 0, "submission": submissions if users and forms else 0}
        self.seed, self.until = seed, until
        start = until - HISTORY
        self._times = {
            "user": Rhythm(start, until, growth=3.5),
            "form": Rhythm(start + timedelta(days=2), until, growth=4),
            "submission": Rhythm(start + timedelta(days=8), until, growth=6),
        }
        # Most submissions are for few forms, so a bounded cache of forms is enough.
        self.form = lru_cache(maxsize=4096)(self._form)
        self.template = lru_cache(maxsize=65_536)(self._template)
        self._appeal = lru_cache(maxsize=65_536)(self._popularity)

    def name(self, kind: str, number: int) -> str:
        return f"{self.seed}/{kind}/{number}"

    def key(self, kind: str, number: int) -> str:
        """The id of a record, without creating the record."""
        return key_of(self.name(kind, number))

    def draft(self, kind: str, number: int) -> Draft:
        """Generate record `number` of a kind; smaller numbers are older."""
        makers: dict[str, Callable[[int], Draft]]
        makers = {"user": self.user, "form": self.form, "submission": self.submission}
        return makers[kind](number)

    # -- users -------------------------------------------------------------------------------------------------------

    def user(self, number: int) -> Draft:
        rng, name = self._rng("user", number), self.name("user", number)
        first_name, last_name, email = people.person(number, self.seed)
        created = self._time("user", number, rng)
        plan = rng.choices(list(PLANS), list(PLANS.values()))[0]
        create = CreateUser(
            email=email,
            first_name=first_name,
            last_name=last_name,
            plan=plan,  # type: ignore[arg-type]
            role=rng.choices(list(ROLES), list(ROLES.values()))[0],  # type: ignore[arg-type]
            created_at=created,
            last_login=self._last_login(created, rng),
        )
        create, steps = _user_history(create, rng)
        if self._is_deleted("user", number):
            steps += _closed(rng)
        return Draft(name, key_of(name), create, steps)

    def _last_login(self, created: datetime, rng: Random) -> datetime | None:
        """A random last sign-in: days ago for most users, months ago for some, None for others."""
        if rng.random() < 0.07:
            return None
        days = rng.expovariate(1 / 4) if rng.random() < 0.6 else rng.uniform(7, 200)
        return max(created, self.until - timedelta(days=days)).replace(microsecond=0)

    # -- forms -------------------------------------------------------------------------------------------------------

    def _form(self, number: int) -> Draft:
        rng, name = self._rng("form", number), self.name("form", number)
        template = self.template(number)
        owner = self._owner(number, rng)
        joined: datetime = owner.create.created_at  # type: ignore[attr-defined]
        created = self._after(joined, timedelta(minutes=5), self._time("form", number, rng))
        create = CreateForm(
            user_id=uuid.UUID(owner.key),
            title=_title(template, created, rng),
            description=template.description,
            fields=_chosen_fields(template, rng),
            created_at=created,
        )
        create, steps = _form_history(create, rng)
        if self._is_deleted("form", number):
            steps += (Step("manager", "Duplicate, asked for by the owner", DeleteForm()),)
        elif self.until - created > timedelta(days=75) and rng.random() < 0.18:
            steps += (Step("agent", "The campaign is over", UpdateForm(archived=True)),)
        return Draft(name, key_of(name), create, steps)

    def _template(self, number: int) -> catalogue.Template:
        """The template from which form `number` is created."""
        weights = [template.weight for template in catalogue.TEMPLATES]
        return self._rng("template", number).choices(catalogue.TEMPLATES, weights)[0]

    def _owner(self, number: int, rng: Random) -> Draft:
        """Choose an owner among earlier users: the most active of a few, so that few users own most forms."""
        moment = self._times["form"].at(number / self.sizes["form"])
        known = self._count_before("user", moment)
        drawn = [each for each in (rng.randrange(known) for _ in range(3)) if not self._is_deleted("user", each)]
        return self.user(max(drawn, key=lambda each: self._noise("keen", each), default=0))

    # -- submissions -------------------------------------------------------------------------------------------------

    def submission(self, number: int) -> Draft:
        rng, name = self._rng("submission", number), self.name("submission", number)
        moment = self._time("submission", number, rng)
        place = self._answered_form(moment, rng)
        form, template = self.form(place), self.template(place)
        opened: datetime = form.create.created_at  # type: ignore[attr-defined]
        created = self._after(opened, timedelta(hours=1), moment)
        seconds = _duration(template, rng)
        create = ReceiveSubmission(
            form_id=uuid.UUID(form.key),
            answers=answers.fill_in(
                final_fields(form), answers.respondent(rng, created, french=template.language == "fr")
            ),
            started_at=created - timedelta(seconds=seconds) if seconds is not None else None,
            completion_time=seconds,
            created_at=created,
        )
        steps = (Step("manager", "Spam", DeleteSubmission()),) if rng.random() < 0.004 else ()
        return Draft(name, key_of(name), create, steps)

    def _answered_form(self, moment: datetime, rng: Random) -> int:
        """Choose the form answered at this moment: a few are far more popular, and most get their answers when new."""
        known = self._count_before("form", moment)
        drawn = [int(rng.random() * known) for _ in range(5)]
        pulls = [self._pull(each, moment) for each in drawn]
        return rng.choices(drawn, pulls)[0] if any(pulls) else 0

    def _pull(self, form: int, moment: datetime) -> float:
        born, fame = self._appeal(form)
        days = (moment - born) / timedelta(days=1)
        return fame * (0.06 + math.exp(-max(0.0, days) / 35))

    def _popularity(self, form: int) -> tuple[datetime, float]:
        """The approximate creation time of a form, and its popularity; 0 for a form that is deleted in the end."""
        born = self._times["form"].at(form / self.sizes["form"])
        return born, 0.0 if self._is_deleted("form", form) else (1.02 - self._noise("fame", form)) ** -0.9

    # -- time and chance ---------------------------------------------------------------------------------------------

    def _rng(self, kind: str, number: int) -> Random:
        return Random(f"{self.seed}/{kind}/{number}")  # noqa: S311 - generated data

    def _noise(self, kind: str, number: int) -> float:
        """A pseudo-random number in [0, 1) for a record, at a fraction of the cost of `Random`."""
        value = (number + len(kind) * 0x9E3779B97F4A7C15 + self.seed * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of splitmix64
            value = ((value ^ value >> shift) * factor) & 0xFFFFFFFFFFFFFFFF
        return (value ^ value >> 31) / 2**64

    def _is_deleted(self, kind: str, number: int) -> bool:
        """True when a record is deleted, some users only for a time; never number 0, as a fallback for owners."""
        return number > 0 and self._noise(f"gone {kind}", number) < GONE

    def _time(self, kind: str, number: int, rng: Random) -> datetime:
        return self._times[kind].at((number + rng.random()) / self.sizes[kind]).replace(microsecond=0)

    def _count_before(self, kind: str, moment: datetime) -> int:
        """The number of records of a kind that are older than `moment`; at least 1."""
        return max(1, int(self._times[kind].share(moment) * self.sizes[kind]))

    def _after(self, earlier: datetime, gap: timedelta, moment: datetime) -> datetime:
        return min(max(moment, earlier + gap), self.until)


# -- histories of users -----------------------------------------------------------------------------------------------


def _user_history(final: CreateUser, rng: Random) -> tuple[CreateUser, tuple[Step, ...]]:
    """The command that creates the user, and the changes that lead to `final`."""
    began: dict[str, Any] = {}
    steps: list[Step] = []
    if final.plan != "free" and rng.random() < 0.5:
        began["plan"] = "free"
        steps.append(Step("manager", "Upgraded after the trial", UpdateUser(plan=final.plan)))
    elif final.plan == "free" and rng.random() < 0.06:
        began["plan"] = "premium"
        steps.append(Step("manager", "Cancelled by the customer", UpdateUser(plan="free")))
    if rng.random() < 0.07:
        mailbox, _, domain = final.email.partition("@")
        began["email"] = f"{mailbox}@old.{domain}"
        steps.append(Step("manager", "Asked by phone, identity checked", UpdateUser(email=final.email)))
    if rng.random() < 0.06:
        began["first_name"], began["last_name"] = final.last_name, final.first_name
        names = UpdateUser(first_name=final.first_name, last_name=final.last_name)
        steps.append(Step("agent", "First and last name were swapped", names))
    if final.role != "member" and rng.random() < 0.4:
        began["role"] = "member"
        steps.append(Step("manager", "New contact person", UpdateUser(role=final.role)))
    rng.shuffle(steps)
    return _replaced(final, began), tuple(steps)


def _closed(rng: Random) -> tuple[Step, ...]:
    closed = Step("dpo", "Asked for their account to be closed", DeleteUser())
    if rng.random() < 0.75:
        return (closed,)
    return closed, Step("dpo", "Changed their mind within the period", RestoreUser())


# -- histories of forms -----------------------------------------------------------------------------------------------


def _title(template: catalogue.Template, created: datetime, rng: Random) -> str:
    title = template.title.format(rng.choice(template.subjects))
    if rng.random() < 0.45:
        season = catalogue.SEASONS[template.language][created.month % 12 // 3]
        title += f" – {season} {created.year}"
    return title


def _chosen_fields(template: catalogue.Template, rng: Random) -> list[dict[str, Any]]:
    """The fields of the template that this owner keeps: all required ones and most of the others."""
    kept = [field for field in template.fields if field["required"] or rng.random() < 0.88]
    ids = {field["id"] for field in kept}
    return [dict(field) for field in kept if "if" not in field or field["if"]["field"] in ids]


def _form_history(final: CreateForm, rng: Random) -> tuple[CreateForm, tuple[Step, ...]]:
    """The command that creates the form, and the changes that lead to `final`."""
    began: dict[str, Any] = {}
    steps: list[Step] = []
    if rng.random() < 0.14:
        began["title"] = final.title.partition(" – ")[0].upper()
        steps.append(Step("agent", "Title in capitals, the owner asked to change it", UpdateForm(title=final.title)))
    if rng.random() < 0.16:
        began["fields"] = final.fields[:-1]
        steps.append(Step("agent", "Question added for the owner", UpdateForm(fields=final.fields)))
    elif rng.random() < 0.12:
        began["fields"] = [{**final.fields[0], "required": False, "help": ""}, *final.fields[1:]]
        steps.append(Step("manager", "First question made required", UpdateForm(fields=final.fields)))
    if rng.random() < 0.1:
        began["description"] = ""
        steps.append(Step("agent", "Description added", UpdateForm(description=final.description)))
    return _replaced(final, began), tuple(steps)


def final_fields(form: Draft) -> list[dict[str, Any]]:
    """The form's fields after all its changes; submissions answer these."""
    fields: list[dict[str, Any]] = form.create.fields  # type: ignore[attr-defined]
    for step in form.steps:
        if isinstance(step.data, UpdateForm) and isinstance(step.data.fields, list):
            fields = step.data.fields
    return fields


def _duration(template: catalogue.Template, rng: Random) -> float | None:
    """Seconds from opening the form to sending it: log-normal, sometimes unknown."""
    if rng.random() < 0.06:
        return None
    return round(min(3000.0, rng.lognormvariate(math.log(template.minutes * 60), 0.55)), 1)


def _replaced(data: Any, changes: dict[str, Any]) -> Any:
    values = {name: getattr(data, name) for name in data.__struct_fields__}
    return type(data)(**values | changes)


# -- settings ---------------------------------------------------------------------------------------------------------

_SETTINGS: Final[dict[str, tuple[Any, ...]]] = {
    "signup.open": (True,),
    "signup.allowed_domains": ([],),
    "limits.free.forms": (5, 3),
    "limits.free.submissions_per_month": (500, 250),
    "limits.premium.forms": (50,),
    "limits.enterprise.forms": (1000,),
    "mail.sender": ("FormEase <hello@example.org>",),
    "mail.footer": ({"en": "FormEase, made with care", "fr": "FormEase, fait avec soin"},),
    "maintenance.window": (
        {"day": "sunday", "from": "02:00", "to": "04:00", "zone": "Europe/Paris"},
        {"day": "sunday", "from": "03:00", "to": "04:30", "zone": "Europe/Paris"},
    ),
    "retention.submissions_days": (1095, 730),
    "exports.formats": (["csv", "xlsx", "json"],),
    "support.hours": ({"monday-friday": ["08:00", "19:00"], "saturday": ["09:00", "13:00"]},),
}


def settings() -> Iterator[Draft]:
    """Sample settings; the first value of each creates it, a second one is a later change."""
    for key, (first, *later) in _SETTINGS.items():
        steps = tuple(Step("admin", "Decided in the monthly review", SetSetting(value=value)) for value in later)
        yield Draft(f"setting/{key}", key, SetSetting(value=first), steps)
