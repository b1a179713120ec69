"""What EC2's error codes and botocore's exceptions mean for the mover."""

from __future__ import annotations

import botocore.exceptions as bc
import pytest

from vipd.aws.verdicts import Refusal, classify, judge_code
from vipd.core.model import AssignVerdict

V = AssignVerdict


def client_error(code: str, message: str = "", status: int = 400) -> bc.ClientError:
    return bc.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "AssignPrivateIpAddresses",
    )


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("RequestLimitExceeded", V.THROTTLED),
        ("Throttling", V.THROTTLED),
        ("RequestThrottledException", V.THROTTLED),
        ("EC2ThrottledException", V.THROTTLED),
        ("SlowDown", V.THROTTLED),
        ("InternalError", V.RETRY),
        ("Unavailable", V.RETRY),
        ("IncorrectState", V.RETRY),
        ("PrivateIpAddressLimitExceeded", V.NO_ROOM),
        ("InsufficientFreeAddressesInSubnet", V.NO_ROOM),
        ("InvalidParameterValue", V.NEVER),
        ("InvalidNetworkInterfaceID.NotFound", V.NEVER),
        ("UnauthorizedOperation", V.NOT_ALLOWED),
        ("AuthFailure", V.NOT_ALLOWED),
        ("ExpiredToken", V.NOT_ALLOWED),
        ("RequestExpired", V.NOT_ALLOWED),
    ],
)
def test_the_codes_met_in_the_field_have_their_verdicts(code: str, verdict: AssignVerdict) -> None:
    assert classify(client_error(code)).verdict is verdict


@pytest.mark.parametrize(
    ("code", "status", "verdict"),
    [
        ("SomethingNew", 503, V.RETRY),
        ("SomethingThrottled", 400, V.THROTTLED),
        ("SomethingThrottled", 503, V.THROTTLED),
        ("InvalidSomethingNew", 500, V.RETRY),
        ("InvalidSomethingNew", 400, V.NEVER),
        ("Ipv6AddressLimitExceeded", 400, V.NO_ROOM),
        ("ExpiredSessionToken", 400, V.NOT_ALLOWED),
        ("SomethingNew", 400, V.RETRY),
        ("", 400, V.RETRY),
    ],
)
def test_unknown_codes_are_judged_by_status_and_habit(code: str, status: int, verdict: AssignVerdict) -> None:
    assert judge_code(code, status=status) is verdict


def test_a_full_eni_on_ipv6_hides_behind_a_general_code() -> None:
    told = "Address count 17 per interface exceeds the limit for m5.xlarge."
    assert classify(client_error("InvalidParameterValue", told)).verdict is V.NO_ROOM


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (bc.NoCredentialsError(), V.NOT_ALLOWED),
        (bc.CredentialRetrievalError(provider="x", error_msg="y"), V.NOT_ALLOWED),
        (bc.ReadTimeoutError(endpoint_url="http://x"), V.RETRY),
        (bc.EndpointConnectionError(endpoint_url="http://x"), V.RETRY),
        (bc.ConnectionClosedError(endpoint_url="http://x"), V.RETRY),
        (bc.NoRegionError(), V.NEVER),
        (OSError("no file descriptors"), V.RETRY),
    ],
)
def test_exceptions_of_the_client_itself_have_verdicts(error: Exception, verdict: AssignVerdict) -> None:
    assert classify(error).verdict is verdict


def test_missing_credentials_tell_what_to_do() -> None:
    assert "hop limit of 2" in classify(bc.NoCredentialsError()).detail


def test_a_bug_of_ours_is_no_answer_of_ec2() -> None:
    with pytest.raises(TypeError):
        classify(TypeError("ours"))


def test_only_refusals_that_one_address_can_cause_are_split() -> None:
    assert Refusal(V.NO_ROOM, "PrivateIpAddressLimitExceeded", "").may_concern_one_address
    assert Refusal(V.NEVER, "InvalidParameterValue", "").may_concern_one_address
    assert not Refusal(V.NEVER, "InvalidNetworkInterfaceID.NotFound", "").may_concern_one_address
    assert not Refusal(V.THROTTLED, "Throttling", "").may_concern_one_address
    assert not Refusal(V.NOT_ALLOWED, "UnauthorizedOperation", "").may_concern_one_address


@pytest.mark.parametrize("verdict", [V.RETRY, V.THROTTLED, V.RIGHT_OVER])
def test_what_passes_by_itself_is_no_refusal_for_good(verdict: AssignVerdict) -> None:
    assert not Refusal(verdict, "", "").for_good
