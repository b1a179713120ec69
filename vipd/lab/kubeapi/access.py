"""Who may do what: bearer tokens, and a table in place of RBAC.

Both may change while the server runs: a token can be expired, a right can be taken away.
"""

from __future__ import annotations

from collections.abc import Iterable

from vipd.lab.kubeapi.kinds import Kind
from vipd.lab.kubeapi.status import forbidden, unauthorized

Right = tuple[str, str] | tuple[str, str, str]
"""verb, resource and, where it holds in one namespace alone, that namespace; "*" is any."""
EVERYTHING: frozenset[Right] = frozenset({("*", "*")})


class Access:
    """``tokens``: bearer token -> user.  ``rights``: user -> what the user may do."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.rights: dict[str, set[Right]] = {}
        self.anonymous = ""
        """Who asks without a token is this user; empty: nobody (401).  kubectl sends none over plain HTTP."""

    def add_user(self, user: str, token: str, rights: Iterable[Right] | None = None) -> None:
        """Know a token; without ``rights`` the user may do everything."""
        self.tokens[token] = user
        self.rights[user] = set(EVERYTHING if rights is None else rights)

    def expire(self, token: str) -> None:
        """The token is worth nothing from now on; unknown ones are no error."""
        self.tokens.pop(token, None)

    def user_of(self, authorization: str) -> str | None:
        """The user behind an Authorization header, or None."""
        if not authorization:
            return self.anonymous or None
        scheme, _, token = authorization.partition(" ")
        return self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None

    def authenticate(self, authorization: str) -> str:
        """As ``user_of``.  Raises Refused (401)."""
        user = self.user_of(authorization)
        if user is None:
            raise unauthorized()
        return user

    def allowed(self, user: str, verb: str, resource: str, namespace: str) -> bool:
        """``namespace`` empty: in the whole cluster."""
        return any(
            right[0] in ("*", verb) and right[1] in ("*", resource) and (len(right) < 3 or right[2] in ("*", namespace))
            for right in self.rights.get(user, ())
        )

    def authorize(self, user: str, verb: str, kind: Kind, namespace: str, name: str) -> None:
        """Raises Refused (403)."""
        if not self.allowed(user, verb, kind.resource, namespace):
            raise forbidden(kind, namespace, name, user=user, verb=verb)
