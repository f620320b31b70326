//! What the platform's refusals mean: whose fault it is, when to try again, what to
//! do about it. Pure; the words are those of Lambda's API reference.

use std::time::Duration;

/// An error as the API answers it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusal<'a> {
    /// `x-amzn-errortype`, without its address.
    pub code: &'a str,
    /// `Reason`, of a throttle.
    pub reason: &'a str,
    /// What it says to people.
    pub message: &'a str,
    /// HTTP status; 0: not known.
    pub status: u16,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// One function's: the others are not held up.
    Node,
    /// Of all functions: after so many in a row without any success between them, invokes
    /// are held back (`breaker`).
    Pool {
        /// So many.
        in_a_row: u32,
    },
}

/// When a node is invoked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once, then with the pauses of a node that fails: it may well work now.
    Soon,
    /// After a pause that doubles.
    After {
        /// The first one.
        first: Duration,
        /// The longest.
        most: Duration,
    },
}

/// A little room for what comes and goes: a certain fault does not.
const CERTAIN: Blame = Blame::Pool { in_a_row: 3 };
/// With 4 nodes, each tried twice, all were.
const LIKELY: Blame = Blame::Pool { in_a_row: 8 };

const THROTTLED: Retry = Retry::After {
    first: Duration::from_millis(200),
    most: Duration::from_secs(5),
};
/// It gets ready, or a quota is raised.
const PASSES: Retry = Retry::After {
    first: Duration::from_millis(500),
    most: Duration::from_secs(10),
};
/// Somebody has to change something: the first pause, and the longest.
pub(super) const STAYS_FOR: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(60));
const STAYS: Retry = Retry::After {
    first: STAYS_FOR.0,
    most: STAYS_FOR.1,
};

macro_rules! causes {
    ($($(#[$meta:meta])* $name:ident: $label:literal, $blame:expr, $retry:expr, $what:literal, $fix:literal;)+) => {
        /// Why a function was not run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[$meta])* #[doc = $what] $name,)+
        }

        impl Cause {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Label for metrics and JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// Whose fault it is.
            pub fn blame(self) -> Blame {
                match self { $(Self::$name => $blame,)+ }
            }

            /// When the node is tried again.
            pub fn retry(self) -> Retry {
                match self { $(Self::$name => $retry,)+ }
            }

            /// What it means.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)+ }
            }

            /// What to do about it.
            pub fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix,)+ }
            }
        }
    };
}

