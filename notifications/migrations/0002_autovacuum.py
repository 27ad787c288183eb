"""A queue's tables change all the time: vacuum them after thousands of rows, not after a fifth of them all.

Behind 243,000 dead rows a claim was measured at 14 ms, against 1 ms after the vacuum. `fillfactor` leaves room on a
page for the new version of a row.
"""

from django.db import migrations

TABLES = ("notifications_notification", "notifications_attempt")
SETTINGS = (
    "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_analyze_scale_factor = 0.02"
)
NAMES = (
    "fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, "
    "autovacuum_analyze_scale_factor"
)


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET ({SETTINGS})", f"ALTER TABLE {table} RESET ({NAMES})"
        )
        for table in TABLES
    ]
