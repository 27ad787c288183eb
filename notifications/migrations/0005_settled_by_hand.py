"""An operator's word about an `unknown` one. An older release, which does not know the column, inserts the default."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0004_heartbeat_version")]

    operations = [
        migrations.AlterModelOptions(
            name="notification",
            options={
                "ordering": ("-id",),
                "permissions": (
                    ("resend_notification", "Can send a notification once more"),
                    ("retry_notification", "Can have a waiting notification tried now"),
                    ("cancel_notification", "Can cancel a waiting notification"),
                    ("settle_notification", "Can say what became of an unknown notification"),
                ),
            },
        ),
        migrations.AddField(
            model_name="notification",
            name="settled_by_hand",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
    ]
