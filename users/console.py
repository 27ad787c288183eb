"""What all pages of the console share: a typed base class, whose rows one sees, a paginator for big tables, details, and
no deletion."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from django.contrib.admin import RelatedFieldListFilter, ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from users.models import Project
from users.reach import project_ids_of, sees_everything, within

if TYPE_CHECKING:
    # django-unfold has no types; for what we use, Django's hold.
    from django.contrib.admin import ModelAdmin as ModelAdmin
    from django.forms import ModelForm as ModelForm

    _Paginator = Paginator[Any]
else:
    from django import forms
    from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
    from unfold import admin as unfold

    _Paginator = Paginator

    class ModelAdmin(unfold.ModelAdmin):
        def __class_getitem__(cls, model: type) -> type:
            return cls

        def formfield_for_dbfield(
            self, db_field: Any, request: HttpRequest, **kwargs: Any
        ) -> forms.Field | None:
            """Without unfold's menu beside a choice, which leads away from the form and which no key opens."""
            field = super().formfield_for_dbfield(db_field, request, **kwargs)
            if isinstance(getattr(field, "widget", None), RelatedFieldWidgetWrapper):
                field.widget = field.widget.widget
            return field

    class ModelForm(forms.ModelForm):
        def __class_getitem__(cls, model: type) -> type:
            return cls


def badge(kind: str, words: object) -> SafeString:
    """`kind` is a status, or what has the colour of one (static/notifyproj/admin.css)."""
    return format_html('<span class="ntf-badge ntf-{}">{}</span>', kind, words)


#: Rows a list counts and pages through; a search or a filter reaches the others.
MOST_COUNTED = 1_000


class BoundedPaginator(_Paginator):
    """Counts no further than `MOST_COUNTED`: on a table of millions, COUNT(*) takes seconds."""

    template_name = "admin/bounded_pagination.html"

    @cached_property
    def _counted(self) -> int:
        rows = cast("QuerySet[Any]", self.object_list)
        return rows[: MOST_COUNTED + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST_COUNTED)

    @property
    def has_more(self) -> bool:
        return self._counted > MOST_COUNTED


class BoundedChangeList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """Without the heading's "Show all", which is what this list cannot do."""
        super().get_results(request)
        self.full_result_count = self.result_count


class BigTableAdmin(ModelAdmin[Any]):
    """A list over a table that may have millions of rows."""

    paginator = BoundedPaginator
    show_full_result_count = False
    #: "Show counts" beside the filters would count the whole table for each.
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    #: "Show all" would.
    list_max_show_all = 0

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedChangeList


class OfProject(ModelAdmin[Any]):
    """Rows of projects: those of a project that is out of reach are, for this person, not there.

    All of the admin's own pages look through `get_queryset`; a view of one's own must, too.
    """

    #: Leads from a row to its project, as in a filter.
    project_path = "project"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return within(request.user, super().get_queryset(request), self.project_path)

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.related_model is Project:
            kwargs["queryset"] = within(request.user, Project.objects.all(), "pk")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class OfTheWholeService(ModelAdmin[Any]):
    """Of no project, so for nobody who is limited to some: who limited him could otherwise be overruled."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return sees_everything(request.user) and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user) and super().has_delete_permission(request, obj)


class ReachableProjectFilter(RelatedFieldListFilter):
    """The projects that this person sees, and no others' names."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        ids = project_ids_of(request.user)
        limit = {} if ids is None else {"pk__in": ids}
        ordering = self.field_admin_ordering(field, request, model_admin)
        return field.get_choices(include_blank=False, ordering=ordering, limit_choices_to=limit)


class WithDetails(ModelAdmin[Any]):
    """A page about one row that shows more of it than its fields."""

    def details(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What joins the context of the page."""
        raise NotImplementedError

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Where Django has read the row and checked the rights, so that neither is done twice."""
        if obj is not None:
            context = {**context, **self.details(request, obj)}
        return super().render_change_form(request, context, add, change, form_url, obj)


class NeverDeleted(ModelAdmin[Any]):
    """Others hang on it: it is revoked or deactivated instead, and the ledger keeps it."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
