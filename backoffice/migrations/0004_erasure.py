"""When a user or a form was erased; the address that stands for an erased one may be there many times."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0003_conflicts")]
    operations = [
        migrations.RemoveConstraint(model_name="user", name="users_email_once"),
        migrations.AddField(
            model_name="form",
            name="erased_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="erased at"),
        ),
        migrations.AddField(
            model_name="user",
            name="erased_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="erased at"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                models.F("email"),
                condition=models.Q(("deleted_at", None), models.Q(("email", "erased"), _negated=True)),
                name="users_email_once",
            ),
        ),
    ]
