"""Alerts, their rules and silences."""

from __future__ import annotations

from functools import partial

from django.utils.translation import gettext_lazy as _

from backoffice import access, navigation, topics
from backoffice.section import HeaderItem, Section
from events.rebuild.read_tables import ReadTable
from metrics.monitoring.alerting import domain, kinds, machine, metric_names, pages, projection, rules
from realtime.topics import Topic

_sees_alerts = partial(access.sees, domain.CATEGORY)


SECTION = Section(
    name="alerting",
    kinds=(kinds.RULE, kinds.SILENCE),
    navigation=(
        *navigation.of_pages("running", _sees_alerts, (_("Alerts"), "admin:alerts_list", "bell", "a")),
        navigation.of_kind(kinds.RULE, group="running"),
        navigation.of_kind(kinds.SILENCE, group="running"),
    ),
    header=(HeaderItem(template="admin/backoffice/alerts/bell.html", context=pages.bell, visible=_sees_alerts),),
    admin_urls=pages.urls,
    api_urls="metrics.monitoring.alerting.api",
    api_shapes="metrics.monitoring.alerting.shapes",
    scopes=("alerts",),
    # view, acknowledge, comment, close, escalate
    rights={domain.CATEGORY: kinds.ALERT_RIGHTS},
    topics=(
        Topic(
            name="alerts",
            categories=(domain.CATEGORY,),
            may_subscribe=topics.may_work,
            projection_key=access.projection_key,
            project=topics.show,
        ),
    ),
    aggregates=(machine.AGGREGATE,),
    before={rules.CATEGORY: metric_names.demand_known},
    read_tables=(
        ReadTable(name="metrics_alert", category=domain.CATEGORY, project=projection.write_alerts),
        ReadTable(name="metrics_alert_episode", category=domain.CATEGORY, project=projection.write_episodes),
    ),
)
