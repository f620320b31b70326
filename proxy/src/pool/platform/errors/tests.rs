use super::*;

fn of(code: &str, reason: &str, message: &str, status: u16) -> Cause {
    Cause::of(Refusal {
        code,
        reason,
        message,
        status,
    })
}

/// Answers as the API reference, the SDK's model and the service's own messages have them.
const ANSWERS: &[(&str, &str, &str, u16, Cause)] = &[
    (
        "TooManyRequestsException",
        "ReservedFunctionConcurrentInvocationLimitExceeded",
        "Rate Exceeded.",
        429,
        Cause::FunctionConcurrency,
    ),
    (
        "TooManyRequestsException",
        "ReservedFunctionInvocationRateLimitExceeded",
        "Rate Exceeded.",
        429,
        Cause::FunctionRate,
    ),
    (
        "TooManyRequestsException",
        "FunctionInvocationRateLimitExceeded",
        "Rate Exceeded.",
        429,
        Cause::FunctionRate,
    ),
    (
        "TooManyRequestsException",
        "ConcurrentInvocationLimitExceeded",
        "Rate Exceeded.",
        429,
        Cause::AccountConcurrency,
    ),
    (
        "TooManyRequestsException",
        "CallerRateLimitExceeded",
        "Rate Exceeded.",
        429,
        Cause::CallerRate,
    ),
    (
        "TooManyRequestsException",
        "ConcurrentSnapshotCreateLimitExceeded",
        "Rate Exceeded.",
        429,
        Cause::SnapshotRate,
    ),
    (
        "TooManyRequestsException",
        "ALimitOfTomorrow",
        "Rate Exceeded.",
        429,
        Cause::Throttled,
    ),
    (
        "ThrottlingException",
        "",
        "Rate exceeded",
        400,
        Cause::Throttled,
    ),
    ("", "", "", 429, Cause::Throttled),
    (
        "ResourceNotFoundException",
        "",
        "Function not found: arn:aws:lambda:us-east-1:111111111111:function:n",
        404,
        Cause::FunctionMissing,
    ),
    (
        "AccessDeniedException",
        "",
        "User: arn:aws:sts::111111111111:assumed-role/proxy/i-0 is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:111111111111:function:n because no identity-based policy allows the lambda:InvokeFunction action",
        403,
        Cause::AccessDenied,
    ),
    (
        "AccessDeniedException",
        "",
        "User: arn:aws:sts::111111111111:assumed-role/proxy/i-0 is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:222222222222:function:n because no resource-based policy allows the lambda:InvokeFunction action",
        403,
        Cause::OtherAccount,
    ),
    ("AccessDeniedException", "", "", 403, Cause::AccessDenied),
    (
        "AccessDeniedException",
        "",
        "The role defined for the function cannot be assumed by Lambda.",
        403,
        Cause::WrongRole,
    ),
    (
        "InvalidParameterValueException",
        "",
        "The role defined for the function cannot be assumed by Lambda.",
        400,
        Cause::WrongRole,
    ),
    (
        "ExpiredTokenException",
        "",
        "The security token included in the request is expired",
        403,
        Cause::CredentialsExpired,
    ),
    ("ExpiredToken", "", "", 403, Cause::CredentialsExpired),
    (
        "UnrecognizedClientException",
        "",
        "The security token included in the request is invalid.",
        403,
        Cause::CredentialsInvalid,
    ),
    (
        "InvalidClientTokenId",
        "",
        "",
        403,
        Cause::CredentialsInvalid,
    ),
    (
        "MissingAuthenticationTokenException",
        "",
        "Missing Authentication Token",
        403,
        Cause::CredentialsInvalid,
    ),
    (
        "InvalidSignatureException",
        "",
        "The request signature we calculated does not match the signature you provided.",
        403,
        Cause::CredentialsInvalid,
    ),
    (
        "InvalidSignatureException",
        "",
        "Signature expired: 20261122T120000Z is now earlier than 20261122T121500Z (20261122T122000Z - 5 min.)",
        403,
        Cause::ClockSkew,
    ),
    (
        "InvalidSignatureException",
        "",
        "Signature not yet current: 20261122T130000Z is still later than 20261122T120500Z",
        403,
        Cause::ClockSkew,
    ),
    (
        "InvalidSignatureException",
        "",
        "Credential should be scoped to a valid region.",
        403,
        Cause::RegionWrong,
    ),
    ("RequestExpired", "", "", 400, Cause::ClockSkew),
    ("OptInRequired", "", "", 403, Cause::AccountClosed),
    (
        "ResourceNotReadyException",
        "",
        "The function is in the process of being created",
        502,
        Cause::NotReady,
    ),
    (
        "ResourceConflictException",
        "",
        "The operation cannot be performed at this time. The function is currently in the following state: Pending",
        409,
        Cause::NotReady,
    ),
    (
        "CodeArtifactUserPendingException",
        "",
        "",
        409,
        Cause::NotReady,
    ),
    ("SnapStartNotReadyException", "", "", 409, Cause::SnapStart),
    ("SnapStartException", "", "", 400, Cause::SnapStart),
    ("SnapStartTimeoutException", "", "", 408, Cause::SnapStart),
    ("ENILimitReachedException", "", "", 502, Cause::EniLimit),
    (
        "SubnetIPAddressLimitReachedException",
        "",
        "",
        502,
        Cause::SubnetFull,
    ),
    (
        "InvalidSecurityGroupIDException",
        "",
        "",
        502,
        Cause::NetworkConfig,
    ),
    (
        "InvalidSubnetIDException",
        "",
        "",
        502,
        Cause::NetworkConfig,
    ),
    (
        "EC2AccessDeniedException",
        "",
        "",
        502,
        Cause::NetworkConfig,
    ),
    ("EC2ThrottledException", "", "", 502, Cause::Ec2Throttled),
    ("EC2UnexpectedException", "", "", 502, Cause::Ec2Failed),
    ("EFSMountTimeoutException", "", "", 408, Cause::FileSystem),
    ("KMSAccessDeniedException", "", "", 502, Cause::Kms),
    ("KMSDisabledException", "", "", 502, Cause::Kms),
    ("RequestTooLargeException", "", "", 413, Cause::TooLarge),
    (
        "SerializedRequestEntityTooLargeException",
        "",
        "",
        413,
        Cause::TooLarge,
    ),
    (
        "UnsupportedMediaTypeException",
        "",
        "",
        415,
        Cause::BadRequest,
    ),
    (
        "InvalidRequestContentException",
        "",
        "Could not parse request body into json",
        400,
        Cause::BadRequest,
    ),
    (
        "InvalidParameterValueException",
        "",
        "",
        400,
        Cause::BadRequest,
    ),
    ("InvalidRuntimeException", "", "", 502, Cause::BadCode),
    ("InvalidZipFileException", "", "", 502, Cause::BadCode),
    (
        "RecursiveInvocationException",
        "",
        "",
        400,
        Cause::Recursion,
    ),
    ("ServiceException", "", "", 500, Cause::Service),
    ("ServiceUnavailableException", "", "", 503, Cause::Service),
    ("", "", "", 502, Cause::Service),
    ("UnknownOperationException", "", "", 404, Cause::NotLambda),
    ("", "", "", 404, Cause::NotLambda),
    ("SomethingNewException", "", "", 400, Cause::Other),
];

