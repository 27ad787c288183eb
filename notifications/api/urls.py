"""The calls, each with and without a trailing slash. Mounted at /api/v1/ and, for older systems, at /."""

from rest_framework.routers import SimpleRouter

from notifications.api.batches import BatchViewSet
from notifications.api.inbox import InboxViewSet
from notifications.api.items import NotificationBatchViewSet
from notifications.api.stats import StatsViewSet
from notifications.api.suppressions import SuppressionViewSet
from notifications.api.views import NotificationViewSet, UserViewSet

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("notifications/batch", NotificationBatchViewSet, basename="notification-batch")
router.register("notifications", NotificationViewSet, basename="notification")
router.register("batches", BatchViewSet, basename="batch")
router.register("stats", StatsViewSet, basename="stats")
router.register("suppressions", SuppressionViewSet, basename="suppression")
router.register("users", UserViewSet, basename="user")

urlpatterns = router.urls

#: Of people's browsers. New, so there is no short form.
inbox_router = SimpleRouter()
inbox_router.trailing_slash = "/?"
inbox_router.register("inbox", InboxViewSet, basename="inbox")
