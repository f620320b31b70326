//! A script's text, its name (the SHA-1 of the text), and what its first line
//! says about it.

use std::fmt;

use bytes::Bytes;
use ring::digest;

/// What a script is called: the SHA-1 of its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha1([u8; 20]);

impl Sha1 {
    /// Of a script's text.
    #[must_use]
    pub fn of(source: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, source);
        let mut bytes = [0; 20];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// From 40 hexadecimal digits, in capitals or not. `None` is no script's name.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 40 {
            return None;
        }
        let mut bytes = [0; 20];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let high = char::from(digits[0]).to_digit(16)?;
            let low = char::from(digits[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(bytes))
    }
}

/// 40 hexadecimal digits.
impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no script. The text is the reply's, its code first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", String::from_utf8_lossy(.0))]
pub struct ScriptError(pub Bytes);

impl ScriptError {
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> Self {
        Self(Bytes::from(text.into()))
    }
}

/// What a script says of itself in its first line, `#!lua flags=...`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags {
    /// It has such a line. Without one, everything is found out as it runs.
    pub declared: bool,
    /// It does not write, and may run where writing is not allowed.
    pub no_writes: bool,
    /// It may run when memory is short.
    pub allow_oom: bool,
    /// It may run on stale data.
    pub allow_stale: bool,
    /// It cannot run in a cluster.
    pub no_cluster: bool,
    /// Its keys need not be of one slot.
    pub allow_cross_slot_keys: bool,
}

/// A script's text, whose first line makes sense.
#[derive(Clone, Debug)]
pub struct Script {
    sha1: Sha1,
    source: Bytes,
    flags: ScriptFlags,
    /// Where Lua begins: at the end of the first line, if that is a declaration.
    code_at: usize,
}

impl Script {
    /// Reads the first line. Whether Lua understands the rest, the
    /// [`Engine`](crate::Engine) says.
    pub fn new(source: Bytes) -> Result<Self, ScriptError> {
        let sha1 = Sha1::of(&source);
        Self::named(sha1, source)
    }

    /// As [`new`](Self::new), where the name is known.
    pub fn named(sha1: Sha1, source: Bytes) -> Result<Self, ScriptError> {
        let (flags, code_at) = declaration(&source)?;
        Ok(Self {
            sha1,
            source,
            flags,
            code_at,
        })
    }

    /// What the script is called.
    #[must_use]
    pub fn sha1(&self) -> Sha1 {
        self.sha1
    }

    /// The whole text.
    #[must_use]
    pub fn source(&self) -> &Bytes {
        &self.source
    }

    /// What it says of itself.
    #[must_use]
    pub fn flags(&self) -> ScriptFlags {
        self.flags
    }

    /// What Lua compiles. The line feed behind a declaration is part of it, so
    /// that lines count as the user's.
    pub(crate) fn code(&self) -> &[u8] {
        &self.source[self.code_at..]
    }
}

fn declaration(source: &[u8]) -> Result<(ScriptFlags, usize), ScriptError> {
    let mut flags = ScriptFlags::default();
    if !source.starts_with(b"#!") {
        return Ok((flags, 0));
    }
    let refuse = |what: &str, word: &[u8]| {
        let mut text = format!("ERR {what}").into_bytes();
        text.extend_from_slice(word);
        Err(ScriptError::new(text))
    };
    let Some(end) = source.iter().position(|&byte| byte == b'\n') else {
        return refuse("Invalid script shebang", b"");
    };
    let mut words = source[..end]
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    match words.next() {
        Some(b"#!lua") => {}
        other => {
            return refuse(
                "Unexpected engine in script shebang: ",
                other.unwrap_or_default(),
            );
        }
    }
    flags.declared = true;
    for word in words {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return refuse("Unknown lua shebang option: ", word);
        };
        if list.is_empty() {
            continue;
        }
        for flag in list.split(|&byte| byte == b',') {
            match flag {
                b"no-writes" => flags.no_writes = true,
                b"allow-oom" => flags.allow_oom = true,
                b"allow-stale" => flags.allow_stale = true,
                b"no-cluster" => flags.no_cluster = true,
                b"allow-cross-slot-keys" => flags.allow_cross_slot_keys = true,
                other => return refuse("Unexpected flag in script shebang: ", other),
            }
        }
    }
    Ok((flags, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &'static str) -> Result<ScriptFlags, String> {
        Script::new(Bytes::from(text))
            .map(|script| script.flags())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn first_lines() {
        assert_eq!(flags("return 1"), Ok(ScriptFlags::default()));
        let declared = ScriptFlags {
            declared: true,
            ..ScriptFlags::default()
        };
        assert_eq!(flags("#!lua\nreturn 1"), Ok(declared));
        assert_eq!(
            flags("#!lua flags=no-writes,allow-oom\n"),
            Ok(ScriptFlags {
                no_writes: true,
                allow_oom: true,
                ..declared
            })
        );
        for (text, error) in [
            ("#!lua", "ERR Invalid script shebang"),
            ("#!lu\n", "ERR Unexpected engine in script shebang: #!lu"),
            ("#!lua name=x\n", "ERR Unknown lua shebang option: name=x"),
            (
                "#!lua flags=a\n",
                "ERR Unexpected flag in script shebang: a",
            ),
        ] {
            assert_eq!(flags(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn names() {
        let sha1 = Sha1::of(b"return 1");
        assert_eq!(sha1.to_string(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(
            Sha1::parse(sha1.to_string().to_uppercase().as_bytes()),
            Some(sha1)
        );
        assert_eq!(Sha1::parse(b"e0"), None);
        assert_eq!(Sha1::parse(&[b'g'; 40]), None);
    }
}