#[test]
fn answers_are_told_apart() {
    for (code, reason, message, status, cause) in ANSWERS {
        let found = of(code, reason, message, *status);
        assert_eq!(found, *cause, "{code} {reason} {message}");
    }
}

#[test]
fn silences_are_told_apart() {
    let cases = [
        (
            "dispatch failure: io error: client error (Connect): dns error: failed to lookup address information: Name or service not known",
            Cause::Unresolved,
        ),
        (
            "dispatch failure: io error: client error (Connect): tcp connect error: Connection refused (os error 111)",
            Cause::Unreachable,
        ),
        (
            "dispatch failure: timeout: client error (Connect): HTTP connect timeout occurred after 3s",
            Cause::Unreachable,
        ),
        (
            "dispatch failure: other: the credential provider was not enabled: no providers in chain provided credentials",
            Cause::CredentialsMissing,
        ),
        (
            "dispatch failure: other: failed to load IMDS credentials: the credentials have expired",
            Cause::CredentialsExpired,
        ),
        (
            "dispatch failure: other: Invalid Configuration: Missing Region",
            Cause::RegionMissing,
        ),
        (
            "dispatch failure: other: missing signing region",
            Cause::RegionMissing,
        ),
        (
            "dispatch failure: io error: client error (SendRequest): invalid HTTP version parsed",
            Cause::NotLambda,
        ),
        (
            "dispatch failure: io error: client error (Connect): invalid peer certificate: UnknownIssuer",
            Cause::NotLambda,
        ),
        (
            "dispatch failure: io error: connection closed before message completed",
            Cause::Unreachable,
        ),
    ];
    for (text, cause) in cases {
        assert_eq!(Cause::of_silence(text), cause, "{text}");
    }
}

