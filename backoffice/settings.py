"""All configuration, read only from environment variables.

A missing or malformed variable ends the process with one line that names it. In development `manage.py up` writes
DATA_DIR/services.env, so that other commands find the services that it started.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import environ
from django.utils.translation import gettext_lazy as _

from backoffice import __version__, environment, logging_settings, scheduled_tasks
from backoffice.environment import read, stop
from events import valkey_urls
from events.db import primary, session
from events.privacy import master_keys

BASE_DIR = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET = "development-only-secret-not-for-production"  # noqa: S105 - refused when DEBUG is off
# Secrets that were in the Dockerfile of earlier releases, and so are public.
PUBLISHED_SECRETS = {"only-for-this-build-step-never-used-again"}

env = environ.Env()

# An empty variable counts as unset, also for `manage.py up`.
for address in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY"):
    if not os.environ.get(address, "unset").strip():
        del os.environ[address]

DEBUG = read("DEBUG", environment.switch, True)
DATA_DIR = read("DATA_DIR", environment.folder, BASE_DIR / ".local") or BASE_DIR / ".local"
ARCHIVE_DIR = read("ARCHIVE_DIR", environment.folder, DATA_DIR / "archive") or DATA_DIR / "archive"
PORT = read("PORT", environment.whole(1, 65535), 8000)
# prometheus_client opens files in this folder on import, and fails with a traceback when it cannot.
metrics_dir = read("PROMETHEUS_MULTIPROC_DIR", environment.folder, None)
if metrics_dir is not None and not (metrics_dir.is_dir() and os.access(metrics_dir, os.W_OK)):
    stop(f"PROMETHEUS_MULTIPROC_DIR={str(metrics_dir)!r} is not a writable folder")

if DEBUG and "DATABASE_URL" not in os.environ and (DATA_DIR / "services.env").is_file():
    environ.Env.read_env(DATA_DIR / "services.env")

SECRET_KEY = read("SECRET_KEY", environment.text, DEVELOPMENT_SECRET if DEBUG else "")
if not DEBUG and (not SECRET_KEY or SECRET_KEY == DEVELOPMENT_SECRET or len(SECRET_KEY) < 32):
    stop("SECRET_KEY must be set to at least 32 random characters when DEBUG=0")
if SECRET_KEY in PUBLISHED_SECRETS:
    stop("SECRET_KEY is a published example: set one of your own (openssl rand -base64 48)")

# The master keys of personal data, "<id>:<32 bytes in base64>", the current one first; see
# events/privacy/master_keys.py.
try:
    PRIVACY_KEYS = master_keys.parse(read("PRIVACY_KEYS", environment.text, ""))
except ValueError as error:
    stop(f"PRIVACY_KEYS: {error}")
if not PRIVACY_KEYS and not DEBUG:
    stop("PRIVACY_KEYS must be set when DEBUG=0: <id>:$(head -c 32 /dev/urandom | base64)")
if not PRIVACY_KEYS:
    PRIVACY_KEYS = master_keys.derived(SECRET_KEY)
if not DEBUG and master_keys.derived(DEVELOPMENT_SECRET)["development"] in PRIVACY_KEYS.values():
    stop("PRIVACY_KEYS contains the development key, which is public")
for name, key in PRIVACY_KEYS.items():
    if len(set(key)) == 1 or key in {master_keys.derived(known)["development"] for known in PUBLISHED_SECRETS}:
        stop(f"PRIVACY_KEYS: {name!r} is a published example: set one of your own (head -c 32 /dev/urandom | base64)")

ALLOWED_HOSTS = read("ALLOWED_HOSTS", environment.hosts, ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not DEBUG and not ALLOWED_HOSTS:
    stop("ALLOWED_HOSTS must name this site's hosts when DEBUG=0")

# Exact origins (scheme, host, port) from which browsers may open the socket and post forms.
ALLOWED_ORIGINS: list[str] = read(
    "ALLOWED_ORIGINS",
    environment.origins,
    [f"http://{host}:{PORT}" for host in ("localhost", "127.0.0.1")]
    if DEBUG
    else [f"https://{host}" for host in ALLOWED_HOSTS if not host.startswith((".", "*"))],
)
CSRF_TRUSTED_ORIGINS = [origin for origin in ALLOWED_ORIGINS if origin.startswith("https://")]

# -- services -------------------------------------------------------------------------------------------------------

DATABASE_URL = read("DATABASE_URL", environment.postgres_address, "")
if not DATABASE_URL and not DEBUG:
    stop("DATABASE_URL must be set when DEBUG=0 (postgres://user:password@host:5432/name)")
DATABASES: dict[str, Any] = {"default": env.db_url_config(DATABASE_URL or "postgres://localhost/formease")}
if "," in DATABASES["default"]["HOST"]:  # several servers: only the primary accepts events
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("target_session_attrs", "read-write")
DATABASES["default"] |= {"CONN_MAX_AGE": 0, "ATOMIC_REQUESTS": False, "DISABLE_SERVER_SIDE_CURSORS": False}
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "application_name": os.environ.get("SERVICE_NAME", "backoffice"),
        "connect_timeout": 5,
        **session.TCP,
        # Poolers drop these options: `grant_application` sets them for the role too, and `doctor` checks them.
        "options": session.OPTIONS,
    }
)
DATABASE_POOL = read("DATABASE_POOL", environment.whole(1, 1000), 10)
# A command has one thread, and without a pool a wrong password ends it at once, with the reason.
IS_COMMAND = Path(sys.argv[0]).name == "manage.py" and sys.argv[1:2] not in (["run_subscriptions"], ["runserver"])
if DATABASE_URL and not IS_COMMAND:  # without an address, a pool would keep retrying too
    pool = {"min_size": 1, "max_size": DATABASE_POOL, "timeout": 10, "connection_class": primary.Connection}
    DATABASES["default"]["OPTIONS"]["pool"] = pool
# A standby that serves readers whose position it has reached.
DATABASE_READ_URL = read("DATABASE_READ_URL", environment.postgres_address, "")
DATABASE_ROUTERS = ["events.db.replica.Router"] if DATABASE_READ_URL else []
if DATABASE_READ_URL:
    standby = env.db_url_config(DATABASE_READ_URL)
    given = DATABASES["default"]["OPTIONS"] | {"pool": {"min_size": 0, "max_size": DATABASE_POOL, "timeout": 1}}
    given = {name: value for name, value in given.items() if name != "target_session_attrs"}
    given["options"] += " -c default_transaction_read_only=on"  # also where the address leads to a primary
    DATABASES["replica"] = DATABASES["default"] | standby | {"OPTIONS": given | standby.get("OPTIONS", {})}
    DATABASES["replica"]["TEST"] = {"MIRROR": "default"}

# The bus between processes and the cache: nothing in it has to survive.
REDIS_URL = read("REDIS_URL", environment.valkey_address, "redis://localhost:6379/0")
# The queue of tasks, which must be kept; the same server where it is not set.
REDIS_QUEUE_URL = read("REDIS_QUEUE_URL", environment.valkey_address, "")
# The prefix of all keys and channels in Valkey, so that several installations can share one server.
REDIS_PREFIX = read("REDIS_PREFIX", environment.matching(r"[\w.:-]{1,64}", "1 to 64 letters, digits and _ . : -"), "fe")

location, options = valkey_urls.cache(REDIS_URL)
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "KEY_PREFIX": f"{REDIS_PREFIX}:cache",
        "OPTIONS": {"SOCKET_TIMEOUT": 2, "SOCKET_CONNECT_TIMEOUT": 2} | options,
    }
}

# Memory for cached figures in each web process, in MiB.
CACHE_MEMORY_MIB = read("CACHE_MEMORY_MIB", environment.whole(1, 65_536), 64)

CELERY_BROKER_URL, broker_options = valkey_urls.broker(REDIS_QUEUE_URL or REDIS_URL)
CELERY_BROKER_USE_SSL = valkey_urls.broker_tls(REDIS_QUEUE_URL or REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 15 * 60
# Two queues, so that minutes of work never wait behind hours of it. A worker without -Q serves both.
CELERY_TASK_DEFAULT_QUEUE, LONG_QUEUE = f"{REDIS_PREFIX}-tasks", f"{REDIS_PREFIX}-long"
CELERY_TASK_QUEUES = {name: {"exchange": name, "routing_key": name} for name in (CELERY_TASK_DEFAULT_QUEUE, LONG_QUEUE)}
LONG_TASKS = ("events.tasks.rebuild", "events.tasks.verify_log", "backoffice.sections.privacy.tasks.make_export")
CELERY_TASK_ROUTES = {name: {"queue": LONG_QUEUE} for name in LONG_TASKS}
# One task for each free child: a fetched one would wait behind a long one, although another worker is free.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Celery redelivers a task that is not acknowledged within the visibility timeout. It is longer than the time limit of
# every task (`time_limit`); otherwise a long task would run twice.
CELERY_BROKER_TRANSPORT_OPTIONS = broker_options | {
    "global_keyprefix": f"{REDIS_PREFIX}:celery:",
    "visibility_timeout": 13 * 3600,
    "socket_connect_timeout": 5,
    # Without it, a request that sends a task would wait forever on a link that drops every packet.
    "socket_timeout": 5,
    "health_check_interval": 10,
    # A page, or a transaction that sends scheduled tasks, waits for less than a second while the queue is away; by
    # default for six. A worker has its own way to connect again.
    "max_retries": 2,
    "interval_start": 0.1,
    "interval_step": 0.2,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Sent by every `run_subscriptions`, and by `celery beat` where it runs; the database gives each turn to one of them.
CELERY_BEAT_SCHEDULER = "events.beat:Scheduler"
CELERY_BEAT_SCHEDULE = scheduled_tasks.SCHEDULE
# Seconds in which a worker finishes its tasks after SIGTERM; then it puts the others back into the queue.
WORKER_STOP_SECONDS = read("WORKER_STOP_SECONDS", environment.whole(0, 86_400), 30)

# -- notifications ----------------------------------------------------------------------------------------------------

# The address of this site in messages.
SITE_URL = read("SITE_URL", environment.web_address, next(iter(ALLOWED_ORIGINS), "")).rstrip("/")
# smtp://user:password@host:25, smtp+tls://… (STARTTLS) or smtp+ssl://…
EMAIL_URL = read("EMAIL_URL", environment.mail_server, "")
if EMAIL_URL:
    mail = environ.Env.email_url_config(EMAIL_URL.replace("smtps://", "smtp+ssl://", 1))
    EMAIL_HOST, EMAIL_PORT = mail["EMAIL_HOST"], mail["EMAIL_PORT"] or 25
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = mail["EMAIL_HOST_USER"] or "", mail["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS, EMAIL_USE_SSL = mail.get("EMAIL_USE_TLS", False), mail.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10  # Django has none, and a silent mail server would keep a worker for ever
DEFAULT_FROM_EMAIL = read(
    "EMAIL_FROM", environment.matching(r"[^\n@]*[^\s@]+@[^\s@]+", "an e-mail address"), "formease@localhost"
)
# Private networks that channels may reach, also without TLS; and networks that they must never reach. Without the first
# only https to public addresses is allowed. In development, receivers on this machine are allowed.
ALERT_ALLOWED_NETWORKS: list[str] = read(
    "ALERT_ALLOWED_NETWORKS", environment.networks, ["127.0.0.0/8", "::1/128"] if DEBUG else []
)
ALERT_DENIED_NETWORKS: list[str] = read("ALERT_DENIED_NETWORKS", environment.networks, [])
# Certificates of authorities that channels trust besides the usual ones.
ALERT_CA_FILE = read("ALERT_CA_FILE", environment.readable_file, None)
# The first URL receives one message, {"text": ...}, when PostgreSQL is down; the second one a request after each tick,
# for an external watchdog.
ALERT_FALLBACK_URL = read("ALERT_FALLBACK_URL", environment.web_address, "")
ALERT_HEARTBEAT_URL = read("ALERT_HEARTBEAT_URL", environment.web_address, "")

# -- the product ----------------------------------------------------------------------------------------------------

# The sections of the product, in navigation order: modules with a `SECTION` (see `backoffice/section.py`).
SECTIONS = [
    "backoffice.sections.conflicts.section",
    "backoffice.sections.users.section",
    "backoffice.sections.forms.section",
    "backoffice.sections.submissions.section",
    "backoffice.sections.site_settings.section",
    "backoffice.sections.staff.section",
    "backoffice.sections.privacy.section",
    "backoffice.sections.imports.section",
    "backoffice.sections.event_log.section",
    "metrics.section",
    "metrics.monitoring.alerting.section",
    "metrics.monitoring.notify.section",
]

# -- Django ---------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    # Daphne serves only `runserver`; importing it would take a third of the start of every other process.
    *(["daphne"] if "runserver" in sys.argv else []),
    *(["devtools"] if DEBUG else []),
    "metrics",
    "backoffice.apps.BackofficeConfig",
    "realtime",
    "events",
    "backoffice.apps.BackofficeAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "backoffice.middleware.ApplicationMiddleware",
    "backoffice.health.ProbeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "backoffice.middleware.ContentSecurityPolicyMiddleware",
    "backoffice.middleware.AddressMiddleware",
    "backoffice.middleware.StaticFilesMiddleware",
    "backoffice.middleware.NoStoreMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "backoffice.standby.PositionMiddleware",
    "backoffice.middleware.ContextMiddleware",
    "backoffice.web.scripted_forms.ScriptedFormMiddleware",
    "backoffice.error_pages.ErrorPageMiddleware",
]

ROOT_URLCONF = "backoffice.urls"
ASGI_APPLICATION = "backoffice.asgi.application"
DEFAULT_EXCEPTION_REPORTER = "backoffice.debugging.ExceptionReporter"
AUTH_USER_MODEL = "backoffice.Staff"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
] + [{"NAME": "backoffice.sections.staff.passwords.GuessableValidator"}]
PASSWORD_HASHERS = ["backoffice.sections.staff.passwords.Hasher"]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("fr", _("French"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# A folder that the processes of all releases share. During a rolling deploy, and for pages that stay open after it,
# each process serves from it the hashed files of the other releases (`manage.py share_static_files`).
STATIC_SHARED_DIR = read("STATIC_SHARED_DIR", environment.folder, None)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "backoffice.static_files.HashedModules"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG

# -- security ---------------------------------------------------------------------------------------------------------

# Named as in Django 6: with the next LTS our middleware can be removed.
SECURE_CSP = {
    "default-src": ["'self'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "connect-src": ["'self'", *(origin.replace("http", "ws", 1) for origin in ALLOWED_ORIGINS)],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "backoffice.error_pages.csrf_failure"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
# Also read in development, where they are not used, so that errors appear early.
ssl_redirect = read("SECURE_SSL_REDIRECT", environment.switch, True)
hsts_seconds = read("SECURE_HSTS_SECONDS", environment.whole(0, 10 * 31_536_000), 31_536_000)
if not DEBUG:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = ssl_redirect
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = hsts_seconds
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000

# -- API ------------------------------------------------------------------------------------------------------------

# Networks whose machines may read /metrics without signing in, unless the request came through a proxy.
METRICS_ALLOWED_NETWORKS = read("METRICS_ALLOWED_NETWORKS", environment.networks, ["127.0.0.0/8", "::1/128"])
# The number of proxies in front of the application. Each appends to X-Forwarded-For; the client's address is the one
# that the outermost proxy appended. 0: the header is ignored.
TRUSTED_PROXIES = read("TRUSTED_PROXIES", environment.whole(0, 9), 0)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "backoffice.sections.staff.authentication.ApiKeyAuthentication",
        "backoffice.sections.staff.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["backoffice.api.permissions.StaffOnly"],
    "DEFAULT_RENDERER_CLASSES": ["backoffice.api.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["backoffice.api.parsing.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "backoffice.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
# API calls a minute for each person or key, and the size of a burst; 0: no limit.
API_RATE_PER_MINUTE = read("API_RATE_PER_MINUTE", environment.whole(0, 1_000_000), 1200)
# Commands a minute in batches and queues, where one call contains many; 0: no limit.
API_COMMANDS_PER_MINUTE = read("API_COMMANDS_PER_MINUTE", environment.whole(0, 10_000_000), 12_000)
# Seconds that one statement of a list may take; then the answer is 503, with the advice to narrow the filters.
LIST_STATEMENT_SECONDS: float = read("LIST_STATEMENT_SECONDS", environment.whole(1, 600), 2)
SPECTACULAR_SETTINGS = {
    "TITLE": "FormEase backoffice",
    "DESCRIPTION": "Every write is a command, every change an event.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "OAS_VERSION": "3.1.1",
    "POSTPROCESSING_HOOKS": ["backoffice.api.openapi.add_components"],
}

# -- monitoring -------------------------------------------------------------------------------------------------------

# Off: this process writes no report of its requests, tasks and host (`metrics/monitoring/process_reports.py`).
PROCESS_REPORTS = read("PROCESS_REPORTS", environment.switch, True)

# -- offline ----------------------------------------------------------------------------------------------------------

# Off: browsers unregister the service worker and queue no more edits; edits that are queued are still sent.
OFFLINE = read("OFFLINE", environment.switch, True)

# -- logs -----------------------------------------------------------------------------------------------------------

LOG_LEVEL = read("LOG_LEVEL", environment.log_level, "INFO")
LOG_FORMAT = read("LOG_FORMAT", environment.one_of("text", "json"), "text")
# One record for each HTTP request (`backoffice/access_log.py`).
ACCESS_LOG = read("ACCESS_LOG", environment.switch, not DEBUG)
LOGGING = logging_settings.configured(LOG_LEVEL, LOG_FORMAT)