causes! {
    FunctionConcurrency: "function_concurrency", Blame::Node, Retry::Soon,
        "the function's reserved concurrency is used up",
        "reserve at least 3 for each node's function (its round wakes two instances, and one that was given up may not have ended yet), or nothing";
    FunctionRate: "function_rate", Blame::Node, Retry::Soon,
        "the function is invoked more often than 10 times a second for each concurrent execution",
        "look for a second proxy or another caller on this function; if there is none, raise --linger-ms";
    AccountConcurrency: "account_concurrency", LIKELY, THROTTLED,
        "the account's concurrent executions in this region are used up",
        "ask for more at Service Quotas (Lambda, concurrent executions, L-B99A9384), or reserve concurrency for the node functions";
    CallerRate: "caller_rate", LIKELY, THROTTLED,
        "this account sends too many API requests",
        "look for what else calls Lambda's API with this account; fewer nodes or a longer --warm-interval-s invoke less";
    SnapshotRate: "snapshot_rate", Blame::Node, PASSES,
        "too many SnapStart snapshots are made at once",
        "switch SnapStart off for node functions: snapshots would share one memory";
    Throttled: "throttled", LIKELY, THROTTLED,
        "the platform throttles for a reason that is not known here",
        "see the quotas of Lambda in this region";
    FunctionMissing: "function_missing", Blame::Node, STAYS,
        "there is no such function in this account and region",
        "compare --function-prefix, --nodes and the region (AWS_REGION) with what is deployed";
    AccessDenied: "access_denied", Blame::Node, STAYS,
        "the proxy's role may not invoke this function",
        "allow its role lambda:InvokeFunction on this function's ARN, and see that no boundary or service control policy denies it";
    OtherAccount: "other_account", Blame::Node, STAYS,
        "the function belongs to another account than the proxy's credentials",
        "use credentials of the functions' account, or give each function a resource-based policy (lambda add-permission) for the proxy's role";
    WrongRole: "wrong_role", Blame::Node, STAYS,
        "Lambda cannot assume the function's own role",
        "see that the function's execution role exists and trusts lambda.amazonaws.com";
    CredentialsMissing: "credentials_missing", CERTAIN, STAYS,
        "no AWS credentials were found",
        "give the machine an instance profile, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    CredentialsExpired: "credentials_expired", CERTAIN, PASSES,
        "the AWS credentials have expired",
        "renew them; an instance profile renews itself, keys from a session do not";
    CredentialsInvalid: "credentials_invalid", CERTAIN, STAYS,
        "AWS does not accept the credentials",
        "check the access key and its secret: it may be deleted, inactive, mistyped or of another partition";
    ClockSkew: "clock_skew", CERTAIN, PASSES,
        "this machine's clock is too far off for signed requests",
        "set the clock (chrony or systemd-timesyncd); AWS allows 5 minutes";
    RegionMissing: "region_missing", CERTAIN, STAYS,
        "no AWS region is set",
        "set AWS_REGION to the region of the functions";
    RegionWrong: "region_wrong", CERTAIN, STAYS,
        "the request was signed for another region or service",
        "set AWS_REGION to the region of the functions, and see that --lambda-endpoint is Lambda's";
    AccountClosed: "account_closed", CERTAIN, STAYS,
        "the account may not use Lambda in this region",
        "enable the region for the account; if it is suspended, see its billing page";
    Unresolved: "unresolved", LIKELY, Retry::Soon,
        "the endpoint's name does not resolve",
        "check AWS_REGION or --lambda-endpoint for a typing error, and this machine's DNS";
    Unreachable: "unreachable", LIKELY, Retry::Soon,
        "nobody answers at the endpoint",
        "check --lambda-endpoint or AWS_REGION, and the way to it: a NAT gateway or a VPC endpoint for Lambda, and security groups that let TCP 443 out";
    NotLambda: "not_lambda", LIKELY, Retry::Soon,
        "what answers at the endpoint is not Lambda",
        "check --lambda-endpoint: the address, the port, http or https";
    NotReady: "not_ready", Blame::Node, PASSES,
        "the function is being created or updated, or wakes after weeks without use",
        "wait; if it stays so, look at its State and StateReason (aws lambda get-function-configuration)";
    SnapStart: "snap_start", Blame::Node, PASSES,
        "the function's SnapStart snapshot is not to be had",
        "switch SnapStart off for node functions: snapshots would share one memory";
    EniLimit: "eni_limit", Blame::Node, PASSES,
        "the VPC has no network interface left for the function",
        "ask for more (Service Quotas: Lambda, elastic network interfaces per VPC, L-9FEE3D26; if that is not used up, VPC, network interfaces per region, L-DF5E4CA3), or delete unused ones";
    SubnetFull: "subnet_full", Blame::Node, PASSES,
        "the function's subnet has no free address",
        "give the functions a larger subnet in the proxy's zone";
    NetworkConfig: "network_config", Blame::Node, STAYS,
        "the function's security group or subnet is gone, or its role may not use them",
        "see the function's VPC settings, and that its role has AWSLambdaVPCAccessExecutionRole";
    Ec2Throttled: "ec2_throttled", Blame::Node, PASSES,
        "EC2 throttles Lambda while it sets up the function's network",
        "wait; start fewer nodes at a time";
    Ec2Failed: "ec2_failed", Blame::Node, PASSES,
        "EC2 failed while Lambda set up the function's network",
        "wait; if it stays so, see the AWS Health Dashboard";
    FileSystem: "file_system", Blame::Node, STAYS,
        "the function's file system cannot be mounted",
        "node functions need none: take it out of their configuration";
    Kms: "kms", Blame::Node, STAYS,
        "the key of the function's environment cannot be used",
        "see that the KMS key is enabled and that the function's role may kms:Decrypt, or use the default key";
    TooLarge: "too_large", Blame::Node, STAYS,
        "the request is larger than Lambda takes",
        "invocations are below 1 KB: something on the way changes them; look at proxies in between";
    BadRequest: "bad_request", Blame::Node, STAYS,
        "Lambda does not take the request",
        "see the message; the function's name or ARN may be wrong (--function-prefix)";
    BadCode: "bad_code", Blame::Node, STAYS,
        "the function's runtime or its zip cannot be used",
        "deploy the node's zip (bootstrap) again with runtime provided.al2023";
    Recursion: "recursion", Blame::Node, STAYS,
        "Lambda takes the invokes for a loop",
        "no node function may be a trigger of something that ends at the proxy; see recursive loop detection";
    Service: "service", LIKELY, Retry::Soon,
        "Lambda itself fails",
        "wait; see the AWS Health Dashboard of this region";
    Other: "other", Blame::Node, PASSES,
        "the platform refuses for a reason that is not known here",
        "see the message";
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what())
    }
}

