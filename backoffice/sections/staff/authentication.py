"""Authenticates API requests: a staff session with CSRF token, or a program with an API key."""

from __future__ import annotations

from typing import Final

from rest_framework import authentication, exceptions
from rest_framework.request import Request

from backoffice import models
from backoffice.api import problems
from backoffice.sections.staff import keys

CHALLENGE: Final = 'Bearer realm="FormEase backoffice"'


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer fe_<key>.<secret>`: the request acts as the key's owner, limited to the key's scopes.

    An invalid bearer token is refused at once, without trying the session.
    """

    def authenticate(self, request: Request) -> tuple[models.Staff, models.ApiKey] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            key = keys.verify(token.strip())
        except keys.KeyRefused as error:
            challenge = f'{CHALLENGE}, error="invalid_token"'
            raise problems.Problem(401, error.code, str(error), headers={"WWW-Authenticate": challenge}) from error
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class SessionAuthentication(authentication.SessionAuthentication):
    """The admin's session. Writing needs the CSRF token too; the cookie alone is not enough."""

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied as error:
            raise problems.Problem(403, "csrf_failed", str(error.detail)) from error
