"""Who may take the ledger out as a file. Changes no table."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("notifications", "0011_console_indexes")]

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
                    ("export_notification", "Can download notifications, with their addresses"),
                ),
            },
        )
    ]
