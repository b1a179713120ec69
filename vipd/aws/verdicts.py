"""What an error of EC2 or of botocore means for whoever wanted an address moved.  Pure: no call is made here.

Sources: "Error codes for the Amazon EC2 API" (EC2 API Reference) for the meaning of the codes, the botocore
exceptions module for the client's own errors, and, for two cases which EC2 reports under a general code only,
the messages met in the field (amazon-vpc-cni-k8s, f5-cloud-failover-extension #79).

Codes that are in no table are judged by their HTTP status and by the naming habits of the EC2 API.  What is
still unknown then is RETRY: a wrong RETRY costs a few calls under the caller's growing backoff, while a wrong NEVER
leaves the address where it is until somebody comes to look.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vipd.core.model import AssignVerdict

RETRY = AssignVerdict.RETRY
THROTTLED = AssignVerdict.THROTTLED
NO_ROOM = AssignVerdict.NO_ROOM
NEVER = AssignVerdict.NEVER
NOT_ALLOWED = AssignVerdict.NOT_ALLOWED


class GarbledAnswer(Exception):
    """What came is no answer of EC2, or lacks what every such answer has."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call did not do what it was to do.  ``code`` is EC2's, or the name of botocore's exception."""

    verdict: AssignVerdict
    code: str
    detail: str

    @property
    def for_good(self) -> bool:
        """Whether EC2 said no, as opposed to not having answered, or not having been asked."""
        return self.verdict in (NO_ROOM, NEVER, NOT_ALLOWED)

    @property
    def may_concern_one_address(self) -> bool:
        """Whether the same call for fewer addresses could succeed (EC2 refuses all for the sake of one)."""
        return self.verdict in (NO_ROOM, NEVER) and not self.code.startswith("InvalidNetworkInterface")


CODES: dict[str, AssignVerdict] = {
    # Throttling: token buckets per account, Region and action (EC2 Developer Guide, "Request throttling").
    "RequestLimitExceeded": THROTTLED,
    "Throttling": THROTTLED,
    "ThrottlingException": THROTTLED,
    "RequestThrottled": THROTTLED,
    "RequestThrottledException": THROTTLED,
    "EC2ThrottledException": THROTTLED,
    "SlowDown": THROTTLED,
    # Server errors.
    "InternalError": RETRY,
    "InternalFailure": RETRY,
    "InternalServerError": RETRY,
    "ServerInternal": RETRY,
    "ServiceUnavailable": RETRY,
    "Unavailable": RETRY,
    "RequestTimeout": RETRY,
    # The ENI is being attached, detached or changed by another call.
    "IncorrectState": RETRY,
    "IncorrectInstanceState": RETRY,
    "ConcurrentModification": RETRY,
    "DependencyViolation": RETRY,
    # Full: the ENI at its instance type's limit, or no free run of addresses in the subnet.
    "PrivateIpAddressLimitExceeded": NO_ROOM,
    "InsufficientFreeAddressesInSubnet": NO_ROOM,
    "InsufficientCidrBlocks": NO_ROOM,
    # Out of the subnet, reserved, another ENI's primary, in a delegated prefix, in use (IPv6), no such ENI.
    "InvalidParameterValue": NEVER,
    "InvalidParameter": NEVER,
    "InvalidParameterCombination": NEVER,
    "InvalidIPAddress.InUse": NEVER,
    "InvalidAddress.InUse": NEVER,
    "InvalidNetworkInterfaceID.NotFound": NEVER,
    "InvalidNetworkInterfaceID.Malformed": NEVER,
    "InvalidNetworkInterface.InUse": NEVER,
    "OperationNotPermitted": NEVER,
    "UnsupportedOperation": NEVER,
    # Credentials and policy.
    "AuthFailure": NOT_ALLOWED,
    "UnauthorizedOperation": NOT_ALLOWED,
    "AccessDenied": NOT_ALLOWED,
    "AccessDeniedException": NOT_ALLOWED,
    "Blocked": NOT_ALLOWED,
    "OptInRequired": NOT_ALLOWED,
    "PendingVerification": NOT_ALLOWED,
    "ExpiredToken": NOT_ALLOWED,
    "ExpiredTokenException": NOT_ALLOWED,
    "RequestExpired": NOT_ALLOWED,
    "InvalidClientTokenId": NOT_ALLOWED,
    "InvalidIdentityToken": NOT_ALLOWED,
    "IncompleteSignature": NOT_ALLOWED,
    "SignatureDoesNotMatch": NOT_ALLOWED,
    "MissingAuthenticationToken": NOT_ALLOWED,
    "UnrecognizedClientException": NOT_ALLOWED,
}

