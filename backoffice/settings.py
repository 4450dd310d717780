"""All configuration, from the environment only. What is missing or malformed stops the process with one clear line.

In development `manage.py up` writes DATA_DIR/services.env, so that other commands find the services it started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import environ
from django.utils.translation import gettext_lazy as _

from events import keyring

T = TypeVar("T")

BASE_DIR = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET = "development-only-secret-not-for-production"  # noqa: S105 - refused when DEBUG is off

env = environ.Env()


def stop(message: str) -> NoReturn:
    """Say what is wrong with the configuration and end."""
    sys.exit(f"configuration: {message}")


def read(name: str, cast: Callable[..., T], default: Any) -> T:
    try:
        return cast(name, default=default)
    except (ValueError, environ.ImproperlyConfigured) as error:
        stop(f"{name}={os.environ.get(name)!r} cannot be read: {error}")


DEBUG = read("DEBUG", env.bool, True)
DATA_DIR = Path(read("DATA_DIR", env.str, str(BASE_DIR / ".local"))).absolute()
ARCHIVE_DIR = Path(read("ARCHIVE_DIR", env.str, str(DATA_DIR / "archive"))).absolute()
PORT = read("PORT", env.int, 8000)
if not 0 < PORT < 65536:
    stop(f"PORT={PORT} is not a port number (1-65535)")

if DEBUG and "DATABASE_URL" not in os.environ and (DATA_DIR / "services.env").is_file():
    environ.Env.read_env(DATA_DIR / "services.env")

SECRET_KEY = read("SECRET_KEY", env.str, DEVELOPMENT_SECRET if DEBUG else "")
if not DEBUG and (not SECRET_KEY or SECRET_KEY == DEVELOPMENT_SECRET or len(SECRET_KEY) < 32):
    stop("SECRET_KEY must be set to at least 32 random characters when DEBUG=0")

# The master keys of personal data, "<id>:<32 bytes in base64>", the one in use first: see events/keyring.py.
try:
    PRIVACY_KEYS = keyring.parse(read("PRIVACY_KEYS", env.str, ""))
except ValueError as error:
    stop(f"PRIVACY_KEYS: {error}")
if not PRIVACY_KEYS and not DEBUG:
    stop("PRIVACY_KEYS must be set when DEBUG=0: <id>:$(head -c 32 /dev/urandom | base64)")
if not PRIVACY_KEYS:
    PRIVACY_KEYS = keyring.derived(SECRET_KEY)
if not DEBUG and keyring.derived(DEVELOPMENT_SECRET)["development"] in PRIVACY_KEYS.values():
    stop("PRIVACY_KEYS holds the development key, which everybody knows")

ALLOWED_HOSTS = read("ALLOWED_HOSTS", env.list, ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not DEBUG and not ALLOWED_HOSTS:
    stop("ALLOWED_HOSTS must name this site's hosts when DEBUG=0")

# Exact origins (scheme, host, port) from which browsers may open the socket and post forms.
ALLOWED_ORIGINS: list[str] = read(
    "ALLOWED_ORIGINS",
    env.list,
    [f"http://{host}:{PORT}" for host in ("localhost", "127.0.0.1")]
    if DEBUG
    else [f"https://{host}" for host in ALLOWED_HOSTS if not host.startswith((".", "*"))],
)
for origin in ALLOWED_ORIGINS:
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path not in {"", "/"}:
        stop(f"ALLOWED_ORIGINS: {origin!r} is not an origin such as https://admin.example.org")
CSRF_TRUSTED_ORIGINS = [origin for origin in ALLOWED_ORIGINS if origin.startswith("https://")]

# -- services -------------------------------------------------------------------------------------------------------

DATABASE_URL = read("DATABASE_URL", env.str, "")
if not DATABASE_URL and not DEBUG:
    stop("DATABASE_URL must be set when DEBUG=0 (postgres://user:password@host:5432/name)")
try:
    DATABASES: dict[str, Any] = {"default": env.db_url_config(DATABASE_URL or "postgres://localhost/formease")}
except ValueError as error:
    stop(f"DATABASE_URL cannot be read: {error}")
if DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
    stop("DATABASE_URL must be a postgres:// address")
DATABASES["default"] |= {"CONN_MAX_AGE": 0, "ATOMIC_REQUESTS": False, "DISABLE_SERVER_SIDE_CURSORS": False}
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "application_name": os.environ.get("SERVICE_NAME", "backoffice"),
        "connect_timeout": 5,
        # A lost client must not hold the log's head: see docs/event-store.md.
        # Generic plans: only the store's statements are prepared, and planning them anew costs more than they do.
        "options": "-c idle_in_transaction_session_timeout=60s -c lock_timeout=15s"
        " -c plan_cache_mode=force_generic_plan",
    }
)
if DATABASE_URL:  # without one, the first attempt says so at once; a pool would go on trying
    pool = {"min_size": 1, "max_size": read("DATABASE_POOL", env.int, 10), "timeout": 10}
    DATABASES["default"]["OPTIONS"]["pool"] = pool

REDIS_URL = read("REDIS_URL", env.str, "redis://localhost:6379/0")
if urlsplit(REDIS_URL).scheme not in {"redis", "rediss", "unix"}:
    stop(f"REDIS_URL={REDIS_URL!r} must begin with redis://, rediss:// or unix://")
# Everything this installation puts into Valkey begins with it: several may share one server.
REDIS_PREFIX = read("REDIS_PREFIX", env.str, "fe")

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{REDIS_PREFIX}:cache",
        "OPTIONS": {"SOCKET_TIMEOUT": 2, "SOCKET_CONNECT_TIMEOUT": 2},
    }
}
# redis-py 8 times a blocking read out after 5 s and would kill every idle consumer (research: channels_redis#422).
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": None, "socket_keepalive": True}],
            "prefix": f"{REDIS_PREFIX}:asgi",
        },
    }
}

CELERY_BROKER_URL = "redis+socket" + REDIS_URL.removeprefix("unix") if REDIS_URL.startswith("unix") else REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 15 * 60
CELERY_TASK_DEFAULT_QUEUE = f"{REDIS_PREFIX}-tasks"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": f"{REDIS_PREFIX}:celery:"}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "make room in the log": {"task": "events.tasks.make_room", "schedule": 3600},
    "forget old idempotency keys": {"task": "events.tasks.forget_commands", "schedule": 3600},
    "seal the log": {"task": "events.tasks.seal", "schedule": 300},
    "take and drop snapshots": {"task": "events.tasks.snapshot", "schedule": 86400},
    "finish erasures": {"task": "events.tasks.finish_erasures", "schedule": 60},
}

# -- Django ---------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    # Daphne is the server of `runserver`; importing it costs every other process a third of its start.
    *(["daphne"] if "runserver" in sys.argv else []),
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
    "backoffice.health.ProbeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "backoffice.middleware.ContentSecurityPolicyMiddleware",
    "backoffice.middleware.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "backoffice.middleware.ContextMiddleware",
    "backoffice.middleware.UnavailableMiddleware",
]

ROOT_URLCONF = "backoffice.urls"
ASGI_APPLICATION = "backoffice.asgi.application"
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
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("fr", _("French"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG

# -- safety ---------------------------------------------------------------------------------------------------------

# Named as in Django 6, so that the next LTS takes them over and our middleware can go.
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
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
if not DEBUG:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = read("SECURE_SSL_REDIRECT", env.bool, True)
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = read("SECURE_HSTS_SECONDS", env.int, 31536000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000

# -- API ------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "backoffice.api.authentication.ApiKeyAuthentication",
        "backoffice.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["backoffice.api.permissions.StaffOnly"],
    "DEFAULT_RENDERER_CLASSES": ["backoffice.api.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["backoffice.api.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "backoffice.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
# Calls a minute for each person or key, as many at once; 0 = no limit.
API_RATE_PER_MINUTE = read("API_RATE_PER_MINUTE", env.int, 1200)
SPECTACULAR_SETTINGS = {
    "TITLE": "FormEase backoffice",
    "DESCRIPTION": "Every write is a command, every change an event.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "OAS_VERSION": "3.1.1",
    "POSTPROCESSING_HOOKS": ["backoffice.api.openapi.add_components"],
}

# -- without a network ------------------------------------------------------------------------------------------------

# Off: browsers unregister the service worker, and no more edits are queued. Those that wait are still sent.
OFFLINE = read("OFFLINE", env.bool, True)

# -- logs -----------------------------------------------------------------------------------------------------------

LOG_LEVEL = read("LOG_LEVEL", env.str, "INFO").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": "INFO"},
        "django.request": {"level": "ERROR"},
        "daphne": {"level": "INFO"},
        "httpx": {"level": "WARNING"},
    },
}
