"""What all pages of the console share: a typed base class, a paginator for big tables, and no deletion."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from django.contrib.admin import ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

if TYPE_CHECKING:
    # django-unfold has no types; for what we use, Django's hold.
    from django.contrib.admin import ModelAdmin as ModelAdmin
    from django.forms import ModelForm as ModelForm

    _Paginator = Paginator[Any]
else:
    from django import forms
    from unfold import admin as unfold

    _Paginator = Paginator

    class ModelAdmin(unfold.ModelAdmin):
        def __class_getitem__(cls, model: type) -> type:
            return cls

    class ModelForm(forms.ModelForm):
        def __class_getitem__(cls, model: type) -> type:
            return cls


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


class NeverDeleted(ModelAdmin[Any]):
    """Others hang on it: it is revoked or deactivated instead, and the ledger keeps it."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
