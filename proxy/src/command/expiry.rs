//! When an object ceases to exist: how commands say it, change it and ask it.

use super::CommandError;
use super::args::Args;

/// The latest `now` for which a relative expiry is promised not to overflow
/// (about the year 4200). Redis adds its clock when it parses; we have none
/// here, and keep that much room below `i64::MAX` instead.
const LATEST_NOW_MS: i64 = 1 << 46;

/// What a command does to the expiry of the object it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// The object will not expire (any more).
    #[default]
    None,
    /// The object's expiry stays what it is.
    Keep,
    /// The object expires so many milliseconds from now.
    In {
        /// Never so many that adding the present time overflows an `i64`.
        ms: u64,
    },
    /// The object expires at this time, which may be past.
    At {
        /// Milliseconds since 1970; 0 stands for everything before.
        unix_ms: u64,
    },
}

impl Expiry {
    /// The time of expiry in Unix milliseconds, given that of the object as it
    /// is (`None`: no expiry).
    pub fn deadline(self, now_unix_ms: u64, present: Option<u64>) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Keep => present,
            Self::In { ms } => Some(now_unix_ms.saturating_add(ms)),
            Self::At { unix_ms } => Some(unix_ms),
        }
    }
}

/// When EXPIRE changes the expiry. No expiry counts as infinitely far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// Only if the key has none (NX).
    IfNone,
    /// Only if the key has one (XX).
    IfSome,
    /// Only if the new one is later (GT, with or without XX).
    IfLater,
    /// Only if the new one is earlier (LT).
    IfEarlier,
    /// Only if the key has one and the new one is earlier (XX LT).
    IfSomeAndEarlier,
}

impl ExpireCondition {
    /// Whether the expiry `new` may replace `present` (Unix milliseconds).
    pub fn allows(self, present: Option<u64>, new: u64) -> bool {
        match self {
            Self::Always => true,
            Self::IfNone => present.is_none(),
            Self::IfSome => present.is_some(),
            Self::IfLater => present.is_some_and(|p| new > p),
            Self::IfEarlier => present.is_none_or(|p| new < p),
            Self::IfSomeAndEarlier => present.is_some_and(|p| new < p),
        }
    }
}

/// What TTL and its relatives ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlQuery {
    /// The time of expiry instead of the time left (EXPIRETIME, PEXPIRETIME).
    pub absolute: bool,
    /// In milliseconds instead of seconds (PTTL, PEXPIRETIME).
    pub millis: bool,
}

impl TtlQuery {
    /// The reply for a key that does not exist.
    pub const NO_KEY: i64 = -2;
    /// The reply for a key without an expiry.
    pub const NO_EXPIRY: i64 = -1;

    /// The reply for a key that exists and expires at the given time, if at
    /// all. Seconds are rounded to the nearest, as Redis does it.
    pub fn answer(self, expires_unix_ms: Option<u64>, now_unix_ms: u64) -> i64 {
        let Some(at) = expires_unix_ms else {
            return Self::NO_EXPIRY;
        };
        let ms = if self.absolute {
            at
        } else {
            at.saturating_sub(now_unix_ms)
        };
        let number = if self.millis {
            ms
        } else {
            ms.saturating_add(500) / 1000
        };
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// How the number behind an expiry is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Milliseconds per unit.
    pub(super) ms: i64,
    /// Whether it counts from 1970 instead of from now.
    pub(super) absolute: bool,
}

impl Unit {
    pub(super) const EX: Self = Self {
        ms: 1000,
        absolute: false,
    };
    pub(super) const PX: Self = Self {
        ms: 1,
        absolute: false,
    };
    pub(super) const EXAT: Self = Self {
        ms: 1000,
        absolute: true,
    };
    pub(super) const PXAT: Self = Self {
        ms: 1,
        absolute: true,
    };

    /// The unit named by an option of SET or GETEX.
    pub(super) fn of_option(option: &[u8]) -> Option<Self> {
        [
            ("EX", Self::EX),
            ("PX", Self::PX),
            ("EXAT", Self::EXAT),
            ("PXAT", Self::PXAT),
        ]
        .into_iter()
        .find(|(name, _)| option.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, unit)| unit)
    }

    /// An expiry that has to lie in the future of its origin (SET and GETEX).
    pub(super) fn positive(self, number: i64, args: &Args) -> Result<Expiry, CommandError> {
        if number <= 0 {
            Err(args.invalid_expire())
        } else {
            self.any(number, args)
        }
    }

    /// An expiry that may lie in the past (EXPIRE and its kin).
    pub(super) fn any(self, number: i64, args: &Args) -> Result<Expiry, CommandError> {
        let ms = number
            .checked_mul(self.ms)
            .ok_or_else(|| args.invalid_expire())?;
        let past = Expiry::At { unix_ms: 0 };
        Ok(match (self.absolute, u64::try_from(ms)) {
            (_, Err(_)) => past,
            (true, Ok(unix_ms)) => Expiry::At { unix_ms },
            (false, Ok(_)) if ms > i64::MAX - LATEST_NOW_MS => return Err(args.invalid_expire()),
            (false, Ok(ms)) => Expiry::In { ms },
        })
    }
}