impl Cause {
    /// What an answer of the API means.
    pub fn of(refusal: Refusal<'_>) -> Self {
        let Refusal {
            code,
            message,
            status,
            ..
        } = refusal;
        let code = code.strip_suffix("Exception").unwrap_or(code);
        match code {
            "TooManyRequests" | "Throttling" | "Throttled" | "RequestLimitExceeded" => {
                Self::of_throttle(refusal.reason)
            }
            "ServiceQuotaExceeded" => Self::Throttled,
            "ResourceNotFound" | "NoPublishedVersion" => Self::FunctionMissing,
            "AccessDenied" | "AccessDeniedError" | "NotAuthorized" | "UnauthorizedOperation" => {
                Self::of_denial(message)
            }
            "ExpiredToken" => Self::CredentialsExpired,
            "UnrecognizedClient"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "MissingAuthenticationToken"
            | "IncompleteSignature"
            | "SignatureDoesNotMatch"
            | "InvalidSignature" => Self::of_signature(message),
            "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Self::ClockSkew,
            "OptInRequired" | "SubscriptionRequired" | "AccountSuspended" => Self::AccountClosed,
            "ResourceNotReady"
            | "ResourceConflict"
            | "CodeArtifactUserPending"
            | "EniNotReady"
            | "ENINotReady" => Self::NotReady,
            "SnapStart"
            | "SnapStartNotReady"
            | "SnapStartTimeout"
            | "SnapStartRegenerationFailure" => Self::SnapStart,
            "ENILimitReached" | "EniLimitReached" => Self::EniLimit,
            "SubnetIPAddressLimitReached" | "SubnetIpAddressLimitReached" => Self::SubnetFull,
            "InvalidSecurityGroupID" | "InvalidSubnetID" | "EC2AccessDenied" => Self::NetworkConfig,
            "EC2Throttled" => Self::Ec2Throttled,
            "EC2Unexpected" => Self::Ec2Failed,
            "KMSAccessDenied" | "KMSDisabled" | "KMSInvalidState" | "KMSNotFound" => Self::Kms,
            "RequestTooLarge" | "RequestEntityTooLarge" | "SerializedRequestEntityTooLarge" => {
                Self::TooLarge
            }
            "InvalidRuntime"
            | "InvalidZipFile"
            | "CodeArtifactUserDeleted"
            | "CodeArtifactUserFailed" => Self::BadCode,
            "RecursiveInvocation" => Self::Recursion,
            "InvalidParameterValue" if message.contains("cannot be assumed") => Self::WrongRole,
            "InvalidParameterValue"
            | "InvalidRequestContent"
            | "UnsupportedMediaType"
            | "ModeNotSupported"
            | "DurableExecutionAlreadyStarted"
            | "Validation"
            | "ValidationError" => Self::BadRequest,
            "Service"
            | "ServiceUnavailable"
            | "InternalFailure"
            | "InternalServerError"
            | "InternalError" => Self::Service,
            "UnknownOperation" => Self::NotLambda,
            _ if code.starts_with("EFS") || code.starts_with("S3Files") => Self::FileSystem,
            _ => Self::of_status(status),
        }
    }

