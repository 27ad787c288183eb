"""The pages of `/try/`."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db import transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from rest_framework.exceptions import ValidationError

from notifications import intake
from notifications.admin.preview import preview
from notifications.admin.refreshing import refreshed
from notifications.api.errors import plain_problem
from notifications.inbox.entry import entry_for
from notifications.models import Priority
from notifications.playground import sent
from notifications.playground.carriers import carriers
from notifications.playground.curl import curl
from notifications.playground.forms import TryForm
from notifications.playground.visitors import Visitor, for_visitors
from users.api.fields import UserIdField, refuse_unreachable
from users.models import Project, Recipient
from users.refusals import Refused

LEFT, RIGHT = "ada", "ben"
_USER_ID = UserIdField()
#: Of the recipients whose inbox was opened in this session; each is logged once.
OPENED = "try_opened"


@dataclass(frozen=True, slots=True)
class Stage:
    """What the page's URL says: in which project one sends, and whose bells are shown."""

    project: Project | None
    projects: list[Project]
    left: str
    right: str
    refusal: str

    @property
    def query(self) -> str:
        project = [("project", str(self.project.pk))] if self.project else []
        return urlencode([("left", self.left), ("right", self.right), *project])

    @property
    def path(self) -> str:
        return f"{reverse('try')}?{self.query}"

    @property
    def people(self) -> list[str]:
        return [self.left, self.right]


@for_visitors("GET", "HEAD", "POST")
def page(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Shows the form by GET, sends by POST, and goes back to itself: a reload sends nothing twice."""
    stage = _stage_of(request, visitor)
    if request.method != "POST":
        return _shown(request, visitor, stage, TryForm(initial={"recipient": stage.left}))
    form = TryForm(request.POST)
    if form.is_valid() and _send(request, visitor, stage, form):
        return redirect(stage.path)
    return _shown(request, visitor, stage, form, status=400)


@for_visitors("GET", "HEAD")
def sent_list(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The list alone, for the page to show what became of them meanwhile."""
    return refreshed(request, "try/sent.html", _sent_context(request, visitor))


@for_visitors("GET", "HEAD")
def message(request: HttpRequest, visitor: Visitor, pk: str) -> HttpResponse:
    """One that this visitor has sent, as its receiver sees it."""
    notification = sent.one_of(visitor, request.session, pk)
    context = {
        "notification": notification,
        "preview": preview(notification),
        "query": request.GET.urlencode(),
    }
    return render(request, "try/message.html", context)


@for_visitors("POST")
def token(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """An inbox token for one of the two people of the page. Somebody new is made."""
    project = _project_of(request, visitor)
    if project is None:
        return plain_problem(request, 409, "no_project", "There is no project yet.")
    try:
        user_id = _user_id(request.POST.get("user", ""))
    except ValidationError as error:
        return plain_problem(request, 400, "invalid", f"user: {_words_of(error)}")
    entry = entry_for(project.pk, user_id, live=True)
    if visitor.user:
        _log_once(request, visitor, project, user_id)
    return JsonResponse({"token": entry.token, "expires_at": entry.expires_at})


# --- What the URL says -------------------------------------------------------------------------------


def _stage_of(request: HttpRequest, visitor: Visitor) -> Stage:
    refusals: list[str] = []

    def person(name: str, usual: str) -> str:
        try:
            return _user_id(request.GET.get(name, usual))
        except ValidationError as error:
            refusals.append(f"{name}: {_words_of(error)}")
            return usual

    left, right = person("left", LEFT), person("right", RIGHT)
    project, projects = _project_of(request, visitor), list(visitor.projects())
    return Stage(project, projects, left, right, " ".join(refusals))


def _user_id(text: str) -> str:
    """As the API takes it. Raises ValidationError."""
    return refuse_unreachable(_USER_ID.run_validation(text))


def _words_of(error: ValidationError) -> str:
    return " ".join(str(detail) for detail in error.detail)


def _project_of(request: HttpRequest, visitor: Visitor) -> Project | None:
    """The one that the URL names, else the first; None where there is none. Raises Http404 for one out of reach."""
    wanted = request.GET.get("project")
    if wanted is None:
        return visitor.projects().first()
    is_number = wanted.isascii() and wanted.isdecimal() and len(wanted) < 19
    found = visitor.projects().filter(pk=int(wanted)).first() if is_number else None
    if found is None:
        raise Http404
    return found


# --- Sending and showing -----------------------------------------------------------------------------


def _send(request: HttpRequest, visitor: Visitor, stage: Stage, form: TryForm) -> bool:
    """False, with the refusal in the form, where it cannot be sent."""
    if stage.project is None:
        form.add_error(None, "There is no project yet, so nobody to send for.")
        return False
    submission = form.submission(stage.project.pk, is_staff=visitor.user is not None)
    try:
        with transaction.atomic():
            notification = intake.submit(submission).notification
            _log(visitor, notification, ADDITION, "Sent from the page to try it.")
    except Refused as refusal:
        form.refuse(refusal)
        return False
    sent.remember(request.session, notification)
    return True


def _log(visitor: Visitor, row: Model, flag: int, words: str) -> None:
    """In development, who is not signed in is nobody to be named."""
    if visitor.user:
        LogEntry.objects.log_actions(visitor.user.pk, [row], flag, words, single_object=True)


def _log_once(request: HttpRequest, visitor: Visitor, project: Project, user_id: str) -> None:
    """Who looks into another person's inbox is known by name; a bell that is shown again is no news."""
    recipient = Recipient.objects.get(project=project, user_id=user_id)
    opened = request.session.get(OPENED, [])
    if recipient.pk in opened:
        return
    _log(visitor, recipient, CHANGE, "Opened the inbox on the page to try it.")
    request.session[OPENED] = [*opened, recipient.pk]


def _shown(
    request: HttpRequest, visitor: Visitor, stage: Stage, form: TryForm, status: int = 200
) -> HttpResponse:
    context = {
        "visitor": visitor,
        "stage": stage,
        "form": form,
        "priorities": Priority.choices,
        "carriers": carriers(is_staff=visitor.user is not None),
        "base_url": _base_url(request),
        "curl": curl(_base_url(request), form.body()),
        **_sent_context(request, visitor),
    }
    return render(request, "try/page.html", context, status=status)


def _sent_context(request: HttpRequest, visitor: Visitor) -> dict[str, object]:
    rows = sent.rows_of(visitor, request.session)
    # So that one comes back to the same two people.
    return {"rows": rows, "is_moving": sent.is_moving(rows), "query": request.GET.urlencode()}


def _base_url(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"
