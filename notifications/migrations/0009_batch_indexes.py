"""The indexes of batches' rows. Concurrently: the table may be large, and sending goes on."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Lower

# What UniqueConstraint makes, which Django cannot make concurrently.
ROW_OF_BATCH = (
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS notification_row_of_batch "
    "ON notifications_notification (flow_id, row_number) WHERE row_number IS NOT NULL"
)
ONCE_PER_ADDRESS = (
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS notification_once_per_address "
    "ON notifications_notification (flow_id, lower(address)) WHERE once_per_address AND address <> ''"
)
DROP = "DROP INDEX CONCURRENTLY IF EXISTS {}"


def unique(constraint: models.UniqueConstraint, statement: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        statement,
        DROP.format(constraint.name),
        state_operations=[migrations.AddConstraint("notification", constraint)],
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("notifications", "0008_batches")]

    operations = [
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                fields=["flow", "id"],
                name="notification_batch",
                condition=models.Q(("row_number__isnull", False)),
            ),
        ),
        unique(
            models.UniqueConstraint(
                fields=("flow", "row_number"),
                name="notification_row_of_batch",
                condition=models.Q(("row_number__isnull", False)),
            ),
            ROW_OF_BATCH,
        ),
        unique(
            models.UniqueConstraint(
                "flow",
                Lower("address"),
                name="notification_once_per_address",
                condition=models.Q(
                    ("once_per_address", True), models.Q(("address", ""), _negated=True)
                ),
            ),
            ONCE_PER_ADDRESS,
        ),
    ]