    /// What the reason of a function's state means (`StateReasonCode`, or that of its last
    /// update), where it is one of these.
    pub fn of_state_reason(code: &str) -> Option<Self> {
        Some(match code {
            "EniLimitExceeded" => Self::EniLimit,
            "SubnetOutOfIPAddresses" => Self::SubnetFull,
            "InvalidSubnet" | "InvalidSecurityGroup" | "InsufficientRolePermissions" => {
                Self::NetworkConfig
            }
            "DisabledKMSKey" | "InvalidStateKMSKey" | "KMSKeyAccessDenied" | "KMSKeyNotFound" => {
                Self::Kms
            }
            "InvalidRuntime" | "InvalidZipFileException" => Self::BadCode,
            "InternalError" | "DependencyError" | "InsufficientCapacity" => Self::Service,
            _ if code.starts_with("EFS") => Self::FileSystem,
            _ => return None,
        })
    }

    fn of_throttle(reason: &str) -> Self {
        match reason {
            "ReservedFunctionConcurrentInvocationLimitExceeded" => Self::FunctionConcurrency,
            "FunctionInvocationRateLimitExceeded"
            | "ReservedFunctionInvocationRateLimitExceeded" => Self::FunctionRate,
            "ConcurrentInvocationLimitExceeded" => Self::AccountConcurrency,
            "CallerRateLimitExceeded" => Self::CallerRate,
            "ConcurrentSnapshotCreateLimitExceeded" => Self::SnapshotRate,
            _ => Self::Throttled,
        }
    }

    fn of_denial(message: &str) -> Self {
        if message.contains("cannot be assumed") {
            return Self::WrongRole;
        }
        let mut accounts = accounts_in(message);
        match (accounts.next(), accounts.next()) {
            (Some(caller), Some(owner)) if caller != owner => Self::OtherAccount,
            _ => Self::AccessDenied,
        }
    }

    fn of_signature(message: &str) -> Self {
        let says = |words: &str| message.contains(words);
        if says("Signature expired") || says("Signature not yet current") {
            Self::ClockSkew
        } else if says("security token") && says("expired") {
            Self::CredentialsExpired
        } else if says("scoped to") {
            Self::RegionWrong
        } else {
            Self::CredentialsInvalid
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::AccessDenied,
            404 => Self::NotLambda,
            413 => Self::TooLarge,
            429 => Self::Throttled,
            500.. => Self::Service,
            _ => Self::Other,
        }
    }

    /// What it means that no answer came, by what the SDK says of it and of its sources.
    pub fn of_silence(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
        if says(&[
            "region must be",
            "missing region",
            "missing signing region",
            "no region",
        ]) {
            Self::RegionMissing
        } else if says(&[
            "credentials",
            "identity resolver",
            "failed to load identity",
        ]) {
            if says(&["expired"]) {
                Self::CredentialsExpired
            } else {
                Self::CredentialsMissing
            }
        } else if says(&[
            "dns error",
            "failed to lookup address",
            "name or service not known",
        ]) {
            Self::Unresolved
        } else if says(&[
            "invalid http",
            "parse error",
            "failed to parse",
            "invalidcontenttype",
            "certificate",
        ]) {
            Self::NotLambda
        } else {
            Self::Unreachable
        }
    }
}

/// The accounts of the ARNs in a text, in order.
fn accounts_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("arn:").skip(1).filter_map(|arn| {
        // partition:service:region:account:...
        let account = arn.split(':').nth(3)?;
        (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())).then_some(account)
    })
}

#[cfg(test)]
mod tests;
