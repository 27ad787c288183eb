"""Every path of the service."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from notifications import hooks, views
from notifications.api.urls import inbox_router
from notifications.playground import pages

urlpatterns = [
    path("", views.index, name="index"),
    path("try/", pages.page, name="try"),
    path("try/sent", pages.sent_list, name="try_sent"),
    path("try/token", pages.token, name="try_token"),
    re_path(r"^try/messages/(?P<pk>[^/]+)$", pages.message, name="try_message"),
    path("livez", views.livez, name="livez"),
    path("readyz", views.readyz, name="readyz"),
    path(settings.ADMIN_PATH, admin.site.urls),
    re_path(r"^docs/?$", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    re_path(r"^api/schema/?$", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"^api/v1/health/?$", views.HealthView.as_view(), name="health"),
    re_path(r"^health/?$", views.HealthView.as_view()),
    re_path(r"^hooks/(?P<provider>[a-z0-9_]+)/?$", hooks.receive, name="hook"),
    re_path(r"^hooks/(?P<provider>[a-z0-9_]+)/(?P<link>[^/]+)/?$", hooks.receive),
    path("api/v1/", include(inbox_router.urls)),
    path("api/v1/", include("notifications.api.urls")),
    # The short forms that the older systems used.
    path("", include("notifications.api.urls")),
]

handler400 = "notifications.views.bad_request"
handler404 = "notifications.views.not_found"
handler500 = "notifications.views.server_error"
