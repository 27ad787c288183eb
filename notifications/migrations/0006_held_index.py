"""What waits for an operator's word; what an operator resent before the column existed does not.

Concurrently, and apart from the new column's lock: the table may be large, and sending goes on.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

MARK_RESENT = """
UPDATE notifications_notification n SET settled_by_hand = true
FROM notifications_notification newer
WHERE newer.resend_of_id = n.id AND n.status = 'unknown' AND n.review_at IS NULL
"""


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0005_settled_by_hand")]

    operations = [
        migrations.RunSQL(MARK_RESENT, migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                condition=models.Q(
                    ("review_at", None), ("settled_by_hand", False), ("status", "unknown")
                ),
                fields=["id"],
                name="notification_held",
            ),
        ),
    ]