HABITS: tuple[tuple[str, AssignVerdict], ...] = (
    ("Throttl", THROTTLED),
    ("LimitExceeded", NO_ROOM),
    ("Insufficient", NO_ROOM),
    ("Unauthorized", NOT_ALLOWED),
    ("AccessDenied", NOT_ALLOWED),
    ("Token", NOT_ALLOWED),
    ("Invalid", NEVER),
    ("Unsupported", NEVER),
    ("Malformed", NEVER),
    ("Missing", NEVER),
)
"""For codes in no table: the first part that the code contains decides."""

FULL_IPV6_MESSAGE = "exceeds the limit"
"""EC2's text for a full ENI on IPv6 is "Address count N per interface exceeds the limit for <type>"."""

SERVER_ERROR = 500

_CODE = re.compile(r"[A-Za-z0-9._-]{0,100}")
"""Codes are labels of metrics, so not everything may be one."""

_DETAIL_CHARS = 500

CREDENTIAL_ERRORS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "MetadataRetrievalError",
    "RefreshWithMFAUnsupportedError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
    "SSOTokenLoadError",
    "ProfileNotFound",
    "ConfigNotFound",
    "InvalidConfigError",
    "UnknownCredentialError",
)
OUTDATED = frozenset(
    {
        "NoCredentialsError",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "RequestExpired",
        "UnrecognizedClientException",
    }
)
"""Codes after which the credentials are to be looked for anew: they may be others by now, and botocore keeps what it
found in the environment or a file, or that it found nothing, for as long as its session lives."""

SETTING_ERRORS = ("NoRegionError", "InvalidRegionError", "ParamValidationError", "UnknownEndpointError")

BARE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""What botocore raises for XML of another shape than EC2's: an error without a code, a number that is none, a time in
the year 99999999999, a thousand nested elements (RecursionError)."""

NO_CREDENTIALS_ADVICE = (
    "no AWS credentials found; looked at the environment (AWS_ACCESS_KEY_ID), the shared files, web identity (IRSA: "
    "AWS_WEB_IDENTITY_TOKEN_FILE), the container endpoint (EKS Pod Identity: AWS_CONTAINER_CREDENTIALS_FULL_URI) and "
    "the instance role in IMDS. Give the ServiceAccount a role (IRSA or Pod Identity), or let pods reach the "
    "instance role: that needs an IMDS hop limit of 2 (HttpPutResponseHopLimit)"
)


def judge_code(code: str, *, message: str = "", status: int = 400) -> AssignVerdict:
    """The verdict for one EC2 error code with its message and HTTP status."""
    if code.startswith("InvalidParameter") and FULL_IPV6_MESSAGE in message:
        return NO_ROOM
    known = CODES.get(code)
    if known is not None:
        return known
    by_habit = next((verdict for part, verdict in HABITS if part in code), RETRY)
    # EC2 throttles under a status of 503, too.
    return RETRY if status >= SERVER_ERROR and by_habit is not THROTTLED else by_habit


def classify(error: Exception) -> Refusal:
    """The refusal that an exception out of a botocore call stands for.

    Raises ``error`` itself where neither botocore nor an answer can be its reason.
    """
    # Here, not at the top: whoever has such an exception has botocore loaded already, others need not.
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    name = type(error).__name__
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        code, message = str(told.get("Code", "")), str(told.get("Message", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        verdict = judge_code(code, message=message, status=status)
        return Refusal(
            verdict,
            code if _CODE.fullmatch(code) else "unreadable-code",
            _one_line(f"{error.operation_name}: {message}"),
        )
    if name == "NoCredentialsError":
        return Refusal(NOT_ALLOWED, name, NO_CREDENTIALS_ADVICE)
    if isinstance(error, BotoCoreError):
        if name in CREDENTIAL_ERRORS:
            return Refusal(NOT_ALLOWED, name, _one_line(error))
        return Refusal(NEVER if name in SETTING_ERRORS else RETRY, name, _one_line(error))
    if isinstance(error, (ResponseParserError, OSError)):
        # What answered was not EC2 (a proxy's page), or the machine itself is short of something.
        return Refusal(RETRY, name, _one_line(error))
    if isinstance(error, GarbledAnswer) or (isinstance(error, BARE) and _out_of_botocore(error)):
        return Refusal(RETRY, name, _one_line(f"an answer that cannot be read: {error}"))
    raise error


def _out_of_botocore(error: Exception) -> bool:
    """Whether botocore stumbled over it, not code of ours that botocore called: a bug of ours is not to be hidden."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        last = name if name in ("vipd", "botocore") else last
        trace = trace.tb_next
    return last == "botocore"


def _one_line(what: object) -> str:
    """Fit for a log line and an Event, whatever was answered."""
    return " ".join(str(what).split())[:_DETAIL_CHARS]