/// What else the SDK's model of an invoke has: by kind, none of them unknown.
#[test]
fn every_other_error_of_an_invoke_has_its_kind() {
    let cases = [
        ("CodeArtifactUserDeletedException", Cause::BadCode),
        ("CodeArtifactUserFailedException", Cause::BadCode),
        ("DurableExecutionAlreadyStartedException", Cause::BadRequest),
        ("EFSIOException", Cause::FileSystem),
        ("EFSMountConnectivityException", Cause::FileSystem),
        ("EFSMountFailureException", Cause::FileSystem),
        ("ENINotReadyException", Cause::NotReady),
        ("KMSInvalidStateException", Cause::Kms),
        ("KMSNotFoundException", Cause::Kms),
        ("ModeNotSupportedException", Cause::BadRequest),
        ("NoPublishedVersionException", Cause::FunctionMissing),
        ("S3FilesMountConnectivityException", Cause::FileSystem),
        ("S3FilesMountFailureException", Cause::FileSystem),
        ("S3FilesMountTimeoutException", Cause::FileSystem),
        ("ServiceQuotaExceededException", Cause::Throttled),
        ("SnapStartRegenerationFailureException", Cause::SnapStart),
    ];
    for (code, cause) in cases {
        assert_eq!(of(code, "", "", 0), cause, "{code}");
    }
}

/// Every cause comes from some answer or some silence, has its own label, says what it
/// is and what to do, and is in the table for people.
#[test]
fn every_cause_is_met_and_explained() {
    let silent = [
        Cause::Unresolved,
        Cause::Unreachable,
        Cause::CredentialsMissing,
        Cause::RegionMissing,
    ];
    let docs = include_str!("../../../../../docs/doctor.md");
    let mut names = Vec::new();
    for cause in Cause::ALL {
        let met = ANSWERS.iter().any(|(.., c)| c == cause) || silent.contains(cause);
        assert!(met, "{cause:?}");
        assert!(
            cause.what().len() > 10 && cause.fix().len() > 10,
            "{cause:?}"
        );
        assert!(!names.contains(&cause.name()), "{cause:?}");
        let row = docs
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` | {cause} |", cause.name())));
        let ends = format!("| {} |", cause.fix());
        assert!(row.is_some_and(|row| row.ends_with(&ends)), "{cause:?}");
        names.push(cause.name());
    }
}

#[test]
fn what_holds_for_all_functions_is_not_blamed_on_one() {
    use Cause::*;
    for cause in [
        CredentialsExpired,
        CredentialsMissing,
        CredentialsInvalid,
        ClockSkew,
        RegionMissing,
    ] {
        assert_eq!(cause.blame(), CERTAIN, "{cause:?}");
    }
    for cause in [
        AccountConcurrency,
        CallerRate,
        Service,
        Unreachable,
        Unresolved,
    ] {
        assert_eq!(cause.blame(), LIKELY, "{cause:?}");
    }
    for cause in [
        FunctionConcurrency,
        FunctionRate,
        FunctionMissing,
        NotReady,
        AccessDenied,
        Kms,
        BadCode,
    ] {
        assert_eq!(cause.blame(), Blame::Node, "{cause:?}");
    }
}
