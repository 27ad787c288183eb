"""The indexes of the console's lists. Concurrently: the tables may be large, and sending goes on."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

# Django's log has no index on what it is about, and the timeline of every notification asks for that.
LOG_OF_OBJECT = (
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS admin_log_object "
    "ON django_admin_log (object_id, content_type_id)"
)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("notifications", "0010_console"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("status__in", ("failed", "unknown", "expired", "cancelled"))),
                fields=["status", "id"],
                name="notification_trouble",
            ),
        ),
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("failure_code", ""), _negated=True),
                fields=["failure_code", "id"],
                name="notification_failure",
            ),
        ),
        migrations.RunSQL(LOG_OF_OBJECT, "DROP INDEX CONCURRENTLY IF EXISTS admin_log_object"),
    ]
